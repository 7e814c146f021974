"""`agent-gateway slo`: what it says of records, of none, and of those that end with the gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import time

import pytest

from agent_gateway.cli.main import main
from agent_gateway.core.errors import ProviderFault
from agent_gateway.core.settings import Settings, State
from agent_gateway.core.usage import Usage
from agent_gateway.record.recorder import Recorder
from tests.record.exchanges import exchange

USAGE = Usage(input=30, output=30)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"providers: {{sim: {{kind: simulated}}}}\nstate: {{database: 'sqlite:///{tmp_path}/gateway.db'}}\n")
    return file


async def record(folder: Path, failed: int) -> None:
    recorder = Recorder.for_settings(Settings(state=State(database=f"sqlite:///{folder}/gateway.db")))
    await recorder.start()
    for number in range(10):
        made = exchange(usage=USAGE, error=ProviderFault("no") if number < failed else None, started_wall=time())
        recorder.begin(made)
        recorder.submit(made)
    await recorder.close(10)


@pytest.mark.parametrize(("failed", "status"), [(0, 0), (1, 1)])
def test_it_exits_by_whether_all_is_met(config: Path, capsys: pytest.CaptureFixture[str], failed: int, status: int) -> None:
    asyncio.run(record(config.parent, failed))
    assert main(["slo", "--config", str(config)]) == status
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()}
    what = "requests that fail, not by the client's fault"
    judgement = "MISSED" if failed else "met"
    assert rows["errors"] == ["monitoring", what, "< 1 %", f"{failed * 10} %", "10", judgement]
    assert rows["batch_p95"][-1] == "nothing to judge by"


def test_without_records_there_is_nothing_to_judge_by(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slo", "--config", str(config), "--since", "7d"]) == 0
    assert {line.split("\t")[-1] for line in capsys.readouterr().out.splitlines()[1:]} == {"nothing to judge by"}


@pytest.mark.parametrize(
    ("database", "since", "said"),
    [
        ("sqlite:///:memory:", "1h", "state.database is in memory: its records end with the gateway."),
        ("sqlite:///gateway.db", "yesterday", "--since: expected a moment such as 2025-01-31"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], database: str, since: str, said: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"providers: {{sim: {{kind: simulated}}}}\nstate: {{database: '{database}'}}\n")
    assert main(["slo", "--config", str(file), "--since", since]) == 1
    assert capsys.readouterr().err.startswith(said)
