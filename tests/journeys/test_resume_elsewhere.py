"""Streams taken up again at another gateway process, through a real Redis: also when the first process, or Redis, is gone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis as Client

from tests.journeys.conftest import Launch, one_edge
from tests.journeys.test_resume import RESUMABLE, WHOLE, cut, ids, leave_after, paused, resume, told
from tests.kit import replies, samples
from tests.kit.client import CHAT, ask, chat, connect, request
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.servers import Redis, own, shared

pytestmark = one_edge
KEY = "agent-gateway:stream:"


def state(redis: Redis) -> dict[str, Any]:
    return {"database": "sqlite:///agent-gateway.db", "redis": redis.url()}


@pytest.fixture
def redis(request: pytest.FixtureRequest) -> Redis:
    return shared(Redis, request.config)


@pytest.fixture
def redis_of_its_own() -> Iterator[Redis]:
    """For a journey that stops it."""
    server = own(Redis)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def pair(launch: Launch, redis: Redis) -> tuple[Gateway, Gateway]:
    return launch(state=state(redis)), launch(state=state(redis))


async def is_there(redis: Redis, request_id: str, events: int) -> None:
    """So much of the stream can be read elsewhere."""

    def copied() -> bool:
        with Client.from_url(redis.url()) as client:
            newest: Any = client.xrevrange(f"{KEY}{request_id}:events", count=1)
        return bool(newest) and int(newest[0][0].partition(b"-")[0]) >= events

    await eventually(copied, f"{events} events of {request_id} in Redis")


async def test_every_event_is_where_one_comes_back(
    pair: tuple[Gateway, Gateway], provider: ScriptedProvider, redis: Redis
) -> None:
    here, there = pair
    provider.reply(replies.stream(samples.text_frames(["I ", "am ", "told ", "in ", "pieces."], usage=True)))
    for number in range(1, len(ids(WHOLE)) + 1):
        head, first = await leave_after(here, CHAT, chat(stream=True), number)
        await is_there(redis, head.headers["x-request-id"], len(ids(WHOLE)))
        rest = await resume(there, head, number)
        assert first + rest.body == WHOLE
        assert rest.headers["x-request-id"] == head.headers["x-request-id"]
        if rest.body:
            assert rest.headers["x-gateway-model"] == head.headers["x-gateway-model"]


async def test_a_reader_elsewhere_follows_to_the_end(
    pair: tuple[Gateway, Gateway], provider: ScriptedProvider, redis: Redis
) -> None:
    here, there = pair
    go_on = asyncio.Event()
    provider.reply(paused(go_on))
    head, first = await leave_after(here, CHAT, chat(stream=True), 2)
    await is_there(redis, head.headers["x-request-id"], 2)
    readers = [asyncio.create_task(resume(gateway, head, 2)) for gateway in pair for _ in range(3)]
    await asyncio.sleep(0.1)
    assert not any(reader.done() for reader in readers)
    go_on.set()
    assert {first + reply.body for reply in await asyncio.gather(*readers)} == {WHOLE}
    assert (await resume(there, head, 99)).status == 400
    assert (await resume(there, head, None, "", **{"x-user-id": "somebody"})).status == 404
    assert (await resume(there, "req_unknown")).status == 404


async def test_the_process_that_makes_it_is_killed(
    pair: tuple[Gateway, Gateway], provider: ScriptedProvider, redis: Redis
) -> None:
    here, there = pair
    provider.reply(paused(asyncio.Event()))
    head, first = await leave_after(here, CHAT, chat(stream=True), 1)
    request_id = head.headers["x-request-id"]
    await is_there(redis, request_id, 3)
    async with connect(there.url) as wire:
        await wire.send(request("GET", f"/v1/streams/{request_id}", headers={"last-event-id": "1"}))
        assert (await wire.head()).status == 200
        rest = await wire.piece()
        here.kill()
        with Client.from_url(redis.url()) as client:
            assert 0 < client.pttl(f"{KEY}{request_id}:alive") <= 10_000
            client.delete(f"{KEY}{request_id}:alive")  # what time would do
        while piece := await wire.piece():
            rest += piece
    *events, last = samples.frames_of(rest)
    assert first + b"".join(events) == cut(WHOLE, 3)
    assert told(last)["code"] == "stream_lost"
    assert ids(last) == []
    after_it = await resume(there, head, 3)
    assert (after_it.status, after_it.error["code"]) == (503, "stream_lost")


async def test_a_process_that_stops_in_good_order_leaves_its_streams(
    pair: tuple[Gateway, Gateway], provider: ScriptedProvider, redis: Redis
) -> None:
    here, there = pair
    go_on = asyncio.Event()
    provider.reply(paused(go_on))
    head, first = await leave_after(here, CHAT, chat(stream=True), 2)
    here.signal(signal.SIGTERM)
    go_on.set()
    assert await asyncio.to_thread(here.wait) == 0
    assert first + (await resume(there, head, 2)).body == WHOLE


async def test_redis_is_down(launch: Launch, provider: ScriptedProvider, redis_of_its_own: Redis) -> None:
    here, there = (launch(state=state(redis_of_its_own)) for _ in range(2))
    redis_of_its_own.stop()
    go_on = asyncio.Event()
    provider.reply(paused(go_on))
    head, first = await leave_after(here, CHAT, chat(stream=True), 2)
    rest = asyncio.create_task(resume(here, head, 2))
    reply = await resume(there, head, 2)
    assert (reply.status, reply.error["code"]) == (503, "store_down")
    go_on.set()
    assert first + (await rest).body == WHOLE
    assert (await ask(here.url, CHAT, chat(stream=True), headers=RESUMABLE)).body == WHOLE
    async with asyncio.timeout(PATIENCE_S):  # copies are made behind the answer
        while "agent_gateway_resumable_failures_total 0.0" in (await ask(here.url, "/metrics")).body.decode():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    redis_of_its_own.start()
    await is_there(redis_of_its_own, head.headers["x-request-id"], len(ids(WHOLE)))
    assert first + (await resume(there, head, 2)).body == WHOLE


async def test_redis_goes_down_while_one_reads(launch: Launch, provider: ScriptedProvider, redis_of_its_own: Redis) -> None:
    here, there = (launch(state=state(redis_of_its_own)) for _ in range(2))
    go_on = asyncio.Event()
    provider.reply(paused(go_on))
    head, first = await leave_after(here, CHAT, chat(stream=True), 2)
    await is_there(redis_of_its_own, head.headers["x-request-id"], 3)
    async with connect(there.url) as wire:
        await wire.send(request("GET", f"/v1/streams/{head.headers['x-request-id']}", headers={"last-event-id": "2"}))
        await wire.head()
        rest = await wire.piece()
        redis_of_its_own.stop()
        last = b""
        while piece := await wire.piece():
            last += piece
    assert first + rest == cut(WHOLE, 3)
    assert told(last)["code"] == "store_down"
    go_on.set()
    assert first + (await resume(here, head, 2)).body == WHOLE
