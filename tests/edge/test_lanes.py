"""Both protocols on real sockets in this process, with bounds and stores of the test's own."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent_gateway.admission.keys import KeyRing
from agent_gateway.app import Gateway
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.fast_lane import FastLane
from agent_gateway.stores.base import Key
from tests.edge.conftest import ADMIN_KEY, served
from tests.kit.client import CHAT, Wire, chat_request, connect, request
from tests.kit.eventually import eventually

LIKE_A_KEY = f"agw_{'a' * 12}_{'b' * 43}"
AS_ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}


@pytest.mark.parametrize("shown", ["", "Bearer sk-somebody", "Bearer agw_short"])
async def test_nobody_without_a_key_has_a_body_held(gateway: Gateway, told: list[Exchange], shown: str) -> None:
    async with served(gateway, gateway.limits, fast=True) as url, connect(url) as wire:
        await wire.send(request("POST", CHAT, headers={"content-length": "100000", "authorization": shown}) + b"{")
        reply = await wire.reply()
        assert (reply.status, reply.error["code"], reply.headers["connection"]) == (401, "invalid_api_key", "close")
        assert reply.headers["x-request-id"] == told[0].id
    assert told[0].http_status == 401


@pytest.mark.parametrize("key", [LIKE_A_KEY, ADMIN_KEY])
async def test_what_could_be_a_key_may_send_its_body(gateway: Gateway, key: str) -> None:
    data = chat_request(headers={"authorization": f"Bearer {key}"})
    async with served(gateway, gateway.limits, fast=True) as url, connect(url) as wire:
        await wire.send(data[:-5])
        await asyncio.sleep(0.05)
        await wire.send(data[-5:])
        assert (await wire.reply()).status == (200 if key == ADMIN_KEY else 401)


async def test_who_leaves_while_the_key_is_looked_up_is_recorded(
    gateway: Gateway, told: list[Exchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def for_ever(self: KeyRing, secret: bytes) -> Key:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(KeyRing, "find", for_ever)
    async with served(gateway, gateway.limits, fast=True) as url, connect(url) as wire:
        await wire.send(chat_request(headers={"authorization": f"Bearer {LIKE_A_KEY}"}))
        await asked.wait()
        wire.hang_up()
        await eventually(lambda: told, "its record")
    assert [(exchange.status, exchange.http_status) for exchange in told] == [("cancelled", 499)]


async def test_what_waits_behind_an_answer_does_not_begin_once_the_client_has_left(
    gateway: Gateway, told: list[Exchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost in the very turn of the loop in which the answer ends: a task that began then would be cancelled unbegun."""
    done = FastLane._done

    def lost(self: FastLane, complete: bool) -> None:
        self._transport.close()
        done(self, complete)

    monkeypatch.setattr(FastLane, "_done", lost)
    async with served(gateway, gateway.limits, fast=True) as url, connect(url) as wire:
        await wire.send(chat_request(headers=AS_ADMIN) * 2)
        await eventually(lambda: told, "the first answer")
    assert len(told) == 1


async def _begin_second(wire: Wire, head: bytes) -> None:
    """A whole request, and the beginning of one behind it, in one go."""
    await wire.send(chat_request(headers={**AS_ADMIN, "expect": "nothing"}, stream=True) + head)


async def test_an_answer_outlives_the_patience_with_the_next_head(gateway: Gateway) -> None:
    limits = replace(gateway.limits, head_timeout_s=0.01)
    async with served(gateway, limits, fast=False) as url, connect(url) as wire:
        await _begin_second(wire, b"GET /health/live HTTP/1.1\r\n")
        first = await wire.reply()
        assert (first.status, first.complete) == (200, True)
        assert first.frames[-1] == b"data: [DONE]\n\n"
        late = await wire.reply()
        assert (late.status, late.error["code"]) == (408, "request_timeout")
        assert late.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("behind", "status"), [(b"HELO\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nx: " + b"x" * 500_000, 431)], ids=["junk", "a huge head"]
)
async def test_a_refusal_waits_for_the_answer_before_it(gateway: Gateway, behind: bytes, status: int) -> None:
    async with served(gateway, gateway.limits, fast=False) as url, connect(url) as wire:
        await _begin_second(wire, behind)
        first = await wire.reply()
        assert (first.status, first.complete) == (200, True)
        assert first.frames[-1] == b"data: [DONE]\n\n"
        assert (await wire.reply()).status == status
