"""`agent-gateway import litellm` writes a configuration that `check` takes, once, and says what it could not carry over."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from agent_gateway.cli.main import main

_THEIRS = """
model_list:
  - model_name: chat
    litellm_params: {model: ollama/llama3.1, api_base: "http://127.0.0.1:11434", input_cost_per_token: 0, output_cost_per_token: 0}
litellm_settings: {drop_params: true}
"""


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(_THEIRS)
    return file


def test_the_result_passes_check(theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = tmp_path / "gateway.yaml"
    assert main(["import", "litellm", str(theirs), "--output", str(ours)]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "litellm_settings.drop_params: true: " in told.err
    assert "# - litellm_settings.drop_params: true: " in ours.read_text()
    assert stat.S_IMODE(ours.stat().st_mode) == 0o600
    assert main(["check", "--config", str(ours)]) == 0


def test_a_file_that_is_there_stays(theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = tmp_path / "gateway.yaml"
    ours.write_text("mine")
    assert main(["import", "litellm", str(theirs), "--output", str(ours)]) == 1
    assert "--force" in capsys.readouterr().err
    assert ours.read_text() == "mine"
    assert main(["import", "litellm", str(theirs), "--output", str(ours), "--force"]) == 0
    assert ours.read_text().startswith("# Converted from config.yaml")


def test_without_a_file_it_goes_to_standard_output(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "litellm", str(theirs)]) == 0
    assert "models:\n  chat:" in capsys.readouterr().out


def test_json_has_it_as_data(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "litellm", str(theirs), "--json"]) == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told["configuration"]["providers"] == {"ollama": {"kind": "ollama", "base_url": "http://127.0.0.1:11434/v1"}}
    assert [note["path"] for note in told["notes"]] == ["litellm_settings.drop_params"]


@pytest.mark.parametrize(("text", "said"), [("a: [", "is not YAML"), ("providers: {}", "model_list"), ("", "model_list")])
def test_what_cannot_be_read_is_told(text: str, said: str, theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs.write_text(text)
    assert main(["import", "litellm", str(theirs)]) == 1
    told = capsys.readouterr()
    assert (told.out, said in told.err) == ("", True)
