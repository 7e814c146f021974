"""`agent-gateway check`, as an operator and as a script see it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent_gateway.cli.main import main

TEXT = """
providers:
  local: {kind: openai, base_url: "http://127.0.0.1:9/v1", api_key: sk-hidden}
models:
  chat:
    strategy: priority
    deployments:
      - {provider: local, model: big, price: {input: 0.15, output: 0.6}, lacks: [tools, audio]}
      - {provider: local, model: small, weight: 2, price: {input: 0, output: 0}}
    fallbacks: ["backup[1]"]
    timeouts: {first_token_s: 10}
    concurrency: {max: 8}
  "backup[1]":
    deployments: [{provider: local, model: other, price: {input: 1, output: 2}}]
fallback: {alert_rate: 0.2}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(TEXT)
    return file


def test_the_routes_are_printed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(file)]) == 0
    printed, errors = capsys.readouterr()
    assert errors == ""
    lines = [line.split() for line in printed.splitlines()]
    assert ["chat", "priority", "local/big", "1", "0.15", "0.6", "?", "backup[1]"] in lines
    assert ["local/small", "2", "0", "0", "?"] in lines
    assert ["backup[1]", "balanced", "local/other", "1", "1", "2", "?"] in lines
    assert "models.chat.timeouts.first_token_s = 10" in printed
    assert "models.chat.fallback.alert_rate = 0.2" in printed
    assert "warning fallback.trigger_rate: is below alert_rate" in printed
    assert "sk-hidden" not in printed


def test_a_script_reads_the_same_as_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(file), "--json"]) == 0
    printed = capsys.readouterr().out
    report = msgspec.json.decode(printed)
    assert report["ok"] is True
    assert report["source"] == str(file)
    assert report["providers"] == {"local": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "keys": 1}}
    assert report["routes"][0] == {
        "name": "chat",
        "strategy": "priority",
        "deployments": [
            {"id": "local/big", "weight": 1, "price": {"input": 0.15, "output": 0.6}, "context_window": None, "lacks": ["audio", "tools"]},
            {"id": "local/small", "weight": 2, "price": {"input": 0, "output": 0}, "context_window": None, "lacks": []},
        ],
        "fallbacks": ["backup[1]"],
        "policies": {"timeouts.first_token_s": 10, "fallback.alert_rate": 0.2, "concurrency.max": 8},
    }
    assert len(report["warnings"]) == 1
    assert "sk-hidden" not in printed


def test_every_error_is_a_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(TEXT.replace("priority", "fastest").replace("small", ""))
    assert main(["check", "--config", str(file)]) == 1
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert [line.partition(":")[0] for line in errors.splitlines()] == [
        "models.chat.strategy",
        "models.chat.deployments[1].model",
    ]
    assert main(["check", "--config", str(file), "--json"]) == 1
    report = msgspec.json.decode(capsys.readouterr().out)
    assert report == {"ok": False, "errors": errors.splitlines()}


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(tmp_path / "none.yaml")]) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'none.yaml'}: there is no such file\n"


def test_without_models_it_says_what_is_served(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("providers: {local: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}")
    assert main(["check", "--config", str(file)]) == 0
    assert "every model of these providers" in capsys.readouterr().out


def test_what_a_preset_set_is_told_and_what_went_over_it(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_TTL", "7200")
    file.write_text(TEXT + "preset: support\nstreaming: {recovery: error}\n")
    assert main(["check", "--config", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "preset support: timeouts.first_token_s = 5" in lines
    assert "preset support: sessions.ttl_s = 7200, by GATEWAY_TTL (the preset's: 3600)" in lines
    assert 'preset support: streaming.recovery = "error", by the file (the preset\'s: "continue")' in lines
    assert "models.chat.timeouts.first_token_s = 10" in lines, "this model's own"
    assert not [line for line in lines if line.startswith("models.chat.hedging.")], "told once"
    assert main(["check", "--config", str(file), "--json"]) == 0
    report = msgspec.json.decode(capsys.readouterr().out)
    assert report["preset"]["name"] == "support"
    settings = {item.pop("path"): item for item in report["preset"]["settings"]}
    assert settings["sessions.ttl_s"] == {"preset": 3600, "value": 7200, "overridden_by": "GATEWAY_TTL"}
    assert settings["hedging.after"] == {"preset": "p95", "value": "p95", "overridden_by": None}


def test_without_a_preset_none_is_told(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(file)]) == 0
    assert "\npreset" not in capsys.readouterr().out
    assert main(["check", "--config", str(file), "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["preset"] is None
