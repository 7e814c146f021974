"""The official `google-genai` SDK against the simulator on a real socket: its parsing and its errors are the oracle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import openai
import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from tests.simulator.serving import Provider

IMAGE = types.Part.from_bytes(data=b"\x89PNG\r\n\x1a\n", mime_type="image/png")
THINKING = types.ThinkingConfig(thinking_budget=1024, include_thoughts=True)


def declared(name: str, **properties: str) -> types.FunctionDeclaration:
    schema = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": [*properties],
    }
    return types.FunctionDeclaration(name=name, parameters_json_schema=schema)


TOOLS: Any = [types.Tool(function_declarations=[declared("get_weather", city="string"), declared("get_time", zone="string")])]


def client_of(provider: Provider, key: str = "any") -> genai.client.AsyncClient:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=provider.url)).aio


@pytest.fixture
async def sdk(provider: Provider) -> AsyncIterator[genai.client.AsyncClient]:
    async with client_of(provider) as client:
        yield client


async def ask(sdk: genai.client.AsyncClient, contents: Any, model: str = "gemini-2.5-flash", **config: Any) -> Any:
    return await sdk.models.generate_content(model=model, contents=contents, config=types.GenerateContentConfig(**config))


async def streamed(sdk: genai.client.AsyncClient, contents: Any, model: str = "gemini-2.5-flash", **config: Any) -> list[Any]:
    stream = await sdk.models.generate_content_stream(
        model=model, contents=contents, config=types.GenerateContentConfig(**config)
    )
    return [chunk async for chunk in stream]


def parts_of(chunks: list[Any]) -> list[types.Part]:
    return [part for chunk in chunks for candidate in chunk.candidates or () for part in candidate.content.parts or ()]


def results(answer: Any, **said: str) -> types.Content:
    parts = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": said[call.name]}))
        for call in answer.function_calls
    ]
    return types.Content(role="user", parts=parts)


async def test_a_stream_adds_up_to_the_whole_answer(sdk: genai.client.AsyncClient) -> None:
    whole = await ask(sdk, "How do I return a parcel?", system_instruction="Be short.")
    chunks = await streamed(sdk, "How do I return a parcel?", system_instruction="Be short.")
    assert "".join([part.text or "" for part in parts_of(chunks)]) == whole.text != ""
    assert len(chunks) >= 20
    assert chunks[-1].usage_metadata == whole.usage_metadata
    assert whole.usage_metadata.candidates_token_count == 20
    assert whole.candidates[0].finish_reason == chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP


async def test_a_round_trip_of_parallel_tools(sdk: genai.client.AsyncClient) -> None:
    question = types.Content(role="user", parts=[types.Part(text="Weather and time in parallel please")])
    called = await ask(sdk, [question], tools=TOOLS)
    assert [call.name for call in called.function_calls] == ["get_weather", "get_time"]
    assert [set(call.args) for call in called.function_calls] == [{"city"}, {"zone"}]
    said = [question, called.candidates[0].content, results(called, get_weather="Sunny, 21 degrees", get_time="Half past four")]
    answer = await ask(sdk, said, tools=TOOLS)
    assert "get_weather says: " in answer.text
    assert "Sunny, 21 degrees" in answer.text
    assert "Half past four" in answer.text
    more = [*said, answer.candidates[0].content, types.Content(role="user", parts=[types.Part(text="Now use get_time")])]
    again = await ask(sdk, more, tools=TOOLS)
    assert [call.name for call in again.function_calls] == ["get_time"]
    calls = [part.function_call for part in parts_of(await streamed(sdk, [question], tools=TOOLS)) if part.function_call]
    assert [(call.name, call.args) for call in calls] == [(call.name, call.args) for call in called.function_calls]


async def test_thoughts_go_round(sdk: genai.client.AsyncClient) -> None:
    config: Any = {"tools": TOOLS, "thinking_config": THINKING}
    question = types.Content(role="user", parts=[types.Part(text="Use get_weather")])
    called = await ask(sdk, [question], **config)
    thought, call = called.candidates[0].content.parts
    assert (thought.thought, bool(thought.text), bool(call.thought_signature)) == (True, True, True)
    assert called.usage_metadata.thoughts_token_count > 0
    said = [question, called.candidates[0].content, results(called, get_weather="Sunny")]
    answer = await ask(sdk, said, **config)
    assert "Sunny" in answer.text
    assert answer.candidates[0].content.parts[0].thought
    call.thought_signature = b"forged"
    with pytest.raises(errors.ClientError, match="Corrupted thought signature") as caught:
        await ask(sdk, said, **config)
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    call.thought_signature = b"skip_thought_signature_validator"
    assert (await ask(sdk, said, **config)).text


async def test_thoughts_that_are_not_shown_are_signed_all_the_same(sdk: genai.client.AsyncClient) -> None:
    hidden = types.ThinkingConfig(thinking_budget=1024)
    (part,) = (await ask(sdk, "Use get_weather", tools=TOOLS, thinking_config=hidden)).candidates[0].content.parts
    assert part.function_call.name == "get_weather"
    assert part.thought_signature
    (part,) = (await ask(sdk, "Use get_weather", tools=TOOLS)).candidates[0].content.parts
    assert part.thought_signature is None


async def test_images_are_seen(sdk: genai.client.AsyncClient) -> None:
    plain = await ask(sdk, "What is this?")
    seen = await ask(sdk, [IMAGE, IMAGE, "What is this?"])
    assert seen.text.startswith("I see 2 images (image/png). ")
    assert seen.usage_metadata.prompt_token_count > plain.usage_metadata.prompt_token_count + 2 * 80


async def test_a_schema_is_kept_to(sdk: genai.client.AsyncClient) -> None:
    class Plan(BaseModel):
        title: str
        steps: list[str]

    answer = await ask(sdk, "Plan a trip", response_mime_type="application/json", response_schema=Plan)
    assert isinstance(answer.parsed, Plan)
    free = await ask(sdk, "Plan a trip", response_mime_type="application/json")
    assert msgspec.json.decode(free.text).keys() == {"answer", "confidence", "tags"}


@pytest.mark.parametrize(
    ("status", "kind", "name"),
    [
        (400, errors.ClientError, "INVALID_ARGUMENT"),
        (401, errors.ClientError, "UNAUTHENTICATED"),
        (403, errors.ClientError, "PERMISSION_DENIED"),
        (404, errors.ClientError, "NOT_FOUND"),
        (429, errors.ClientError, "RESOURCE_EXHAUSTED"),
        (500, errors.ServerError, "INTERNAL"),
        (503, errors.ServerError, "UNAVAILABLE"),
    ],
)
async def test_errors_are_of_the_sdks_classes(provider: Provider, status: int, kind: type[errors.APIError], name: str) -> None:
    async with client_of(provider, f"fail-{status}") as sdk:
        with pytest.raises(kind) as caught:
            await ask(sdk, "Hi")
        with pytest.raises(kind):
            await streamed(sdk, "Hi")
    assert (caught.value.code, caught.value.status) == (status, name)
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0s"}
    assert caught.value.details["error"].get("details") == ([retry] if status == 429 else None)


async def test_the_models_suffix_steers_too(sdk: genai.client.AsyncClient) -> None:
    with pytest.raises(errors.ServerError, match="overloaded"):
        await ask(sdk, "Hi", model="gemini-2.5-flash:fail-503")


async def test_an_error_inside_a_stream(sdk: genai.client.AsyncClient) -> None:
    with pytest.raises(errors.ServerError, match="UNAVAILABLE"):
        await streamed(sdk, "Hi", model="gemini:error-in-stream-4")


async def test_without_sse_a_stream_is_one_json_array(provider: Provider) -> None:
    body = msgspec.json.encode({"contents": [{"parts": [{"text": "Hi"}]}]})
    data = await provider.post(body, "/v1beta/models/gemini:streamGenerateContent?key=any")
    assert b"content-type: application/json" in data
    elements = msgspec.json.decode(_unchunked(data))
    assert elements[-1]["usageMetadata"]["candidatesTokenCount"] == 20
    data = await provider.post(body, "/v1beta/models/gemini:streamGenerateContent?key=error-in-stream-2")
    *said, failed = msgspec.json.decode(_unchunked(data))
    assert (len(said), failed["error"]["status"]) == (2, "UNAVAILABLE")


def _unchunked(data: bytes) -> bytes:
    _, _, rest = data.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return body


async def test_models(sdk: genai.client.AsyncClient) -> None:
    assert "models/gpt-4o" in [model.name async for model in await sdk.models.list()]
    assert (await sdk.models.get(model="gemini-any")).name == "models/gemini-any"


async def test_its_openai_compatible_endpoint(provider: Provider) -> None:
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1beta/openai/", api_key="any", max_retries=0) as sdk:
        answer = await sdk.chat.completions.create(model="gemini", messages=[{"role": "user", "content": "Hi"}])
        vectors = await sdk.embeddings.create(model="gemini-embedding", input="Hi")
        assert "gpt-4o" in [model.id async for model in sdk.models.list()]
    assert answer.choices[0].message.content
    assert len(vectors.data[0].embedding) == 1536
