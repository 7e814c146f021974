"""A client's requests read into conversations, in all the forms that the protocol has had."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import (
    Conversation,
    File,
    Image,
    JsonFormat,
    Media,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from agent_gateway.core.errors import BadRequest
from agent_gateway.protocols.openai_chat.codec import OpenAIChat

codec = OpenAIChat()
HI = {"role": "user", "content": "Hi"}
WEATHER = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
TIME = {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}}


def read(*messages: Any, **members: Any) -> Conversation:
    body = msgspec.json.encode({"model": "m", "messages": list(messages) or [HI], **members})
    return codec.read_conversation(Call("openai_chat", "m", body))


def test_roles() -> None:
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "Hi", "name": "Ada"},
        {"role": "assistant", "content": "Hello"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": None, "refusal": "Never."},
        {"role": "assistant", "content": ""},
    ]
    assert read(*said).turns == (
        Turn("system", (Text("Be brief."),)),
        Turn("developer", (Text("Be kind."),)),
        Turn("user", (Text("Hi"),), "Ada"),
        Turn("assistant", (Text("Hello"),)),
        Turn("assistant", (Refusal("No."),)),
        Turn("assistant", (Refusal("Never."),)),
    )


def test_results_in_a_row_are_one_turn_and_know_their_tools() -> None:
    calls = {"role": "assistant", "content": "Looking", "tool_calls": [WEATHER, TIME]}
    results = [
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
        {"role": "tool", "tool_call_id": "call_9", "content": "lost", "name": "other"},
    ]
    assert read(HI, calls, *results, HI).turns[1:] == (
        Turn("assistant", (Text("Looking"), ToolUse("call_1", "weather", '{"city":"Rome"}'), ToolUse("call_2", "time", "{}"))),
        Turn(
            "user",
            (
                ToolResult("call_1", (Text("sunny"),), "weather"),
                ToolResult("call_2", (Text("noon"),), "time"),
                ToolResult("call_9", (Text("lost"),), "other"),
            ),
        ),
        Turn("user", (Text("Hi"),)),
    )


def test_functions_as_they_were_before_tools() -> None:
    asked = read(
        HI,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "sunny"},
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "[]"}},
        {"role": "function", "name": "weather", "content": "rain"},
        functions=[{"name": "weather", "parameters": {"type": "object"}}],
        function_call={"name": "weather"},
    )
    first, first_result, second, second_result = [turn.parts[0] for turn in asked.turns[1:]]
    assert isinstance(first, ToolUse)
    assert isinstance(second, ToolUse)
    assert first.id != second.id
    assert first_result == ToolResult(first.id, (Text("sunny"),), "weather")
    assert second_result == ToolResult(second.id, (Text("rain"),), "weather")
    assert asked.tools == (Tool("weather", None, {"type": "object"}),)
    assert asked.tool_choice == ToolChoice("required", ("weather",))
    assert (asked.path("tools"), asked.path("tool_choice")) == ("functions", "function_call")


def test_media() -> None:
    parts = [
        {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64,aGk="},
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        },
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk=", "filename": "a.txt"}},
        {"type": "file", "file": {"file_data": "JVBERi0="}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]
    assert read({"role": "user", "content": parts}).turns[0].parts == (
        Text("Look", "5m"),
        Image(Media(url="https://example.com/a.png"), "low"),
        Image(Media(data="aGk=", media_type="image/png"), None, "1h"),
        File(Media(data="aGk=", media_type="audio/wav")),
        File(Media(data="aGk=", media_type="text/plain"), "a.txt"),
        File(Media(data="JVBERi0=", media_type="application/pdf")),
        File(Media(file_id="file-1")),
    )


def test_thoughts() -> None:
    """Those told twice are read once."""
    assert read(HI, {"role": "assistant", "content": "a", "reasoning_content": "Hm"}).turns[1].parts == (
        Reasoning("Hm", origin="openai_chat"),
        Text("a"),
    )
    assert read(HI, {"role": "assistant", "content": "a", "reasoning": "Hm"}).turns[1].parts[0] == Reasoning(
        "Hm", origin="openai_chat"
    )
    details = [
        {"type": "reasoning.text", "text": "Hm", "signature": "agw^anthropic:s", "index": 0},
        {"type": "reasoning.encrypted", "data": "agw^openai_responses:d", "id": "rs_1", "index": 1},
        {"type": "reasoning.summary", "summary": "In short", "index": 2},
    ]
    thinking = {"role": "assistant", "content": "a", "reasoning_content": "Hm", "reasoning_details": details}
    assert read(HI, thinking).turns[1].parts == (
        Reasoning("Hm", "s", origin="anthropic"),
        Reasoning(redacted="d", origin="openai_responses", id="rs_1"),
        Reasoning("In short", origin="openai_chat"),
        Text("a"),
    )


def test_parameters() -> None:
    numbers: dict[str, Any] = {
        "stream": True,
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 3,
        "seed": 7,
        "n": 2,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logprobs": True,
        "top_logprobs": 4,
        "user": "u",
    }
    asked = read(**numbers, metadata={"a": "b", "odd": 1}, stop="x", max_tokens=5, parallel_tool_calls=False)
    assert {name: getattr(asked, name) for name in numbers} == numbers
    assert (asked.metadata, asked.stop, asked.max_output_tokens, asked.parallel_tools) == ({"a": "b"}, ("x",), 5, False)
    assert asked.path("max_output_tokens") == "max_tokens"
    asked = read(stop=["x", "y"], max_tokens=5, max_completion_tokens=9)
    assert (asked.stop, asked.max_output_tokens) == (("x", "y"), 9)
    assert asked.path("max_output_tokens") == "max_completion_tokens"
    assert (asked.path("format"), asked.path("turns"), asked.path("seed")) == ("response_format", "messages", "seed")


def test_what_is_left_out_is_not_said() -> None:
    asked = read()
    said = {name for name in asked.__struct_fields__ if getattr(asked, name) not in (None, (), False)}
    assert said == {"model", "turns", "paths"}


def test_tools() -> None:
    function = {"name": "f", "description": "Does it.", "parameters": {"type": "object"}, "strict": True}
    tools = [
        {"type": "function", "function": function, "cache_control": {"type": "ephemeral"}},
        {"type": "function", "function": {"name": "g"}},
    ]
    assert read(tools=tools).tools == (Tool("f", "Does it.", {"type": "object"}, True, "5m"), Tool("g"))


ALLOWED = {
    "mode": "required",
    "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}],
}


@pytest.mark.parametrize(
    ("said", "read_as"),
    [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("required", ("f",))),
        ({"type": "allowed_tools", "allowed_tools": ALLOWED}, ToolChoice("required", ("f", "g"))),
    ],
)
def test_tool_choice(said: object, read_as: ToolChoice) -> None:
    assert read(tool_choice=said).tool_choice == read_as


@pytest.mark.parametrize(
    ("said", "read_as"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonFormat()),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "a", "description": "b", "strict": True, "schema": {"type": "object"}},
            },
            JsonFormat({"type": "object"}, "a", "b", True),
        ),
    ],
)
def test_formats(said: object, read_as: JsonFormat | None) -> None:
    assert read(response_format=said).format == read_as


@pytest.mark.parametrize(("said", "effort"), [("none", "none"), ("minimal", "minimal"), ("xhigh", "xhigh"), ("max", "xhigh")])
def test_efforts(said: str, effort: Any) -> None:
    assert read(reasoning_effort=said).thinking == Thinking(effort)


BEYOND: list[tuple[dict[str, Any], str]] = [
    ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"moderation": {"model": "omni-moderation-latest"}}, "moderation"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
    ({"tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "hologram"}]}]},
        "messages[0].content[1]",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "No"}]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "assistant", "content": "a", "audio": {"id": "x"}}]}, "messages[0].audio"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "x", "type": "custom"}]}]}, "messages[0].tool_calls[0]"),
]


@pytest.mark.parametrize(("members", "path"), BEYOND, ids=[path for _, path in BEYOND])
def test_what_no_other_protocol_can_express_is_named(members: dict[str, Any], path: str) -> None:
    assert read(**members).beyond == (path,)


def test_hints_are_not_beyond() -> None:
    hints: dict[str, Any] = {
        "service_tier": "flex",
        "store": True,
        "prediction": {"type": "content", "content": "a"},
        "verbosity": "low",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "logit_bias": {},
        "modalities": ["text"],
        "unknown": [1],
    }
    assert read(**hints).beyond == ()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": [{"role": "wizard", "content": "a"}]}, "messages[0].role"),
    ({"messages": [HI, {"role": "user"}]}, "messages[1].content"),
    ({"messages": [HI, {"role": "tool", "content": "a"}]}, "messages[1].tool_call_id"),
    ({"messages": [HI, {"role": "function", "name": "f", "content": "a"}]}, "messages[1].name"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "messages[0].content[0].image_url"),
    ({"tool_choice": "any"}, "tool_choice"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"reasoning_effort": "extreme"}, "reasoning_effort"),
    ({"stop": ["a"] * 5}, "stop"),
]


@pytest.mark.parametrize(("members", "param"), BAD, ids=[param for _, param in BAD])
def test_what_is_wrong_is_named(members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**members)
    assert caught.value.param == param
    assert caught.value.message.startswith(param)
