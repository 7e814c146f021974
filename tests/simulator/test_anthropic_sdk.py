"""The official `anthropic` SDK against the simulator on a real socket: its parsing and its classes of errors are the oracle."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message, ThinkingBlock, ToolUseBlock
from pydantic import BaseModel

from tests.simulator.serving import Provider

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}


def tool(name: str, **properties: Any) -> Any:
    return {"name": name, "input_schema": {"type": "object", "properties": properties, "required": list(properties)}}


TOOLS = [tool("get_weather", city={"type": "string"}), tool("get_time", zone={"type": "string"})]


@pytest.fixture
async def sdk(provider: Provider) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=provider.url, api_key="any", max_retries=0, timeout=10) as client:
        yield client


async def ask(sdk: AsyncAnthropic, *messages: Any, model: str = "claude", **more: Any) -> Message:
    said = [{"role": "user", "content": one} if isinstance(one, str) else one for one in messages]
    answer = await sdk.messages.create(**{"model": model, "max_tokens": 4096, "messages": said, **more})
    assert isinstance(answer, Message)
    return answer


def text_of(answer: Message) -> str:
    return "".join([block.text for block in answer.content if block.type == "text"])


def turn_of(answer: Message) -> Any:
    return {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in answer.content]}


def results(answer: Message, *said: str) -> Any:
    calls = [block for block in answer.content if block.type == "tool_use"]
    blocks = [{"type": "tool_result", "tool_use_id": call.id, "content": text} for call, text in zip(calls, said, strict=True)]
    return {"role": "user", "content": blocks}


async def test_a_stream_adds_up_to_the_whole_answer(sdk: AsyncAnthropic) -> None:
    whole = await ask(sdk, "How do I return a parcel?", system="Be short.")
    async with sdk.messages.stream(
        model="claude", max_tokens=4096, system="Be short.", messages=[{"role": "user", "content": "How do I return a parcel?"}]
    ) as stream:
        events = [event async for event in stream]
        streamed = await stream.get_final_message()
    assert text_of(streamed) == text_of(whole) != ""
    assert (streamed.stop_reason, streamed.usage) == ("end_turn", whole.usage)
    assert whole.usage.output_tokens == 20
    assert whole.id.startswith("msg_")
    first = next(event for event in events if event.type == "message_start")
    assert first.message.usage.input_tokens == whole.usage.input_tokens > 0


async def test_counted_tokens_are_those_billed(sdk: AsyncAnthropic) -> None:
    messages: Any = [{"role": "user", "content": "How do I return a parcel?"}]
    counted = await sdk.messages.count_tokens(model="claude", messages=messages, tools=TOOLS)
    billed = await ask(sdk, "How do I return a parcel?", tools=TOOLS)
    assert counted.input_tokens == billed.usage.input_tokens


async def test_stop_sequences_and_limits(sdk: AsyncAnthropic) -> None:
    whole = text_of(await ask(sdk, "Hello there"))
    stop = whole.split()[2]
    stopped = await ask(sdk, "Hello there", stop_sequences=[stop])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", stop)
    assert text_of(stopped) == whole[: whole.index(stop)]
    assert (await ask(sdk, "Hello there", max_tokens=3)).stop_reason == "max_tokens"


async def test_a_round_trip_of_parallel_tools(sdk: AsyncAnthropic) -> None:
    question = "Weather and time in parallel please"
    async with sdk.messages.stream(
        model="claude", max_tokens=4096, tools=TOOLS, messages=[{"role": "user", "content": question}]
    ) as stream:
        called = await stream.get_final_message()
    calls = [block for block in called.content if isinstance(block, ToolUseBlock)]
    assert called.stop_reason == "tool_use"
    assert [call.name for call in calls] == ["get_weather", "get_time"]
    assert all(isinstance(value, str) for call in calls for value in call.input.values())
    assert all(call.id.startswith("toolu_") for call in calls)
    said = [question, turn_of(called), results(called, "Sunny, 21 degrees", "Half past four")]
    answer = await ask(sdk, *said, tools=TOOLS)
    assert "get_weather says: Sunny, 21 degrees." in text_of(answer)
    assert "get_time says: Half past four." in text_of(answer)
    assert answer.stop_reason == "end_turn"
    again = await ask(sdk, *said, turn_of(answer), "Now use get_time once more", tools=TOOLS)
    assert [block.name for block in again.content if block.type == "tool_use"] == ["get_time"]


async def test_thoughts_go_round(sdk: AsyncAnthropic) -> None:
    called = await ask(sdk, "Use get_weather", tools=TOOLS, thinking=THINKING)
    thought = called.content[0]
    assert isinstance(thought, ThinkingBlock)
    assert thought.thinking
    assert called.usage.output_tokens_details is not None
    assert 0 < called.usage.output_tokens_details.thinking_tokens < called.usage.output_tokens
    answer = await ask(sdk, "Use get_weather", turn_of(called), results(called, "Sunny"), tools=TOOLS, thinking=THINKING)
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert "Sunny" in text_of(answer)
    async with sdk.messages.stream(
        model="claude", max_tokens=4096, tools=TOOLS, thinking=THINKING, messages=[{"role": "user", "content": "Use get_weather"}]
    ) as stream:
        streamed = await stream.get_final_message()
    assert streamed.content[0] == thought


async def test_thoughts_that_are_not_shown_are_signed_all_the_same(sdk: AsyncAnthropic) -> None:
    hidden: Any = THINKING | {"display": "omitted"}
    called = await ask(sdk, "Use get_weather", tools=TOOLS, thinking=hidden)
    thought = called.content[0]
    assert isinstance(thought, ThinkingBlock)
    assert (thought.thinking, bool(thought.signature)) == ("", True)
    answer = await ask(sdk, "Use get_weather", turn_of(called), results(called, "Sunny"), tools=TOOLS, thinking=hidden)
    assert "Sunny" in text_of(answer)


@pytest.mark.parametrize("change", ["signature", "thinking", "left out"])
async def test_a_thought_that_was_tampered_with_is_refused(sdk: AsyncAnthropic, change: str) -> None:
    called = await ask(sdk, "Use get_weather", tools=TOOLS, thinking=THINKING)
    turn = turn_of(called)
    if change == "left out":
        del turn["content"][0]
    else:
        turn["content"][0][change] = "Zm9yZ2Vk"
    with pytest.raises(anthropic.BadRequestError) as caught:
        await ask(sdk, "Use get_weather", turn, results(called, "Sunny"), tools=TOOLS, thinking=THINKING)
    said = {
        "signature": "messages.1.content.0: Invalid `signature` in `thinking` block",
        "thinking": "messages.1.content.0: Invalid `signature` in `thinking` block",
        "left out": "Expected `thinking` or `redacted_thinking`, but found `tool_use`",
    }
    assert said[change] in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_tokens": 1024}, "`max_tokens` must be greater than `thinking.budget_tokens`"),
        ({"tools": TOOLS, "tool_choice": {"type": "any"}}, "Thinking may not be enabled when tool_choice forces tool use"),
    ],
)
async def test_what_does_not_go_with_thinking(sdk: AsyncAnthropic, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=said):
        await ask(sdk, "Hi", thinking=THINKING, **fields)


async def test_adaptive_thinking_needs_no_thought_handed_back(sdk: AsyncAnthropic) -> None:
    adaptive: Any = {"type": "adaptive"}
    called = await ask(sdk, "Use get_weather", tools=TOOLS)
    answer = await ask(sdk, "Use get_weather", turn_of(called), results(called, "Sunny"), tools=TOOLS, thinking=adaptive)
    assert answer.content[0].type == "thinking"


async def test_an_answer_that_was_begun_is_carried_on(sdk: AsyncAnthropic) -> None:
    whole = text_of(await ask(sdk, "Tell me about bread"))
    begun = whole[:20].rstrip()
    rest = await ask(sdk, "Tell me about bread", {"role": "assistant", "content": begun})
    assert begun + text_of(rest) == whole
    other = await ask(sdk, "Tell me about bread", {"role": "assistant", "content": "Well,"})
    assert text_of(other) == f" {whole}"
    with pytest.raises(anthropic.BadRequestError, match="cannot end with trailing whitespace"):
        await ask(sdk, "Tell me about bread", {"role": "assistant", "content": "Well, "})


async def test_images_and_documents_are_seen(sdk: AsyncAnthropic) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PIXEL}}
    plain = await ask(sdk, "What is this?")
    seen = await ask(sdk, {"role": "user", "content": [image, image, document, {"type": "text", "text": "What is this?"}]})
    assert text_of(seen).startswith("I see 2 images (image/png). I read 1 file (application/pdf). ")
    assert seen.usage.input_tokens > plain.usage.input_tokens + 3 * 80


async def test_a_schema_is_kept_to(sdk: AsyncAnthropic) -> None:
    class Plan(BaseModel):
        title: str
        steps: list[str]

    answer = await sdk.messages.parse(
        model="claude", max_tokens=4096, messages=[{"role": "user", "content": "Plan a trip"}], output_format=Plan
    )
    assert isinstance(answer.parsed_output, Plan)


@pytest.mark.parametrize(
    ("status", "kind", "name"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (413, anthropic.RequestTooLargeError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.OverloadedError, "overloaded_error"),
    ],
)
async def test_errors_are_of_the_sdks_classes(
    provider: Provider, status: int, kind: type[anthropic.APIStatusError], name: str
) -> None:
    async with AsyncAnthropic(base_url=provider.url, api_key=f"fail-{status}", max_retries=0) as sdk:
        with pytest.raises(kind) as caught:
            await ask(sdk, "Hi")
    assert caught.value.status_code == status
    assert caught.value.body["error"]["type"] == name  # type: ignore[index]
    headers = caught.value.response.headers
    assert caught.value.request_id == headers["request-id"]
    assert headers.get("retry-after") == ("0" if status == 429 else None)
    assert headers["anthropic-ratelimit-requests-remaining"] == ("0" if status == 429 else "9999")


async def test_an_error_inside_a_stream(sdk: AsyncAnthropic) -> None:
    stream = await sdk.messages.create(
        model="claude:error-in-stream-4", max_tokens=99, stream=True, messages=[{"role": "user", "content": "Hi"}]
    )
    assert [(await anext(stream)).type for _ in range(3)] == ["message_start", "content_block_start", "content_block_delta"]
    assert (await anext(stream)).type == "content_block_delta"
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        await anext(stream)


async def test_a_cut_stream_and_a_garbled_one(sdk: AsyncAnthropic) -> None:
    async with sdk.messages.stream(model="claude:cut-6", max_tokens=99, messages=[{"role": "user", "content": "Hi"}]) as cut:
        with pytest.raises(httpx2.RemoteProtocolError):
            [event async for event in cut]
    with pytest.raises(ValueError, match=r"delimiter|JSON|Unterminated|decode"):
        async with sdk.messages.stream(
            model="claude:garbage", max_tokens=99, messages=[{"role": "user", "content": "Hi"}]
        ) as garbled:
            [event async for event in garbled]


async def test_models(sdk: AsyncAnthropic) -> None:
    assert "gpt-4o" in [model.id async for model in sdk.models.list()]
    assert (await sdk.models.retrieve("claude-any")).display_name == "claude-any"
