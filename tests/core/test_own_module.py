"""A process that runs a module of this package finds the package where this one has found it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent_gateway.core.own_module import own_environment, own_module


def test_the_package_is_found_whatever_environment_the_process_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "agent_gateway"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "told.py").write_text("import os\nprint(sorted(name for name in os.environ if name in ('OTHER', 'GIVEN', 'PYTHONPATH')))\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OTHER", "of this process")
    done = subprocess.run(own_module("told"), env=own_environment({"GIVEN": "1"}), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("['GIVEN', 'PYTHONPATH']\n", "")


def test_what_is_given_goes_over_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", sys.prefix)
    assert own_environment({"PYTHONPATH": "/elsewhere"})["PYTHONPATH"] == "/elsewhere"
