"""What lies with another worker: found, followed and handed on. What all live streams promise is in test_live_streams.py."""

from __future__ import annotations

import asyncio

import pytest

from agent_gateway.core.errors import StoreDown, StreamLost
from agent_gateway.session import sibling_streams
from agent_gateway.session.sibling_streams import SiblingStreams
from agent_gateway.stores.base import Owner
from tests.kit.siblings import Family

ANN = Owner("key", "ann")


def written(streams: SiblingStreams, request_id: str, count: int, ttl_s: float = 60.0) -> None:
    log = streams.open(request_id, ANN, "openai_chat", ttl_s)
    assert log is not None
    log.begin(b"head")
    for number in range(1, count + 1):
        log.append(b'data: {"n":%d}\n\n' % number)
    log.end()


async def read(streams: SiblingStreams, request_id: str, after: int = 0) -> bytes:
    stream = await streams.find(request_id, ANN)
    assert stream is not None
    return b"".join([events async for events in stream.follow(after)])


async def test_a_worker_that_is_killed_takes_its_streams_along() -> None:
    family = Family()
    maker, reader = family.member(), family.member()
    here, there = SiblingStreams(maker), SiblingStreams(reader)
    log = here.open("r", ANN, "openai_chat", 60.0)
    assert log is not None
    log.append(b"data: 1\n\n")
    stream = await there.find("r", ANN)
    assert stream is not None
    following = stream.follow(0)
    assert await anext(following) == b"data: 1\nid: 1\n\n"
    maker.gone = True
    with pytest.raises(StreamLost):
        await anext(following)
    assert await there.find("r", ANN) is None
    await here.close(1)


async def test_a_worker_that_stands_still_for_a_moment_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family()
    maker, reader = family.member(), family.member()
    here, there = SiblingStreams(maker), SiblingStreams(reader)
    monkeypatch.setattr(sibling_streams, "ASK_AGAIN_S", 0.0)
    written(here, "r", 3)
    before = await read(here, "r")
    maker.silent = 1
    with pytest.raises(StoreDown):  # it cannot be known whether it has the stream
        await there.find("r", ANN)
    stream = await there.find("r", ANN)
    assert stream is not None
    maker.silent = 3
    assert b"".join([events async for events in stream.follow(0)]) == before
    maker.silent = 3
    monkeypatch.setattr(sibling_streams, "SILENT_MAX_S", 0.0)
    with pytest.raises(StreamLost):
        await anext(stream.follow(0))
    await here.close(1)


async def test_who_goes_hands_on_what_can_still_be_read() -> None:
    family = Family()
    goes, full, empty = (family.member() for _ in range(3))
    here, there, elsewhere = (SiblingStreams(member) for member in (goes, full, empty))
    written(there, "other", 50)
    written(here, "r", 5)
    before = await read(here, "r")
    await here.close(1)
    assert (here.finished, there.finished, elsewhere.finished) == (0, 1, 1), "who keeps least has it"
    goes.gone = True
    assert await read(there, "r") == await read(elsewhere, "r") == before
    assert await read(there, "r", after=3) == before[before.index(b'data: {"n":4}') :]
    stream = await there.find("r", ANN)
    assert stream is not None
    assert (stream.dialect, stream.head) == ("openai_chat", b"head")
    assert await there.find("r", Owner("key", "bob")) is None
    assert elsewhere.kept_bytes > 0
    assert await elsewhere.erase("ann") == 2
    assert (elsewhere.kept_bytes, there.kept_bytes) == (0, 0)
    await there.close(1)


async def test_what_is_handed_on_keeps_its_time() -> None:
    family = Family()
    here, there = (SiblingStreams(family.member()) for _ in range(2))
    written(here, "r", 1, ttl_s=0.05)
    await here.close(1)
    async with asyncio.timeout(5):
        while there.finished:  # noqa: ASYNC110 - its timer is the loop's own
            await asyncio.sleep(0.01)


async def test_nothing_is_handed_on_where_all_go() -> None:
    family = Family()
    goes, too = family.member(), family.member()
    here, there = SiblingStreams(goes), SiblingStreams(too)
    too.leaving = True
    written(here, "r", 5)
    await here.close(1)
    assert there.finished == 0
