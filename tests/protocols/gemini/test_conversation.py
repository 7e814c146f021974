"""A Gemini request read into the gateway's vocabulary."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.core.conversation import (
    Conversation,
    File,
    Image,
    JsonFormat,
    Media,
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
from agent_gateway.protocols.gemini.codec import Gemini
from tests.protocols.gemini.sdk import Oracle

USER = {"role": "user", "parts": [{"text": "hi"}]}


def read(**request: Any) -> Conversation:
    codec = Gemini()
    body = msgspec.json.encode({"contents": [USER]} | request)
    return codec.read_conversation(codec.read_call(body, {}, "/v1beta/models/m:generateContent"))


def parts(*told: Any, role: str = "user") -> tuple[Any, ...]:
    return read(contents=[{"role": role, "parts": list(told)}]).turns[0].parts


SNAKE = {
    "system_instruction": {"parts": {"text": "be nice"}},
    "contents": [
        {"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": "aGk="}}]},
        {"role": "model", "parts": [{"function_call": {"name": "f", "args": {"file_uri": 1}}, "thought_signature": "c2ln"}]},
        {"role": "user", "parts": [{"function_response": {"name": "f", "response": {"mime_type": "x"}}}]},
    ],
    "tools": [
        {
            "function_declarations": [
                {"name": "f", "parameters": {"type": "OBJECT", "properties": {"file_uri": {"type": "STRING"}}}}
            ]
        }
    ],
    "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}},
    "generation_config": {
        "max_output_tokens": 5,
        "top_p": 0.5,
        "stop_sequences": ["x"],
        "thinking_config": {"thinking_budget": 9},
    },
}


def test_both_spellings_are_read_alike_and_what_is_the_client_s_own_stays() -> None:
    read_snake = read(**SNAKE)
    assert read_snake.turns == (
        Turn("system", (Text("be nice"),)),
        Turn("user", (Image(Media(data="aGk=", media_type="image/png")),)),
        Turn("assistant", (Reasoning(signature="c2ln", origin="gemini"), ToolUse("call_0", "f", '{"file_uri":1}'))),
        Turn("user", (ToolResult("call_0", (Text('{"mime_type":"x"}'),), "f"),)),
    )
    assert read_snake.tools == (Tool("f", None, {"type": "object", "properties": {"file_uri": {"type": "string"}}}),)
    assert read_snake.tool_choice == ToolChoice("required", ("f",))
    assert (read_snake.max_output_tokens, read_snake.top_p, read_snake.stop) == (5, 0.5, ("x",))
    assert read_snake.thinking == Thinking(budget_tokens=9, shown=False)


def test_what_the_sdk_sends_is_read() -> None:
    config = {
        "system_instruction": "be nice",
        "temperature": 0.5,
        "top_k": 3,
        "seed": 1,
        "candidate_count": 2,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "response_logprobs": True,
        "logprobs": 4,
        "response_mime_type": "application/json",
        "response_schema": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER", "nullable": True}}},
        "thinking_config": {"thinking_level": "LOW", "include_thoughts": True},
        "tools": [{"function_declarations": [{"name": "f", "description": "d", "parameters_json_schema": {"type": "object"}}]}],
        "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    }
    path, body = Oracle().request(config)
    codec = Gemini()
    said = codec.read_conversation(codec.read_call(body, {}, path))
    assert said.turns == (Turn("system", (Text("be nice"),)), Turn("user", (Text("hi"),)))
    assert (said.temperature, said.top_k, said.seed, said.n) == (0.5, 3, 1, 2)
    assert (said.presence_penalty, said.frequency_penalty, said.logprobs, said.top_logprobs) == (0.1, 0.2, True, 4)
    assert said.format == JsonFormat({"type": "object", "properties": {"a": {"type": ["integer", "null"]}}})
    assert said.thinking == Thinking("low")
    assert said.tools == (Tool("f", "d", {"type": "object"}),)
    assert said.beyond == ()


# --- turns ------------------------------------------------------------------------------------------------------------


def test_roles() -> None:
    said = read(
        contents=[{"parts": {"text": "a"}}, {"role": "model", "parts": [{"text": "b"}]}, {"role": "function", "parts": []}]
    )
    assert [turn.role for turn in said.turns] == ["user", "assistant", "user"]
    with pytest.raises(BadRequest, match="expected user or model") as caught:
        read(contents=[USER, {"role": "system", "parts": []}])
    assert caught.value.param == "contents[1].role"


def test_media() -> None:
    assert parts({"fileData": {"fileUri": "https://e.com/a.PNG?x=1"}}) == (Image(Media(url="https://e.com/a.PNG?x=1")),)
    pdf = {"fileUri": "https://e.com/a", "mimeType": "application/pdf"}
    assert parts({"fileData": pdf}) == (File(Media(url="https://e.com/a", media_type="application/pdf")),)
    sound = {"mimeType": "audio/wav", "data": "aGk="}
    assert parts({"inlineData": sound}) == (File(Media(data="aGk=", media_type="audio/wav")),)


def test_thoughts_keep_their_text_and_signature() -> None:
    thought = {"text": "hm", "thought": True}
    assert parts(thought, {"text": "m", "thought": True}, {"text": "so"}, role="model") == (
        Reasoning("hmm", origin="gemini"),
        Text("so"),
    )
    signed = {"text": "so", "thoughtSignature": "c2ln"}
    assert parts(signed, role="model") == (Reasoning(signature="c2ln", origin="gemini"), Text("so"))
    assert parts(thought, signed, role="model") == (Reasoning("hm", "c2ln", origin="gemini"), Text("so"))
    last = {"text": "", "thoughtSignature": "c2ln"}
    assert parts({"text": "so"}, last, role="model") == (Text("so"), Reasoning(signature="c2ln", origin="gemini"))
    assert parts(thought | {"thoughtSignature": "YQ=="}, signed, role="model") == (
        Reasoning("hm", "YQ==", origin="gemini"),
        Reasoning(signature="c2ln", origin="gemini"),
        Text("so"),
    )


def call(name: str, call_id: str | None = None) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": {}} | ({"id": call_id} if call_id else {})}


def response(name: str, call_id: str | None = None) -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": {"output": "x"}} | ({"id": call_id} if call_id else {})}


def test_results_are_paired_by_id_then_by_name_in_order() -> None:
    said = read(
        contents=[
            USER,
            {"role": "model", "parts": [call("a"), call("b"), call("a")]},
            {"role": "user", "parts": [response("a"), response("a"), response("b")]},
            {"role": "model", "parts": [call("a", "x"), call("a", "y"), call("a")]},
            {"role": "user", "parts": [response("a", "y"), response("a"), response("a", "unknown"), response("c", "z")]},
        ]
    )
    ids = [[part.id if isinstance(part, ToolUse) else part.call_id for part in turn.parts] for turn in said.turns[1:]]  # type: ignore[union-attr]
    assert ids == [
        ["call_0", "call_1", "call_2"],
        ["call_0", "call_2", "call_1"],
        ["x", "y", "call_5"],
        ["y", "x", "call_5", "z"],
    ]


def test_a_result_that_no_call_waits_for_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        read(contents=[{"role": "model", "parts": [call("a")]}, {"parts": [response("a"), response("a")]}])
    assert caught.value.param == "contents[1].parts[1].functionResponse.name"


@pytest.mark.parametrize(
    ("told", "text", "is_error"),
    [
        ({"output": "x"}, "x", False),
        ({"output": {"a": 1}}, '{"a":1}', False),
        ({"error": "no"}, "no", True),
        ({"result": 1}, '{"result":1}', False),
        ({"output": "x", "more": 1}, '{"output":"x","more":1}', False),
        ({}, "{}", False),
    ],
)
def test_what_a_function_said(told: object, text: str, is_error: bool) -> None:
    part = {"functionResponse": {"id": "i", "name": "f", "response": told}}
    assert parts(part) == (ToolResult("i", (Text(text),), "f", is_error),)


def test_a_function_may_say_it_with_media() -> None:
    media = [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}, {"fileData": {"fileUri": "https://e.com/a.pdf"}}, {}]
    said = read(contents=[{"parts": [{"functionResponse": {"id": "i", "name": "f", "parts": media}}]}])
    image, file = Image(Media(data="aGk=", media_type="image/png")), File(Media(url="https://e.com/a.pdf"))
    assert said.turns[0].parts == (ToolResult("i", (image, file), "f"),)
    assert said.beyond == ("contents[0].parts[0].functionResponse.parts[2]",)


# --- the rest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        ({"cachedContent": "cachedContents/1"}, "cachedContent"),
        ({"continuationToken": "YQ=="}, "continuationToken"),
        ({"tools": [{"googleSearch": {}}]}, "tools[0].googleSearch"),
        ({"tools": [{"functionDeclarations": []}, {"urlContext": {}}]}, "tools[1].urlContext"),
        ({"tools": [{"code_execution": {}}]}, "tools[0].code_execution"),
        ({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}, "generationConfig.responseModalities"),
        ({"generationConfig": {"responseMimeType": "text/x.enum"}}, "generationConfig.responseMimeType"),
        ({"generationConfig": {"speechConfig": {}}}, "generationConfig.speechConfig"),
        ({"contents": [USER, {"parts": [{"executableCode": {"code": "1"}}]}]}, "contents[1].parts[0]"),
        ({"contents": [{"parts": [{"fileData": {"fileUri": "gs://b/a.png"}}]}]}, "contents[0].parts[0].fileData"),
        ({"contents": [{"parts": [{"fileData": {"fileUri": "https://youtu.be/x"}}]}]}, "contents[0].parts[0].fileData"),
        ({"contents": [{"parts": [{"text": "x", "videoMetadata": {}}]}]}, "contents[0].parts[0].videoMetadata"),
    ],
)
def test_what_has_no_word_is_named(request_: dict[str, Any], path: str) -> None:
    assert read(**request_).beyond == (path,)


def test_google_s_settings_of_its_own_are_passed_over() -> None:
    assert (
        read(
            safetySettings=[{}], labels={"a": "b"}, generationConfig={"mediaResolution": "X", "responseModalities": ["TEXT"]}
        ).beyond
        == ()
    )


@pytest.mark.parametrize(
    ("mode", "choice"),
    [
        ("AUTO", ToolChoice("auto", ("f",))),
        ("VALIDATED", ToolChoice("auto", ("f",))),
        ("ANY", ToolChoice("required", ("f",))),
        ("NONE", ToolChoice("none", ("f",))),
        ("MODE_UNSPECIFIED", None),
    ],
)
def test_tool_choice(mode: str, choice: ToolChoice | None) -> None:
    assert read(toolConfig={"functionCallingConfig": {"mode": mode, "allowedFunctionNames": ["f"]}}).tool_choice == choice


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        read(toolConfig={"functionCallingConfig": {"mode": "SOME"}})
    assert caught.value.param == "toolConfig.functionCallingConfig.mode"


def test_a_schema_of_gemini_s_becomes_a_json_schema() -> None:
    schema = {
        "type": "OBJECT",
        "propertyOrdering": ["type"],
        "properties": {
            "type": {"type": "STRING", "format": "enum", "enum": ["A"], "nullable": True},
            "list": {"type": "ARRAY", "items": {"type": "INTEGER"}, "min_items": "1", "maxItems": 3},
            "any": {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}], "nullable": True, "example": 1},
        },
        "required": ["type"],
    }
    assert read(generationConfig={"responseSchema": schema}).format == JsonFormat(
        {
            "type": "object",
            "properties": {
                "type": {"type": ["string", "null"], "enum": ["A", None]},
                "list": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
                "any": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
            },
            "required": ["type"],
        }
    )
    plain = {"type": "object", "properties": {"TYPE": {"const": "STRING", "enum": ["STRING"]}}, "$defs": {"a": {"type": "null"}}}
    assert read(generationConfig={"responseJsonSchema": plain}).format == JsonFormat(plain)
