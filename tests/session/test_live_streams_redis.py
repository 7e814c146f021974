"""Streams through Redis when things go wrong: Redis is down, slow or empty, and the process that makes an answer is gone."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis as Client
from redis.exceptions import RedisError

from agent_gateway.core.errors import StoreDown, StreamLost
from agent_gateway.session import redis_streams
from agent_gateway.session.live_streams import Bounds, StreamLog
from agent_gateway.session.redis_streams import ANSWER_TIMEOUT_S, RedisStreams
from agent_gateway.stores.base import Owner
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.servers import Redis, own

ANN = Owner("key", "ann")
#: Long for a test that waits until it is over, and short for a machine that stands still.
LEASE_S = 1.5
TTL_S = 60.0


@pytest.fixture
def server() -> Iterator[Redis]:
    """Of each test's own, for they stop it."""
    server = own(Redis)
    server.start()
    yield server
    server.remove()


@pytest_asyncio.fixture
async def streams(server: Redis) -> AsyncIterator[tuple[RedisStreams, RedisStreams]]:
    """Of two processes."""
    here, there = (RedisStreams(server.url(), Bounds(stream_bytes=50_000), lease_s=LEASE_S, block_s=0.1) for _ in range(2))
    yield here, there
    for one in (here, there):
        await one.close(0.2)


def opened(streams: RedisStreams) -> StreamLog:
    log = streams.open("r", ANN, "openai_chat", TTL_S)
    assert log is not None
    return log


def frame(number: int, size: int = 0) -> bytes:
    return b"data: %d%b\n\n" % (number, b"x" * size)


def events(first: int, last: int) -> bytes:
    return b"".join(b"data: %d\nid: %d\n\n" % (number, number) for number in range(first, last + 1))


async def copied(streams: RedisStreams) -> None:
    def are_sent() -> bool:
        return not streams._changed and all(copy.whole for copy in streams._copies.values())

    while True:
        await eventually(are_sent, "all to be copied")
        with suppress(RedisError):
            await streams._writer.ping()  # there is one connection: before that is answered, so is what was sent
        if are_sent():
            return


async def read(streams: RedisStreams, after: int = 0) -> bytes:
    stream = await streams.find("r", ANN)
    assert stream is not None
    return b"".join([events async for events in stream.follow(after)])


async def test_a_process_that_is_gone(streams: tuple[RedisStreams, RedisStreams]) -> None:
    here, there = streams
    log = opened(here)
    log.append(frame(1) + frame(2))
    await copied(here)
    assert here._task is not None
    here._task.cancel()  # nothing more comes from it, as after `kill -9`
    stream = await there.find("r", ANN)
    assert stream is not None
    follow = stream.follow(0)
    assert await anext(follow) == events(1, 2)
    began = time.monotonic()
    with pytest.raises(StreamLost):
        await anext(follow)
    assert time.monotonic() - began < LEASE_S + PATIENCE_S / 2
    with pytest.raises(StreamLost):
        await read(there, 2)
    here._changed.clear()


async def test_copying_outlives_whatever_redis_client_makes_of_a_failure(
    streams: tuple[RedisStreams, RedisStreams], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_streams, "RETRY_S", 0.0)
    here, there = streams
    with monkeypatch.context() as ill:
        ill.setattr(here._writer, "pipeline", lambda **_: 1 / 0)
        log = opened(here)
        log.append(frame(1))
        await eventually(lambda: here.failures > 0, "a copy to fail")
    log.append(frame(2))
    log.end()
    await copied(here)
    assert await read(there) == events(1, 2)


async def test_a_process_that_is_quiet_is_not_gone(server: Redis, streams: tuple[RedisStreams, RedisStreams]) -> None:
    here, there = streams
    log = opened(here)
    log.append(frame(1))
    await copied(here)
    reading = asyncio.create_task(read(there))
    async with Client.from_url(server.url()) as client:
        left_ms, renewals = 0, 0
        while renewals < 4:  # which takes longer than the lease
            before, left_ms = left_ms, await client.pttl("agent-gateway:stream:r:alive")
            renewals += left_ms > before
            await asyncio.sleep(0.02)
    assert not reading.done()
    log.append(frame(2))
    log.end()
    assert await reading == events(1, 2)


