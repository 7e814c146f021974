"""Anthropic's requests read: every shape its documentation shows, and what is wrong with one, by its place."""

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
    Part,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from agent_gateway.core.errors import BadRequest
from agent_gateway.protocols.anthropic.codec import Anthropic

codec = Anthropic()


def read(**members: Any) -> Conversation:
    request = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **members}
    return codec.read_conversation(Call("anthropic", "claude", msgspec.json.encode(request)))


def part(block: dict[str, Any]) -> Part:
    (turn,) = read(messages=[{"role": "user", "content": [block]}]).turns
    (only,) = turn.parts
    return only


def test_every_field_has_its_place() -> None:
    conversation = read(
        system="be kind",
        stream=True,
        stop_sequences=["END"],
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        metadata={"user_id": "ann"},
        tools=[
            {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True, "cache_control": {"type": "ephemeral"}},
            {"type": "custom", "name": "g", "input_schema": {"type": "object"}},
        ],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
    )
    assert conversation.turns == (Turn("system", (Text("be kind"),)), Turn("user", (Text("hi"),)))
    assert conversation.tools == (Tool("f", "d", {"type": "object"}, True, "5m"), Tool("g", None, {"type": "object"}))
    assert conversation.tool_choice == ToolChoice("required")
    assert conversation.parallel_tools is False
    assert conversation.format == JsonFormat({"type": "object"})
    assert (conversation.model, conversation.stream, conversation.max_output_tokens) == ("claude", True, 9)
    assert (conversation.stop, conversation.user) == (("END",), "ann")
    assert (conversation.temperature, conversation.top_p, conversation.top_k) == (0.5, 0.9, 4)
    assert conversation.beyond == ()


def test_its_fields_are_called_by_their_own_names() -> None:
    conversation = read()
    assert conversation.path("max_output_tokens") == "max_tokens"
    assert conversation.path("stop") == "stop_sequences"
    assert conversation.path("turns") == "messages"
    assert conversation.path("temperature") == "temperature"


def test_instructions_in_blocks_and_in_between() -> None:
    conversation = read(
        system=[{"type": "text", "text": "one"}, {"type": "text", "text": "two", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        messages=[{"role": "user", "content": "hi"}, {"role": "system", "content": "three"}],
    )
    assert conversation.turns == (
        Turn("system", (Text("one"), Text("two", "1h"))),
        Turn("user", (Text("hi"),)),
        Turn("system", (Text("three"),)),
    )


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
            Image(Media(data="aGk=", media_type="image/png")),
        ),
        ({"type": "image", "source": {"type": "url", "url": "https://e.com/a"}}, Image(Media(url="https://e.com/a"))),
        ({"type": "image", "source": {"type": "file", "file_id": "file_1"}}, Image(Media(file_id="file_1"))),
        (
            {"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
            File(Media(data="aGk=", media_type="application/pdf"), "a.pdf"),
        ),
        (
            {"type": "document", "source": {"type": "url", "url": "https://e.com/a"}, "citations": {"enabled": False}},
            File(Media(url="https://e.com/a", media_type="application/pdf")),
        ),
        (
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
            File(Media(data="aGk=", media_type="text/plain")),
        ),
        (
            {"type": "document", "source": {"type": "content", "content": "hi"}},
            File(Media(data="aGk=", media_type="text/plain")),
        ),
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, Reasoning("hm", "s", origin="anthropic")),
        ({"type": "thinking", "thinking": "", "signature": "agw^gemini:g"}, Reasoning("", "g", origin="gemini")),
        ({"type": "thinking", "thinking": "hm", "signature": "agw^openai_chat:"}, Reasoning("hm", origin="openai_chat")),
        ({"type": "redacted_thinking", "data": "x"}, Reasoning(redacted="x", origin="anthropic")),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}, ToolUse("t", "f", '{"a":1}')),
        ({"type": "tool_result", "tool_use_id": "t"}, ToolResult("t", ())),
        ({"type": "tool_result", "tool_use_id": "t", "content": "warm"}, ToolResult("t", (Text("warm"),))),
        (
            {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": [{"type": "text", "text": "no"}]},
            ToolResult("t", (Text("no"),), is_error=True),
        ),
    ],
)
def test_blocks(block: dict[str, Any], expected: Part) -> None:
    assert part(block) == expected


