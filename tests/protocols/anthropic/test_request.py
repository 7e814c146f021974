"""Conversations as Anthropic gets them: what is said, what is left out, and what is refused, each by its name."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pydantic
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from hypothesis import given, settings
from msgspec import structs

from agent_gateway.core import conversation as vocabulary
from agent_gateway.core.conversation import (
    Conversation,
    File,
    Image,
    JsonFormat,
    Media,
    Part,
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
from agent_gateway.core.errors import NotExpressible
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.anthropic.codec import DROPPED, REFUSED, Anthropic
from agent_gateway.protocols.anthropic.request import JSON_INSTRUCTION, MAX_TOKENS
from tests.protocols.anthropic.test_round_trip import is_spoken
from tests.protocols.conversations import Expressible, conversations

codec = Anthropic()
SDK_REQUEST: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(MessageCreateParamsNonStreaming)

CLASSIC = "claude-haiku-4-5"
ADAPTIVE = "claude-opus-4-8"
USER = Turn("user", (Text("hi"),))
WEATHER = Tool("weather", "tells it", {"type": "object", "properties": {"city": {"type": "string"}}})
TIME = Tool("time")
PNG = Media(data="aGk=", media_type="image/png")
PDF = Media(data="aGk=", media_type="application/pdf")


def written(asked: Conversation, model: str = CLASSIC, **parameters: Any) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.json.decode(codec.write_request(asked, Deployment("a/m", "a", model, **parameters)))
    return told


def asked(*turns: Turn, **fields: Any) -> Conversation:
    return Conversation(model="gpt", turns=turns or (USER,), **fields)


def blocks(*parts: Part, role: vocabulary.Role = "user") -> list[dict[str, Any]]:
    (message,) = written(asked(Turn(role, parts)))["messages"]
    content: list[dict[str, Any]] = message["content"]
    return content


EVERYTHING = Expressible(
    fields=frozenset({"stream", "max_output_tokens", "top_k", "user", "seed", "metadata"}),
    instruction_roles=("system", "developer"),
    instructions_anywhere=True,
    turn_names=True,
    details=("low", "high"),
    file_names=True,
    cache_for=("5m", "1h"),
    reasoning_origin="anthropic",
    redacted_reasoning=True,
    refusals=True,
    result_images=True,
    result_errors=True,
    strict=True,
    chosen_tools="many",
    parallel_tools=True,
    json_object=True,
    json_schema=True,
    schema_facts=True,
    efforts=("none", "minimal", "low", "medium", "high", "xhigh"),
    budgets=(0, -1, 2048),
)


@settings(max_examples=40)
@given(conversations(EVERYTHING).filter(is_spoken))
def test_the_sdks_own_types_take_every_request(conversation: Conversation) -> None:
    for model in (CLASSIC, ADAPTIVE, "claude-sonnet-5-5"):
        told = written(structs.replace(conversation, stream=False), model)
        judged = SDK_REQUEST.validate_python(told)
        for message in judged["messages"]:  # pydantic looks into an iterable only when somebody reads it
            assert list(message["content"])
        for tool in judged.get("tools", ()):
            assert tool["input_schema"]["type"] == "object"
        assert told["max_tokens"] > told.get("thinking", {}).get("budget_tokens", 0)
        assert [message["role"] for message in told["messages"]] == ["user", "assistant"] * (len(told["messages"]) // 2) + ["user"]


# --- turns ------------------------------------------------------------------------------------------------------------


def test_instructions_are_hoisted_in_order() -> None:
    turns = (
        Turn("system", (Text("one"),)),
        USER,
        Turn("developer", (Text("two", cache_for="1h"), Text("three", cache_for="5m"))),
        Turn("assistant", (Text("yes"),)),
    )
    told = written(asked(*turns))
    assert told["system"] == [
        {"type": "text", "text": "one"},
        {"type": "text", "text": "two", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "three", "cache_control": {"type": "ephemeral"}},
    ]
    assert [message["role"] for message in told["messages"]] == ["user", "assistant"]


def test_turns_of_one_role_are_one_and_results_come_first() -> None:
    turns = (
        USER,
        Turn("assistant", (ToolUse("a", "weather", '{"city": "Paris"}'), ToolUse("functions.time:1", "time", ""))),
        Turn("user", (Text("here they are"), ToolResult("a", (Text("warm"), Image(PNG))))),
        Turn("user", (ToolResult("functions.time:1", (), is_error=True, cache_for="5m"),)),
    )
    _, uses, results = written(asked(*turns))["messages"]
    assert uses["content"] == [
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "functions_time_1", "name": "time", "input": {}},
    ]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    assert results["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "warm"}, image]},
        {"type": "tool_result", "tool_use_id": "functions_time_1", "is_error": True, "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "here they are"},
    ]


def test_arguments_that_are_no_object_are_kept_in_one() -> None:
    (block,) = blocks(ToolUse("a", "f", "[1"), role="assistant")
    assert block["input"] == {"INVALID_JSON": "[1"}


def test_images_and_documents_in_all_their_forms() -> None:
    text = Media(data=base64.b64encode("# é".encode()).decode(), media_type="text/markdown")
    told = blocks(
        Image(Media(url="https://e.com/a.png")),
        File(PNG),
        File(PDF, "a.pdf", "5m"),
        File(Media(url="https://e.com/a.pdf")),
        File(text, "a.md"),
    )
    assert [(block["type"], block["source"]) for block in told] == [
        ("image", {"type": "url", "url": "https://e.com/a.png"}),
        ("image", {"type": "base64", "media_type": "image/png", "data": "aGk="}),
        ("document", {"type": "base64", "media_type": "application/pdf", "data": "aGk="}),
        ("document", {"type": "url", "url": "https://e.com/a.pdf"}),
        ("document", {"type": "text", "media_type": "text/plain", "data": "# é"}),
    ]
    assert [block.get("title") for block in told] == [None, None, "a.pdf", None, "a.md"]


def test_only_thoughts_that_anthropic_signed_go_back() -> None:
    told = blocks(
        Reasoning("kept", "sig", origin="anthropic"),
        Reasoning(redacted="kept too", origin="anthropic"),
        Reasoning("unsigned", origin="anthropic"),
        Reasoning("another's", "sig", origin="gemini"),
        Reasoning("nobody's", "sig"),
        Text("so"),
        role="assistant",
    )
    assert told == [
        {"type": "thinking", "thinking": "kept", "signature": "sig"},
        {"type": "redacted_thinking", "data": "kept too"},
        {"type": "text", "text": "so"},
    ]


def test_turns_with_nothing_left_to_say_are_left_out() -> None:
    turns = (USER, Turn("assistant", (Reasoning("x", origin="gemini"), Text(" \n"))), Turn("user", (Text(""), Text("and?"))))
    assert written(asked(*turns))["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "and?"}]}
    ]


# --- tools ------------------------------------------------------------------------------------------------------------


def test_a_function_that_takes_nothing_has_an_empty_schema() -> None:
    assert written(asked(tools=(TIME, WEATHER)))["tools"] == [
        {"name": "time", "input_schema": {"type": "object", "properties": {}}},
        {"name": "weather", "description": "tells it", "input_schema": WEATHER.parameters},
    ]


def test_a_strict_tools_schema_is_fitted() -> None:
    (tool,) = written(asked(tools=(structs.replace(WEATHER, strict=True),)))["tools"]
    assert tool["strict"] is True
    assert tool["input_schema"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("required", ("time",)), None, {"type": "tool", "name": "time"}),
    ],
)
def test_tool_choice(choice: ToolChoice | None, parallel: bool | None, expected: Any) -> None:
    told = written(asked(tools=(TIME, WEATHER), tool_choice=choice, parallel_tools=parallel))
    assert told.get("tool_choice") == expected
    assert len(told["tools"]) == 2


@pytest.mark.parametrize(("mode", "expected"), [("auto", "auto"), ("required", "any")])
def test_only_the_tools_that_may_be_called_are_offered(mode: Any, expected: str) -> None:
    third = Tool("third")
    told = written(asked(tools=(TIME, WEATHER, third), tool_choice=ToolChoice(mode, ("time", "third"))))
    assert [tool["name"] for tool in told["tools"]] == ["time", "third"]
    assert told["tool_choice"] == {"type": expected}


def test_without_tools_nothing_is_said_of_them() -> None:
    assert written(asked(tool_choice=ToolChoice("auto"), parallel_tools=False)).keys() == {"model", "messages", "max_tokens"}


# --- thinking, sampling, limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "thinking", "expected"),
    [
        (CLASSIC, Thinking("low"), {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (CLASSIC, Thinking("high", shown=False), {"thinking": {"type": "enabled", "budget_tokens": 24576, "display": "omitted"}}),
        (CLASSIC, Thinking(budget_tokens=10), {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (CLASSIC, Thinking(budget_tokens=-1), {"thinking": {"type": "enabled", "budget_tokens": 8192}}),
        (CLASSIC, Thinking("none"), {"thinking": {"type": "disabled"}}),
        (CLASSIC, Thinking(), {}),
        ("deepseek-chat", Thinking("low"), {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ("claude-opus-4-6", Thinking(budget_tokens=2000), {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        (
            "claude-opus-4-6",
            Thinking("xhigh"),
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
        ),
        (
            ADAPTIVE,
            Thinking("minimal"),
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "low"}},
        ),
        (
            ADAPTIVE,
            Thinking(budget_tokens=9000, shown=False),
            {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "high"}},
        ),
        (ADAPTIVE, Thinking(budget_tokens=-1), {"thinking": {"type": "adaptive", "display": "summarized"}}),
        (ADAPTIVE, Thinking("none"), {"thinking": {"type": "disabled"}}),
        ("claude-opus-5-5", Thinking("none"), {"output_config": {"effort": "low"}}),
        ("claude-sonnet-5-5", Thinking(budget_tokens=0), {"thinking": {"type": "between_tools"}}),
    ],
)
def test_thinking_in_the_models_own_form(model: str, thinking: Thinking, expected: dict[str, Any]) -> None:
    told = written(asked(thinking=thinking), model)
    assert {name: told[name] for name in ("thinking", "output_config") if name in told} == expected


def test_no_thinking_before_a_tool_that_must_be_called() -> None:
    forced = asked(tools=(TIME,), tool_choice=ToolChoice("required"), thinking=Thinking("medium"))
    assert "thinking" not in written(forced)
    told = written(forced, ADAPTIVE)
    assert "thinking" not in told
    assert told["output_config"] == {"effort": "medium"}


USE = ToolUse("t", "time", "{}")
RESULT = Turn("user", (ToolResult("t", (Text("12:00"),)),))
THOUGHT = Reasoning("hm", "sig", origin="anthropic")


@pytest.mark.parametrize(
    ("turns", "thinks"),
    [
        ((Turn("assistant", (USE,)), RESULT), False),
        ((Turn("assistant", (Reasoning("hm", "sig", origin="gemini"), USE)), RESULT), False),
        ((Turn("assistant", (THOUGHT, USE)), RESULT), True),
        ((Turn("assistant", (USE,)), RESULT, Turn("assistant", (THOUGHT, USE)), RESULT), True),
        ((Turn("assistant", (USE,)), RESULT, Turn("assistant", (Text("Noon."),)), USER), True),
        ((Turn("assistant", (Text("It is"),)),), False),
    ],
)
def test_a_turn_that_began_without_a_thought_goes_on_without(turns: tuple[Turn, ...], thinks: bool) -> None:
    """Most clients of chat completions hand no thoughts back."""
    said = asked(USER, *turns, tools=(TIME,), thinking=Thinking("medium"), max_output_tokens=20_000)
    assert ("thinking" in written(said)) is thinks
    assert "thinking" in written(said, ADAPTIVE)
    assert ("thinking" in written(said, override={"thinking": {"type": "enabled", "budget_tokens": 2048}})) is thinks


@pytest.mark.parametrize(
    ("limit", "budget", "told_limit", "told_budget"),
    [(None, 2048, MAX_TOKENS + 2048, 2048), (9000, 2048, 9000, 2048), (4000, 8192, 4000, 2000), (2047, 1024, 2047, 1024)],
)
def test_thoughts_leave_room_for_an_answer(limit: int | None, budget: int, told_limit: int, told_budget: int) -> None:
    told = written(asked(max_output_tokens=limit, thinking=Thinking(budget_tokens=budget)))
    assert told["max_tokens"] == told_limit
    assert told["thinking"]["budget_tokens"] == told_budget


def test_a_limit_that_is_none_is_the_providers_to_refuse() -> None:
    told = written(asked(max_output_tokens=-1))
    assert (told["max_tokens"], "thinking" in told) == (-1, False)


def test_without_room_for_thoughts_there_are_none() -> None:
    told = written(asked(max_output_tokens=1000, thinking=Thinking("low"), temperature=0.5))
    assert "thinking" not in told
    assert (told["max_tokens"], told["temperature"]) == (1000, 0.5)


@pytest.mark.parametrize(
    ("model", "thinking", "expected"),
    [
        (CLASSIC, None, {"temperature": 0.5, "top_k": 5}),
        (CLASSIC, Thinking("none"), {"temperature": 0.5, "top_k": 5}),
        (CLASSIC, Thinking("low"), {}),
        ("claude-sonnet-4-6", None, {"temperature": 0.5, "top_k": 5}),
        (ADAPTIVE, None, {}),
    ],
)
def test_sampling_where_the_model_takes_it(model: str, thinking: Thinking | None, expected: dict[str, float]) -> None:
    told = written(asked(temperature=0.5, top_p=0.9, top_k=5, thinking=thinking), model)
    assert {name: told[name] for name in ("temperature", "top_p", "top_k") if name in told} == expected


def test_temperatures_over_one_are_one() -> None:
    assert written(asked(temperature=1.7))["temperature"] == 1.0


def test_a_limit_is_always_told() -> None:
    assert written(asked())["max_tokens"] == MAX_TOKENS
    assert written(asked(max_output_tokens=5))["max_tokens"] == 5
    assert written(asked(), default={"max_tokens": 77})["max_tokens"] == 77
    assert written(asked(max_output_tokens=5), default={"max_tokens": 77})["max_tokens"] == 5
    assert written(asked(max_output_tokens=5), override={"max_tokens": 99})["max_tokens"] == 99


@pytest.mark.parametrize(
    ("model", "thinking", "told"),
    [
        ("claude-3-haiku-20240307", None, (4_096, None)),
        ("claude-3-5-haiku-latest", None, (8_192, None)),
        ("claude-opus-4-1", None, (MAX_TOKENS, None)),
        ("claude-opus-4-1", Thinking("high"), (32_000, 24_576)),
        ("claude-opus-4-1", Thinking("xhigh"), (32_000, 16_000)),
    ],
)
def test_the_limit_is_one_that_the_model_takes(model: str, thinking: Thinking | None, told: tuple[int, int | None]) -> None:
    request = written(asked(thinking=thinking), model)
    assert (request["max_tokens"], request.get("thinking", {}).get("budget_tokens")) == told


def test_the_deployments_parameters_are_in_it() -> None:
    told = written(
        asked(top_k=3, thinking=Thinking("low")),
        default={"top_k": 9, "service_tier": "auto"},
        override={"thinking": {"type": "disabled"}, "temperature": 0.1},
    )
    assert told["model"] == CLASSIC
    assert (told["top_k"], told["service_tier"], told["temperature"]) == (3, "auto", 0.1)
    assert told["thinking"] == {"type": "disabled"}


# --- formats ----------------------------------------------------------------------------------------------------------


def test_a_schema_is_enforced_and_fitted() -> None:
    asked_for = asked(format=JsonFormat({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}, "n", "d", True))
    assert written(asked_for)["output_config"]["format"] == {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {"a": {"type": "integer", "description": "{minimum: 1}"}},
            "additionalProperties": False,
        },
    }


def test_a_schema_stands_beside_an_effort() -> None:
    told = written(asked(format=JsonFormat({"type": "object"}), thinking=Thinking("high")), ADAPTIVE)
    assert told["output_config"].keys() == {"effort", "format"}


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    told = written(asked(Turn("system", (Text("be kind"),)), USER, format=JsonFormat()))
    assert [block["text"] for block in told["system"]] == ["be kind", JSON_INSTRUCTION]
    assert "output_config" not in told


# --- the two tables ---------------------------------------------------------------------------------------------------

THOUGHTFUL = Turn("assistant", (Reasoning("t", "s", origin="gemini", id="r"), Text("a")))
#: For each entry two requests that come out the same.
DROPS: dict[str, tuple[Conversation, Conversation]] = {
    "seed": (asked(seed=7), asked()),
    "metadata": (asked(metadata={"a": "b"}), asked()),
    "Turn.name": (asked(structs.replace(USER, name="Ann")), asked()),
    "Image.detail": (asked(Turn("user", (Image(PNG, "low"),))), asked(Turn("user", (Image(PNG),)))),
    "Reasoning": (asked(USER, THOUGHTFUL), asked(USER, Turn("assistant", (Text("a"),)))),
    "Reasoning.id": (
        asked(USER, Turn("assistant", (Reasoning("t", "s", origin="anthropic", id="r"),))),
        asked(USER, Turn("assistant", (Reasoning("t", "s", origin="anthropic"),))),
    ),
    "Refusal": (asked(USER, Turn("assistant", (Refusal("no"),))), asked(USER, Turn("assistant", (Text("no"),)))),
    "ToolResult.name": (
        asked(Turn("user", (ToolResult("a", (Text("b"),), "f"),))),
        asked(Turn("user", (ToolResult("a", (Text("b"),)),))),
    ),
    "JsonFormat.name": (asked(format=JsonFormat({}, name="n")), asked(format=JsonFormat({}))),
    "JsonFormat.description": (asked(format=JsonFormat({}, description="d")), asked(format=JsonFormat({}))),
    "JsonFormat.strict": (asked(format=JsonFormat({}, strict=True)), asked(format=JsonFormat({}))),
    "format": (asked(format=JsonFormat()), asked(Turn("system", (Text(JSON_INSTRUCTION),)), USER)),
    "temperature": (asked(temperature=0.5, thinking=Thinking("low")), asked(thinking=Thinking("low"))),
    "top_p": (asked(top_p=0.5, temperature=0.5), asked(temperature=0.5)),
    "top_k": (asked(top_k=5, thinking=Thinking("low")), asked(thinking=Thinking("low"))),
    "thinking": (asked(thinking=Thinking("low"), max_output_tokens=9), asked(max_output_tokens=9)),
    "max_output_tokens": (asked(max_output_tokens=MAX_TOKENS), asked()),
    "parallel_tools": (asked(tools=(TIME,), parallel_tools=True), asked(tools=(TIME,))),
}
REFUSALS: dict[str, list[Conversation]] = {
    "beyond": [asked(beyond=("web_search_options",))],
    "n": [asked(n=2)],
    "logprobs": [asked(logprobs=True)],
    "top_logprobs": [asked(top_logprobs=2)],
    "presence_penalty": [asked(presence_penalty=0.1)],
    "frequency_penalty": [asked(frequency_penalty=-0.1)],
    "stop": [asked(stop=("END", "\n"))],
    "turns": [
        asked(Turn("system", (Text("a"),))),
        asked(Turn("system", (Image(PNG),)), USER),
        asked(USER, Turn("assistant", (Text("a"),)), Turn("user", (Text(" "),))),
    ],
    "Image": [
        asked(Turn("user", (Image(Media(data="aGk=", media_type="image/tiff")),))),
        asked(Turn("user", (Image(Media(file_id="file-1")),))),
        asked(Turn("user", (ToolResult("a", (Image(Media(url="gs://bucket/a.png")),)),))),
    ],
    "File": [
        asked(Turn("user", (File(Media(data="aGk=", media_type="audio/wav")),))),
        asked(Turn("user", (File(Media(data="aGk=")),))),
        asked(Turn("user", (File(Media(data="/w==", media_type="text/plain")),))),
        asked(Turn("user", (File(Media(data="no base64", media_type="text/csv")),))),
        asked(Turn("user", (File(Media(url="https://e.com/a.mp4", media_type="video/mp4")),))),
        asked(Turn("user", (File(Media(file_id="file-1")),))),
    ],
}
#: What is said as it is.
SAID = {
    *("model", "stream", "tools", "tool_choice", "user"),
    *("Text", "Text.text", "Text.cache_for", "Image.media", "Image.cache_for", "File.media", "File.name", "File.cache_for"),
    *("Reasoning.text", "Reasoning.signature", "Reasoning.redacted", "Reasoning.origin", "ToolUse", "ToolUse.id", "ToolUse.name"),
    *("ToolUse.arguments", "ToolResult", "ToolResult.call_id", "ToolResult.content", "ToolResult.is_error", "ToolResult.cache_for"),
    *("Refusal.text", "Turn.role", "Turn.parts", "JsonFormat.schema", "Tool.name", "Tool.description", "Tool.parameters", "Tool.strict"),
    *("Tool.cache_for", "ToolChoice.mode", "ToolChoice.names", "Thinking.effort", "Thinking.budget_tokens", "Thinking.shown"),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_is_left_out(name: str) -> None:
    with_it, without_it = DROPS[name]
    assert with_it != without_it
    assert written(with_it) == written(without_it)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named_as_the_client_names_it(name: str) -> None:
    for conversation in REFUSALS[name]:
        path = conversation.beyond[0] if conversation.beyond else "its.own.name"
        told = structs.replace(conversation, paths={"turns" if name in ("Image", "File") else name: "its.own.name"})
        with pytest.raises(NotExpressible) as refused:
            written(told)
        assert refused.value.param == path
        assert refused.value.message.startswith(f"{path}: {REFUSED[name]}")


def test_the_tables_and_what_is_said_are_the_whole_vocabulary() -> None:
    fields = set(Conversation.__struct_fields__) - {"paths"}
    parts = (Text, Image, File, Reasoning, ToolUse, ToolResult, Refusal)
    fields |= {part.__name__ for part in parts}
    fields |= {
        f"{part.__name__}.{field}" for part in (*parts, Turn, Tool, ToolChoice, JsonFormat, Thinking) for field in part.__struct_fields__
    }
    assert DROPPED.keys() | REFUSED.keys() | SAID == fields
    assert not SAID & (DROPPED.keys() | REFUSED.keys())


@pytest.mark.parametrize("field", ["n", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty"])
def test_what_asks_for_nothing_is_not_refused(field: str) -> None:
    nothing = {"n": 1, "logprobs": False, "top_logprobs": 0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    assert written(asked(**{field: nothing[field]})) == written(asked())
