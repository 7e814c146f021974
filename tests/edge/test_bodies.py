"""Bodies of all requests together are bounded, on both protocols and over WebSocket, and every byte is given back."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agent_gateway.app import Gateway
from agent_gateway.core.errors import Overloaded
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import Monitoring
from agent_gateway.edge.bodies import Bodies
from agent_gateway.edge.limits import Limits
from tests.edge.conftest import ADMIN_KEY, served
from tests.kit.client import CHAT, Reply, chat, chat_request, connect, request
from tests.kit.eventually import eventually
from tests.kit.websocket import connect as open_socket

AS_ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
MAX = 100_000
#: More than half of it, and more than a read brings.
LARGE: dict[str, Any] = {"user": "u" * 60_000}
SLOW = {"ttft_ms": 400}

both = pytest.mark.parametrize("fast", [True, False], ids=["fast lane", "asgi"])
slow = pytest.mark.parametrize("gateway", [SLOW], indirect=True, ids=[""])


@pytest.fixture
def limits(gateway: Gateway) -> Limits:
    return replace(gateway.limits, bodies=Bodies(MAX))


async def all_given_back(limits: Limits) -> None:
    await eventually(lambda: limits.bodies.held_bytes == 0, "every byte to be given back")


def assert_shed(reply: Reply) -> None:
    assert (reply.status, reply.error["code"], reply.error["param"]) == (503, "overloaded", "bodies")
    assert reply.headers["retry-after"] == "1"


def test_it_holds_to_the_byte() -> None:
    bodies = Bodies(10)
    first, second = bodies.hold(6), bodies.hold(0)
    second.grow(4)
    with pytest.raises(Overloaded):
        bodies.hold(1)
    with pytest.raises(Overloaded):
        second.grow(1)
    first.release()
    first.release()
    assert bodies.held_bytes == 4
    second.release()
    assert bodies.held_bytes == 0


@slow
@both
async def test_who_comes_when_they_are_too_large_is_told_to_come_back(
    gateway: Gateway, limits: Limits, told: list[Exchange], fast: bool
) -> None:
    large = chat_request(headers=AS_ADMIN, **LARGE)
    async with served(gateway, limits, fast=fast) as url, connect(url) as first, connect(url) as second, connect(url) as small:
        await first.send(large)
        await eventually(lambda: limits.bodies.held_bytes > 60_000, "the first to be held")
        await second.send(large)
        await small.send(chat_request(headers=AS_ADMIN))
        assert_shed(await second.reply())
        assert [(await wire.reply()).status for wire in (small, first)] == [200, 200]
        await all_given_back(limits)
        await first.send(large)
        assert (await first.reply()).status == 200, "there is room again"
    assert [exchange.status for exchange in told].count("error") == 1
    assert b'agent_gateway_shed_total{reason="bodies"} 1.0' in gateway.live.runtime.recorder.scrape()[0]


@slow
async def test_over_a_socket_too(gateway: Gateway, limits: Limits) -> None:
    async with served(gateway, limits, fast=True) as url, open_socket(url, AS_ADMIN) as socket:
        first, second, small = [await socket.ask(chat(**more)) for more in (LARGE, LARGE, {})]
        answers = await socket.answers(first, second, small)
        assert [frames[0].get("status", 200) for frames in answers.values()] == [200, 503, 200]
        assert answers[second][0]["error"]["code"] == "overloaded"
        await all_given_back(limits)
        assert "data" in (await socket.answer(await socket.ask(chat(**LARGE))))[0]


@both
async def test_a_body_counts_from_its_first_bytes_and_not_by_what_it_announces(gateway: Gateway, limits: Limits, fast: bool) -> None:
    data = chat_request(headers=AS_ADMIN, **LARGE)
    announced = request("POST", CHAT, headers={**AS_ADMIN, "content-length": str(MAX)})
    async with served(gateway, limits, fast=fast) as url, connect(url) as idle, connect(url) as wire, connect(url) as late:
        await idle.send(announced + b"{")
        await wire.send(data[:-5])
        await eventually(lambda: limits.bodies.held_bytes > 60_000, "both to be read")
        await late.send(data)
        assert_shed(await late.reply())
        await wire.send(data[-5:])
        assert (await wire.reply()).status == 200


@both
async def test_who_leaves_before_all_is_sent_gives_back_what_came(gateway: Gateway, limits: Limits, fast: bool) -> None:
    async with served(gateway, limits, fast=fast) as url:
        async with connect(url) as wire:
            await wire.send(chat_request(headers=AS_ADMIN, **LARGE)[:-5])
            await eventually(lambda: limits.bodies.held_bytes > 60_000, "it to be read")
        await all_given_back(limits)


@both
async def test_what_is_no_request_is_given_back(gateway: Gateway, limits: Limits, fast: bool) -> None:
    async with served(gateway, limits, fast=fast) as url, connect(url) as wire:
        await wire.send(request("POST", CHAT, b"{" * 60_000, AS_ADMIN))
        assert (await wire.reply()).status == 400
        await all_given_back(limits)


async def test_what_is_unpacked_counts_in_its_full_size(gateway: Gateway, limits: Limits) -> None:
    packed = gzip.compress(msgspec.json.encode(chat(user="u" * MAX)))
    async with served(gateway, limits, fast=True) as url, connect(url) as wire:
        await wire.send(request("POST", CHAT, packed, {**AS_ADMIN, "content-encoding": "gzip"}))
        assert_shed(await wire.reply())
        await all_given_back(limits)


@slow
async def test_an_answer_in_the_background_holds_its_question_until_it_is_made(gateway: Gateway, limits: Limits) -> None:
    runtime = gateway.live.runtime
    gateway.live.runtime = replace(runtime, settings=msgspec.structs.replace(runtime.settings, monitoring=Monitoring()))
    asked = {"model": "chat", "input": "u" * 60_000, "background": True}
    async with served(gateway, limits, fast=True) as url, connect(url) as wire:
        await wire.send(request("POST", "/v1/responses", msgspec.json.encode(asked), AS_ADMIN))
        reply = await wire.reply()
        assert (reply.status, reply.json.get("status")) == (200, "queued")
        assert limits.bodies.held_bytes > 60_000
        await all_given_back(limits)


@both
async def test_what_is_no_models_business_is_given_back(gateway: Gateway, limits: Limits, fast: bool) -> None:
    async with served(gateway, limits, fast=fast) as url, connect(url) as wire:
        await wire.send(request("POST", "/v1/conversations", msgspec.json.encode({"metadata": {}}), AS_ADMIN))
        assert (await wire.reply()).status == 200
        await all_given_back(limits)


@both
async def test_ten_at_once_are_let_in_as_far_as_they_fit(gateway: Gateway, limits: Limits, fast: bool) -> None:
    async with served(gateway, limits, fast=fast) as url:

        async def one() -> int:
            async with connect(url) as wire:
                await wire.send(chat_request(headers=AS_ADMIN, user="u" * 30_000))
                return (await wire.reply()).status

        statuses = await asyncio.gather(*[one() for _ in range(10)])
        assert {200} < set(statuses) <= {200, 503}
        assert statuses.count(200) >= 3
        await all_given_back(limits)


async def test_a_server_that_cancels_the_app_gets_every_byte_back(gateway: Gateway, limits: Limits) -> None:
    """As some do when the client leaves, and middleware too."""
    gateway.app._limits = limits
    asked = asyncio.Event()
    messages = iter([{"type": "http.request", "body": b"x" * 1000, "more_body": True}])

    async def receive() -> Any:
        if (message := next(messages, None)) is None:
            asked.set()
            await asyncio.Event().wait()
        return message

    async def send(message: Any) -> None:
        raise AssertionError(message)

    headers = [(b"authorization", f"Bearer {ADMIN_KEY}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers}
    serving = asyncio.create_task(gateway.app(scope, receive, send))
    await asked.wait()
    assert limits.bodies.held_bytes == 1000
    serving.cancel()
    await asyncio.wait([serving])
    assert limits.bodies.held_bytes == 0
