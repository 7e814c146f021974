"""A worker's process: whenever its start is given up, nothing of it is left running."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent_gateway.control.source import Source
from agent_gateway.workers import messages, process
from agent_gateway.workers.process import WorkerProcess

#: Turns of the loop within which a start has come to wait for its process.
TURNS = 12


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each process that began has written its id."""
    folder = tmp_path / "started"
    folder.mkdir()
    code = f"import os, pathlib, time; pathlib.Path({str(folder)!r}, str(os.getpid())).touch(); time.sleep(60)"

    def command(files: Sequence[int]) -> list[str]:
        return [sys.executable, "-c", code]

    monkeypatch.setattr(process, "_command", command)
    return folder


async def _nothing(*_: object) -> bytes:
    return b""


@pytest.mark.parametrize("turns", range(TURNS))
async def test_one_that_is_given_up_while_it_begins_is_not_left_running(started: Path, turns: int) -> None:
    worker = WorkerProcess(1, [], messages.Begin(Source("", ""), {}, "", 0, 1), _nothing, _nothing)
    starting = asyncio.create_task(worker.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    async with asyncio.timeout(10):
        await worker.gone(0.01)
    worker.close()
    for name in os.listdir(started):
        with pytest.raises(ProcessLookupError):
            os.kill(int(name), 0)
