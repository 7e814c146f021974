"""Every official SDK over every kind of provider: what an agent does all day, and what goes wrong, is the same everywhere."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.kit.crossing import FAILURES, KINDS
from tests.kit.gateway import Gateway
from tests.kit.sdks import SDKS, Ask, Gemini, OpenAIResponses, Refused, Sdk, Told

TOOLS = (
    {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city", "days"],
        },
    },
    {
        "name": "get_time",
        "description": "The time in a zone.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
    },
)
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(params=SDKS, ids=lambda sdk: sdk.name)
def sdk(request: pytest.FixtureRequest) -> type[Sdk]:
    chosen: type[Sdk] = request.param
    return chosen


@pytest.fixture(params=KINDS)
async def chat(request: pytest.FixtureRequest, sdk: type[Sdk], crossing: Gateway) -> AsyncIterator[Sdk]:
    async with sdk(crossing.url, request.param, "sk-client") as chat:
        yield chat


either_way = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


@either_way
async def test_text(chat: Sdk, stream: bool) -> None:
    chat.user("What is a gateway for?")
    told = await chat.answer(Ask(stream=stream))
    assert len(told.text) > 20
    assert told.finish == chat.ends
    assert told.model == chat.model
    assert told.usage[0] > 0
    assert told.usage[1] > 5
    assert told.pieces > 5 if stream else told.pieces == 1


async def test_whole_and_streamed_answers_say_the_same(chat: Sdk) -> None:
    chat.user("What is a gateway for?")
    whole = await chat.answer(Ask())
    chat.history.pop()
    streamed = await chat.answer(Ask(stream=True))
    assert (streamed.text, streamed.finish, streamed.usage) == (whole.text, whole.finish, whole.usage)


@either_way
async def test_parallel_tools_over_three_turns(chat: Sdk, stream: bool) -> None:
    ask = Ask(stream=stream, tools=TOOLS)
    for turn in range(3):
        chat.user(f"Turn {turn}: call get_weather and get_time in parallel.")
        told = await chat.answer(ask)
        assert told.finish == chat.calls_tools
        assert [name for _, name, _ in told.calls] == ["get_weather", "get_time"]
        assert told.calls[0][2].keys() == {"city", "days"}
        assert type(told.calls[0][2]["days"]) is int
        assert told.calls[1][2].keys() == {"zone"}
        ids = [call_id for call_id, _, _ in told.calls]
        assert len(set(ids)) == 2
        chat.results(told, [{"sky": f"azure-{turn}"}, {"clock": f"noon-{turn}"}])
        told = await chat.answer(ask)
        assert told.calls == []
        assert f"azure-{turn}" in told.text
        assert f"noon-{turn}" in told.text
        assert told.finish == chat.ends


@either_way
async def test_an_image(chat: Sdk, stream: bool) -> None:
    chat.user("What do you see?", ("image/png", _png()))
    told = await chat.answer(Ask(stream=stream))
    assert "1 image" in told.text
    assert "image/png" in told.text


@either_way
async def test_a_json_schema(chat: Sdk, stream: bool) -> None:
    chat.user("Invent a person.")
    told = await chat.answer(Ask(stream=stream, schema=SCHEMA))
    value: dict[str, Any] = msgspec.json.decode(told.text)
    assert value.keys() == {"name", "age", "tags"}
    assert type(value["age"]) is int
    assert isinstance(value["tags"], list)


@either_way
async def test_thinking_is_shown_and_goes_back_as_it_was_signed(chat: Sdk, stream: bool) -> None:
    """The simulator refuses a thought that comes back changed, as the providers do; it must also come back with its tool calls."""
    chat.user("Think hard, then call get_weather and get_time in parallel.")
    told = await chat.answer(Ask(stream=stream, tools=TOOLS, think=True))
    if _shows_thoughts(chat):
        assert told.thoughts
    assert len(told.calls) == 2
    chat.results(told, [{"sky": "azure"}, {"clock": "noon"}])
    told = await chat.answer(Ask(stream=stream, tools=TOOLS, think=True))
    assert "azure" in told.text
    chat.user("And now without tools?")
    assert (await chat.answer(Ask(stream=stream, think=True))).text


@either_way
@pytest.mark.parametrize("fault", FAILURES)
async def test_an_error_of_each_class(sdk: type[Sdk], crossing: Gateway, fault: str, stream: bool) -> None:
    for kind in KINDS:
        async with sdk(crossing.url, f"{kind}:{fault}", "sk-client") as chat:
            chat.user("Hello?")
            with pytest.raises(Refused) as refused:
                await chat.answer(Ask(stream=stream))
        if fault == "error-in-stream-6" and stream:
            assert refused.value.status is None, kind
            assert refused.value.told is not None
            assert refused.value.told.text, kind
        else:
            assert refused.value.status == FAILURES[fault], (kind, refused.value.message)
        assert refused.value.message
        assert "sk-provider-secret" not in refused.value.message
        assert "127.0.0.1" not in refused.value.message


async def test_what_the_gateway_itself_refuses(sdk: type[Sdk], crossing: Gateway) -> None:
    async with sdk(crossing.url, "no-such-model", "sk-client") as chat:
        chat.user("Hello?")
        with pytest.raises(Refused) as refused:
            await chat.answer(Ask())
    assert refused.value.status == 404
    assert "no-such-model" in refused.value.message


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_cut_in_the_middle_never_ends_as_if_it_were_complete(sdk: type[Sdk], crossing: Gateway, kind: str) -> None:
    async with sdk(crossing.url, f"{kind}:cut-6", "sk-client") as chat:
        chat.user("Tell me a long story.")
        with pytest.raises(Refused) as refused:
            await chat.answer(Ask(stream=True))
    assert refused.value.status is None
    told = refused.value.told
    assert isinstance(told, Told)
    assert told.text


def _shows_thoughts(chat: Sdk) -> bool:
    """OpenAI's chat completions hand out no thoughts of theirs; every other pair shows them."""
    return chat.model != "openai" or isinstance(chat, OpenAIResponses | Gemini)


def _png() -> bytes:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\x00\xff\x00\x00")) + chunk(b"IEND", b"")
