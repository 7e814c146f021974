"""What a provider gets: the exact request, and nothing lost that `codec.REFUSED` and `codec.DROPPED` do not list."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
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
from agent_gateway.protocols.openai_responses.codec import DROPPED, REFUSED
from agent_gateway.protocols.openai_responses.provider_request import write_request

_PNG = Media(data="aGk=", media_type="image/png")
_PDF = Media(data="aGk=", media_type="application/pdf")
DEPLOYMENT = Deployment("openai/gpt-5", "openai", "gpt-5")
PLAIN = Conversation(model="m", turns=(Turn("user", (Text("Hi"),)),))


def written(conversation: Conversation, deployment: Deployment = DEPLOYMENT) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(write_request(conversation, deployment))
    return body


def saying(*parts: Part, role: str = "user") -> Conversation:
    return structs.replace(PLAIN, turns=(Turn(role, parts),))  # type: ignore[arg-type]


def offering(tool: Tool) -> Conversation:
    return structs.replace(PLAIN, tools=(tool,))


def test_a_plain_request() -> None:
    assert written(PLAIN) == {
        "model": "gpt-5",
        "input": [{"type": "message", "role": "user", "content": "Hi"}],
        "store": False,
    }


def test_the_input_is_items() -> None:
    conversation = structs.replace(
        PLAIN,
        turns=(
            Turn("system", (Text("Be brief."),)),
            Turn("user", (Text("Look"), Image(_PNG), File(_PDF))),
            Turn("assistant", (Text("Let me"), Text(" see"), ToolUse("c1", "look", "{}"), Text("Done?"))),
            Turn("user", (ToolResult("c1", (Text("A cat"),)), ToolResult("c2", ()), ToolResult("c3", (Text("a"), Text("b"))))),
        ),
    )
    assert written(conversation)["input"] == [
        {"type": "message", "role": "system", "content": "Be brief."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aGk="},
                {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "file.pdf"},
            ],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "Let me", "annotations": []},
                {"type": "output_text", "text": " see", "annotations": []},
            ],
        },
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "message", "role": "assistant", "content": "Done?"},
        {"type": "function_call_output", "call_id": "c1", "output": "A cat"},
        {"type": "function_call_output", "call_id": "c2", "output": ""},
        {
            "type": "function_call_output",
            "call_id": "c3",
            "output": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
    ]


def test_settings_are_told() -> None:
    conversation = structs.replace(
        PLAIN,
        stream=True,
        tools=(Tool("look", "Looks", {"type": "object"}, True), Tool("wait")),
        tool_choice=ToolChoice("required", ("look",)),
        parallel_tools=False,
        max_output_tokens=9,
        temperature=0.5,
        top_p=1.0,
        n=1,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        logprobs=True,
        top_logprobs=2,
        format=JsonFormat({"type": "object"}),
        thinking=Thinking("low"),
        user="u",
        metadata={"k": "v"},
    )
    assert written(conversation) == written(PLAIN) | {
        "stream": True,
        "tools": [
            {"type": "function", "name": "look", "description": "Looks", "parameters": {"type": "object"}, "strict": True},
            {"type": "function", "name": "wait", "parameters": None, "strict": False},
        ],
        "tool_choice": {"type": "function", "name": "look"},
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}},
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "parallel_tool_calls": False,
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_p": 1.0,
        "top_logprobs": 2,
        "user": "u",
        "metadata": {"k": "v"},
    }


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (ToolChoice("auto"), "auto"),
        (ToolChoice("none", ("f",)), "none"),
        (ToolChoice("required"), "required"),
        (ToolChoice("auto", ("f",)), {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}),
    ],
)
def test_how_tools_are_chosen(choice: ToolChoice, said: object) -> None:
    assert written(structs.replace(PLAIN, tool_choice=choice))["tool_choice"] == said


@pytest.mark.parametrize(
    ("thinking", "said"),
    [
        (Thinking("none"), {"effort": "none"}),
        (Thinking(budget_tokens=0), {"effort": "none"}),
        (Thinking(budget_tokens=5_000, shown=False), {"effort": "medium"}),
        (Thinking(budget_tokens=-1), {"summary": "auto"}),
    ],
)
def test_how_much_to_think(thinking: Thinking, said: dict[str, str]) -> None:
    body = written(structs.replace(PLAIN, thinking=thinking))
    assert body["reasoning"] == said
    # A model that does not think refuses to be asked for its thoughts.
    assert ("include" in body) is (said.get("effort") != "none")


def test_the_deployments_parameters() -> None:
    deployment = configured_deployment(
        default={"max_tokens": 5, "top_p": 0.1}, override={"temperature": 0, "service_tier": "flex"}
    )
    body = written(structs.replace(PLAIN, max_output_tokens=7, temperature=1.0), deployment)
    assert body["max_output_tokens"] == 7
    assert (body["top_p"], body["temperature"], body["service_tier"]) == (0.1, 0, "flex")
    assert "max_tokens" not in body


def configured_deployment(default: dict[str, Any], override: dict[str, Any]) -> Deployment:
    return Deployment("openai/gpt-5", "openai", "gpt-5", default=default, override=override)


# --- what is refused, and what is left out ----------------------------------------------------------------------------

_AUDIO = File(Media(data="aGk=", media_type="audio/wav"))
_IMAGE = Image(Media(url="https://example.com/a.png"))
#: Each with the client's path of the field.
NOT_EXPRESSIBLE: dict[str, list[tuple[Conversation, str]]] = {
    "beyond": [(structs.replace(PLAIN, beyond=("tools[1]",)), "tools[1]")],
    "stop": [(structs.replace(PLAIN, stop=("x",), paths={"stop": "stop_sequences"}), "stop_sequences")],
    "seed": [(structs.replace(PLAIN, seed=0), "seed")],
    "n": [(structs.replace(PLAIN, n=2), "n")],
    "presence_penalty": [(structs.replace(PLAIN, presence_penalty=0.1), "presence_penalty")],
    "frequency_penalty": [(structs.replace(PLAIN, frequency_penalty=-0.1), "frequency_penalty")],
    "File": [
        (structs.replace(saying(_AUDIO), paths={"turns": "messages"}), "messages"),
        (saying(ToolResult("c", (_AUDIO,))), "turns"),
    ],
    "Image, File of an assistant": [(saying(_IMAGE, role="assistant"), "turns")],
}


def test_the_table_of_what_is_refused_is_whole() -> None:
    assert NOT_EXPRESSIBLE.keys() == REFUSED.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_said_is_refused_by_the_clients_name_of_it(name: str) -> None:
    for conversation, path in NOT_EXPRESSIBLE[name]:
        with pytest.raises(NotExpressible) as caught:
            written(conversation)
        assert caught.value.param == path
        assert caught.value.message.startswith(f"{path}: ")


#: With it and without it.
LEFT_OUT: dict[str, tuple[Conversation, Conversation]] = {
    "cache_for": (saying(Text("Hi", cache_for="1h")), saying(Text("Hi"))),
    "Reasoning": (saying(Reasoning("Hm", "SIG", origin="anthropic"), Text("Hi")), saying(Text("Hi"))),
    "ToolResult.name": (saying(ToolResult("c", (), name="f")), saying(ToolResult("c", ()))),
    "ToolResult.is_error": (saying(ToolResult("c", (), is_error=True)), saying(ToolResult("c", ()))),
    "Turn.name": (structs.replace(PLAIN, turns=(Turn("user", (Text("Hi"),), "Ann"),)), PLAIN),
    "top_k": (structs.replace(PLAIN, top_k=5), PLAIN),
    "paths": (structs.replace(PLAIN, paths={"turns": "messages"}), PLAIN),
}


def test_the_table_of_what_is_left_out_is_whole() -> None:
    assert LEFT_OUT.keys() == DROPPED.keys()


@pytest.mark.parametrize("name", DROPPED)
def test_what_may_be_left_out_changes_nothing(name: str) -> None:
    with_it, without_it = LEFT_OUT[name]
    assert with_it != without_it
    assert written(with_it) == written(without_it)


#: Every field that is in neither table, with a value that is not its default and the conversation that it changes.
SAID: dict[str, tuple[Conversation, Conversation]] = {
    **{
        name: (structs.replace(PLAIN, **{name: value}), PLAIN)
        for name, value in {
            "turns": (Turn("developer", (Text("Hi"),)),),
            "stream": True,
            "tools": (Tool("f"),),
            "tool_choice": ToolChoice("none"),
            "parallel_tools": False,
            "max_output_tokens": 1,
            "temperature": 0.0,
            "top_p": 0.0,
            "logprobs": True,
            "top_logprobs": 0,
            "format": JsonFormat(),
            "thinking": Thinking("low"),
            "user": "u",
            "metadata": {},
        }.items()
    },
    "Text.text": (saying(Text("a")), PLAIN),
    "Image.media": (saying(_IMAGE), saying(Image(Media(file_id="f")))),
    "Image.detail": (saying(structs.replace(_IMAGE, detail="low")), saying(_IMAGE)),
    "File.media": (saying(File(Media(file_id="a"))), saying(File(Media(url="a")))),
    "File.name": (saying(File(Media(url="a"), "b")), saying(File(Media(url="a")))),
    "ToolUse.id": (saying(ToolUse("a", "f", "")), saying(ToolUse("b", "f", ""))),
    "ToolUse.name": (saying(ToolUse("a", "f", "")), saying(ToolUse("a", "g", ""))),
    "ToolUse.arguments": (saying(ToolUse("a", "f", "")), saying(ToolUse("a", "f", "{}"))),
    "ToolResult.call_id": (saying(ToolResult("a", ())), saying(ToolResult("b", ()))),
    "ToolResult.content": (saying(ToolResult("a", (_IMAGE,))), saying(ToolResult("a", ()))),
    "Refusal.text": (saying(Refusal("a")), saying(Refusal("b"))),
    "Turn.role": (PLAIN, saying(Text("Hi"), role="system")),
    "Turn.parts": (PLAIN, saying(Text("Hi"), Text("Hi"))),
    **{
        f"Tool.{name}": (offering(structs.replace(Tool("f"), **{name: value})), offering(Tool("f")))
        for name, value in {"name": "g", "description": "d", "parameters": {}, "strict": True}.items()
    },
}
#: The model is the deployment's; thoughts have a table and tests of their own.
ELSEWHERE = {"model", *(f"Reasoning.{name}" for name in Reasoning.__struct_fields__)}


def test_every_field_is_said_refused_or_left_out() -> None:
    fields = {*Conversation.__struct_fields__}
    for part in (Turn, Text, Image, File, Reasoning, ToolUse, ToolResult, Refusal, Tool):
        fields |= {f"{part.__name__}.{name}" for name in part.__struct_fields__}
    assert {name for name in fields if not name.endswith(".cache_for")} == SAID.keys() | ELSEWHERE | {
        name for name in (*REFUSED, *DROPPED) if name in fields
    }


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_changes_the_request(name: str) -> None:
    one, other = SAID[name]
    assert written(one) != written(other)
