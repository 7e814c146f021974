"""`agent-gateway drill`, as it is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent_gateway.cli.main import main
from agent_gateway.rehearsal.kinds import KINDS
from agent_gateway.rehearsal.verdict import Verdict

Run = Callable[..., tuple[int, str, str]]
DEPLOYMENT = {"provider": "only", "model": "m", "price": {"input": 3, "output": 15}}
MINE = {"providers": {"only": {"kind": "openai", "api_key": "k"}}, "models": {"mine": {"deployments": [DEPLOYMENT]}}}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def typed(*words: str) -> tuple[int, str, str]:
        try:
            status = main(("drill", *words))
        except SystemExit as end:
            status = int(end.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err

    return typed


def put(**changes: object) -> str:
    Path("mine.yaml").write_bytes(msgspec.json.encode({**MINE, **changes}))  # YAML too
    return "mine.yaml"


def test_a_table_and_what_it_comes_to(run: Run) -> None:
    status, out, err = run("--only", "key_revoked, nobody", "--scenarios", "2")
    assert (status, err) == (0, "")
    head, revoked, nobody, *summary = out.splitlines()
    assert head.split("\t")[:4] == ["kind", "scenarios", "incidents", "told"]
    assert revoked.split("\t")[:4] == ["key_revoked", "1", "1", "1"]
    assert nobody.split("\t")[:7] == ["nobody (quiet)", "1", "", "", "", "", "0"]
    assert summary[0].startswith("2 scenarios of an hour (1 quiet), ")
    assert "Precision 100.0%, recall 100.0% (at least 95% each)" in summary[1]
    assert summary[1].endswith("0 alerts in quiet scenarios: PASSED.")


def test_what_is_missed_is_named_and_the_answer_is_no(run: Run) -> None:
    file = put(alerts={"rules": {"provider_key_refused": {"enabled": False}}})
    status, out, _ = run("--config", file, "--only", "key_revoked", "--scenarios", "1")
    assert status == 1
    assert "FAILED" in out
    assert "Not told: key_revoked-1." in out


def test_false_alarms_are_told_in_words(run: Run) -> None:
    file = put(alerts={"rules": {"cost": {"threshold": 0.00001}}})
    status, out, _ = run("--config", file, "--only", "clients_leave", "--scenarios", "1")
    assert status == 1
    assert "False alarm: clients_leave-1, after " in out
    assert "cost: A request for mine costs $" in out


def test_one_s_own_models_are_drilled_whoever_answers_for_them(run: Run) -> None:
    """No provider is called: this one is not there, nor is its key one."""
    status, out, _ = run("--config", put(), "--only", "model_retired", "--scenarios", "1", "--json")
    verdict = msgspec.json.decode(out, type=Verdict)
    assert status == 0
    assert (verdict.incidents, verdict.recall, verdict.precision) == (1, 1.0, 1.0)
    assert [(kind.kind, kind.detected) for kind in verdict.kinds] == [("model_retired", 1)]
    assert list(Path().iterdir()) == [Path("mine.yaml")]


def test_the_same_seed_gives_the_same_in_every_process(run: Run) -> None:
    words = ("--only", "flapping,steady", "--scenarios", "2", "--seed", "5", "--json")
    status, out, _ = run(*words)
    other = subprocess.run(
        [sys.executable, "-m", "agent_gateway", "drill", *words],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (other.returncode, other.stdout, other.stderr) == (status, out, "")
    _, another, _ = run(*words[:5], "6", "--json")
    assert msgspec.json.decode(another, type=Verdict).requests != msgspec.json.decode(out, type=Verdict).requests


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "slow,fire"), f"argument --only: there is no kind 'fire'; there are {', '.join(KINDS)}"),
        (("--scenarios", "0"), "argument --scenarios: expected 1 to 10000; not '0'"),
        (("--scenarios", "many"), "argument --scenarios: expected 1 to 10000; not 'many'"),
        (("--seed", "x"), "argument --seed: invalid int value: 'x'"),
    ],
)
def test_a_mistake_is_named_and_exits_2(run: Run, words: tuple[str, ...], said: str) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    ("changes", "words", "said"),
    [
        ({"models": {}}, (), "models: mine.yaml names none, so there is nothing to drill; put at least one under `models`"),
        ({"alerts": {"enabled": False}}, (), "alerts.enabled: is false in mine.yaml, so nothing would be told; leave it out to drill it"),
        (
            {"models": {"mine": {"deployments": [{**DEPLOYMENT, "price": {"input": 0, "output": 0}}]}}},
            ("--only", "budget,cost_jump"),
            "--only: what costs too much can only be drilled where a model has a price; give it one (models.NAME.deployments)",
        ),
        ({"retries": {"max_attempts": 0}}, (), "retries.max_attempts: "),
    ],
)
def test_a_configuration_that_cannot_be_drilled_says_why(run: Run, changes: dict[str, object], words: tuple[str, ...], said: str) -> None:
    status, out, err = run("--config", put(**changes), *words)
    assert (status, out) == (1, "")
    assert said in err
