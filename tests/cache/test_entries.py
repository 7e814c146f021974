"""Where answers are kept, in memory and on a real Redis: one suite on both, and what Redis does to those who use it when it is down."""

from __future__ import annotations

import asyncio
import random
import signal
import time
import zlib
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from redis import Redis as Client

from agent_gateway.app import Gateway
from agent_gateway.cache import redis as in_redis
from agent_gateway.cache.base import Entries, Entry, Place
from agent_gateway.cache.memory import OVERHEAD_BYTES, SWEEP_S, MemoryEntries
from agent_gateway.cache.place import user_digest
from agent_gateway.cache.redis import RedisEntries
from agent_gateway.control.load import compile_mapping
from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import StoreDown
from agent_gateway.core.usage import Usage
from agent_gateway.stores import promptness
from agent_gateway.stores.promptness import WAIT_MAX_S
from tests.cache.exchanges import Model, asked, new_cache, new_exchange, saying
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.servers import Redis, own, shared

ENTRY = Entry(b"Hello", b'{"content":"Hello"}', "p/m", Usage(input=1, output=2), 0.5, "stop", 1.0)
PREFIX = "agent-gateway:cache:"


def place(number: int = 0, user: str = "ann") -> Place:
    return Place(user_digest(user), f"{number:064x}")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is waited for: that the machine is busy does not make it one that is slow."""
    for name in ("QUICK_S", "WAIT_MIN_S", "WAIT_MAX_S"):
        monkeypatch.setattr(promptness, name, PATIENCE_S)
    for name in ("WAIT_MAX_S", "WRITE_TIMEOUT_S"):
        monkeypatch.setattr(in_redis, name, PATIENCE_S)


@pytest.fixture
def server(pytestconfig: pytest.Config, patient: None) -> Redis:
    """The tests' own, empty."""
    server = shared(Redis, pytestconfig)
    with Client.from_url(server.url()) as client:
        client.flushall()
    return server


@pytest.fixture
def breakable() -> Iterator[Redis]:
    """One that the test may stop."""
    server = own(Redis)
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGKILL)  # even while it is frozen
        server.remove()


@pytest_asyncio.fixture(params=["memory", "redis"])
async def entries(request: pytest.FixtureRequest, server: Redis) -> AsyncIterator[Entries]:
    made: Entries = MemoryEntries(SYSTEM_CLOCK, 2**24) if request.param == "memory" else RedisEntries(server.url(), SYSTEM_CLOCK)
    yield made
    await made.close(5)


@pytest_asyncio.fixture
async def broken(breakable: Redis) -> AsyncIterator[RedisEntries]:
    made = RedisEntries(breakable.url(), SYSTEM_CLOCK)
    yield made
    await made.close(5)


async def kept(entries: Entries, where: Place, entry: Entry = ENTRY, ttl_s: float = 60) -> None:
    task = entries.keep(where, entry, ttl_s)
    if task is not None:
        await task


# --- both -------------------------------------------------------------------------------------------------------------


async def test_what_is_kept_is_found_as_it_was(entries: Entries) -> None:
    assert await entries.find(place()) is None
    await kept(entries, place())
    assert await entries.find(place()) == ENTRY
    assert await entries.find(place(1)) is None
    assert await entries.find(place(0, "bob")) is None
    bare = Entry(b"", None, "p/m")
    await kept(entries, place(), bare)
    assert await entries.find(place()) == bare


