"""The gateway's vocabulary written as a Gemini request: what is said, dropped and refused."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from google.genai import types
from msgspec import structs

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
from agent_gateway.protocols.gemini.codec import DROPPED, REFUSED, Gemini
from tests.protocols.gemini.sdk import json

PNG = Media(data="aGk=", media_type="image/png")
USE = ToolUse("c1", "f", '{"a":1}')
RESULT = ToolResult("c1", (Text("done"),))
HI = Turn("user", (Text("hi"),))


def deployment(model: str = "gemini-2.5-flash", **parameters: Any) -> Deployment:
    return Deployment(f"g/{model}", "g", model, **parameters)


def write(conversation: Conversation, model: str = "gemini-2.5-flash", **parameters: Any) -> Any:
    return json(Gemini().write_request(conversation, deployment(model, **parameters)))


def said(*turns: Turn, **fields: Any) -> Conversation:
    return Conversation(model="m", turns=turns or (HI,), **fields)


# --- dropped, refused, or said: each field of the vocabulary is one of them --------------------------------------------

FIELDS: dict[str, Any] = {
    "tools": (Tool("f"),),
    "tool_choice": ToolChoice("required"),
    "parallel_tools": False,
    "max_output_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "stop": ("x",),
    "seed": 1,
    "n": 2,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logprobs": True,
    "top_logprobs": 3,
    "format": JsonFormat(),
    "thinking": Thinking("low"),
    "user": "u",
    "metadata": {"a": "b"},
    "beyond": ("tools[0]",),
}
#: Said by the path that the request goes to.
OF_THE_PATH = {"model", "stream"}

#: A whole that says much, and each field that a part of it may have besides.
PARTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Text": (Text("a"), {"cache_for": "5m"}),
    "Image": (Image(PNG), {"detail": "low", "cache_for": "5m"}),
    "File": (File(PNG), {"name": "a.pdf", "cache_for": "5m"}),
    "ToolResult": (RESULT, {"is_error": True, "name": "g", "cache_for": "5m"}),
    "Refusal": (Refusal("no"), {}),
    "ToolUse": (USE, {}),
    "Reasoning": (Reasoning("hm", origin="gemini"), {"signature": "c2ln"}),
    "Tool": (Tool("f"), {"description": "d", "parameters": {"type": "object"}, "strict": True, "cache_for": "5m"}),
    "JsonFormat": (JsonFormat(), {"schema": {"type": "object"}, "name": "n", "description": "d", "strict": True}),
    "Thinking": (Thinking(budget_tokens=5), {"shown": False}),
    "ToolChoice": (ToolChoice("required"), {"names": ("f",)}),
    "Turn": (HI, {"name": "ann"}),
}
#: Only other origins' thoughts have them, and those are dropped whole; the rest is what makes the thing at all.
NEVER_WRITTEN = {"Reasoning.redacted", "Reasoning.id", "Reasoning.origin", "Thinking.effort"}


def whole(kind: str, value: Any) -> Conversation:
    match kind:
        case "Tool":
            return said(tools=(value,))
        case "JsonFormat" | "Thinking":
            return said(**{"format" if kind == "JsonFormat" else "thinking": value})
        case "ToolChoice":
            return said(tool_choice=value)
        case "Turn":
            return said(value)
        case "Text" | "Image" | "File":
            return said(Turn("user", (value,)))
        case "ToolResult":
            return said(Turn("assistant", (USE,)), Turn("user", (value,)))
    return said(HI, Turn("assistant", (value,)))


def test_each_field_of_a_conversation_is_said_dropped_or_refused() -> None:
    assert FIELDS.keys() | OF_THE_PATH | {"turns", "paths"} == {field.name for field in structs.fields(Conversation)}
    for name, value in FIELDS.items():
        tools = {"tools": (Tool("f"),)} if name == "parallel_tools" else {}
        conversation = said(**tools, **{name: value}, paths={name: f"client.{name}"})
        if name in REFUSED:
            with pytest.raises(NotExpressible) as caught:
                write(conversation)
            assert caught.value.param in (f"client.{name}", "tools[0]")
            continue
        assert (write(conversation) == write(said())) is (name in DROPPED), name


def test_each_field_of_a_part_is_said_or_dropped() -> None:
    assert PARTS.keys() >= {kind.__name__ for kind in get_args(Part)}
    for kind, (value, others) in PARTS.items():
        required = {field.name for field in structs.fields(type(value)) if getattr(value, field.name) != field.default}
        told = {f"{kind}.{name}" for name in required | others.keys()}
        assert told | NEVER_WRITTEN >= {f"{kind}.{field.name}" for field in structs.fields(type(value))}, kind
        for name, other in others.items():
            same = write(whole(kind, value)) == write(whole(kind, structs.replace(value, **{name: other})))
            assert same is (name in DROPPED or f"{kind}.{name}" in DROPPED), f"{kind}.{name}"


def test_a_reasoning_of_another_origin_is_dropped() -> None:
    assert "Reasoning of another origin" in DROPPED
    for thought in (
        Reasoning("hm"),
        Reasoning("hm", "sig", origin="anthropic"),
        Reasoning(redacted="x", origin="openai_responses"),
    ):
        assert write(said(HI, Turn("assistant", (thought, Text("a"))))) == write(said(HI, Turn("assistant", (Text("a"),))))


TURNS_REFUSED: list[tuple[str, Turn]] = [
    ("Media.file_id", Turn("user", (Image(Media(file_id="file-1")),))),
    ("Media without media_type", Turn("user", (File(Media(data="aGk=")),))),
    ("Image or File in instructions", Turn("system", (Image(PNG),))),
    ("ToolUse.arguments that are no JSON object", Turn("assistant", (ToolUse("c", "f", '{"a":'),))),
    ("ToolResult of an unknown call", Turn("user", (ToolResult("c9", (Text("x"),)),))),
    ("A model's words in a user's turn, a tool's result in a model's", Turn("user", (USE,))),
    ("A model's words in a user's turn, a tool's result in a model's", Turn("assistant", (RESULT,))),
]


@pytest.mark.parametrize(("reason", "turn"), TURNS_REFUSED)
def test_what_turns_cannot_hold_is_refused_by_name(reason: str, turn: Turn) -> None:
    assert reason in REFUSED
    with pytest.raises(NotExpressible, match=r"^messages: ") as caught:
        write(said(turn, paths={"turns": "messages"}))
    assert caught.value.param == "messages"


def test_every_refusal_is_tested() -> None:
    assert set(REFUSED) == {reason for reason, _ in TURNS_REFUSED} | (FIELDS.keys() & REFUSED.keys())


# --- what is said -------------------------------------------------------------------------------------------------------


def test_a_conversation_with_tools() -> None:
    turns = (
        Turn("system", (Text("be nice"),)),
        Turn("user", (Text("hi"), Image(PNG), Image(Media(url="https://e.com/a.png")))),
        Turn("assistant", (Reasoning("hm", "c2ln", origin="gemini"), Text("so"), USE, ToolUse("c2", "g", ""))),
        Turn("user", (RESULT,)),
        Turn("user", (ToolResult("c2", (Text('{"b":2}'), Image(PNG)), is_error=True), Text("go on"))),
        Turn("developer", (Text("be brief"),)),
    )
    assert write(said(*turns), "gemini-flash-latest") == {
        "contents": [
            {
                "parts": [
                    {"text": "hi"},
                    {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
                    {"fileData": {"fileUri": "https://e.com/a.png"}},
                ],
                "role": "user",
            },
            {
                "parts": [
                    {"text": "hm", "thought": True},
                    {"text": "so", "thoughtSignature": "c2ln"},
                    {"functionCall": {"name": "f", "args": {"a": 1}, "id": "c1"}},
                    {"functionCall": {"name": "g", "args": {}, "id": "c2"}},
                ],
                "role": "model",
            },
            {
                "parts": [
                    {"functionResponse": {"name": "f", "response": {"output": "done"}, "id": "c1"}},
                    {
                        "functionResponse": {
                            "name": "g",
                            "response": {"error": {"b": 2}},
                            "id": "c2",
                            "parts": [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}],
                        }
                    },
                    {"text": "go on"},
                ],
                "role": "user",
            },
        ],
        "systemInstruction": {"parts": [{"text": "be nice"}, {"text": "be brief"}]},
    }


@pytest.mark.parametrize(("model", "inside"), [("gemini-3-pro-preview", True), ("gemini-flash-latest", True), ("gemini-2.5-pro", False)])
def test_older_models_get_what_a_tool_returns_besides_text_behind_its_response(model: str, inside: bool) -> None:
    media = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
    response: dict[str, Any] = {"name": "f", "response": {"output": "1 x 1"}, "id": "c"}
    if inside:
        response["parts"] = [media]
    result = ToolResult("c", (Text("1 x 1"), Image(PNG)), "f")
    expected = [{"functionResponse": response}, *([] if inside else [media]), {"text": "Well?"}]
    assert write(said(Turn("user", (result, Text("Well?")))), model)["contents"][0]["parts"] == expected


@pytest.mark.parametrize(
    ("text", "is_error", "response"),
    [
        ("5", False, {"output": "5"}),
        ("", False, {"output": ""}),
        ('["a"]', False, {"output": '["a"]'}),
        ('{"a":1}', False, {"a": 1}),
        ("{}", False, {}),
        ('{"output":1}', False, {"output": {"output": 1}}),
        ('{"error":1}', False, {"output": {"error": 1}}),
        ("no", True, {"error": "no"}),
    ],
)
def test_a_result_is_an_object(text: str, is_error: bool, response: Any) -> None:
    written = write(said(Turn("user", (ToolResult("c", (Text(text),), "f", is_error),))))
    assert written["contents"][0]["parts"][0]["functionResponse"]["response"] == response


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("auto", ("f",)), {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
        (ToolChoice("required", ("f",)), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (ToolChoice("none"), {"mode": "NONE"}),
    ],
)
def test_tool_choice(choice: ToolChoice, config: Any) -> None:
    assert write(said(tool_choice=choice))["toolConfig"] == {"functionCallingConfig": config}


@pytest.mark.parametrize(
    ("thinking", "model", "config"),
    [
        (Thinking("high"), "gemini-2.5-pro", {"includeThoughts": True, "thinkingBudget": 24576}),
        (Thinking("none", shown=False), "gemini-2.5-flash", {"thinkingBudget": 0}),
        (Thinking(budget_tokens=-1), "gemini-3-pro", {"includeThoughts": True, "thinkingBudget": -1}),
        (Thinking("minimal"), "gemini-3-pro-preview", {"includeThoughts": True, "thinkingLevel": "LOW"}),
        (Thinking("xhigh"), "models/gemini-3.1-pro", {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        (Thinking("none"), "gemini-3-flash", {"thinkingLevel": "LOW"}),
        (Thinking(budget_tokens=0), "gemini-2.5-pro", {"thinkingBudget": 128}),
        (Thinking(budget_tokens=0), "gemini-2.5-flash-lite", {"thinkingBudget": 0}),
        (Thinking(budget_tokens=100), "gemini-2.5-flash-lite", {"includeThoughts": True, "thinkingBudget": 512}),
        (Thinking(budget_tokens=31_999), "gemini-2.5-flash", {"includeThoughts": True, "thinkingBudget": 24_576}),
        (Thinking(budget_tokens=31_999), "gemini-2.5-pro", {"includeThoughts": True, "thinkingBudget": 31_999}),
        (Thinking(budget_tokens=-1), "gemini-2.5-flash", {"includeThoughts": True, "thinkingBudget": -1}),
        (Thinking(), "gemini-3-flash", {"includeThoughts": True}),
    ],
)
def test_thinking_by_tokens_or_by_level(thinking: Thinking, model: str, config: Any) -> None:
    assert write(said(thinking=thinking), model)["generationConfig"] == {"thinkingConfig": config}


def test_a_call_that_gemini_did_not_sign_is_marked_where_it_would_be_refused() -> None:
    signed = Turn("assistant", (Reasoning(signature="c2ln", origin="gemini"), USE))
    foreign = Turn("assistant", (Reasoning("hm", "sig", origin="anthropic"), USE, ToolUse("c2", "f", "{}")))
    turns = (HI, signed, Turn("user", (RESULT,)), foreign)
    for model, first in (("gemini-3-flash", "skip_thought_signature_validator"), ("gemini-2.5-flash", None)):
        contents = write(said(*turns), model)["contents"]
        assert [part.get("thoughtSignature") for part in contents[1]["parts"]] == ["c2ln"]
        assert [part.get("thoughtSignature") for part in contents[3]["parts"]] == [first, None]


def test_the_sdk_s_types_know_all_that_is_written() -> None:
    fields = {name: value for name, value in FIELDS.items() if name not in REFUSED}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    fields |= {"tools": (Tool("f", "d", schema),), "format": JsonFormat(schema), "thinking": Thinking("low")}
    turns = (HI, Turn("assistant", (Reasoning("hm", "c2ln", origin="gemini"), USE)), Turn("user", (RESULT, Image(PNG))))
    written = write(said(*turns, **fields))
    for content in written["contents"]:
        types.Content.model_validate(content)
    config = types.GenerationConfig.model_validate(written["generationConfig"])
    assert (config.max_output_tokens, config.candidate_count, config.response_json_schema) == (5, 2, schema)
    tool = types.Tool.model_validate(written["tools"][0])
    assert tool.function_declarations is not None
    assert tool.function_declarations[0].parameters_json_schema == schema
    types.ToolConfig.model_validate(written["toolConfig"])


# --- the deployment's parameters ----------------------------------------------------------------------------------------


def test_the_deployment_s_parameters_are_in_it() -> None:
    default = {"max_tokens": 7, "temperature": 1, "stop": "x", "top_k": 4, "safety_settings": [{"category": "A"}]}
    override = {"max_completion_tokens": 3, "n": 1, "generation_config": {"media_resolution": "LOW"}, "labels": {"a": "b"}}
    written = write(said(temperature=0.5), default=default, override=override)
    assert written["generationConfig"] == {
        "temperature": 0.5,
        "maxOutputTokens": 3,
        "stopSequences": ["x"],
        "topK": 4,
        "candidateCount": 1,
        "mediaResolution": "LOW",
    }
    assert (written["safetySettings"], written["labels"]) == ([{"category": "A"}], {"a": "b"})


def test_a_body_that_is_passed_on_is_changed_only_where_the_deployment_says() -> None:
    codec = Gemini()
    body = b'{ "contents":[ {"parts":[{"text":"hi"}]}], "generation_config":{"top_p": 0.50, "maxOutputTokens":9}, "unknown": [1, 2] }'
    call = codec.read_call(body, {}, "/v1beta/models/m:generateContent")
    assert codec.pass_request(call, deployment()) is body
    passed = codec.pass_request(call, deployment(default={"top_p": 1, "seed": 2}, override={"max_tokens": 3}))
    assert passed == (
        b'{"contents":[ {"parts":[{"text":"hi"}]}],"generation_config":{"top_p":0.50,"maxOutputTokens":3,"seed":2},"unknown":[1, 2]}'
    )


def test_a_request_goes_on_from_a_text() -> None:
    codec = Gemini()
    turn = {"parts": [{"text": "hi"}]}
    for contents in (turn, [turn]):
        call = codec.read_call(msgspec.json.encode({"contents": contents}), {}, "/v1beta/models/m:generateContent")
        going_on = codec.continued(call, 'so "far"', deployment())
        assert json(going_on.body) == {"contents": [turn, {"parts": [{"text": 'so "far"'}], "role": "model"}]}
