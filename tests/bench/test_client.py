"""What one request of a load test comes to, over real sockets: answers, errors, and every way to break off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from agent_gateway.bench.client import Client
from agent_gateway.bench.load import Mode
from agent_gateway.bench.outcome import Outcome
from agent_gateway.bench.times import Times
from agent_gateway.core.pricing import Price
from agent_gateway.core.usage import Usage
from agent_gateway.upstream.transport import Transport
from tests.bench.loads import load
from tests.kit import replies, samples
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.ports import free_port
from tests.kit.provider import Script, ScriptedProvider

NAMED = {"x-gateway-status": "fallback", "x-gateway-cost-usd": "0.25", "x-gateway-overhead-ms": "1.50"}
#: The role first, without a word.
WORDS = samples.text_frames(["One", " two", " three"], usage=True)
FAILED = samples.sse({"error": {"message": "It broke.", "type": "timeout_error", "code": "provider_timeout"}})
COUNTED = Usage(input=19, output=10)


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


async def ask(url: str, mode: Mode = "unary", gaps: Times | None = None, key: str | None = None, **changes: object) -> Outcome:
    transport = Transport(environ={})
    try:
        client = Client(load(url, mode=mode, batch_size=2, **changes), key, transport)
        return await client.ask(b"{}", "s-1", 0.0, gaps or Times())
    finally:
        await transport.close()


async def test_a_whole_answer_tells_tokens_cost_and_what_was_added(gateway: ScriptedProvider) -> None:
    gateway.reply(replies.whole(samples.COMPLETION, headers=NAMED))
    outcome = await ask(gateway.base_url, key="sk-me")
    assert (outcome.answered, outcome.errors, outcome.status) == (1, {}, "fallback")
    assert (outcome.usage, outcome.cost_usd, outcome.overhead_s) == (COUNTED, 0.25, 0.0015)
    assert outcome.due <= outcome.sent < outcome.ended
    heard = gateway.last
    assert (heard.method, heard.target) == ("POST", "/v1/chat/completions")
    assert (heard.headers["authorization"], heard.headers["x-session-id"]) == ("Bearer sk-me", "s-1")


async def test_a_stream_begins_with_its_first_word(gateway: ScriptedProvider) -> None:
    """Not with the role, which some send at once."""
    gateway.reply(replies.stream(WORDS, gap_s=0.05))
    gaps = Times()
    outcome = await ask(gateway.base_url, "stream", gaps, price=Price(input=1_000_000, output=0))
    assert (outcome.answered, outcome.errors, outcome.usage) == (1, {}, COUNTED)
    assert outcome.cost_usd == 19, "no answer tells what a stream costs: the load's own price does"
    assert outcome.first_token is not None
    assert 0.04 < outcome.first_token - outcome.sent < outcome.ended - outcome.sent
    assert gaps.count >= len(WORDS) - 2
    assert 0.03 < (gaps.quantile_s(0.5) or 0) < (outcome.ended - outcome.sent) / 2


def after(*frames: bytes) -> Script:
    return replies.stream(frames)


@pytest.mark.parametrize(
    ("script", "mode", "why"),
    [
        (replies.whole(samples.error_body("Slow down.", "rate_limit_exceeded"), 429), "unary", "429 rate_limit_exceeded"),
        (replies.whole(b"<html>", 503, content_type="text/html"), "unary", "503"),
        (replies.whole(b"<html>"), "unary", "not understood"),
        (replies.cut, "unary", "cut off"),
        (replies.hang, "unary", "timeout"),
        (replies.hang, "stream", "timeout"),
        (after(*WORDS[:2], FAILED), "stream", "in the stream: provider_timeout"),
        (after(FAILED), "stream", "in the stream: provider_timeout"),
        (after(*WORDS[:2]), "stream", "cut off"),
        (after(), "stream", "cut off"),
        (replies.stream(WORDS[:2], then=replies.cut), "stream", "cut off"),
        (replies.stream(WORDS[:2], then=replies.hang), "stream", "timeout"),
    ],
)
async def test_what_fails_is_told_by_why(gateway: ScriptedProvider, script: Script, mode: Mode, why: str) -> None:
    gateway.reply(script)
    outcome = await ask(gateway.base_url, mode, timeout_s=0.3 if why == "timeout" else PATIENCE_S)
    assert (outcome.answered, outcome.errors) == (0, {why: 1})
    assert outcome.ended > outcome.sent


async def test_a_batch_has_answers_and_failures(gateway: ScriptedProvider) -> None:
    results = [
        {"custom_id": "0", "status_code": 200, "request_id": "r", "body": msgspec.Raw(samples.COMPLETION), "error": None},
        {"custom_id": "1", "status_code": 504, "request_id": "r", "body": None, "error": {"code": "provider_timeout"}},
    ]
    gateway.reply(replies.whole(msgspec.json.encode({"results": results, "summary": {"cost_usd": 0.5}})))
    outcome = await ask(gateway.base_url, "batch")
    assert gateway.last.target == "/v1/batch"
    assert (outcome.answered, outcome.errors) == (1, {"504 provider_timeout": 1})
    assert (outcome.usage, outcome.cost_usd) == (COUNTED, 0.5)


async def test_a_batch_that_fails_fails_for_all_its_requests(gateway: ScriptedProvider) -> None:
    gateway.reply(replies.whole(samples.error_body("No.", "overloaded"), 503))
    assert (await ask(gateway.base_url, "batch")).errors == {"503 overloaded": 2}


async def test_nobody_there() -> None:
    assert (await ask(f"http://127.0.0.1:{free_port()}")).errors == {"no connection": 1}


@pytest.mark.parametrize(("url", "path"), [("", "/v1/batch"), ("/v1", "/v1/batch"), ("/gateway/v1/", "/gateway/v1/batch")])
async def test_a_url_may_end_where_an_sdk_wants_it(gateway: ScriptedProvider, url: str, path: str) -> None:
    gateway.reply(replies.whole(b'{"results": []}'))
    await ask(f"http://127.0.0.1:{gateway.port}{url}", "batch")
    assert gateway.last.target == path


async def test_a_key_that_no_header_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="no header can hold"):
        await ask("http://127.0.0.1:9", key="sk-\n")


async def test_cancelled_it_leaves_nothing_behind(gateway: ScriptedProvider) -> None:
    gateway.reply(replies.hang)
    asking = asyncio.ensure_future(ask(gateway.base_url))
    await eventually(lambda: gateway.heard, "the request")
    asking.cancel()
    await asyncio.wait([asking])
    async with asyncio.timeout(PATIENCE_S):
        await gateway.last.hung_up.wait()