async def test_a_redis_that_is_down(server: Redis, streams: tuple[RedisStreams, RedisStreams]) -> None:
    here, there = streams
    server.stop()
    log = opened(here)
    log.append(frame(1))
    reading = asyncio.create_task(read(here))
    await eventually(lambda: here.failures, "the failure to be counted")
    with pytest.raises(StoreDown):
        await there.find("r", ANN)
    log.append(frame(2))
    log.end()
    assert await reading == await read(here) == events(1, 2)
    server.start()
    await eventually(lambda: not here._copies, "what ended meanwhile to be copied")
    assert await read(there) == events(1, 2)


async def test_a_redis_that_comes_back_empty(server: Redis, streams: tuple[RedisStreams, RedisStreams]) -> None:
    here, there = streams
    log = opened(here)
    log.begin(b"head: 1\r\n")
    log.append(frame(1) + frame(2))
    await copied(here)
    follow = (await there.find("r", ANN) or pytest.fail("not found")).follow(0)
    assert await anext(follow) == events(1, 2)
    server.stop(signal.SIGKILL)
    with pytest.raises(StoreDown):
        await anext(follow)
    log.append(frame(3))
    await eventually(lambda: here.failures, "the failure to be counted")
    server.start()
    await copied(here)
    log.append(frame(4))
    log.end()
    assert await read(there) == events(1, 4)
    assert await read(there, 2) == events(3, 4)
    stream = await there.find("r", ANN)
    assert stream is not None
    assert stream.head == b"head: 1\r\n"


async def test_a_redis_that_says_nothing_holds_nobody_up(server: Redis, streams: tuple[RedisStreams, RedisStreams]) -> None:
    here, _ = streams
    log = opened(here)
    log.append(frame(1))
    await copied(here)
    server.freeze()
    try:
        began = time.monotonic()
        for number in range(2, 500):
            log.append(frame(number))
            await asyncio.sleep(0)
        log.end()
        assert await read(here) == events(1, 499)
        assert time.monotonic() - began < ANSWER_TIMEOUT_S
    finally:
        server.thaw()
    await eventually(lambda: not here._copies, "it to be copied after all")


async def test_redis_keeps_no_more_than_the_process(server: Redis, streams: tuple[RedisStreams, RedisStreams]) -> None:
    here, there = streams
    log = opened(here)
    for number in range(1, 200):
        log.append(frame(number, 1_000))
        if number % 10 == 0:
            await copied(here)
    await copied(here)
    async with Client.from_url(server.url()) as client:
        entries: Any = await client.xrange("agent-gateway:stream:r:events")
        assert sum(len(fields[b"events"]) for _, fields in entries) < 70_000
        for key in await client.keys("*"):
            assert 0 < await client.pttl(key) <= 1000 * (TTL_S + LEASE_S), "whatever happens to us, it is deleted"
        log.end()
        await eventually(lambda: not here._copies, "the end to be copied")
        assert sorted(await client.keys("*")) == [b"agent-gateway:stream:r", b"agent-gateway:stream:r:events"]
    assert (await read(there, 190)).count(b"id: ") == 9


async def test_what_was_written_last_is_there_when_the_process_has_ended(server: Redis, streams: tuple[RedisStreams, RedisStreams]) -> None:
    here, there = streams
    log = opened(here)
    for number in range(1, 50):
        log.append(frame(number))
    log.end()
    await here.close(5)
    assert await read(there) == events(1, 49)


async def test_many_streams_go_in_few_round_trips(server: Redis, streams: tuple[RedisStreams, RedisStreams]) -> None:
    here, there = streams
    logs = [here.open(str(number), ANN, "openai_chat", TTL_S) for number in range(100)]
    async with Client.from_url(server.url()) as client:
        before = (await client.info("commandstats")).get("cmdstat_exec", {}).get("calls", 0)
        for number in range(1, 101):
            for log in logs:
                assert log is not None
                log.append(frame(number))
            await asyncio.sleep(0.001)
        for log in logs:
            assert log is not None
            log.end()
        await eventually(lambda: not here._copies, "all to be copied")
        calls = (await client.info("commandstats"))["cmdstat_exec"]["calls"] - before
    assert calls < 250, "10,000 events of 100 streams"
    stream = await there.find("77", ANN)
    assert stream is not None
    assert b"".join([some async for some in stream.follow(0)]) == events(1, 100)
