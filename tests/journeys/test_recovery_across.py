"""A stream that breaks off in front of a client of any protocol and is carried on by a provider of another: one answer for the SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from anthropic import AsyncAnthropic
from google import genai
from google.genai import types
from openai import AsyncOpenAI

from tests.kit import chains, replies, samples
from tests.kit.chains import PATIENT, Scripts, backup_of, configuration, names, outcomes, recorded
from tests.kit.configuration import PROVIDER_KEY
from tests.kit.gateway import EdgeName, Gateway
from tests.kit.provider import Script
from tests.kit.records import Record

BROKEN_OFF = ["The quick ", "brown fox"]
#: It repeats the end of what it was given.
CARRIED_ON = ["quick ", "brown fox", " jumps over", " the dog."]
WHOLE = "The quick brown fox jumps over the dog."
CLIENTS = ("anthropic", "gemini", "responses")
PROVIDERS = ("openai", "anthropic")
CHAINS = [(client, first, second) for client in CLIENTS for first in PROVIDERS for second in PROVIDERS]


def _model(client: str, first: str, second: str) -> str:
    return f"{client}-{first}-{second}"


@pytest.fixture(scope="module")
def running(edge: EdgeName, provider_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = [chains.chain(_model(client, first, second), first, second, others={"prefill": "plain"}) for client, first, second in CHAINS]
    config = configuration({"openai": f"http://127.0.0.1:{provider_port}/v1"}, names(made), timeouts=PATIENT)
    anthropic = {"kind": "anthropic", "base_url": f"http://127.0.0.1:{provider_port}", "api_key": PROVIDER_KEY}
    config["providers"]["anthropic"] = anthropic
    with chains.running(tmp_path_factory.mktemp("recovery-across"), edge, config) as gateway:
        yield gateway


# --- what providers say -----------------------------------------------------------------------------------------------


def _event(kind: str, **data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **data}))


def _anthropic(words: list[str], *, ends: bool) -> list[bytes]:
    usage = {"input_tokens": 15, "cache_read_input_tokens": 4, "output_tokens": 1}
    message = {"id": "msg_theirs", "type": "message", "role": "assistant", "model": "claude", "content": [], "usage": usage}
    frames = [
        _event("message_start", message=message),
        _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *[_event("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in words],
    ]
    if ends:
        frames += [
            _event("content_block_stop", index=0),
            _event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 10}),
            _event("message_stop"),
        ]
    return frames


def _openai(words: list[str], *, ends: bool) -> list[bytes]:
    frames = samples.text_frames(words)[: len(words) + 1]
    return [*frames, samples.sse(samples.delta({}, "stop")), samples.usage_frame(), samples.DONE] if ends else frames


_FRAMES: dict[str, Callable[..., list[bytes]]] = {"openai": _openai, "anthropic": _anthropic}


def _carrying_on(provider: str) -> Script:
    return replies.stream(_FRAMES[provider](CARRIED_ON, ends=True))


# --- what clients see -------------------------------------------------------------------------------------------------


async def _ask_anthropic(url: str, model: str, seen: asyncio.Event) -> tuple[str, str, tuple[int, int]]:
    said = ""
    async with (
        AsyncAnthropic(base_url=url, api_key="sk-client", max_retries=0, timeout=15) as client,
        client.messages.stream(model=model, max_tokens=100, messages=[{"role": "user", "content": "Go on."}]) as stream,
    ):
        open_blocks: list[int] = []
        async for event in stream:
            match event.type:
                case "content_block_start":
                    open_blocks.append(event.index)
                case "content_block_delta":
                    assert event.index in open_blocks
                case "content_block_stop":
                    open_blocks.remove(event.index)
                case "text":
                    said += event.text
            if said == "".join(BROKEN_OFF):
                seen.set()
        assert not open_blocks
        message = await stream.get_final_message()
        request_id = stream.response.headers["x-request-id"]
    assert (message.model, message.stop_reason) == (model, "end_turn")
    (block,) = message.content
    assert (block.type, getattr(block, "text", None)) == ("text", said)
    usage = message.usage
    read = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    return said, request_id, (usage.input_tokens + read, usage.output_tokens)


async def _ask_gemini(url: str, model: str, seen: asyncio.Event) -> tuple[str, str, tuple[int, int]]:
    said, ids, last = "", set(), None
    client = genai.Client(api_key="sk-client", http_options=types.HttpOptions(base_url=url, timeout=15_000))
    try:
        async for answer in await client.aio.models.generate_content_stream(model=model, contents="Go on."):
            said += answer.text or ""
            ids.add(answer.response_id)
            last = answer
            if said == "".join(BROKEN_OFF):
                seen.set()
    finally:
        await client.aio.aclose()
        client.close()
    assert last is not None
    assert last.candidates is not None
    assert last.candidates[0].finish_reason == types.FinishReason.STOP
    usage = last.usage_metadata
    assert usage is not None
    assert len(ids) == 1
    headers = last.sdk_http_response.headers if last.sdk_http_response else None
    assert headers is not None
    return said, headers["x-request-id"], (usage.prompt_token_count or 0, usage.candidates_token_count or 0)


async def _ask_responses(url: str, model: str, seen: asyncio.Event) -> tuple[str, str, tuple[int, int]]:
    said, ids, done = "", set(), None
    places, items = list[int](), set[str]()
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-client", max_retries=0, timeout=15) as client:
        raw = await client.responses.with_raw_response.create(model=model, input="Go on.", stream=True)
        async for event in raw.parse():
            places.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                said += event.delta
                items.add(event.item_id)
            if event.type in ("response.created", "response.completed"):
                ids.add(event.response.id)
            if event.type == "response.completed":
                done = event.response
            if said == "".join(BROKEN_OFF):
                seen.set()
    assert done is not None
    assert (done.output_text, done.status, done.model) == (said, "completed", model)
    assert done.usage is not None
    assert len(ids) == 1
    assert places == [*range(len(places))]
    assert {item.id for item in done.output} == items
    return said, raw.headers["x-request-id"], (done.usage.input_tokens, done.usage.output_tokens)


_ASK = {"anthropic": _ask_anthropic, "gemini": _ask_gemini, "responses": _ask_responses}


@pytest.mark.parametrize(("client", "first", "second"), CHAINS)
async def test_the_sdk_sees_one_answer(running: Gateway, scripts: Scripts, client: str, first: str, second: str) -> None:
    model = _model(client, first, second)
    seen = asyncio.Event()
    begun = _FRAMES[first](BROKEN_OFF, ends=False)
    scripts.play(replies.stream(begun, then=replies.after(seen, replies.cut)), model)
    scripts.play(_carrying_on(second), backup_of(model))
    said, request_id, told = await _ASK[client](running.url, model, seen)
    assert said == WHOLE
    record: Record = await recorded(running, request_id)
    assert (record["status"], record["reason"], record["error_code"]) == ("fallback", "recovered", None)
    assert outcomes(record) == ["provider_connection_cut", "success"]
    assert samples.decode(record["answer"])["content"] == WHOLE
    assert told == (record["input_tokens"], record["output_tokens"])
    assert record["input_tokens"] > 19
    (asked,) = scripts.heard(backup_of(model))
    begun_turn = asked.json["messages"][-1]
    assert begun_turn["role"] == "assistant"
    assert "The quick brown fox" in str(begun_turn["content"])


async def _events_of(running: Gateway, scripts: Scripts, begun: list[bytes]) -> list[tuple[str, Any]]:
    """What an Anthropic client gets of a stream of Anthropic's that broke off behind `begun`, by type and index."""
    model = _model("anthropic", "anthropic", "anthropic")
    scripts.play(replies.stream(begun, then=replies.cut), model)
    scripts.play(_carrying_on("anthropic"), backup_of(model))
    body = {"model": model, "max_tokens": 100, "stream": True, "messages": [{"role": "user", "content": "Go on."}]}
    async with httpx2.AsyncClient(timeout=15) as client:
        answer = await client.post(f"{running.url}/v1/messages", json=body)
    events = [msgspec.json.decode(data) for line in answer.content.split(b"\n") if (data := line.removeprefix(b"data: ")) != line]
    return [(event["type"], event.get("index")) for event in events if event["type"] != "ping"]


async def test_behind_thoughts_that_are_not_shown_the_text_goes_on_in_its_own_block(running: Gateway, scripts: Scripts) -> None:
    start, *_ = _anthropic([], ends=False)
    begun = [
        start,
        _event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}),
        _event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c2ln"}),
        _event("content_block_stop", index=0),
        _event("content_block_start", index=1, content_block={"type": "text", "text": ""}),
        _event("content_block_delta", index=1, delta={"type": "text_delta", "text": "The quick brown fox"}),
        _event("ping"),
    ]
    grown, stop = ("content_block_delta", 1), ("content_block_stop", 1)
    told = await _events_of(running, scripts, begun)
    assert told[5:] == [grown, grown, grown, stop, ("message_delta", None), ("message_stop", None)]


async def test_a_text_that_has_ended_is_not_gone_on_with(running: Gateway, scripts: Scripts) -> None:
    begun = [*_anthropic(BROKEN_OFF, ends=False), _event("content_block_stop", index=0), _event("ping")]
    told = await _events_of(running, scripts, begun)
    assert [kind for kind, _ in told[-2:]] == ["content_block_stop", "error"]
    assert not scripts.heard(backup_of(_model("anthropic", "anthropic", "anthropic")))
