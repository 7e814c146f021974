"""Clients that leave, and clients that read slowly: the provider is stopped or held back, and what was used is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from tests.journeys.conftest import Launch
from tests.kit import replies, samples
from tests.kit.client import CHAT, ask, chat, chat_request, connect
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import Heard, Peer, Script, ScriptedProvider
from tests.kit.records import Record

#: The promise is "at once"; this is what a busy machine may take. Every timeout that would end a call in its stead is longer.
AT_ONCE_S = 5.0
FRAME_BYTES = 16 * 1024
FRAMES = 4096
SENT_BYTES = FRAME_BYTES * FRAMES
#: More than all of the kernel's socket buffers on the way hold, far less than what is sent.
HELD_BACK_BYTES = SENT_BYTES // 2
GATEWAY_GROWTH_MB = 16


def begin_then_hang() -> Script:
    async def hang(peer: Peer) -> None:
        await peer.forever()

    return replies.stream(samples.text_frames(["Hello", " there"])[:3], then=hang)


async def _cancelled(gateway: Gateway, request_id: str) -> Record:
    record = await eventually(lambda: gateway.record(request_id), "a record of the request that was left")
    assert (record["status"], record["http_status"], record["error_code"]) == ("cancelled", 499, "client_left")
    return record


async def test_a_client_that_leaves_in_mid_stream(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(begin_then_hang())
    async with connect(gateway.url) as wire:
        await wire.send(chat_request(stream=True))
        head = await wire.head()
        assert b"Hello" in await wire.piece()
        left_at = time.monotonic()
        wire.hang_up()
    async with asyncio.timeout(10):
        await provider.last.hung_up.wait()
    assert provider.last.hung_up_at is not None
    assert provider.last.hung_up_at - left_at < AT_ONCE_S
    record = await _cancelled(gateway, head.headers["x-request-id"])
    assert record["tokens_estimated"]
    assert record["input_tokens"] > 0
    assert record["output_tokens"] > 0
    assert record["cost_usd"] > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_answer(gateway: Gateway, provider: ScriptedProvider, stream: bool) -> None:
    provider.reply(replies.hang)
    leaver = f"leaver-{stream}"
    async with connect(gateway.url) as wire:
        await wire.send(chat_request(stream=stream, user=leaver))
        await eventually(lambda: provider.heard, "the provider is asked")
        wire.hang_up()
    async with asyncio.timeout(AT_ONCE_S):
        await provider.last.hung_up.wait()
    new = await eventually(lambda: [record for record in gateway.records if record["user_id"] == leaver], "its record")
    assert len(new) == 1
    await _cancelled(gateway, new[0]["id"])


async def test_a_hundred_clients_that_leave_leave_nothing_open(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(begin_then_hang())

    async def visit() -> None:
        async with connect(gateway.url) as wire:
            await wire.send(chat_request(stream=True))
            assert (await wire.head()).status == 200
            wire.hang_up()

    await asyncio.gather(*(visit() for _ in range(100)))
    async with asyncio.timeout(10):
        await asyncio.gather(*(heard.hung_up.wait() for heard in provider.heard))
    assert len(provider.heard) == 100
    await eventually(lambda: provider.open_connections == 0, "every connection to the provider is closed")
    until = time.monotonic() + PATIENCE_S
    while (under_way := await _in_flight(gateway)) != [0]:
        assert time.monotonic() < until, under_way
        await asyncio.sleep(0.02)


async def _in_flight(gateway: Gateway) -> list[float]:
    lines = (await ask(gateway.url, "/metrics")).content.splitlines()
    return [float(line.split()[-1]) for line in lines if line.startswith(b'agent_gateway_in_flight{model="chat"}')]


async def test_a_slow_reader_holds_the_provider_back(gateway: Gateway, provider: ScriptedProvider) -> None:
    """The gateway neither piles up what the client does not take, nor loses any of it."""
    first, *_, finish, done = samples.text_frames(["x"])
    filler = samples.sse(samples.delta({"content": "x" * FRAME_BYTES}))
    frames = [first, *[filler] * FRAMES, finish, done]
    provider.reply(replies.stream(frames))
    before = gateway.memory_mb
    async with connect(gateway.url, receive_buffer=64 * 1024) as wire:
        wire.stop_reading()
        await wire.send(chat_request(stream=True))
        await eventually(lambda: provider.heard, "the provider is asked")
        sent = await _stalled(provider.last)
        assert FRAME_BYTES < sent < HELD_BACK_BYTES
        assert gateway.memory_mb - before < GATEWAY_GROWTH_MB
        wire.read_on()
        received, last = 0, b""
        assert (await wire.head()).status == 200
        while piece := await wire.piece():
            received += len(piece)
            last = piece
    assert last.endswith(samples.DONE)
    assert received == sum(len(samples.renamed(frame, "chat")) for frame in (first, finish, done)) + FRAMES * len(
        samples.renamed(filler, "chat")
    )
    assert gateway.memory_mb - before < GATEWAY_GROWTH_MB * 2


async def _stalled(heard: Heard) -> int:
    """What the provider had sent when it could send no more."""
    seen, since = heard.sent, time.monotonic()

    def still() -> bool:
        nonlocal seen, since
        if heard.sent != seen:
            seen, since = heard.sent, time.monotonic()
        return heard.sent > 0 and time.monotonic() - since > 0.5

    await eventually(still, "the provider is held back")
    assert not heard.over.is_set()
    return heard.sent


async def test_a_request_timeout_of_the_clients_own(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.hang)
    began = time.monotonic()
    reply = await ask(gateway.url, CHAT, chat(), headers={"x-gateway-timeout-s": "0.3"})
    assert (reply.status, reply.error["code"]) == (504, "provider_timeout")
    assert 0.2 <= time.monotonic() - began < 5
    reply = await ask(gateway.url, CHAT, chat(), headers={"x-gateway-timeout-s": "soon"})
    assert (reply.status, reply.error["param"]) == (400, "x-gateway-timeout-s")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_never_reads_is_given_up_at_the_deadline(
    launch: Launch, provider: ScriptedProvider, stream: bool
) -> None:
    """Neither the provider's connection nor the answer is held for a client that takes nothing of it."""
    gateway = launch(timeouts={"total_s": 2.5})  # within which a busy machine has the whole answer at the gateway
    first, *_, finish, done = samples.text_frames(["x"])
    filler = samples.sse(samples.delta({"content": "x" * FRAME_BYTES}))
    whole = samples.COMPLETION.replace(b"I am", b"I am" * (SENT_BYTES // 32))
    provider.reply(replies.stream([first, *[filler] * FRAMES, finish, done]) if stream else replies.whole(whole))
    async with connect(gateway.url, receive_buffer=64 * 1024) as wire:
        wire.stop_reading()
        await wire.send(chat_request(stream=stream))
        [record] = await eventually(lambda: gateway.records, "its record, though the client is still there")
        assert (record["status"], record["http_status"], record["error_code"]) == ("cancelled", 499, "client_left")
        await eventually(lambda: provider.open_connections == 0 or not stream, "the provider's stream is ended")
        wire.read_on()
        with contextlib.suppress(ConnectionResetError):
            assert len(await wire.rest()) < (SENT_BYTES // 2 if stream else len(whole))
