"""How many records are complete when things go wrong: under load, with a database that stops, a full disk, a death and too much to do.

    python benchmarks/completeness.py [--seconds 90] [--trouble-s 30] [--rate 200] [--only "kill -9"]

A real gateway with a simulated provider in it. Each request that a client has a whole answer to is looked for in the records, also
those that were refused.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from tests.kit.client import ask, chat_request
from tests.kit.gateway import Gateway
from tests.kit.load import Load, complete_ratio
from tests.kit.servers import Postgres

#: What a file of the gateway may grow to while the disk is "full" (bytes): everything that is kept is larger already.
FULL_BYTES = 4096
#: Calls that the overloaded model takes at once, as many again may wait; so many clients ask all the time.
ROOM, CLIENTS = 16, 320


@dataclass(frozen=True, slots=True)
class Stand:
    """What is measured on; no PostgreSQL: records are in SQLite."""

    gateway: Gateway
    postgres: Postgres | None

    async def recorded(self) -> list[str]:
        """The requests that have a record."""
        if self.postgres is None:
            return [record["id"] for record in self.gateway.records]
        connection = await asyncpg.connect(self.postgres.url())
        try:
            return [row["id"] for row in await connection.fetch("SELECT id FROM records")]
        finally:
            await connection.close()


@dataclass(frozen=True, slots=True)
class Trouble:
    name: str
    make: Callable[[Stand, float], Awaitable[None]]
    model: Mapping[str, Any]
    clients: int = 32
    #: None: as fast as answers come.
    paced: bool = True
    on_postgres: bool = False


async def lock_database(stand: Stand, seconds: float) -> None:
    """Nobody else can write: for the gateway that is a database which is down."""
    with closing(sqlite3.connect(stand.gateway.folder / "agent-gateway.records.db", isolation_level=None, timeout=10)) as database:
        database.execute("BEGIN EXCLUSIVE")
        await asyncio.sleep(seconds)
        database.execute("ROLLBACK")


async def crash_postgres(stand: Stand, seconds: float) -> None:
    """It ends without a goodbye and recovers when it is started again."""
    assert stand.postgres is not None
    await asyncio.to_thread(stand.postgres.stop, signal.SIGQUIT)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(stand.postgres.start)


async def freeze_postgres(stand: Stand, seconds: float) -> None:
    """Connections stay open, and nothing is answered: as a machine that is lost."""
    assert stand.postgres is not None
    stand.postgres.freeze()
    await asyncio.sleep(seconds)
    stand.postgres.thaw()


async def fill_disk(stand: Stand, seconds: float) -> None:
    """No file grows, neither the database nor the one beside it in which records wait."""
    before = resource.prlimit(stand.gateway.process.pid, resource.RLIMIT_FSIZE, (FULL_BYTES, resource.RLIM_INFINITY))
    await asyncio.sleep(seconds)
    resource.prlimit(stand.gateway.process.pid, resource.RLIMIT_FSIZE, before)


async def kill(stand: Stand, seconds: float) -> None:
    await asyncio.to_thread(stand.gateway.kill)
    await asyncio.to_thread(stand.gateway.start)


async def nothing(stand: Stand, seconds: float) -> None:
    await asyncio.sleep(seconds)


_OPEN = {"deployments": [{"provider": "sim", "model": "small", "price": {"input": 0.15, "output": 0.6}}]}
TROUBLES = (
    Trouble("SQLite locked", lock_database, _OPEN),
    Trouble("PostgreSQL down", crash_postgres, _OPEN, on_postgres=True),
    Trouble("PostgreSQL frozen", freeze_postgres, _OPEN, on_postgres=True),
    Trouble("disk full", fill_disk, _OPEN),
    Trouble("kill -9", kill, _OPEN),
    Trouble("kill -9, PostgreSQL", kill, _OPEN, on_postgres=True),
    Trouble("10 × overload", nothing, {**_OPEN, "concurrency": {"max": ROOM, "queue_max": ROOM}}, CLIENTS, paced=False),
)


async def run(trouble: Trouble, seconds: float, trouble_s: float, rate: float) -> str:
    """The row of the table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="completeness-")))
        postgres = Postgres.create() if trouble.on_postgres else None
        if postgres is not None:
            stack.callback(postgres.remove)
            postgres.start()
        gateway = Gateway(folder, configuration(trouble.model, postgres), "fast lane").start()
        stack.callback(gateway.close)
        stand = Stand(gateway, postgres)
        load = Load(gateway.url, chat_request(), clients=trouble.clients, rate=rate if trouble.paced else None)
        async with load.running():
            await asyncio.sleep((seconds - trouble_s) / 2)
            await trouble.make(stand, trouble_s)
            await asyncio.sleep((seconds - trouble_s) / 2)
        told = await figures(gateway)
        await asyncio.to_thread(gateway.stop)
        ratio = complete_ratio(load.ids, await stand.recorded())
        why = [line for line in gateway.log.splitlines() if " drop" in line]
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(load.statuses.items()))
    return f"{trouble.name:20} {len(load.ids):7} answered ({answers}), {ratio:9.4%} recorded · {' · '.join([told, *why])}"


async def figures(gateway: Gateway) -> str:
    """What the gateway itself says of it."""
    text = (await ask(gateway.url, "/metrics")).body.decode()
    names = ("records_complete_ratio", 'records_total{outcome="dropped"', 'records_total{outcome="missing"')
    told = [
        line.removeprefix("agent_gateway_")
        for line in text.splitlines()
        if line.startswith(tuple(f"agent_gateway_{name}" for name in names))
    ]
    return " · ".join(told)


def configuration(model: Mapping[str, Any], postgres: Postgres | None) -> dict[str, Any]:
    return {
        "state": {"database": "sqlite:///agent-gateway.db" if postgres is None else postgres.url()},
        "providers": {"sim": {"kind": "simulated", "ttft_ms": 50, "output_tokens": 40, "tokens_per_s": 1000}},
        "models": {"chat": model},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90, help="of each run")
    parser.add_argument("--trouble-s", type=float, default=30)
    parser.add_argument("--rate", type=float, default=200, help="requests a second, but for the overload")
    parser.add_argument("--only", default="", help="the name of one trouble")
    arguments = parser.parse_args()
    for trouble in TROUBLES:
        if arguments.only in ("", trouble.name):
            print(asyncio.run(run(trouble, arguments.seconds, arguments.trouble_s, arguments.rate)), flush=True)


if __name__ == "__main__":
    main()
