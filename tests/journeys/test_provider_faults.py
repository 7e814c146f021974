"""A provider that fails, in every way: the client gets a clear error in its own protocol, in time; the record tells why."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.kit import replies, samples
from tests.kit.client import CHAT, Reply, ask, chat, chat_request, connect
from tests.kit.configuration import IMPATIENCE_S
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import Script, ScriptedProvider

FRAMES = samples.text_frames(["Hel", "lo", "!"])
BEGUN = FRAMES[:2]
JSON_HEAD = replies.head(200, {"content-type": "application/json", "content-length": str(len(samples.COMPLETION))})
SSE_HEAD = replies.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
PROVIDER_ERROR = samples.sse({"error": {"message": "secret of the provider", "type": "server_error", "code": "boom"}})
#: Far above any wait of `impatient`, far below any default, with which `chat` waits.
IN_TIME_S = IMPATIENCE_S + 8

UNARY: dict[str, tuple[Script, int, str]] = {
    "cut at once": (replies.cut, 502, "provider_connection_cut"),
    "closed at once": (replies.raw(b""), 502, "provider_connection_cut"),
    "cut in the headers": (replies.raw(b"HTTP/1.1 200 OK\r\ncontent-", end="cut"), 502, "provider_connection_cut"),
    "cut in the body": (replies.raw(JSON_HEAD + samples.COMPLETION[:100], end="cut"), 502, "provider_connection_cut"),
    "closed in the body": (replies.raw(JSON_HEAD + samples.COMPLETION[:100]), 502, "provider_connection_cut"),
    "not HTTP": (replies.raw(b"220 mail.example.com ESMTP\r\n"), 502, "provider_malformed_reply"),
    "not JSON": (replies.whole(b"<html>oops</html>"), 502, "provider_malformed_reply"),
    "half of its JSON": (replies.whole(samples.COMPLETION[:100]), 502, "provider_malformed_reply"),
    "no choices": (replies.whole(b'{"id":"x","model":"m","choices":[]}'), 502, "provider_empty_reply"),
    "an error under 200": (replies.whole(b'{"error":{"message":"secret"}}'), 502, "provider_error"),
    "500": (replies.whole(samples.error_body("secret", "server_error"), status=500), 502, "provider_error"),
    "503 as HTML": (replies.whole(b"<h1>secret</h1>", status=503, content_type="text/html"), 502, "provider_error"),
    "hangs": (replies.hang, 504, "provider_timeout"),
    "hangs in the headers": (replies.raw(b"HTTP/1.1 200 OK\r\n", end="hang"), 504, "provider_timeout"),
    "hangs in the body": (replies.raw(JSON_HEAD + samples.COMPLETION[:100], end="hang"), 504, "provider_timeout"),
    "drips": (replies.raw(JSON_HEAD + samples.COMPLETION, sizes=1, gap_s=0.05), 504, "provider_timeout"),
}

BEFORE_CONTENT: dict[str, tuple[Script, int, str]] = {
    "cut at once": (replies.cut, 502, "provider_connection_cut"),
    "cut after the headers": (replies.raw(SSE_HEAD, end="cut"), 502, "provider_connection_cut"),
    "cut before content": (replies.raw(SSE_HEAD + replies.chunk(FRAMES[0]), end="cut"), 502, "provider_connection_cut"),
    "an empty stream": (replies.stream([]), 502, "provider_empty_reply"),
    "a stream of comments": (replies.stream([b": hi\n\n", b": there\n\n"]), 502, "provider_empty_reply"),
    "only the end": (replies.stream([samples.DONE]), 502, "provider_empty_reply"),
    "not SSE": (replies.stream([b"<html>oops</html>\n\n"]), 502, "provider_empty_reply"),
    "not JSON": (replies.stream([b"data: {oops\n\n"]), 502, "provider_malformed_reply"),
    "a whole answer": (replies.whole(b"<html>oops</html>", content_type="text/html"), 502, "provider_malformed_reply"),
    "an error": (replies.stream([PROVIDER_ERROR]), 502, "provider_error"),
    "500": (replies.whole(samples.error_body("secret", "server_error"), status=500), 502, "provider_error"),
    "hangs": (replies.hang, 504, "provider_timeout"),
    "hangs before content": (replies.raw(SSE_HEAD + replies.chunk(FRAMES[0]), end="hang"), 504, "provider_timeout"),
}

#: What follows once the client has the first content.
AFTER_CONTENT: dict[str, tuple[Script, str]] = {
    "cut": (replies.cut, "provider_connection_cut"),
    "cut inside a frame": (replies.raw(replies.chunk(FRAMES[2][:40]), end="cut"), "provider_connection_cut"),
    "cut inside a chunk": (replies.raw(replies.chunk(FRAMES[2])[:40], end="cut"), "provider_connection_cut"),
    "closed": (replies.raw(b""), "provider_connection_cut"),
    "ended too early": (replies.raw(replies.LAST_CHUNK, end="hang"), "provider_malformed_reply"),
    "ended inside a frame": (replies.raw(replies.chunk(FRAMES[2][:40]) + replies.LAST_CHUNK), "provider_malformed_reply"),
    "an error": (replies.raw(replies.chunk(PROVIDER_ERROR), end="hang"), "provider_error"),
    "garbage in the stream": (replies.raw(replies.chunk(b"data: {oops\n\n"), end="hang"), "provider_malformed_reply"),
    "garbage in the framing": (replies.raw(b"zz\r\nhello\r\n", end="hang"), "provider_malformed_reply"),
    "stalls": (replies.hang, "provider_timeout"),
}


def _cases(table: dict[str, tuple[Any, ...]]) -> list[Any]:
    return [pytest.param(*row, id=name) for name, row in table.items()]


def _asked(code: str) -> str:
    """The model for it: only who is to time out may not have the time that a busy machine takes for a failure of another kind."""
    return "impatient" if code == "provider_timeout" else "chat"


async def _in_time(gateway: Gateway, body: dict[str, Any]) -> Reply:
    began = time.monotonic()
    reply = await ask(gateway.url, CHAT, body)
    assert time.monotonic() - began < IN_TIME_S
    assert b"secret" not in reply.body
    return reply


@pytest.mark.parametrize(("script", "status", "code"), _cases(UNARY))
async def test_a_whole_answer_that_fails(
    gateway: Gateway, provider: ScriptedProvider, script: Script, status: int, code: str
) -> None:
    provider.reply(script)
    reply = await _in_time(gateway, chat(_asked(code)))
    assert (reply.status, reply.error["code"]) == (status, code)
    record = await eventually(lambda: gateway.record(reply.headers["x-request-id"]), "its record")
    assert (record["status"], record["http_status"]) == ("error", status)


@pytest.mark.parametrize(("script", "status", "code"), _cases(BEFORE_CONTENT))
async def test_a_stream_that_fails_before_its_first_content_is_a_plain_error(
    gateway: Gateway, provider: ScriptedProvider, script: Script, status: int, code: str
) -> None:
    provider.reply(script)
    reply = await _in_time(gateway, chat(_asked(code), stream=True))
    assert (reply.status, reply.error["code"]) == (status, code)
    assert reply.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize(("script", "code"), _cases(AFTER_CONTENT))
async def test_a_stream_that_fails_later_says_so_and_ends_cleanly(
    gateway: Gateway, provider: ScriptedProvider, script: Script, code: str
) -> None:
    heard = asyncio.Event()
    provider.reply(replies.stream(BEGUN, then=replies.after(heard, script)))
    model = "restless" if code == "provider_timeout" else "chat"
    async with connect(gateway.url) as wire:
        await wire.send(chat_request(model, stream=True))
        head = await wire.head()
        body = await wire.piece()
        heard.set()
        began = time.monotonic()
        body += await wire.pieces()
    assert time.monotonic() - began < IN_TIME_S
    assert head.status == 200
    assert b"secret" not in body
    *frames, last = samples.frames_of(body)
    assert b"".join(frames) == samples.renamed(b"".join(BEGUN), model)
    error = samples.read_frame(last)["error"]
    assert set(error) == {"message", "type", "code", "retry_after", "fallback_model"}
    assert error["code"] == code
    record = await eventually(lambda: gateway.record(head.headers["x-request-id"]), "its record")
    assert (record["status"], record["http_status"]) == ("error", 200)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_is_not_there(gateway: Gateway, stream: bool) -> None:
    reply = await _in_time(gateway, chat("down", stream=stream))
    assert (reply.status, reply.error["code"]) == (502, "provider_unreachable")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_first_content_is_tried_again_unseen(
    gateway: Gateway, provider: ScriptedProvider, stream: bool
) -> None:
    good = replies.stream(FRAMES) if stream else replies.whole(samples.COMPLETION)
    provider.reply_in_turn(replies.cut, replies.whole(b"{}", status=500), good)
    reply = await ask(gateway.url, CHAT, chat("patient", stream=stream))
    assert reply.status == 200
    assert reply.headers["x-gateway-attempts"] == "3"
    assert len(provider.heard) == 3


async def test_a_stale_connection_is_not_the_clients_concern(gateway: Gateway, provider: ScriptedProvider) -> None:
    """The provider closed it while it lay idle; that costs no attempt."""
    provider.reply_in_turn(replies.whole(samples.COMPLETION), replies.cut, replies.whole(samples.COMPLETION))
    assert (await ask(gateway.url, CHAT, chat())).status == 200
    reply = await ask(gateway.url, CHAT, chat())
    assert (reply.status, reply.headers["x-gateway-attempts"]) == (200, "1")
    assert [heard.connection for heard in provider.heard] == [1, 1, 2]


async def test_the_providers_wait_is_passed_on(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(b"{}", status=429, headers={"retry-after-ms": "1500"}))
    reply = await ask(gateway.url, CHAT, chat("limited"))
    assert (reply.status, reply.error["code"]) == (429, "provider_rate_limited")
    assert reply.headers["retry-after"] == "2"


async def test_a_reply_without_usage_is_counted_anyway(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.stream(FRAMES))
    reply = await ask(gateway.url, CHAT, chat(stream=True))
    record = await eventually(lambda: gateway.record(reply.headers["x-request-id"]), "its record")
    assert record["tokens_estimated"]
    assert record["input_tokens"] > 0
    assert record["output_tokens"] > 0
