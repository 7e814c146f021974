"""The simulator on a real socket, met by the official `openai` SDK and by a plain socket where the SDK would hide the bytes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.kit.eventually import eventually
from tests.simulator.serving import SETTINGS, Provider
from tests.simulator.stage import chat, said_to, tool

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How do I return a parcel?"}]


def sdk_of(provider: Provider, key: str = "sk-any") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{provider.url}/v1", api_key=key, max_retries=0, timeout=10)


async def test_unary(provider: Provider) -> None:
    async with sdk_of(provider) as sdk:
        answer = await sdk.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert answer.choices[0].message.content == said_to(chat(), SETTINGS)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 20


async def test_stream(provider: Provider) -> None:
    async with sdk_of(provider) as sdk:
        stream = await sdk.chat.completions.create(
            model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join([chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]) == said_to(chat(), SETTINGS)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


async def test_tools_both_ways(provider: Provider) -> None:
    tools: Any = [tool()]
    async with sdk_of(provider) as sdk:
        answer = await sdk.chat.completions.create(model="m", messages=MESSAGES, tools=tools)
        call: Any = (answer.choices[0].message.tool_calls or [])[0]
        result: list[Any] = [*MESSAGES, answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "Sunny"}]
        last = await sdk.chat.completions.create(model="m", messages=result, tools=tools)
    assert call.function.name == "get_weather"
    assert last.choices[0].message.content
    assert not last.choices[0].message.tool_calls


async def test_json_schema(provider: Provider) -> None:
    from pydantic import BaseModel

    class Plan(BaseModel):
        title: str
        steps: list[str]

    async with sdk_of(provider) as sdk:
        parsed = await sdk.chat.completions.parse(model="m", messages=MESSAGES, response_format=Plan)
    assert isinstance(parsed.choices[0].message.parsed, Plan)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_errors_are_of_the_sdks_classes(provider: Provider, status: int, kind: type[openai.APIStatusError]) -> None:
    async with sdk_of(provider, f"fail-{status}") as sdk:
        with pytest.raises(kind) as caught:
            await sdk.chat.completions.create(model="m", messages=MESSAGES)
    assert caught.value.status_code == status
    assert ("retry-after" in caught.value.response.headers) == (status == 429)


async def test_an_error_inside_a_stream(provider: Provider) -> None:
    async with sdk_of(provider) as sdk:
        stream = await sdk.chat.completions.create(model="m:error-in-stream-4", messages=MESSAGES, stream=True)
        assert len([await anext(stream) for _ in range(4)]) == 4
        with pytest.raises(openai.APIError, match="The server had an error"):
            await anext(stream)


async def test_a_hang_never_answers(provider: Provider) -> None:
    async with sdk_of(provider) as sdk:
        with pytest.raises(openai.APITimeoutError):
            await sdk.chat.completions.create(model="m:hang", messages=MESSAGES, timeout=0.2)


async def test_a_cut_stream_has_no_last_chunk(provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    data = await provider.post(chat(stream=True), headers="authorization: Bearer cut-3\r\n")
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding: chunked" in data
    assert data.count(b"data: ") == 3
    assert not data.endswith(b"0\r\n\r\n")
    assert b"[DONE]" not in data
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_cut_unary_answer_is_shorter_than_announced(provider: Provider) -> None:
    head, _, body = (await provider.post(chat(), headers="authorization: Bearer cut-1\r\n")).partition(b"\r\n\r\n")
    announced = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    assert len(body) == announced // 2


async def test_the_official_sdk_sees_a_cut(provider: Provider) -> None:
    async with sdk_of(provider) as sdk:
        stream = await sdk.chat.completions.create(model="m:cut-3", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIConnectionError):
            [chunk async for chunk in stream]


@pytest.mark.parametrize("key", ["hang", "hang-4"])
async def test_a_client_that_leaves_stops_the_model(provider: Provider, key: str) -> None:
    async with sdk_of(provider, key) as sdk:
        asking = asyncio.create_task(_read(sdk))
        await eventually(lambda: provider.requests_under_way, "the request runs")
        asking.cancel()
        await asyncio.wait([asking])
        await eventually(lambda: not provider.requests_under_way, "the request has ended")


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ("authorization: Bearer fail-418\r\n", ""),
        ("authorization: bearer fail-418\r\n", ""),
        ("x-api-key: fail-418\r\n", ""),
        ("x-goog-api-key: fail-418\r\n", ""),
        ("api-key: fail-418\r\n", ""),
        ("authorization: Basic x\r\nx-api-key: fail-418\r\n", ""),
        ("", "?key=fail-418"),
    ],
)
async def test_the_key_steers_wherever_it_stands(provider: Provider, headers: str, query: str) -> None:
    assert (await provider.post(chat(), f"/v1/chat/completions{query}", headers)).startswith(b"HTTP/1.1 418 ")


async def test_many_at_once(provider: Provider) -> None:
    async with sdk_of(provider) as sdk:
        answers = await asyncio.gather(
            *[sdk.chat.completions.create(model="m", messages=MESSAGES, max_tokens=2, seed=seed) for seed in range(50)]
        )
    assert len({answer.id for answer in answers}) == 50


@pytest.mark.parametrize(
    ("path", "headers", "said"),
    [
        ("/v1/models", "", b'{"object":"list","data":[{"id":"gpt-4o-mini"'),
        ("/models", "", b'{"object":"list","data":[{"id":"gpt-4o-mini"'),
        ("/v1beta/openai/models/x", "", b'{"id":"x","object":"model"'),
        ("/v1/models", "anthropic-version: 2023-06-01\r\n", b'{"data":[{"type":"model","id":"gpt-4o-mini"'),
        ("/v1/models", "x-goog-api-key: any\r\n", b'{"models":[{"name":"models/gpt-4o-mini"'),
        ("/v1beta/models/x", "", b'{"name":"models/x"'),
    ],
)
async def test_models_in_each_style(provider: Provider, path: str, headers: str, said: bytes) -> None:
    assert b"\r\n\r\n" + said in await provider.get(path, headers)


async def test_models(provider: Provider) -> None:
    async with sdk_of(provider) as sdk:
        names = [model.id async for model in sdk.models.list()]
        assert "gpt-4o-mini" in names
        assert (await sdk.models.retrieve("anything/at:all")).id == "anything/at:all"


async def test_health(provider: Provider) -> None:
    data = await provider.get("/health")
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert data.endswith(b'{"status":"ok"}')


async def test_unknown_paths_and_methods(provider: Provider) -> None:
    assert (await provider.post(b"{}", path="/v1/nope")).startswith(b"HTTP/1.1 404 ")
    assert (await provider.post(b"{}", path="/health")).startswith(b"HTTP/1.1 405 ")
    data = await provider.get("/v1/chat/completions")
    assert data.startswith(b"HTTP/1.1 405 ")
    assert b'"code":"method_not_allowed"' in data


async def _read(sdk: AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    async for _ in stream:
        pass
