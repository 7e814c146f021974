"""What every kind of live streams promises (`session/live_streams.py`): read where they are made, and in another process through Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest
import pytest_asyncio

from agent_gateway.core.errors import BadRequest, EventsGone, GatewayError
from agent_gateway.session.live_streams import Bounds, LiveStreams, MemoryStreams, Stream, StreamLog
from agent_gateway.session.redis_streams import RedisStreams
from agent_gateway.session.sibling_streams import SiblingStreams
from agent_gateway.stores.base import Owner
from tests.kit.eventually import PATIENCE_S
from tests.kit.servers import Redis, shared
from tests.kit.siblings import Family

T = TypeVar("T")

ANN = Owner("key", "ann")
OTHERS = [Owner(*parts) for parts in (("key", "bob"), ("other", "ann"), ("key", ""), ("", "ann"), ("", ""))]
HEAD = b"content-type: text/event-stream\r\nx-request-id: r\r\n"
BOUNDS = Bounds(stream_bytes=20_000, total_bytes=50_000, streams=4)
TTL_S = 60.0
#: Through Redis things are seen a moment later; what must not be seen is waited for so long.
MOMENT_S = 0.1


@dataclass(frozen=True)
class Place:
    """`here` streams are made, `there` they are read."""

    here: LiveStreams
    there: LiveStreams

    def open(self, request_id: str = "r", owner: Owner = ANN, ttl_s: float = TTL_S) -> StreamLog:
        log = self.here.open(request_id, owner, "openai_chat", ttl_s)
        assert log is not None
        return log

    async def find(self, request_id: str = "r", owner: Owner = ANN) -> Stream:
        return await _eventually(lambda: self.there.find(request_id, owner))

    async def read(self, after: int = 0, request_id: str = "r") -> bytes:
        return b"".join([events async for events in (await self.find(request_id)).follow(after)])


@pytest_asyncio.fixture(params=["memory", "a sibling", "redis, here", "redis, elsewhere"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "memory":
        alone = MemoryStreams(BOUNDS)
        yield Place(alone, alone)
        await alone.close(1)
        return
    if request.param == "a sibling":
        family = Family()
        maker, reader = SiblingStreams(family.member(), BOUNDS), SiblingStreams(family.member(), BOUNDS)
        yield Place(maker, reader)
        await reader.close(1)
        await maker.close(1)
        return
    server = shared(Redis, request.config)
    here, there = RedisStreams(server.url(), BOUNDS), RedisStreams(server.url(), BOUNDS)
    await here._writer.flushdb()
    yield Place(here, there if request.param == "redis, elsewhere" else here)
    for streams in (here, there):
        await streams.close(1)


async def _eventually(look: Callable[[], Awaitable[T | None]]) -> T:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if seen := await look():
                return seen
            await asyncio.sleep(0.01)


def frame(number: int, size: int = 0) -> bytes:
    return b'data: {"n":%d}%b\n\n' % (number, b"x" * size)


def event(number: int, size: int = 0) -> bytes:
    return b'data: {"n":%d}%b\nid: %d\n\n' % (number, b"x" * size, number)


def write(log: StreamLog, *numbers: int, size: int = 0) -> None:
    for number in numbers:
        log.append(frame(number, size))


async def test_events_are_numbered_and_come_back_as_they_are(place: Place) -> None:
    log = place.open()
    log.begin(HEAD)
    log.append(frame(1) + frame(2))
    log.append(b"event: done\r\ndata: three\r\ndata: lines\r\nid: the-provider's\r\n\r\n")
    log.end()
    last = b"event: done\r\ndata: three\r\ndata: lines\r\nid: the-provider's\r\nid: 3\r\n\r\n"
    found = await place.find()
    assert await place.read() == event(1) + event(2) + last
    assert (found.head, found.dialect) == (HEAD, "openai_chat")


async def test_comments_are_no_events(place: Place) -> None:
    log = place.open()
    log.append(b": hello\n\n" + frame(1) + b": heartbeat\n\n\n\n")
    log.append(b": heartbeat\n\n")
    log.append(frame(2))
    log.end()
    assert await place.read() == event(1) + event(2)


@pytest.mark.parametrize("after", range(6))
async def test_what_is_missing_comes_and_nothing_else(place: Place, after: int) -> None:
    log = place.open()
    write(log, 1, 2, 3, 4, 5)
    log.end()
    assert await place.read(after) == b"".join(map(event, range(after + 1, 6)))


@pytest.mark.parametrize("before", [0, 1, 3])
async def test_a_reader_follows_to_the_end(place: Place, before: int) -> None:
    log = place.open()
    write(log, *range(1, before + 1))
    reading = asyncio.create_task(place.read())
    for number in range(before + 1, 30):
        await asyncio.sleep(0)
        write(log, number)
    await asyncio.sleep(MOMENT_S)
    write(log, 30)
    log.end()
    assert await reading == b"".join(map(event, range(1, 31)))


async def test_a_stream_that_waits_is_not_at_its_end(place: Place) -> None:
    log = place.open()
    write(log, 1)
    reading = asyncio.create_task(place.read(1))
    await asyncio.sleep(MOMENT_S)
    assert not reading.done()
    log.end()
    assert await reading == b""


async def test_the_head_may_come_after_the_reader(place: Place) -> None:
    log = place.open()
    stream = await place.find()
    follow = stream.follow(0)
    first = asyncio.ensure_future(anext(follow))
    await asyncio.sleep(MOMENT_S)
    assert stream.head == b""
    log.begin(HEAD)
    write(log, 1)
    assert (await first, stream.head) == (event(1), HEAD)
    await follow.aclose()
    log.end()


async def test_many_read_at_once(place: Place) -> None:
    log = place.open()
    readers = [asyncio.create_task(place.read(after)) for after in (0, 0, 0) for _ in range(10)]
    for number in range(1, 20):
        write(log, number)
        await asyncio.sleep(0)
    log.end()
    whole = b"".join(map(event, range(1, 20)))
    assert await asyncio.gather(*readers) == [whole] * 30


async def test_a_reader_that_leaves_takes_nobody_with_it(place: Place) -> None:
    log = place.open()
    write(log, 1)
    leaving, staying = asyncio.create_task(place.read()), asyncio.create_task(place.read())
    await asyncio.sleep(MOMENT_S)
    leaving.cancel()
    write(log, 2)
    log.end()
    assert await staying == event(1) + event(2)
    assert leaving.cancelled()


async def test_others_do_not_see_it(place: Place) -> None:
    place.open()
    await place.find()
    for other in OTHERS:
        assert await place.there.find("r", other) is None
    assert await place.there.find("another", ANN) is None


async def test_an_event_that_there_never_was(place: Place) -> None:
    log = place.open()
    write(log, 1, 2)
    log.end()
    for after in (3, 10**14):
        with pytest.raises(BadRequest, match="the last one is 2"):
            await place.read(after)
    assert await place.read(2) == b""


async def test_it_is_forgotten_after_its_time(place: Place) -> None:
    log = place.open(ttl_s=0.8)
    write(log, 1)
    follow = (await place.find()).follow(0)
    assert await anext(follow) == event(1)
    log.end()
    assert [events async for events in follow] == []

    async def is_gone() -> bool:
        return await place.there.find("r", ANN) is None

    await _eventually(is_gone)
    assert (place.here.running, place.here.finished, place.here.kept_bytes) == (0, 0, 0)


async def test_its_time_begins_at_its_end(place: Place) -> None:
    ttl_s, ended, seen = 0.125, 0.0, b""
    while time.monotonic() - ended > ttl_s:  # once more with more of it, where the machine stood still until it was over
        ttl_s *= 4
        log = place.open(f"{ttl_s}", ttl_s=ttl_s)
        write(log, 1)
        await place.find(f"{ttl_s}")
        await asyncio.sleep(1.2 * ttl_s)
        log.end()
        ended, seen = time.monotonic(), b""
        with suppress(GatewayError):
            if (stream := await place.there.find(f"{ttl_s}", ANN)) is not None:
                seen = b"".join([events async for events in stream.follow(0)])
    assert seen == event(1)


async def test_over_the_bound_of_a_stream_the_oldest_events_go(place: Place) -> None:
    log = place.open()
    write(log, *range(1, 31), size=1_000)
    assert place.here.kept_bytes <= BOUNDS.stream_bytes
    log.end()
    await place.find()
    with pytest.raises(EventsGone):
        await place.read(5)
    assert await place.read(20) == b"".join(event(number, 1_000) for number in range(21, 31))


async def test_a_reader_who_is_too_slow_is_told(place: Place) -> None:
    log = place.open()
    write(log, 1)
    follow = (await place.find()).follow(0)
    assert await anext(follow) == event(1)
    write(log, *range(2, 40), size=1_000)
    await asyncio.sleep(MOMENT_S)
    with pytest.raises(EventsGone):
        await anext(follow)
    log.end()


async def test_one_event_larger_than_the_bound_can_still_be_followed(place: Place) -> None:
    log = place.open()
    follow = (await place.find()).follow(0)
    first = asyncio.ensure_future(anext(follow))
    await asyncio.sleep(MOMENT_S)
    write(log, 1, size=2 * BOUNDS.stream_bytes)
    assert await first == event(1, 2 * BOUNDS.stream_bytes)
    write(log, 2)
    assert await anext(follow) == event(2)
    log.end()
    assert [events async for events in follow] == []


async def test_over_the_bound_of_all_those_that_ended_first_go_first(place: Place) -> None:
    for name in ("a", "b", "c"):
        write(log := place.open(name), *range(1, 16), size=1_000)
        if name != "a":
            log.end()
    await place.find("b")
    write(place.open("d"), *range(1, 16), size=1_000)
    assert place.here.kept_bytes <= BOUNDS.total_bytes

    async def b_is_gone() -> bool:
        return await place.there.find("b", ANN) is None

    await _eventually(b_is_gone)
    assert await place.read(0, "c") == b"".join(event(number, 1_000) for number in range(1, 16))
    assert (place.here.running, place.here.finished) == (2, 1)


async def test_when_all_run_the_one_that_grows_loses_its_oldest(place: Place) -> None:
    logs = [place.open(name) for name in "abc"]
    for log in logs:
        write(log, *range(1, 18), size=1_000)
    assert place.here.kept_bytes <= BOUNDS.total_bytes
    for log in logs:
        log.end()
    assert await place.read(0, "a") == b"".join(event(number, 1_000) for number in range(1, 18))
    with pytest.raises(EventsGone):
        await place.read(0, "c")


async def test_too_many_that_run_leave_no_room(place: Place) -> None:
    logs = [place.open(str(number)) for number in range(BOUNDS.streams)]
    assert place.here.open("more", ANN, "openai_chat", TTL_S) is None
    logs[0].end()
    assert place.here.open("more", ANN, "openai_chat", TTL_S) is not None
    assert (place.here.running, place.here.finished) == (BOUNDS.streams, 0)


async def test_an_end_is_one_end(place: Place) -> None:
    log = place.open()
    log.end()
    log.end()
    assert await place.read() == b""
    assert (place.here.running, place.here.finished) == (0, 1)


async def test_any_dialect_and_any_owner(place: Place) -> None:
    owner = replace(ANN, user="Grüß:2 ")
    log = place.here.open("g", owner, "gemini", TTL_S)
    assert log is not None
    log.end()
    assert (await place.find("g", owner)).dialect == "gemini"


async def test_a_users_streams_are_erased_whatever_key_they_were_made_with(place: Place) -> None:
    owners = {"a": ANN, "b": Owner("other", "ann"), "c": Owner("key", "bob")}
    for request_id, owner in owners.items():
        log = place.open(request_id, owner)
        write(log, 1)
        log.end()
        await place.find(request_id, owner)
    assert await place.there.erase("ann") == 2
    for request_id, owner in owners.items():
        assert (await place.there.find(request_id, owner) is None) == (owner.user == "ann")
    assert await place.there.erase("ann") == 0


async def test_of_a_stream_that_runs_nothing_is_kept_beyond_its_end(place: Place) -> None:
    log = place.open()
    write(log, 1, 2)
    await place.find()
    assert await place.here.erase("ann") == 1
    write(log, 3)
    log.end()

    async def is_gone() -> bool | None:
        return True if await place.there.find("r", ANN) is None else None

    await _eventually(is_gone)
    assert place.here.kept_bytes == 0
