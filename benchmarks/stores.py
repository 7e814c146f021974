"""What memory costs: turns of sessions with 40 messages, p50 and p99, in each store and through a gateway; the process's size; sweeping.

    python benchmarks/stores.py [--sessions 2000] [--turns 5000] [--store sqlite …] [--rivals]

Starts its own PostgreSQL, Redis and gateways. The figures of docs/sessions.md are those of `--sessions 100000`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from agent_gateway.cli.calm import calm_collector
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.errors import Conflict
from agent_gateway.session.sweeper import SWEEP_EVERY_S, Sweeper
from agent_gateway.stores.base import Owner, Store, StoredTurn, open_store
from tests.kit import replies, samples
from tests.kit.client import CHAT, connect, request
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.servers import Postgres, Redis, Server, own

MESSAGES = 40
MESSAGE = StoredTurn("openai_chat", b'{"role":"user","content":"%s"}' % (b"as long as messages often are " * 15), 110)
TTL_S = 86_400.0
#: Sessions filled at once.
FILLING = 64
#: At these sizes the processes are measured.
SIZES = (1_000, 10_000, 100_000)
#: Turns at once: alone, as many as there are processors, and as many again, so that they wait for each other.
CLIENTS = (1, 2, 4)
#: Requests at once through a gateway.
ASKING = 2
#: Requests until a process has all the memory that it needs.
WARMING = 4_000
#: Stores that a gateway may have its state in.
OF_GATEWAYS = ("sqlite", "postgres")
#: Sessions that expire while turns are measured.
EXPIRED = 10_000
#: Sessions, and turns in parallel on each, none of which may be lost or doubled.
CONTENDED, RIVALS = 1_000, 20


def owner_of(number: int) -> Owner:
    return Owner("", f"user-{number}")


async def fill(store: Store, first: int, count: int, *, now: float) -> None:
    numbers = iter(range(first, first + count))

    async def work() -> None:
        for number in numbers:
            await store.append(owner_of(number), f"s{number}", [MESSAGE] * MESSAGES, expected_version=0, now=now, ttl_s=TTL_S)

    await asyncio.gather(*(work() for _ in range(FILLING)))


class Numbers:
    """Of sessions, at random; none is given to two at once."""

    def __init__(self, sessions: int) -> None:
        self._sessions = sessions
        self._random = Random(1)
        self._busy: set[int] = set()

    async def each(self, clients: int, goes_on: Callable[[], bool], turn: Callable[[int], Awaitable[None]]) -> None:
        async def client() -> None:
            while goes_on():
                while (number := self._random.randrange(self._sessions)) in self._busy:
                    pass
                self._busy.add(number)
                await turn(number)
                self._busy.remove(number)

        await asyncio.gather(*(client() for _ in range(clients)))


class Turns:
    """Seconds of each fetch, and of each append."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fetches: list[float] = []
        self.appends: list[float] = []

    async def take(self, number: int) -> None:
        owner, now = owner_of(number), time.time()
        started = time.perf_counter()
        found = await self._store.fetch(owner, f"s{number}", now)
        fetched = time.perf_counter()
        assert found is not None
        assert len(found.turns) >= MESSAGES
        version = found.info.version
        await self._store.append(owner, f"s{number}", [MESSAGE] * 2, expected_version=version, now=now, ttl_s=TTL_S)
        self.appends.append(time.perf_counter() - fetched)
        self.fetches.append(fetched - started)

    def __str__(self) -> str:
        both = [sum(pair) for pair in zip(self.fetches, self.appends, strict=True)]
        return f"fetch {shown(self.fetches)}   append {shown(self.appends)}   both {shown(both)}"


async def take_turns(store: Store, sessions: int, turns: int, clients: int) -> Turns:
    taken = Turns(store)
    await Numbers(sessions).each(clients, lambda: len(taken.appends) < turns, taken.take)
    return taken


