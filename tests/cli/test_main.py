"""The entry point: which command, which status, and nothing imported that is not needed."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent_gateway import __version__
from agent_gateway.cli import main as entry
from agent_gateway.cli.main import COMMANDS, main

ROOT = Path(entry.__file__).parents[2]
#: What costs a start its time; `--help` must not pay for it.
HEAVY = {
    "asyncio",
    "genai_prices",
    "msgspec",
    "prometheus_client",
    "pydantic",
    "rich",
    "ruamel.yaml",
    "sqlite3",
    "ssl",
    "uvicorn",
    "uvloop",
}


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in printed
    assert printed.endswith("example:\n  agent-gateway demo\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_help_ends_with_its_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    _, example, last = capsys.readouterr().out.rpartition("example:\n")
    assert example
    assert last.strip().startswith(f"agent-gateway {command}")


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    script = (
        "import sys\nfrom agent_gateway.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"agent-gateway {__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["srve"], "agent-gateway: there is no command 'srve'; did you mean serve? `agent-gateway --help` lists them\n"),
        (["xyz"], "agent-gateway: there is no command 'xyz'; `agent-gateway --help` lists them\n"),
        (["--config"], "agent-gateway: --config is not an option here; options follow the command (`agent-gateway --help`)\n"),
    ],
)
def test_what_is_no_command_is_a_usage_error_with_a_hint(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == said


def test_no_command_is_a_usage_error_that_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert errors.startswith("usage: agent-gateway COMMAND")


def test_a_wrong_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["check", "--cofnig", "x"])
    assert caught.value.code == 2
    assert "--cofnig" in capsys.readouterr().err


def test_an_interrupt_ends_a_command_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    command = SimpleNamespace(HELP="waits", EXAMPLE="agent-gateway check", configure=lambda parser: None, run=interrupted)
    monkeypatch.setattr(entry, "_command", lambda name: command)
    assert main(["check"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("providers: {local: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}")
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "agent_gateway", "check", "--config", str(file), "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
