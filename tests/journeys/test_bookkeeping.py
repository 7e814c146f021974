"""Ten thousand requests with every fault mixed in: each is answered, counted once and recorded once."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.journeys.conftest import Launch
from tests.kit import replies, samples
from tests.kit.client import CHAT, Wire, ask, chat, chat_request, connect, request
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import Heard, Script, ScriptedProvider

REQUESTS = 10_000
CLIENTS = 64

FRAMES = samples.text_frames(["Hel", "lo", "!"], usage=True)
SSE_HEAD = replies.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
#: What the provider does, by the `x_play` that the request asks for.
PLAYS: dict[str, Script] = {
    "whole": replies.whole(samples.COMPLETION),
    "stream": replies.stream(FRAMES),
    "500": replies.whole(b"{}", status=500),
    "400": replies.whole(samples.error_body("no", None), status=400),
    "429": replies.whole(b"{}", status=429, headers={"retry-after": "0"}),
    "garbage": replies.raw(b"\0\1\2\3\r\n\r\n"),
    "cut": replies.cut,
    "cut stream": replies.raw(SSE_HEAD + b"".join(map(replies.chunk, FRAMES[:2])), end="cut"),
    "error in stream": replies.stream([*FRAMES[:2], samples.sse({"error": {"message": "x"}})]),
    "empty stream": replies.stream([]),
    "hang": replies.hang,
    "endless": replies.stream(FRAMES[:2], then=replies.hang),
}

Step = Callable[[Wire], Awaitable[int | None]]


def _play(name: str, *statuses: int, model: str = "chat", stream: bool = False) -> Step:
    async def step(wire: Wire) -> int:
        await wire.send(chat_request(model, stream=stream, x_play=name))
        reply = await wire.reply()
        assert reply.status in statuses, (name, reply)
        assert reply.complete
        return reply.status

    return step


def _sends(data: bytes, status: int) -> Step:
    async def step(wire: Wire) -> int:
        await wire.send(data)
        reply = await wire.reply()
        assert reply.status == status, (data[:80], reply)
        return reply.status

    return step


async def _leave(wire: Wire) -> None:
    """In mid-stream, as a closed browser does."""
    await wire.send(chat_request(stream=True, x_play="endless"))
    assert (await wire.head()).status == 200
    await wire.piece()
    wire.hang_up()


#: One round of a client, with how often each step is in it. A step that ends its connection gives None.
MIX: list[tuple[int, Step]] = [
    (40, _play("whole", 200)),
    (30, _play("stream", 200, stream=True)),
    (4, _play("500", 502)),
    (4, _play("400", 400)),
    (3, _play("429", 429)),
    (3, _play("garbage", 502)),
    (3, _play("cut", 502)),
    # Before or after the first content: that is as the bytes happen to be read.
    (3, _play("cut stream", 200, 502, stream=True)),
    (2, _play("error in stream", 200, 502, stream=True)),
    (2, _play("empty stream", 502, stream=True)),
    (1, _play("hang", 504, model="impatient")),
    (1, _play("whole", 502, model="down")),
    (1, _sends(request("POST", CHAT, b"{"), 400)),
    (1, _sends(chat_request("no-such-model"), 404)),
    (2, _leave),
]
ROUND = [step for times, step in MIX for _ in range(times)]


async def _client(url: str, number: int, requests: int) -> Counter[int | None]:
    seen: Counter[int | None] = Counter()
    while seen.total() < requests:
        async with connect(url) as wire:
            while seen.total() < requests:
                # Each client begins elsewhere in the round and strides through it, so that all faults are always under way.
                step = ROUND[(number * 7 + seen.total() * 37) % len(ROUND)]
                status = await step(wire)
                seen[status] += 1
                if status is None:
                    break
    return seen


@pytest.mark.timeout(180)
async def test_every_request_is_counted_once_and_recorded_once(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch()

    def choose(heard: Heard) -> Script:
        return PLAYS[heard.json["x_play"]]

    provider.reply_by(choose)
    share, more = divmod(REQUESTS, CLIENTS)
    counts = await asyncio.gather(*(_client(gateway.url, number, share + (number < more)) for number in range(CLIENTS)))
    sent = sum(counts, Counter[int | None]()).total()
    assert sent == REQUESTS
    await eventually(lambda: len(gateway.records) >= REQUESTS, f"{REQUESTS} records")
    counted = await _counted(gateway)
    assert gateway.stop() == 0
    records = gateway.records
    assert len({record["id"] for record in records}) == len(records) == REQUESTS
    assert counted == Counter(record["status"] for record in records)
    assert set(counted) == {"success", "error", "cancelled"}
    answered = Counter(record["http_status"] for record in records if record["status"] != "cancelled")
    by_clients = sum(counts, Counter[int | None]())
    left = by_clients.pop(None)
    assert sum((answered - by_clients).values()) <= left
    assert not by_clients - answered


async def _counted(gateway: Gateway) -> Counter[str]:
    """`requests_total` by status."""
    reply = await ask(gateway.url, "/metrics")
    counted: Counter[str] = Counter()
    for status, value in re.findall(rb'^agent_gateway_requests_total\{.*status="(\w+)".*\} (\S+)$', reply.content, re.MULTILINE):
        counted[status.decode()] += int(float(value))
    return counted


async def test_a_record_tells_the_request_and_every_attempt(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch()
    provider.reply_in_turn(replies.cut, replies.stream(FRAMES))
    reply = await ask(gateway.url, CHAT, chat("patient", stream=True, user="user-1"), headers={"x-request-id": "mine"})
    assert reply.status == 200
    record = await eventually(lambda: gateway.record(reply.headers["x-request-id"]), "its record")
    expected: dict[str, Any] = {
        "model": "patient",
        "deployment": f"scripted/{samples.PROVIDER_MODEL}",
        "dialect": "openai_chat",
        "pattern": "streaming",
        "status": "success",
        "http_status": 200,
        "finish_reason": "stop",
        "user_id": "user-1",
        "client_request_id": "mine",
        "input_tokens": 19,
        "output_tokens": 10,
        "tokens_estimated": 0,
        "attempts_count": 2,
    }
    assert {name: record[name] for name in expected} == expected
    assert record["cost_usd"] == pytest.approx((19 * 0.15 + 10 * 0.60) / 1e6)
    assert 0 < record["ttft_ms"] <= record["duration_ms"]
    outcomes = [attempt["outcome"] for attempt in samples.decode(record["attempts"])]
    assert outcomes == ["provider_connection_cut", "success"]
    assert samples.decode(record["answer"])["content"] == "Hello!"
