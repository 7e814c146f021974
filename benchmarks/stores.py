"""What a turn costs in each store: fetch and append of sessions with 40 messages, p50 and p99; memory; the sweeper; rivals.

    python benchmarks/stores.py [--sessions 2000] [--turns 2000] [--store sqlite …]

Starts its own PostgreSQL and Redis. The issue's figures are those of `--sessions 100000`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from agent_gateway.core.errors import Conflict
from agent_gateway.stores.base import Owner, Store, StoredTurn, open_store
from tests.kit.servers import Postgres, Redis, Server, own

MESSAGES = 40
MESSAGE = StoredTurn("openai_chat", b'{"role":"user","content":"%s"}' % (b"as long as messages often are " * 15), 110)
TTL_S = 86_400.0
#: Sessions filled at once, and turns measured at once: few, so that what is measured is the store, not the queue before it.
FILLING, CLIENTS = 64, 4
#: Expired sessions swept while turns are measured, and how many a sweep takes.
EXPIRED, SWEEP = 2_000, 20
#: Sessions, and turns in parallel on each, none of which may be lost or doubled.
CONTENDED, RIVALS = 1_000, 20


def owner_of(number: int) -> Owner:
    return Owner(f"key-{number % 10}", f"user-{number}")


async def fill(store: Store, first: int, count: int, *, now: float, messages: int = MESSAGES) -> None:
    numbers = iter(range(first, first + count))

    async def work() -> None:
        for number in numbers:
            await store.append(owner_of(number), f"s{number}", [MESSAGE] * messages, expected_version=0, now=now, ttl_s=TTL_S)

    await asyncio.gather(*(work() for _ in range(FILLING)))


async def take_turns(store: Store, sessions: int, turns: int) -> tuple[list[float], list[float]]:
    """Seconds of each fetch, and of each append."""
    random, left = Random(1), iter(range(turns))
    fetches: list[float] = []
    appends: list[float] = []
    busy: set[int] = set()

    async def client() -> None:
        for _ in left:
            while (number := random.randrange(sessions)) in busy:
                pass
            busy.add(number)
            owner, now = owner_of(number), time.time()
            started = time.perf_counter()
            found = await store.fetch(owner, f"s{number}", now)
            fetched = time.perf_counter()
            assert found is not None
            assert len(found.turns) >= MESSAGES
            version = found.info.version
            await store.append(owner, f"s{number}", [MESSAGE] * 2, expected_version=version, now=now, ttl_s=TTL_S)
            appends.append(time.perf_counter() - fetched)
            fetches.append(fetched - started)
            busy.remove(number)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return fetches, appends


async def contend(store: Store) -> float:
    """Seconds of all turns; each reads, and writes on what it read, until nobody was faster."""
    now, owner = time.time(), Owner("rivals")

    async def turn(session: int, number: int) -> None:
        mine = StoredTurn("openai_chat", b"%d" % number, 1)
        while True:
            found = await store.fetch(owner, f"c{session}", now)
            version = 0 if found is None else found.info.version
            try:
                await store.append(owner, f"c{session}", [mine], expected_version=version, now=now, ttl_s=TTL_S)
            except Conflict:
                continue
            return

    started = time.perf_counter()
    at_once = asyncio.Semaphore(20)

    async def session(number: int) -> None:
        async with at_once:
            await asyncio.gather(*(turn(number, rival) for rival in range(RIVALS)))
            found = await store.fetch(owner, f"c{number}", now)
        assert found is not None
        assert sorted(int(kept.body) for kept in found.turns) == list(range(RIVALS)), f"session {number} lost or doubled a turn"

    await asyncio.gather(*(session(number) for number in range(CONTENDED)))
    return time.perf_counter() - started


async def measure(name: str, url: str, sessions: int, turns: int) -> None:
    store = open_store(url)
    await store.count_sessions(0)
    before = memory_mb()
    started = time.perf_counter()
    await fill(store, 0, sessions, now=time.time())
    filled_s = time.perf_counter() - started
    quiet = await take_turns(store, sessions, turns)
    after = memory_mb()
    await fill(store, sessions, EXPIRED, now=time.time() - 2 * TTL_S)
    swept, swept_s, sweeping = await while_sweeping(store, lambda: take_turns(store, sessions, turns))
    contended_s = await contend(store)
    print(f"{name:9} {sessions} sessions × {MESSAGES} messages in {filled_s:.1f} s; memory {before:.0f} → {after:.0f} MB")
    for label, (fetches, appends) in (("quiet", quiet), ("sweeping", sweeping)):
        both = [sum(pair) for pair in zip(fetches, appends, strict=True)]
        print(f"  {label:9} fetch {shown(fetches)}   append {shown(appends)}   both {shown(both)}")
    print(f"  swept {swept} in {swept_s:.1f} s; {CONTENDED} sessions × {RIVALS} rivals in {contended_s:.1f} s: all kept")
    await store.close()


Latencies = tuple[list[float], list[float]]


async def while_sweeping(store: Store, traffic: Callable[[], Awaitable[Latencies]]) -> tuple[int, float, Latencies]:
    async def sweep() -> tuple[int, float]:
        total, started = 0, time.perf_counter()
        while some := (await store.sweep(time.time(), SWEEP)).sessions:
            total += some
        return total, time.perf_counter() - started

    sweeper = asyncio.ensure_future(sweep())
    latencies = await traffic()
    total, took_s = await sweeper
    return total, took_s, latencies


def shown(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50, p99 = (1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99))
    return f"p50 {p50:.2f} p99 {p99:.2f} ms"


def memory_mb() -> float:
    """Of this process, now (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=2_000)
    parser.add_argument("--turns", type=int, default=2_000)
    parser.add_argument("--store", action="append", choices=["sqlite", "postgres", "redis"])
    arguments = parser.parse_args()
    servers: dict[str, type[Server]] = {"postgres": Postgres, "redis": Redis}
    for name in arguments.store or ["sqlite", *servers]:
        with tempfile.TemporaryDirectory() as folder:
            if name == "sqlite":
                uvloop.run(measure(name, f"sqlite:///{folder}/store.db", arguments.sessions, arguments.turns))
                continue
            try:
                server = own(servers[name])
            except pytest.skip.Exception as missing:
                print(f"{name:9} not measured: {missing}")
                continue
            server.start()
            try:
                uvloop.run(measure(name, server.url(), arguments.sessions, arguments.turns))
            finally:
                server.remove()


if __name__ == "__main__":
    main()