async def while_sweeping(store: Store, sessions: int) -> tuple[float, Turns]:
    """By the gateway's own sweeper, at its own pace; its seconds, and the turns taken meanwhile."""
    sweeper, started = Sweeper(store, SYSTEM_CLOCK), time.perf_counter()
    sweeping = asyncio.ensure_future(sweeper.sweep())
    taken = Turns(store)
    await Numbers(sessions).each(ASKING, lambda: not sweeping.done(), taken.take)
    assert sweeper.expired >= EXPIRED
    return time.perf_counter() - started, taken


async def contend(store: Store) -> float:
    """Seconds of all turns; each reads, and writes on what it read, until nobody was faster."""
    now, owner = time.time(), Owner("rivals")

    async def turn(session: int, number: int) -> None:
        mine = StoredTurn("openai_chat", b"%d" % number, 1)
        while True:
            found = await store.fetch(owner, f"c{session}", now)
            version = 0 if found is None else found.info.version
            with suppress(Conflict):
                await store.append(owner, f"c{session}", [mine], expected_version=version, now=now, ttl_s=TTL_S)
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


# --- through a gateway ------------------------------------------------------------------------------------------------


def gateway_on(url: str, folder: Path, provider: ScriptedProvider) -> Gateway:
    """A process as users run it, whose provider, in this process, answers at once."""
    local = {"kind": "openai", "base_url": f"http://127.0.0.1:{provider.port}/v1", "api_key": "x"}
    models = {"chat": {"deployments": [{"provider": "local", "model": samples.PROVIDER_MODEL}]}}
    configuration = {"state": {"database": url}, "providers": {"local": local}, "models": models}
    return Gateway(folder, {**configuration, "monitoring": {"mode": "off"}}, "fast lane")


class Requests:
    """Seconds of each request with a session, and of each without."""

    def __init__(self, gateway: Gateway, provider: ScriptedProvider) -> None:
        self._gateway = gateway
        self._provider = provider
        self.of_sessions: list[float] = []
        self.of_none: list[float] = []

    async def ask(self, number: int) -> None:
        await self._timed(self.of_sessions, {"x-session-id": f"s{number}", "x-user-id": f"user-{number}"})
        await self._timed(self.of_none, {})
        self._provider.heard.clear()

    async def _timed(self, seconds: list[float], headers: dict[str, str]) -> None:
        body = msgspec.json.encode({"model": "chat", "messages": [msgspec.Raw(MESSAGE.body)]})
        async with connect(self._gateway.url) as wire:
            started = time.perf_counter()
            await wire.send(request("POST", CHAT, body, headers))
            reply = await wire.reply()
            seconds.append(time.perf_counter() - started)
        assert reply.status == 200, reply.body

    def __str__(self) -> str:
        return f"with a session {shown(self.of_sessions)}   without {shown(self.of_none)}"


async def ask_for(asked: Requests, sessions: int, goes_on: Callable[[Requests], bool]) -> Requests:
    await Numbers(sessions).each(ASKING, partial(goes_on, asked), asked.ask)
    return asked


async def while_it_sweeps(asked: Requests, store: Store, sessions: int) -> Requests:
    """What is asked from when the gateway's sweeper has begun to when it has ended."""
    async with asyncio.timeout(3 * SWEEP_EVERY_S):
        await changed(store, EXPIRED)
    swept = asyncio.ensure_future(changed(store, 0, becomes=True))
    return await ask_for(asked, sessions, lambda _: not swept.done())


async def changed(store: Store, count: int, *, becomes: bool = False) -> None:
    """So many sessions have expired no more, or at last."""
    while (await expired(store) == count) is not becomes:  # noqa: ASYNC110 – another process's doing
        await asyncio.sleep(0.1)


async def expired(store: Store) -> int:
    """Sessions whose time is over, which are still there."""
    return await store.count_sessions(0) - await store.count_sessions(time.time())


# --- one store after the other ----------------------------------------------------------------------------------------


