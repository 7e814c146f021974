"""Every answered request has its record, once, whatever became of the database, the disk or the process meanwhile."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.kit.client import ask, chat_request
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.load import Load, complete_ratio

CONFIGURATION: dict[str, Any] = {
    "state": {"database": "sqlite:///agent-gateway.db"},
    "providers": {"sim": {"kind": "simulated", "ttft_ms": 5, "output_tokens": 5, "tokens_per_s": 1000}},
    "models": {"chat": {"deployments": [{"provider": "sim", "model": "small"}], "concurrency": {"max": 4, "queue_max": 4}}},
}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path, CONFIGURATION, "fast lane")
    try:
        yield gateway.start()
    finally:
        gateway.close()


def load_of(gateway: Gateway, clients: int = 8, rate: float | None = 100) -> Load:
    return Load(gateway.url, chat_request(), clients=clients, rate=rate)


async def told(gateway: Gateway, name: str) -> float:
    text = (await ask(gateway.url, "/metrics")).body.decode()
    (value,) = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"agent_gateway_{name}")]
    return float(value)


async def balanced(gateway: Gateway, load: Load) -> None:
    """Nothing waits any more; the books say what the table does."""
    until = asyncio.get_running_loop().time() + 20
    while await told(gateway, "records_waiting"):
        assert asyncio.get_running_loop().time() < until, gateway.log
        await asyncio.sleep(0.05)
    assert await told(gateway, 'records_total{outcome="missing"') == 0
    assert await told(gateway, "records_complete_ratio") == 1
    assert await told(gateway, 'records_total{outcome="written"') == len(gateway.records)
    assert complete_ratio(load.ids, [record["id"] for record in gateway.records]) == 1


async def test_a_database_that_nobody_can_write_to(gateway: Gateway) -> None:
    load = load_of(gateway)
    async with load.running():
        await eventually(lambda: len(load.ids) > 20, "answers")
        with closing(sqlite3.connect(gateway.folder / "agent-gateway.records.db", isolation_level=None, timeout=10)) as database:
            database.execute("BEGIN EXCLUSIVE")
            before = len(load.ids)
            await eventually(lambda: len(load.ids) > before + 100, "answers all the same")
            assert await told(gateway, "records_waiting") > 50
            database.execute("ROLLBACK")
    assert set(load.statuses) == {200}
    await balanced(gateway, load)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux bounds the files of a running process")
async def test_a_full_disk(gateway: Gateway) -> None:
    load = load_of(gateway)
    async with load.running():
        await eventually(lambda: len(load.ids) > 20, "answers")
        room = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        before = len(load.ids)
        await eventually(lambda: len(load.ids) > before + 100, "answers all the same")
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, room)
    assert set(load.statuses) == {200}
    await balanced(gateway, load)


async def test_far_more_than_it_can_do(gateway: Gateway) -> None:
    load = load_of(gateway, clients=80, rate=None)
    async with load.running():
        await eventually(lambda: load.statuses[200] > 50 and load.statuses[503] > 500, "answers and refusals")
    await balanced(gateway, load)


async def test_a_process_that_is_killed(gateway: Gateway) -> None:
    """The newest may be lost with it, nothing that was written, though more comes all the time; and nothing is there twice."""
    load = load_of(gateway)
    async with load.running():
        await eventually(lambda: len(load.ids) > 50, "answers")
        safe = list(load.ids)
        await eventually(lambda: complete_ratio(safe, [record["id"] for record in gateway.records]) == 1, "their records")
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)
        before = len(load.ids)
        await eventually(lambda: len(load.ids) > before + 20, "answers again")
    await eventually(lambda: complete_ratio(load.ids[before:], [record["id"] for record in gateway.records]) == 1, "those of the second")
    recorded = [record["id"] for record in gateway.records]
    assert complete_ratio(safe, recorded) == 1
