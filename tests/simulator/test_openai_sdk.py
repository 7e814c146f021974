"""The official `openai` SDK against the simulator's OpenAI protocols other than chat, which `test_http.py` is about."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseReasoningItem
from pydantic import BaseModel

from tests.simulator.serving import Provider

PIXEL = "data:image/png;base64,iVBORw0KGgo="
REASONING: Any = {"effort": "low", "summary": "auto"}


def tool(name: str, *properties: str) -> Any:
    schema = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in properties},
        "required": [*properties],
        "additionalProperties": False,
    }
    return {"type": "function", "name": name, "parameters": schema, "strict": True}


TOOLS = [tool("get_weather", "city"), tool("get_time", "zone")]


@pytest.fixture
async def sdk(provider: Provider) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="any", max_retries=0, timeout=10) as client:
        yield client


async def ask(sdk: AsyncOpenAI, *items: Any, model: str = "gpt", **more: Any) -> Response:
    said = [{"role": "user", "content": item} if isinstance(item, str) else item for item in items]
    answer = await sdk.responses.create(**{"model": model, "input": said, "store": False, **more})
    assert isinstance(answer, Response)
    return answer


def items_of(answer: Response) -> list[Any]:
    return [item.model_dump(exclude_none=True) for item in answer.output]


def results(answer: Response, *said: str) -> list[Any]:
    calls = [item for item in answer.output if item.type == "function_call"]
    return [
        {"type": "function_call_output", "call_id": call.call_id, "output": text} for call, text in zip(calls, said, strict=True)
    ]


# --- Responses --------------------------------------------------------------------------------------------------------


async def test_a_stream_adds_up_to_the_whole_answer(sdk: AsyncOpenAI) -> None:
    whole = await ask(sdk, "How do I return a parcel?", instructions="Be short.")
    async with sdk.responses.stream(
        model="gpt", input="How do I return a parcel?", instructions="Be short.", store=False
    ) as stream:
        events = [event async for event in stream]
        streamed = await stream.get_final_response()
    assert streamed.output_text == whole.output_text != ""
    assert (streamed.status, streamed.usage) == ("completed", whole.usage)
    assert whole.usage is not None
    assert whole.usage.output_tokens == 20
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_a_limit_leaves_the_answer_incomplete(sdk: AsyncOpenAI) -> None:
    answer = await ask(sdk, "Hello there", max_output_tokens=16)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


async def test_a_round_trip_of_parallel_tools(sdk: AsyncOpenAI) -> None:
    question = "Weather and time in parallel please"
    called = await ask(sdk, question, tools=TOOLS)
    calls = [item for item in called.output if isinstance(item, ResponseFunctionToolCall)]
    assert [call.name for call in calls] == ["get_weather", "get_time"]
    said = [question, *items_of(called), *results(called, "Sunny, 21 degrees", "Half past four")]
    answer = await ask(sdk, *said, tools=TOOLS)
    assert "get_weather says: Sunny, 21 degrees." in answer.output_text
    assert "get_time says: Half past four." in answer.output_text
    again = await ask(sdk, *said, *items_of(answer), "Now use get_time once more", tools=TOOLS)
    assert [item.name for item in again.output if item.type == "function_call"] == ["get_time"]


async def test_tools_are_called_one_after_the_other_where_parallel_is_forbidden(sdk: AsyncOpenAI) -> None:
    said: list[Any] = ["Use get_weather, then get_time"]
    names = []
    for _ in range(2):
        answer = await ask(sdk, *said, tools=TOOLS, parallel_tool_calls=False)
        names += [item.name for item in answer.output if item.type == "function_call"]
        said += [*items_of(answer), *results(answer, "Fine")]
    assert names == ["get_weather", "get_time"]
    assert "get_time says: Fine." in (await ask(sdk, *said, tools=TOOLS)).output_text


async def test_thoughts_go_round(sdk: AsyncOpenAI) -> None:
    more: Any = {"tools": TOOLS, "reasoning": REASONING, "include": ["reasoning.encrypted_content"]}
    called = await ask(sdk, "Use get_weather", **more)
    thought = called.output[0]
    assert isinstance(thought, ResponseReasoningItem)
    assert thought.encrypted_content
    assert thought.summary[0].text
    assert called.usage is not None
    assert called.usage.output_tokens_details.reasoning_tokens > 0
    answer = await ask(sdk, "Use get_weather", *items_of(called), *results(called, "Sunny"), **more)
    assert "Sunny" in answer.output_text
    items = items_of(called)
    items[0]["encrypted_content"] = "Zm9yZ2Vk"
    with pytest.raises(openai.BadRequestError, match=f"encrypted content for item {thought.id} could not be verified"):
        await ask(sdk, "Use get_weather", *items, *results(called, "Sunny"), **more)


async def test_images_are_seen(sdk: AsyncOpenAI) -> None:
    content = [{"type": "input_image", "image_url": PIXEL, "detail": "auto"}, {"type": "input_text", "text": "What is this?"}]
    answer = await ask(sdk, {"role": "user", "content": content})
    assert answer.output_text.startswith("I see 1 image (image/png). ")


async def test_a_schema_is_kept_to(sdk: AsyncOpenAI) -> None:
    class Plan(BaseModel):
        title: str
        steps: list[str]

    answer = await sdk.responses.parse(model="gpt", input="Plan a trip", text_format=Plan, store=False)
    assert isinstance(answer.output_parsed, Plan)


async def test_errors_of_responses(provider: Provider, sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(sdk, "Hi", model="gpt:fail-429")
    headers = caught.value.response.headers
    assert (headers["x-ratelimit-remaining-requests"], headers["retry-after"]) == ("0", "0")
    assert caught.value.request_id == headers["x-request-id"]
    stream = await sdk.responses.create(model="gpt:error-in-stream-2", input="Hi", stream=True)
    events = [event async for event in stream]
    assert [event.type for event in events] == ["response.created", "response.in_progress", "error"]


# --- chat, beyond text ------------------------------------------------------------------------------------------------


async def test_reasoning_of_chat_is_counted(sdk: AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "Hi"}], reasoning_effort="low")
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert 0 < (answer.usage.completion_tokens_details.reasoning_tokens or 0) < answer.usage.completion_tokens


# --- completions ------------------------------------------------------------------------------------------------------


async def test_a_completion(sdk: AsyncOpenAI) -> None:
    whole = await sdk.completions.create(model="gpt", prompt="Once upon a time")
    stream = await sdk.completions.create(model="gpt", prompt="Once upon a time", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == whole.choices[0].text != ""
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0


async def test_several_prompts_are_answered_as_each_would_be(sdk: AsyncOpenAI) -> None:
    prompts = ["Once upon a time", "In the beginning"]
    together = await sdk.completions.create(model="gpt", prompt=prompts, n=2)
    alone = [await sdk.completions.create(model="gpt", prompt=prompt, n=2) for prompt in prompts]
    assert [choice.index for choice in together.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in together.choices] == [choice.text for one in alone for choice in one.choices]
    assert together.usage is not None
    assert together.usage.total_tokens == sum(one.usage.total_tokens for one in alone if one.usage)
    stream = await sdk.completions.create(model="gpt", prompt=prompts, n=2, stream=True)
    texts = ["", "", "", ""]
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in together.choices]


# --- embeddings -------------------------------------------------------------------------------------------------------


def dot(one: list[float], other: list[float]) -> float:
    return sum([mine * theirs for mine, theirs in zip(one, other, strict=True)])


async def test_embeddings(sdk: AsyncOpenAI) -> None:
    texts = ["the cat sat on the mat", "the cat lay on the mat", "quarterly revenue rose again", "the cat sat on the mat"]
    answer = await sdk.embeddings.create(model="embed", input=texts, dimensions=256)
    one, near, far, same = [item.embedding for item in answer.data]
    assert one == same
    assert [math.hypot(*vector) for vector in (one, near, far)] == pytest.approx([1, 1, 1])
    assert dot(one, near) > 0.5 > dot(one, far)
    assert answer.usage.prompt_tokens > 0


async def test_embeddings_as_numbers_and_as_base64_are_the_same(sdk: AsyncOpenAI) -> None:
    floats = await sdk.embeddings.create(model="embed", input="Hi", encoding_format="float")
    packed = await sdk.embeddings.create(model="embed", input="Hi")  # the SDK asks for base64
    assert floats.data[0].embedding == pytest.approx(packed.data[0].embedding, abs=1e-6)
    assert len(floats.data[0].embedding) == 1536
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        await sdk.embeddings.create(model="embed", input="Hi", dimensions=0)
    with pytest.raises(openai.InternalServerError):
        await sdk.embeddings.create(model="embed:fail-503", input="Hi")
