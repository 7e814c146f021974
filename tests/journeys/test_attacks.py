"""What attackers send, to both edges: no crash, no hang, no fault of the gateway's, bounded memory, and the next client is served."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from tests.kit import replies, samples
from tests.kit.attacks import ANSWERED, BODIES, REFUSED, post
from tests.kit.client import CHAT, Wire, ask, chat, chat_request, connect, request
from tests.kit.configuration import BODY_MAX_MB
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.websocket import HANDSHAKE

EXPECTED = samples.renamed(samples.COMPLETION, "chat")
PROBE = request("GET", "/health/live", headers={"connection": "close"})
#: What an attack may leave behind in the process, with what its allocator keeps (MB).
GROWTH_MB = 80
BODY_MAX_BYTES = BODY_MAX_MB * 1024 * 1024
#: Where bodies are read, by protocol, with what makes an OpenAI body one of that protocol's as far as it matters here.
TARGETS = (
    CHAT,
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1beta/models/chat:generateContent",
    "/v1beta/models/chat:streamGenerateContent?alt=sse",
    "/v1/conversations",
)


@pytest.fixture(autouse=True)
async def _is_as_it_was(gateway: Gateway, provider: ScriptedProvider) -> AsyncIterator[None]:
    """The shared gateway checks its log for tracebacks."""
    provider.reply(replies.whole(samples.COMPLETION))
    before_mb = gateway.memory_mb
    yield
    assert (await ask(gateway.url, CHAT, chat())).body == EXPECTED, "the next client is served"
    assert gateway.memory_mb < before_mb + GROWTH_MB


async def _statuses(wire: Wire) -> list[int]:
    """Of all replies until the gateway closes."""
    statuses = []
    while True:
        try:
            statuses.append((await wire.reply()).status)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return statuses


# --- framing ---


@pytest.mark.parametrize("name", REFUSED)
async def test_what_could_be_understood_in_two_ways_is_not_understood(
    gateway: Gateway, provider: ScriptedProvider, name: str
) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(REFUSED[name] + PROBE)
        assert await _statuses(wire) == [400]
    assert provider.heard == []


@pytest.mark.parametrize("name", ANSWERED)
async def test_what_can_be_understood_in_one_way_only_is_followed_by_the_next(
    gateway: Gateway, provider: ScriptedProvider, name: str
) -> None:
    data, status = ANSWERED[name]
    async with connect(gateway.url) as wire:
        await wire.send(data + PROBE)
        assert await _statuses(wire) == [status, 200]
    assert [heard.json["messages"] for heard in provider.heard] == [chat()["messages"]] * (status == 200)
    assert all("x-session-id" not in heard.headers for heard in provider.heard)


async def test_a_body_that_is_longer_than_it_says_is_the_next_request(gateway: Gateway, provider: ScriptedProvider) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(post("content-length: 5") + PROBE)
        assert await _statuses(wire) == [400, 400]
    assert provider.heard == []


@pytest.mark.parametrize("name", REFUSED)
async def test_nor_behind_a_good_request(gateway: Gateway, provider: ScriptedProvider, name: str) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(chat_request() + REFUSED[name] + PROBE)
        assert await _statuses(wire) == [200, 400]
    assert len(provider.heard) == 1


async def test_requests_that_differ_in_nothing_but_what_is_smuggled(gateway: Gateway, provider: ScriptedProvider) -> None:
    """The fast lane knows a head again by its bytes."""
    good = post("content-length: 2", body=b"{}")
    async with connect(gateway.url) as wire:
        for attack in (b"-2", b"+2", b" 2 2", b"2\r\ntransfer-encoding: chunked", b"0x2", b"2,2"):
            async with connect(gateway.url) as wire:
                await wire.send(good + good.replace(b": 2\r\n", b": " + attack + b"\r\n") + PROBE)
                assert await _statuses(wire) == [400, 400], attack
    assert provider.heard == []


# --- too much ---


@pytest.mark.parametrize("target", TARGETS)
async def test_json_that_is_meant_to_hurt(gateway: Gateway, target: str) -> None:
    for name, body in BODIES.items():
        async with asyncio.timeout(PATIENCE_S):
            reply = await ask(gateway.url, target, body)
        assert reply.complete, name
        assert reply.status < 500, (name, reply.body)


@pytest.mark.parametrize("members", [1, 3])
async def test_a_gzip_bomb(gateway: Gateway, provider: ScriptedProvider, members: int) -> None:
    bomb = gzip.compress(bytes(300 * BODY_MAX_BYTES), 9) * members
    assert len(bomb) < BODY_MAX_BYTES
    reply = await ask(gateway.url, CHAT, bomb, headers={"content-encoding": "gzip"})
    assert (reply.status, reply.error["code"]) == (413, "request_too_large")
    assert provider.heard == []


@pytest.mark.parametrize("line", [b"x" * 1000 + b": y\r\n", b"x: " + b"y" * 100_000, b"GET /" + b"x" * 100_000])
async def test_a_head_without_an_end(gateway: Gateway, line: bytes) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(b"" if line.startswith(b"GET") else b"POST /v1/chat/completions HTTP/1.1\r\n")
        assert await _refusal(wire, line, 5_000_000) in (431, None)


@pytest.mark.parametrize("piece", [b"1;" + b"x" * 60_000, b"0\r\nx: " + b"y" * 60_000], ids=["an extension", "a trailer"])
async def test_chunks_around_which_there_is_no_end(gateway: Gateway, piece: bytes) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(post("transfer-encoding: chunked", body=piece))
        assert await _refusal(wire, b"z" * 60_000, 50_000_000) in (431, None)


async def _refusal(wire: Wire, data: bytes, up_to_bytes: int) -> int | None:
    """The status, however much of it the client has sent by then; None: the connection was reset under its hands."""
    reply = asyncio.ensure_future(wire.reply())
    try:
        for _ in range(up_to_bytes // len(data)):
            if reply.done():
                break
            await wire.send(data)
        return (await reply).status
    except (ConnectionError, asyncio.IncompleteReadError):
        return None
    finally:
        reply.cancel()


async def test_many_requests_at_once_on_one_connection(gateway: Gateway) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(chat_request() + request("GET", "/health/live") * 10_000 + PROBE)
        statuses = await _statuses(wire)
    assert set(statuses) == {200, 400}
    assert statuses[-1] == 400


@pytest.mark.parametrize("count", [500])
async def test_many_connections_that_say_half_a_word(gateway: Gateway, count: int) -> None:
    wires = [connect(gateway.url) for _ in range(count)]
    opened = await asyncio.gather(*(wire.__aenter__() for wire in wires))
    try:
        await asyncio.gather(*(wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: loc") for wire in opened))
        assert (await ask(gateway.url, CHAT, chat())).status == 200
    finally:
        await asyncio.gather(*(wire.__aexit__(None, None, None) for wire in wires))


# --- half of it ---


@pytest.mark.parametrize("size", [0, 1, 40, 150, -1])
async def test_a_client_that_closes_its_side_early(gateway: Gateway, size: int) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(chat_request()[:size])
        wire.half_close()
        assert set(await _statuses(wire)) <= {400, 408}


async def test_clients_that_vanish_at_every_byte(gateway: Gateway) -> None:
    data = chat_request()
    for size in range(0, len(data), 7):
        async with connect(gateway.url) as wire:
            await wire.send(data[:size])
            wire.hang_up()


# --- WebSocket ---


def _frame(opcode: int, data: bytes, *, last: bool = True) -> bytes:
    assert len(data) < 126
    return bytes([opcode | (0x80 if last else 0), 0x80 | len(data), 0, 0, 0, 0]) + data


FLOODS = {
    "pings": _frame(9, b"x" * 125),
    "pongs": _frame(10, b"x" * 125),
    "cancels": _frame(1, b'{"cancel":"a"}'),
    "frames that are none": _frame(1, b"{}"),
    "empty pieces": _frame(0, b"", last=False),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_of_small_frames_from_who_reads_nothing(gateway: Gateway, name: str) -> None:
    before_mb = gateway.memory_mb
    async with connect(gateway.url, receive_buffer=4096) as wire:
        await wire.send(request("GET", CHAT, headers=HANDSHAKE))
        assert (await wire.head()).status == 101
        wire.stop_reading()
        if name == "empty pieces":
            await wire.send(_frame(1, b"{", last=False))
        flood = FLOODS[name] * 5000
        try:
            async with asyncio.timeout(1.5):
                for _ in range(100):
                    await wire.send(flood)
        except (TimeoutError, ConnectionError):
            pass  # it is no longer listened to
        assert gateway.memory_mb < before_mb + 20


async def test_a_handshake_that_never_ends_is_ended(gateway: Gateway) -> None:
    data = request("GET", CHAT, headers=HANDSHAKE)
    async with connect(gateway.url) as wire:
        await wire.send(data[:-2] + b"".join(b"x-%d: y\r\n" % number for number in range(20_000)))
        assert await _is_closed(wire)


async def _is_closed(wire: Wire) -> bool:
    assert set(await _statuses(wire)) <= {431}
    return True


async def test_what_was_refused_is_on_record(gateway: Gateway) -> None:
    reply = await ask(gateway.url, CHAT, BODIES["deep arrays"])
    record = await eventually(lambda: gateway.record(reply.headers["x-request-id"]), "its record")
    assert (record["status"], record["http_status"]) == ("error", 400)
