"""The simulator on a real socket, met by the official `openai` SDK and by a plain socket where the SDK would hide the bytes."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from agent_gateway.simulator.server import Server, server
from agent_gateway.simulator.settings import SimulatorSettings
from tests.kit.eventually import eventually
from tests.simulator.stage import chat, said_to, tool

#: Fast, and long enough for a stream to be left in the middle.
SETTINGS = SimulatorSettings(ttft_ms=1, tokens_per_s=2000, output_tokens=20, output_spread=0, jitter=0, retry_after_s=0)
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How do I return a parcel?"}]


class Provider:
    def __init__(self, port: int, running: Server) -> None:
        self.port = port
        self.running = running

    def sdk(self, key: str = "sk-any") -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, max_retries=0, timeout=10)

    async def exchange(self, request: bytes) -> bytes:
        """Everything that comes until the simulator closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        data = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return data

    async def post(self, body: bytes, path: str = "/v1/chat/completions", key: str = "x") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n"
        return await self.exchange(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)

    @property
    def requests_under_way(self) -> int:
        return len(self.running.server_state.tasks)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = server(SETTINGS, drain_s=1)
        serving = asyncio.create_task(running._serve([listener]))
        await eventually(lambda: running.started, "the simulator listens")
        yield Provider(listener.getsockname()[1], running)
        running.should_exit = True
        running.force_exit = True
        await serving


async def test_unary(provider: Provider) -> None:
    async with provider.sdk() as sdk:
        answer = await sdk.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert answer.choices[0].message.content == said_to(chat(), SETTINGS)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 20


async def test_stream(provider: Provider) -> None:
    async with provider.sdk() as sdk:
        stream = await sdk.chat.completions.create(
            model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join([chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]) == said_to(chat(), SETTINGS)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


async def test_tools_both_ways(provider: Provider) -> None:
    tools: Any = [tool()]
    async with provider.sdk() as sdk:
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

    async with provider.sdk() as sdk:
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
    async with provider.sdk(key=f"fail-{status}") as sdk:
        with pytest.raises(kind) as caught:
            await sdk.chat.completions.create(model="m", messages=MESSAGES)
    assert caught.value.status_code == status
    assert ("retry-after" in caught.value.response.headers) == (status == 429)


async def test_an_error_inside_a_stream(provider: Provider) -> None:
    async with provider.sdk() as sdk:
        stream = await sdk.chat.completions.create(model="m:error-in-stream-4", messages=MESSAGES, stream=True)
        assert len([await anext(stream) for _ in range(4)]) == 4
        with pytest.raises(openai.APIError, match="The server had an error"):
            await anext(stream)


async def test_a_hang_never_answers(provider: Provider) -> None:
    async with provider.sdk() as sdk:
        with pytest.raises(openai.APITimeoutError):
            await sdk.chat.completions.create(model="m:hang", messages=MESSAGES, timeout=0.2)


async def test_a_cut_stream_has_no_last_chunk(provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    data = await provider.post(chat(stream=True), key="cut-3")
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding: chunked" in data
    assert data.count(b"data: ") == 3
    assert not data.endswith(b"0\r\n\r\n")
    assert b"[DONE]" not in data
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_cut_unary_answer_is_shorter_than_announced(provider: Provider) -> None:
    head, _, body = (await provider.post(chat(), key="cut-1")).partition(b"\r\n\r\n")
    announced = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    assert len(body) == announced // 2


async def test_the_official_sdk_sees_a_cut(provider: Provider) -> None:
    async with provider.sdk() as sdk:
        stream = await sdk.chat.completions.create(model="m:cut-3", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIConnectionError):
            [chunk async for chunk in stream]


@pytest.mark.parametrize("key", ["hang", "hang-4"])
async def test_a_client_that_leaves_stops_the_model(provider: Provider, key: str) -> None:
    async with provider.sdk(key) as sdk:
        asking = asyncio.create_task(_read(sdk))
        await eventually(lambda: provider.requests_under_way, "the request runs")
        asking.cancel()
        await asyncio.wait([asking])
        await eventually(lambda: not provider.requests_under_way, "the request has ended")


async def test_many_at_once(provider: Provider) -> None:
    async with provider.sdk() as sdk:
        answers = await asyncio.gather(
            *[sdk.chat.completions.create(model="m", messages=MESSAGES, max_tokens=2, seed=seed) for seed in range(50)]
        )
    assert len({answer.id for answer in answers}) == 50


async def test_models(provider: Provider) -> None:
    async with provider.sdk() as sdk:
        names = [model.id async for model in sdk.models.list()]
        assert "gpt-4o-mini" in names
        assert (await sdk.models.retrieve("anything/at:all")).id == "anything/at:all"


async def test_health(provider: Provider) -> None:
    data = await provider.exchange(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert data.endswith(b'{"status":"ok"}')


async def test_unknown_paths_and_methods(provider: Provider) -> None:
    assert (await provider.post(b"{}", path="/v1/nope")).startswith(b"HTTP/1.1 404 ")
    assert (await provider.post(b"{}", path="/health")).startswith(b"HTTP/1.1 405 ")
    data = await provider.exchange(b"GET /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 405 ")
    assert b'"code":"method_not_allowed"' in data


async def _read(sdk: AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    async for _ in stream:
        pass