def test_a_result_knows_the_name_of_its_tool() -> None:
    conversation = read(
        messages=[
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "warm"}]},
        ]
    )
    assert conversation.turns[1].parts == (ToolResult("t", (Text("warm"),), "weather"),)


def test_arguments_stay_as_they_were_written() -> None:
    body = b'{"model":"m","messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{ "b" : 1.0,"a":2}}]}]}'
    (turn,) = codec.read_conversation(Call("anthropic", "m", body)).turns
    assert turn.parts == (ToolUse("t", "f", '{ "b" : 1.0,"a":2}'),)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, Thinking(budget_tokens=2048)),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048, "display": "omitted"}}, Thinking(budget_tokens=2048, shown=False)),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, Thinking(budget_tokens=0)),
        ({"thinking": {"type": "between_tools"}}, Thinking(budget_tokens=0)),
        ({"thinking": {"type": "adaptive"}}, Thinking(budget_tokens=-1)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, Thinking("xhigh")),
        ({"output_config": {"effort": "medium"}}, Thinking("medium")),
        ({}, None),
    ],
)
def test_thinking(members: dict[str, Any], expected: Thinking | None) -> None:
    assert read(**members).thinking == expected


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, ToolChoice("auto"), None),
        ({"type": "none"}, ToolChoice("none"), None),
        ({"type": "any", "disable_parallel_tool_use": False}, ToolChoice("required"), True),
        ({"type": "tool", "name": "f"}, ToolChoice("required", ("f",)), None),
    ],
)
def test_tool_choices(choice: dict[str, Any], expected: ToolChoice, parallel: bool | None) -> None:
    conversation = read(tool_choice=choice)
    assert (conversation.tool_choice, conversation.parallel_tools) == (expected, parallel)


def test_unknown_fields_are_tolerated() -> None:
    assert read(service_tier="auto", speed="fast", something={"new": 1}, inference_geo="global") == read()


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"tools": [{"name": "f", "input_schema": {}}, {"type": "web_search_20260318", "name": "web_search"}]}, "tools[1]"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0]"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format"),
    ],
)
def test_what_there_is_no_word_for_is_named(members: dict[str, Any], path: str) -> None:
    assert read(**members).beyond == (path,)


TEXT_SOURCE = {"type": "text", "media_type": "text/plain", "data": "hi"}


@pytest.mark.parametrize(
    ("block", "path"),
    [
        ({"type": "search_result", "source": "https://e.com", "title": "t", "content": [{"type": "text", "text": "a"}]}, ""),
        ({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, ""),
        ({"type": "web_search_tool_result", "tool_use_id": "s", "content": {"type": "error", "error_code": "x"}}, ""),
        ({"type": "container_upload", "file_id": "f"}, ""),
        ({"type": "tool_use", "id": "t", "name": "click", "input": {}, "toolset_name": "browser"}, ""),
        ({"type": "document", "source": TEXT_SOURCE, "citations": {"enabled": True}}, ".citations"),
        ({"type": "document", "source": TEXT_SOURCE, "context": "old"}, ".context"),
        ({"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}]}}, ".source"),
        ({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference", "tool_name": "f"}]}, ".content[0]"),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "b"}]},
            ".content[1]",
        ),
    ],
)
def test_a_block_there_is_no_word_for_is_named(block: dict[str, Any], path: str) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "user", "content": [{"type": "text", "text": "a"}, block]}]
    assert read(messages=messages).beyond == (f"messages[1].content[1]{path}",)


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]}, "messages[0].content[0].source.url"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "messages[0].content[0].tool_use_id"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]}]}, "messages[0].content[0].name"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"tools": [{"description": "nameless"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "must"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "hard"}}, "thinking.type"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(members: dict[str, Any], path: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(**members)
    assert (refused.value.param or "").replace("[...]", "[0]") == path
