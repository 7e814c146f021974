"""HTTP as clients really speak it, well and badly: framing, limits, methods, and every refusal in the client's protocol."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.kit import replies, samples
from tests.kit.client import CHAT, Wire, ask, chat, chat_request, connect, request
from tests.kit.configuration import BODY_MAX_MB, HEARTBEAT_S
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import Peer, ScriptedProvider

EXPECTED = samples.renamed(samples.COMPLETION, "chat")
BODY = b'{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
BODY_MAX_BYTES = BODY_MAX_MB * 1024 * 1024
HEARTBEAT = b": heartbeat\n\n"


@pytest.fixture(autouse=True)
def _answers(provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))


# --- ways to send a request ---------------------------------------------------------------------------------------------


async def test_requests_follow_each_other_on_one_connection(gateway: Gateway, provider: ScriptedProvider) -> None:
    async with connect(gateway.url) as wire:
        for _ in range(5):
            await wire.send(chat_request())
            assert (await wire.reply()).body == EXPECTED
            await wire.send(request("GET", "/health/live"))
            assert (await wire.reply()).status == 200
    assert len(provider.heard) == 5


async def test_pipelined_requests_are_answered_in_order(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply_in_turn(replies.whole(samples.COMPLETION), replies.stream(samples.text_frames(["hi"])))
    async with connect(gateway.url) as wire:
        await wire.send(
            chat_request() + chat_request(stream=True) + chat_request("no-such-model") + request("GET", "/health/live")
        )
        answers = [await wire.reply() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 404, 200]
    assert answers[0].body == EXPECTED
    assert answers[1].frames[-1] == samples.DONE


async def test_a_request_in_single_bytes(gateway: Gateway) -> None:
    async with connect(gateway.url) as wire:
        for byte in chat_request():
            await wire.send(bytes([byte]))
        assert (await wire.reply()).body == EXPECTED


@pytest.mark.parametrize("size", [1, 20, 1000])
async def test_a_chunked_request_body(gateway: Gateway, provider: ScriptedProvider, size: int) -> None:
    pieces = [BODY[start : start + size] for start in range(0, len(BODY), size)]
    headers = {"transfer-encoding": "chunked", "content-length": "", "content-type": "application/json"}
    async with connect(gateway.url) as wire:
        await wire.send(request("POST", CHAT, headers=headers))
        for piece in pieces:
            await wire.send(replies.chunk(piece))
        await wire.send(replies.LAST_CHUNK)
        assert (await wire.reply()).body == EXPECTED
        await wire.send(chat_request())
        assert (await wire.reply()).body == EXPECTED
    assert provider.heard[0].json["messages"] == [{"role": "user", "content": "hi"}]


async def test_a_client_that_waits_for_leave_to_send(gateway: Gateway) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(request("POST", CHAT, headers={"content-length": str(len(BODY)), "expect": "100-continue"}))
        assert (await wire.head()).status == 100
        await wire.send(BODY)
        assert (await wire.reply()).body == EXPECTED


async def test_http_1_0(gateway: Gateway) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(request("POST", CHAT, BODY, version="1.0"))
        head, _, body = (await wire.rest()).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].endswith(b" 200 OK")
    assert b"transfer-encoding" not in head.lower()
    assert body == EXPECTED


async def test_connection_close_is_honoured(gateway: Gateway) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(chat_request(headers={"connection": "close"}))
        reply = await wire.reply()
        assert (reply.body, reply.headers["connection"]) == (EXPECTED, "close")
        assert await wire.closed()


async def test_a_compressed_request_body(gateway: Gateway, provider: ScriptedProvider) -> None:
    reply = await ask(gateway.url, CHAT, gzip.compress(BODY), headers={"content-encoding": "gzip"})
    assert reply.body == EXPECTED
    assert provider.last.json["messages"] == [{"role": "user", "content": "hi"}]
    assert "content-encoding" not in provider.last.headers


async def test_a_unary_answer_is_compressed_for_a_client_that_accepts_it(gateway: Gateway, provider: ScriptedProvider) -> None:
    body = samples.COMPLETION.replace(b"I am", b"I am" * 500)
    provider.reply(replies.whole(body))
    reply = await ask(gateway.url, CHAT, chat(), headers={"accept-encoding": "br, gzip"})
    assert reply.headers["content-encoding"] == "gzip"
    assert reply.content == samples.renamed(body, "chat")
    assert len(reply.body) < len(body) / 2


async def test_a_stream_is_never_compressed(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.stream(samples.text_frames(["hi" * 1000])))
    reply = await ask(gateway.url, CHAT, chat(stream=True), headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in reply.headers
    assert reply.frames[-1] == samples.DONE


@pytest.mark.parametrize("target", [f"{CHAT}?api-version=2024-10-21", f"{CHAT}/"])
async def test_other_spellings_of_the_path(gateway: Gateway, target: str) -> None:
    assert (await ask(gateway.url, target, BODY)).body == EXPECTED


# --- refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"", 400, "bad_request", None),
        (b"{", 400, "bad_request", None),
        (b'{"model":"chat"', 400, "bad_request", None),
        (b"[]", 400, "bad_request", None),
        (b"null", 400, "bad_request", None),
        (b'{"model":"chat"}', 400, "bad_request", "messages"),
        (b'{"model":"chat","messages":"hi"}', 400, "bad_request", "messages"),
        (b'{"model":"chat"}{"model":"chat"}', 400, "bad_request", None),
        (b'\xff\xfe{"model":"chat"}', 400, "bad_request", None),
        (b'{"model":"chat","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "bad_request", None),
        (BODY.replace(b'"model"', b'"modle"'), 400, "bad_request", "model"),
        (BODY.replace(b'"chat"', b"7"), 400, "bad_request", "model"),
        (BODY.replace(b"chat", b""), 400, "bad_request", "model"),
        (BODY[:-1] + b',"stream":"yes"}', 400, "bad_request", "stream"),
        (BODY.replace(b"chat", b"no-such-model"), 404, "model_not_found", "model"),
    ],
)
async def test_a_body_that_cannot_be_served(
    gateway: Gateway, provider: ScriptedProvider, body: bytes, status: int, code: str, param: str | None
) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(request("POST", CHAT, body))
        reply = await wire.reply()
        assert (reply.status, reply.error["code"]) == (status, code)
        if param is not None:
            assert reply.error["param"] == param
            assert param in reply.error["message"]
        assert reply.headers["x-request-id"].startswith("req_")
        await wire.send(chat_request())
        assert (await wire.reply()).status == 200, "the connection is still good"
    assert len(provider.heard) == 1


@pytest.mark.parametrize("framing", ["length", "chunked", "gzip"])
async def test_a_body_over_the_limit(gateway: Gateway, provider: ScriptedProvider, framing: str) -> None:
    body = BODY[:-1] + b',"x":"' + b"x" * BODY_MAX_BYTES + b'"}'
    async with connect(gateway.url) as wire:
        match framing:
            case "length":
                await wire.send(request("POST", CHAT, headers={"content-length": str(len(body))}))
            case "chunked":
                await wire.send(request("POST", CHAT, headers={"transfer-encoding": "chunked"}))
                await wire.send(b"".join(replies.chunk(body[at : at + 65536]) for at in range(0, len(body), 65536)))
            case "gzip":
                await wire.send(request("POST", CHAT, gzip.compress(body), {"content-encoding": "gzip"}))
        reply = await wire.reply()
    assert (reply.status, reply.error["code"]) == (413, "request_too_large")
    assert provider.heard == []


async def test_a_body_just_under_the_limit(gateway: Gateway) -> None:
    body = BODY[:-1] + b',"x":"' + b"x" * (BODY_MAX_BYTES - len(BODY) - 7) + b'"}'
    assert len(body) == BODY_MAX_BYTES
    assert (await ask(gateway.url, CHAT, body)).body == EXPECTED


@pytest.mark.parametrize("target", [CHAT, "/health/live"])
async def test_headers_over_the_limit(gateway: Gateway, target: str) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(request("POST", target, b"{}", {"x-large": "x" * 100_000}))
        reply = await wire.reply()
        assert (reply.status, reply.error["code"]) == (431, "headers_too_large")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_headers_without_an_end_are_cut_off(gateway: Gateway, method: str) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(f"{method} {CHAT} HTTP/1.1\r\nhost: x\r\n".encode() + b"x-more: 1\r\n" * 10_000)
        assert (await wire.rest()).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("encoding", [{"content-encoding": "gzip"}, {"content-encoding": "br"}])
async def test_a_body_that_cannot_be_unpacked(gateway: Gateway, encoding: dict[str, str]) -> None:
    reply = await ask(gateway.url, CHAT, BODY, headers=encoding)
    expected = (400, "bad_request") if encoding["content-encoding"] == "gzip" else (415, "unsupported_media_type")
    assert (reply.status, reply.error["code"]) == expected


async def test_half_of_a_gzip_body(gateway: Gateway) -> None:
    reply = await ask(gateway.url, CHAT, gzip.compress(BODY)[:-12], headers={"content-encoding": "gzip"})
    assert (reply.status, reply.error["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("method", "target", "status", "code", "allow"),
    [
        ("GET", CHAT, 405, "method_not_allowed", "POST"),
        ("PUT", CHAT, 405, "method_not_allowed", "POST"),
        ("DELETE", "/v1/models", 405, "method_not_allowed", "GET"),
        ("OPTIONS", CHAT, 405, "method_not_allowed", "POST"),
        ("GET", "/", 404, "not_found", None),
        ("POST", "/v1/nothing", 404, "not_found", None),
        ("POST", "//v1/chat/completions", 404, "not_found", None),
    ],
)
async def test_wrong_methods_and_paths(
    gateway: Gateway, method: str, target: str, status: int, code: str, allow: str | None
) -> None:
    body = None if method in ("GET", "DELETE", "OPTIONS") else BODY
    reply = await ask(gateway.url, target, body, method=method)
    assert (reply.status, reply.error["code"]) == (status, code)
    if allow is not None:
        assert allow in reply.headers["allow"]


async def test_head_has_headers_and_no_body(gateway: Gateway) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(request("HEAD", "/health/live"))
        assert (await wire.reply(to_head=True)).status == 200
        await wire.send(request("HEAD", CHAT))
        assert (await wire.reply(to_head=True)).status == 405
        await wire.send(request("GET", "/health/live"))
        assert (await wire.reply()).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
        b"HELO gateway.test\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost gateway.test\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: nine\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=[
        "TLS",
        "no HTTP",
        "no colon",
        "a word for a length",
        "a length below 0",
        "two lengths",
        "length and chunks",
        "a bad chunk",
    ],
)
async def test_what_is_not_http_is_refused_and_closed(gateway: Gateway, provider: ScriptedProvider, data: bytes) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(data)
        answer = await wire.rest()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert provider.heard == []


async def test_slow_headers_are_not_waited_for(gateway: Gateway, provider: ScriptedProvider) -> None:
    """One connection says nothing, one never ends its headers, one sends a header now and then."""

    async def silent() -> bool:
        async with connect(gateway.url) as wire:
            return await wire.closed()

    async def unfinished() -> bytes:
        async with connect(gateway.url) as wire:
            await wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
            return await wire.rest()

    async def dripping() -> bytes:
        async with connect(gateway.url) as wire:
            await wire.send(b"GET /health/live HTTP/1.1\r\n")
            drip = asyncio.create_task(_drip(wire))
            try:
                return await wire.rest()
            finally:
                drip.cancel()

    closed, *answers = await asyncio.gather(silent(), unfinished(), dripping())
    assert closed
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)


async def _drip(wire: Any) -> None:
    while True:
        await wire.send(b"x-more: 1\r\n")
        await asyncio.sleep(0.5)


# --- what else is served --------------------------------------------------------------------------------------------------


async def test_probes_call_no_provider(gateway: Gateway, provider: ScriptedProvider) -> None:
    for target in ("/health/live", "/health/ready"):
        assert (await ask(gateway.url, target)).status == 200
    assert provider.heard == []


async def test_metrics_are_prometheus(gateway: Gateway) -> None:
    await ask(gateway.url, CHAT, chat())
    reply = await ask(gateway.url, "/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    assert b'agent_gateway_requests_total{dialect="openai_chat",model="chat"' in reply.content


# --- quiet streams ------------------------------------------------------------------------------------------------------


async def test_a_quiet_stream_is_kept_alive_by_comments(gateway: Gateway, provider: ScriptedProvider) -> None:
    """Two heartbeats before the first content and two in the middle; what the headers could not say comes at the end."""
    frames = samples.text_frames(["one", "two"])
    first, second = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await first.wait()
        await replies.stream(frames[:2], then=go_on)(peer)

    async def go_on(peer: Peer) -> None:
        await second.wait()
        await peer.send(replies.chunk(b"".join(frames[2:])) + replies.LAST_CHUNK)

    provider.reply(script)
    async with connect(gateway.url) as wire:
        await wire.send(chat_request("heartbeat", stream=True))
        head = await wire.head()
        assert head.status == 200
        assert "x-gateway-model" not in head.headers
        assert [await wire.piece() for _ in range(2)] == [HEARTBEAT] * 2
        first.set()
        assert b"one" in await _content(wire)
        assert [await wire.piece() for _ in range(2)] == [HEARTBEAT] * 2
        second.set()
        rest = await _content(wire) + await wire.pieces()
    assert rest.startswith(samples.renamed(b"".join(frames[2:]), "heartbeat"))
    assert b'\n\n: gateway {"status":"success"' in rest


async def _content(wire: Wire) -> bytes:
    """The next piece that says something: before it another heartbeat may be due."""
    while (piece := await wire.piece()) == HEARTBEAT:
        pass
    return piece


def _noted(frames: Iterable[bytes], at: list[float]) -> Iterator[bytes]:
    for frame in frames:
        at.append(time.monotonic())
        yield frame


async def test_no_heartbeat_while_tokens_come(gateway: Gateway, provider: ScriptedProvider) -> None:
    """Where one was due, for the machine stood still, they come once more."""
    until = time.monotonic() + PATIENCE_S
    while True:
        sent: list[float] = []
        seen: list[float] = []
        heartbeats = 0
        provider.reply(replies.stream(_noted(samples.text_frames(["a"] * 20), sent), gap_s=HEARTBEAT_S / 10))
        async with connect(gateway.url) as wire:
            await wire.send(chat_request("heartbeat", stream=True))
            await wire.head()
            while piece := await wire.piece():
                if piece == HEARTBEAT:
                    heartbeats += 1
                else:
                    seen.append(time.monotonic())
        if not heartbeats:
            return
        longest_s = max(later - earlier for times in (sent, seen) for earlier, later in pairwise(times))
        assert longest_s > HEARTBEAT_S / 2, "none was due"
        assert time.monotonic() < until, "one was due each time"


async def test_an_error_after_a_heartbeat_is_told_in_the_stream(gateway: Gateway, provider: ScriptedProvider) -> None:
    fail = asyncio.Event()
    provider.reply(replies.after(fail, replies.cut))
    async with connect(gateway.url) as wire:
        await wire.send(chat_request("heartbeat", stream=True))
        head = await wire.head()
        assert head.status == 200
        assert await wire.piece() == HEARTBEAT
        fail.set()
        pieces = []
        while piece := await wire.piece():
            pieces.append(piece)
    error = [piece for piece in pieces if piece != HEARTBEAT]
    assert samples.read_frame(error[0])["error"]["code"] == "provider_connection_cut"
    assert samples.DONE not in pieces
    comment = error[-1].removeprefix(b": gateway ")
    assert samples.decode(comment) == {"status": "error", "model": None, "attempts": 1, "reason": "provider_connection_cut"}
    record = await eventually(lambda: gateway.record(head.headers["x-request-id"]), "its record")
    assert (record["http_status"], record["error_code"]) == (200, "provider_connection_cut"), "what the client got"


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_refusal_that_is_passed_on_is_recorded_as_it_was_shown(
    gateway: Gateway, provider: ScriptedProvider, status: int
) -> None:
    body = samples.error_body("Not like this.", "invalid_value")
    provider.reply(replies.whole(body, status=status))
    reply = await ask(gateway.url, CHAT, chat())
    record = await eventually(lambda: gateway.record(reply.headers["x-request-id"]), "its record")
    assert record["http_status"] == reply.status
    if status in (400, 413, 422):
        assert (reply.status, reply.body) == (status, body)