async def measure(name: str, url: str, folder: Path, sessions: int, turns: int, *, rivals: bool) -> None:
    store = open_store(url)
    await store.count_sessions(0)
    try:
        if name in OF_GATEWAYS:
            async with ScriptedProvider() as provider:
                provider.reply(replies.whole(samples.COMPLETION))
                await measure_gateway(name, store, gateway_on(url, folder, provider), provider, sessions, turns)
        else:
            await fill(store, 0, sessions, now=time.time())
        calm_collector()
        for clients in CLIENTS:
            say(name, f"{clients} at once   {await take_turns(store, sessions, turns, clients)}")
        await fill(store, sessions, EXPIRED, now=time.time() - 2 * TTL_S)
        say(name, f"before sweeping   {await take_turns(store, sessions, turns, ASKING)}")
        took_s, taken = await while_sweeping(store, sessions)
        say(name, f"{EXPIRED} swept in {took_s:.1f} s   {taken}")
        if rivals:
            say(name, f"{CONTENDED} sessions × {RIVALS} rivals in {await contend(store):.1f} s: all kept")
    finally:
        await store.close()


async def measure_gateway(name: str, store: Store, gateway: Gateway, provider: ScriptedProvider, sessions: int, turns: int) -> None:
    await asyncio.to_thread(gateway.start)
    try:
        filled, warm = 0, WARMING
        for size in (*(size for size in SIZES if size < sessions), sessions):
            await fill(store, filled, size - filled, now=time.time())
            filled = size
            await take_turns(store, size, 500, ASKING)
            await ask_for(Requests(gateway, provider), size, lambda asked, most=warm: len(asked.of_sessions) < most)  # type: ignore[misc]
            warm = 500
            here, there = memory_mb(os.getpid()), memory_mb(gateway.process.pid)
            say(name, f"{size} sessions × {MESSAGES} messages: this process {here}, gateway {there}")
        await asyncio.to_thread(gateway.stop)
        await fill(store, sessions, EXPIRED, now=time.time() - 2 * TTL_S)
        await asyncio.to_thread(gateway.start)
        quiet = await ask_for(Requests(gateway, provider), sessions, lambda asked: len(asked.of_sessions) < turns / 4)
        say(name, f"gateway, before it sweeps   {quiet}")
        say(name, f"gateway, while it sweeps {EXPIRED}   {await while_it_sweeps(Requests(gateway, provider), store, sessions)}")
    finally:
        gateway.close()


def say(store: str, text: str) -> None:
    print(f"{store:9} {text}   [load {os.getloadavg()[0]:.1f}]", flush=True)


def shown(seconds: Sequence[float]) -> str:
    """Of all, and the p99 of the fifth of them in which the machine was at its quietest: others may be at work on it."""
    fifth = len(seconds) // 5
    quietest = min(_ms(seconds[start : start + fifth], 0.99) for start in range(0, len(seconds) - fifth + 1, fifth))
    return f"p50 {_ms(seconds, 0.5):.2f} p99 {_ms(seconds, 0.99):.2f} (quietest {quietest:.2f}) ms"


def _ms(seconds: Sequence[float], share: float) -> float:
    return 1000 * sorted(seconds)[int(share * (len(seconds) - 1))]


def memory_mb(pid: int) -> str:
    """Proportional and resident, now (Linux)."""
    kilobytes = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    pss, rss = (int(kilobytes[name].split()[0]) / 1024 for name in ("Pss", "Rss"))
    return f"{pss:.0f} MB (resident {rss:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=2_000)
    parser.add_argument("--turns", type=int, default=5_000)
    parser.add_argument("--store", action="append", choices=["sqlite", "postgres", "redis"])
    parser.add_argument("--rivals", action="store_true", help=f"also {CONTENDED} sessions × {RIVALS} turns at once, which takes a minute")
    arguments = parser.parse_args()
    servers: dict[str, type[Server]] = {"postgres": Postgres, "redis": Redis}
    for name in arguments.store or ["sqlite", *servers]:
        with tempfile.TemporaryDirectory() as folder:
            run = partial(measure, name, folder=Path(folder), sessions=arguments.sessions, turns=arguments.turns, rivals=arguments.rivals)
            if name == "sqlite":
                uvloop.run(run(f"sqlite:///{folder}/store.db"))
                continue
            try:
                server = own(servers[name])
            except pytest.skip.Exception as missing:
                print(f"{name:9} not measured: {missing}")
                continue
            server.start()
            try:
                uvloop.run(run(server.url()))
            finally:
                server.remove()


if __name__ == "__main__":
    main()