@pytest.mark.parametrize("size", [0, 1_000, 1_100, 70_000, 2**20])
async def test_any_bytes_are(entries: Entries, size: int) -> None:
    for body in (random.Random(size).randbytes(size), b"ab" * (size // 2)):
        entry = Entry(body, b"{}", "p/m")
        await kept(entries, place(), entry)
        assert await entries.find(place()) == entry


async def test_it_is_forgotten_in_time(entries: Entries) -> None:
    began = time.monotonic()
    await kept(entries, place(), ttl_s=0.05)
    assert await entries.find(place()) == ENTRY or time.monotonic() - began >= 0.05
    until = time.monotonic() + PATIENCE_S
    while await entries.find(place()) is not None:
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("ttl_s", [1e-9, 1e300])
async def test_any_time_can_be_asked_for(entries: Entries, ttl_s: float) -> None:
    await kept(entries, place(), ttl_s=ttl_s)
    assert entries.failures == 0


async def test_a_user_is_erased_and_no_other(entries: Entries) -> None:
    for number in range(30):
        await kept(entries, place(number))
        await kept(entries, place(number, "bob"))
    assert await entries.erase(user_digest("ann")) == 30
    assert await entries.erase(user_digest("ann")) == 0
    assert await entries.find(place(7)) is None
    assert await entries.find(place(7, "bob")) == ENTRY


async def test_what_is_being_kept_is_erased_too(entries: Entries) -> None:
    for number in range(30):
        entries.keep(place(number), ENTRY, 60)
    assert await entries.erase(user_digest("ann")) == 30
    assert await entries.find(place(29)) is None


# --- memory -----------------------------------------------------------------------------------------------------------


async def test_those_used_last_stay() -> None:
    size = len(ENTRY.body) + len(ENTRY.told or b"") + OVERHEAD_BYTES
    entries = MemoryEntries(SYSTEM_CLOCK, 10 * size)
    for number in range(10):
        await kept(entries, place(number))
    assert entries.kept_bytes == 10 * size
    await entries.find(place(0))
    await kept(entries, place(10))
    assert [number for number in range(11) if await entries.find(place(number)) is None] == [1]
    await kept(entries, place(11), Entry(bytes(10 * size), None, "p/m"))
    assert await entries.find(place(11)) is None, "one that takes all the room pushes nobody out"
    assert entries.kept_bytes == 10 * size
    entries.limit(3 * size)
    assert entries.kept_bytes == 3 * size
    entries.limit(0)
    assert entries.kept_bytes == 0


async def test_what_nobody_asks_for_any_more_is_swept_away() -> None:
    now = 0.0
    entries = MemoryEntries(Clock(monotonic=lambda: now), 2**20)
    for number in range(10):
        await kept(entries, place(number), ttl_s=5)
    now = SWEEP_S
    await kept(entries, place(99))
    assert entries.kept_bytes == len(ENTRY.body) + len(ENTRY.told or b"") + OVERHEAD_BYTES


# --- Redis ------------------------------------------------------------------------------------------------------------


async def test_what_one_process_keeps_another_finds(server: Redis) -> None:
    here, there = (RedisEntries(server.url().replace("redis://", scheme), SYSTEM_CLOCK) for scheme in ("redis://", "valkey://"))
    caches = [new_cache(here), new_cache(there)]
    model = Model(saying())
    told = [await asked(caches[number % 2], model, new_exchange()) for number in range(4)]
    assert (set(told), model.calls) == ({b"Hello 0"}, 1)
    await here.close(5)
    assert await there.find(place()) is None
    await there.close(5)


async def test_redis_holds_no_name_and_everything_for_a_while_only(server: Redis) -> None:
    entries = RedisEntries(server.url(), SYSTEM_CLOCK)
    await asked(new_cache(entries), Model(saying("x" * 100_000)), new_exchange(user="ann@example.com"))
    await entries.close(5)
    with Client.from_url(server.url()) as client:
        (key,) = client.keys("*")
        assert key.startswith(PREFIX.encode())
        assert 0 < client.pttl(key) <= 60_000
        assert client.strlen(key) < 10_000, "it is compressed"
        assert b"ann@" not in key + client.get(key)


async def test_what_is_not_ours_or_not_whole_is_no_answer(server: Redis) -> None:
    entries = RedisEntries(server.url(), SYSTEM_CLOCK)
    big = Entry(b"ab" * 100_000, None, "p/m")
    await kept(entries, place(), big)
    name = f"{PREFIX}{place().user}:{place().request}"
    bomb = b"\1" + zlib.compress(bytes(200 * 2**20), 1)
    with Client.from_url(server.url()) as client:
        whole = client.get(name)
        assert whole is not None
        for value in (b"", b"\0", b"\1", b"x", b"\0\x90", b"\1abc", whole[:-9], b"\0" + whole[1:], bomb):
            client.set(name, value)
            assert await entries.find(place()) is None, value[:20]
        client.delete(name)
        client.rpush(name, "a list")
        assert await entries.find(place()) is None
    await kept(entries, place(), big)
    await entries.close(5)


@pytest.mark.usefixtures("patient")
async def test_while_redis_is_down_requests_go_on_and_are_counted(breakable: Redis, broken: RedisEntries) -> None:
    cache, model = new_cache(broken), Model(saying())
    assert await asked(cache, model, new_exchange()) == b"Hello 0"
    assert await asked(cache, model, new_exchange()) == b"Hello 0"
    await eventually(lambda: not cache._flights, "the answer to be in Redis")
    breakable.stop()
    began = time.monotonic()
    for number in range(1, 21):
        assert await asked(cache, model, new_exchange()) == b"Hello %d" % number
        await eventually(lambda: not cache._flights, "the answer to be given up")
    assert time.monotonic() - began < 5
    assert cache.failures >= 20
    with pytest.raises(StoreDown):
        await cache.erase("")
    breakable.start()

    async def is_kept() -> bool:
        return await asked(cache, model, new_exchange()) == await asked(cache, model, new_exchange())

    until = time.monotonic() + PATIENCE_S
    while not await is_kept():
        assert time.monotonic() < until, "it works again when Redis is back"
        await asyncio.sleep(0.05)


async def test_a_redis_that_hangs_holds_up_one_request_for_a_moment(breakable: Redis, broken: RedisEntries) -> None:
    cache, model = new_cache(broken), Model(saying())
    await asked(cache, model, new_exchange())
    ticks = 0

    async def tick() -> None:
        """Time in which the loop turned: not that for which a busy machine let it stand."""
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    breakable.freeze()
    try:
        waits = []
        for number in range(10):
            began = ticks
            assert await asked(cache, model, new_exchange(seed=number)) == b"Hello %d" % (number + 1)
            waits.append((ticks - began) * 0.01)
        assert max(waits) < 2 * WAIT_MAX_S
        assert sorted(waits)[-3] < WAIT_MAX_S / 2
    finally:
        breakable.thaw()
        ticking.cancel()


@pytest.mark.usefixtures("patient")
async def test_an_answer_is_found_before_redis_has_it(breakable: Redis, broken: RedisEntries) -> None:
    """Whoever has an answer and asks again gets it again."""
    cache, model = new_cache(broken), Model(saying())
    await broken.find(place())
    exchange = new_exchange()
    told = await asked(cache, model, exchange)
    breakable.freeze()
    try:
        assert await asked(cache, model, new_exchange()) == told
        assert model.calls == 1
    finally:
        breakable.thaw()


@pytest.mark.usefixtures("patient")
async def test_no_more_is_being_written_than_is_allowed(breakable: Redis, broken: RedisEntries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_redis, "WRITES_MAX", 5)
    await kept(broken, place())
    breakable.freeze()
    try:
        tasks = [broken.keep(place(number), ENTRY, 60) for number in range(8)]
        assert [task is None for task in tasks] == [False] * 5 + [True] * 3
        assert broken.failures == 3
    finally:
        breakable.thaw()
    await asyncio.gather(*(task for task in tasks if task is not None))


async def test_a_gateway_without_a_cache_erases_what_is_left_of_one(server: Redis) -> None:
    entries = RedisEntries(server.url(), SYSTEM_CLOCK)
    await kept(entries, place())
    state = {"database": "sqlite:///:memory:", "redis": server.url()}
    gateway = Gateway(compile_mapping({"state": state, "providers": {"sim": {"kind": "simulated"}}}), environ={})
    assert gateway.live.runtime.cache is None
    assert [await gateway._erase_answers(user) for user in ("bob", "ann", "ann")] == [0, 1, 0]
    assert await entries.find(place()) is None
    await gateway.app._stopped()
    await entries.close(5)
