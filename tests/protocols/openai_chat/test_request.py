"""Conversations written for a provider of chat: what it is told, what is dropped, and what is refused by the client's name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from msgspec import structs
from openai.types.chat import ChatCompletionMessageParam, completion_create_params
from pydantic import TypeAdapter

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
from agent_gateway.protocols.openai_chat.codec import DROPPED, REFUSED, OpenAIChat
from agent_gateway.protocols.openai_chat.request import APART, MEDIA_FOLLOW
from tests.protocols.conversations import conversations, fold
from tests.protocols.openai_chat.test_round_trip import ALL

codec = OpenAIChat()
HI = Turn("user", (Text("Hi"),))
PLAIN = Conversation(model="asked", turns=(HI,))
TOOLS = (Tool("f", "Does it.", {"type": "object"}), Tool("g"))
PNG = Media(data="aGk=", media_type="image/png")
PDF = Media(data="aGk=", media_type="application/pdf")
CALL = ToolUse("call_1", "f", "{}")


def body(conversation: Conversation, **details: Any) -> dict[str, Any]:
    deployment = Deployment("p/m", "p", "llama", **{"output_limit_field": "max_tokens", **details})
    request: dict[str, Any] = msgspec.json.decode(codec.write_request(conversation, deployment))
    return request


def saying(*parts: Part, role: Any = "user") -> Conversation:
    return structs.replace(PLAIN, turns=(HI, Turn(role, parts), HI))


def messages(*parts: Part, role: Any = "user", **details: Any) -> Any:
    """What these parts become."""
    return body(saying(*parts, role=role), **details)["messages"][1:-1]


# --- the tables of what is not told -----------------------------------------------------------------------------------

#: With it, and without.
DROPPED_BY: list[tuple[str, Conversation, Conversation]] = [
    ("metadata", structs.replace(PLAIN, metadata={"a": "b"}), PLAIN),
    (
        "cache_for",
        structs.replace(
            saying(Text("a", "5m"), Image(PNG, None, "1h"), File(PDF, "a", "5m")), tools=(Tool("f", cache_for="5m"),)
        ),
        structs.replace(saying(Text("a"), Image(PNG), File(PDF, "a")), tools=(Tool("f"),)),
    ),
    ("cache_for", saying(ToolResult("call_1", (Text("a"),), cache_for="5m")), saying(ToolResult("call_1", (Text("a"),)))),
    (
        "Thinking.shown",
        structs.replace(PLAIN, thinking=Thinking("low", shown=False)),
        structs.replace(PLAIN, thinking=Thinking("low")),
    ),
    ("Thinking.effort", structs.replace(PLAIN, thinking=Thinking("none")), PLAIN),
    (
        "Reasoning",
        saying(Reasoning("Hm", "s", origin="anthropic"), CALL, role="assistant"),
        saying(CALL, role="assistant"),
    ),
    (
        "Reasoning",
        saying(Reasoning("Hm", origin="openai_chat"), Text("a"), role="assistant"),
        saying(Text("a"), role="assistant"),
    ),
    (
        "ToolResult.is_error",
        saying(ToolResult("call_1", (Text("a"),), is_error=True)),
        saying(ToolResult("call_1", (Text("a"),))),
    ),
    ("ToolResult.name", saying(ToolResult("call_1", (Text("a"),), "f")), saying(ToolResult("call_1", (Text("a"),)))),
    (
        "tools",
        structs.replace(PLAIN, tools=TOOLS, tool_choice=ToolChoice("auto", ("f",))),
        structs.replace(PLAIN, tools=TOOLS[:1], tool_choice=ToolChoice("auto")),
    ),
    ("top_k", structs.replace(PLAIN, top_k=1), PLAIN),
]
REFUSED_FOR: list[tuple[str, Conversation]] = [
    ("beyond", structs.replace(PLAIN, beyond=("tools[3]",))),
    ("stop", structs.replace(PLAIN, stop=tuple("abcde"))),
    ("Image", saying(Image(Media(file_id="file-1")))),
    ("Image", saying(Image(PNG), role="assistant")),
    ("File", saying(File(Media(url="https://example.com/a.pdf", media_type="application/pdf")))),
    ("File", saying(File(Media(data="aGk=", media_type="video/mp4")))),
    ("File", saying(File(Media(url="https://example.com/a.mp3", media_type="audio/mpeg")))),
    ("File", saying(File(PDF), role="assistant")),
    ("Image", saying(ToolResult("call_1", (Image(Media(file_id="file-1")),)))),
    (APART, saying(ToolUse("call_1", "look", "{}"))),
    (APART, saying(ToolResult("call_1", (Text("seen"),)), role="assistant")),
]
#: Whatever else there is, told in a way that shows in the request.
TOLD = {
    "model": structs.replace(PLAIN, model="other"),
    "turns": saying(Text("more")),
    "stream": structs.replace(PLAIN, stream=True),
    "tools": structs.replace(PLAIN, tools=TOOLS),
    "tool_choice": structs.replace(PLAIN, tools=TOOLS, tool_choice=ToolChoice("none")),
    "parallel_tools": structs.replace(PLAIN, tools=TOOLS, parallel_tools=False),
    "max_output_tokens": structs.replace(PLAIN, max_output_tokens=5),
    "temperature": structs.replace(PLAIN, temperature=0.0),
    "top_p": structs.replace(PLAIN, top_p=0.5),
    "seed": structs.replace(PLAIN, seed=0),
    "n": structs.replace(PLAIN, n=2),
    "presence_penalty": structs.replace(PLAIN, presence_penalty=0.5),
    "frequency_penalty": structs.replace(PLAIN, frequency_penalty=0.5),
    "logprobs": structs.replace(PLAIN, logprobs=True),
    "top_logprobs": structs.replace(PLAIN, logprobs=True, top_logprobs=2),
    "format": structs.replace(PLAIN, format=JsonFormat()),
    "thinking": structs.replace(PLAIN, thinking=Thinking("low")),
    "user": structs.replace(PLAIN, user="u"),
}


def test_the_tables_are_complete() -> None:
    assert DROPPED.keys() == {name for name, _, _ in DROPPED_BY}
    assert REFUSED.keys() == {name for name, _ in REFUSED_FOR}
    fields = {field for field in Conversation.__struct_fields__ if field != "paths"}
    assert fields <= TOLD.keys() | REFUSED.keys() | DROPPED.keys()


@pytest.mark.parametrize(("name", "with_it", "without"), DROPPED_BY, ids=[name for name, _, _ in DROPPED_BY])
def test_what_is_dropped_leaves_no_trace(name: str, with_it: Conversation, without: Conversation) -> None:
    assert with_it != without
    assert body(with_it) == body(without)


@pytest.mark.parametrize(("name", "conversation"), REFUSED_FOR, ids=[name for name, _ in REFUSED_FOR])
def test_what_is_refused_is_named_as_the_client_named_it(name: str, conversation: Conversation) -> None:
    paths = {"turns": "contents", "stop": "stopSequences"}
    with pytest.raises(NotExpressible) as caught:
        body(structs.replace(conversation, paths=paths))
    assert caught.value.param == ("tools[3]" if name == "beyond" else paths.get(name, "contents"))
    assert caught.value.message == f"{caught.value.param}: {REFUSED[name]}"


@pytest.mark.parametrize("name", sorted(TOLD.keys() - {"model"}))
def test_what_is_told_shows(name: str) -> None:
    base = structs.replace(PLAIN, tools=TOOLS) if name in ("tool_choice", "parallel_tools") else PLAIN
    if name == "top_logprobs":
        base = structs.replace(PLAIN, logprobs=True)
    assert body(TOLD[name]) != body(base)


# --- details ----------------------------------------------------------------------------------------------------------


@given(conversations(ALL))
def test_openais_own_types_take_every_request(conversation: Conversation) -> None:
    asked = body(conversation)
    message = TypeAdapter[Any](ChatCompletionMessageParam)
    for said in asked["messages"]:
        # The SDK's union is checked part by part, or an iterator would pass unread.
        message.validate_python(said)
        for part in said["content"] if isinstance(said.get("content"), list) else ():
            assert part.keys() == {"type", part["type"]}
    assert asked.keys() <= completion_create_params.CompletionCreateParamsStreaming.__annotations__.keys() | (
        completion_create_params.CompletionCreateParamsBase.__annotations__.keys()
    )


def test_a_stream_tells_its_usage() -> None:
    asked = body(structs.replace(PLAIN, stream=True))
    assert (asked["stream"], asked["stream_options"]) == (True, {"include_usage": True})
    assert body(PLAIN) == {"model": "llama", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_has_the_name_that_the_provider_knows(name: str) -> None:
    asked = body(structs.replace(PLAIN, max_output_tokens=5), output_limit_field=name)
    assert {key: value for key, value in asked.items() if "tokens" in key} == {name: 5}


def test_the_deployments_parameters_are_in_it() -> None:
    limited = structs.replace(PLAIN, max_output_tokens=5, temperature=1.0)
    asked = body(limited, default={"temperature": 0.1, "top_p": 0.2, "max_completion_tokens": 7}, override={"seed": 3})
    assert (asked["temperature"], asked["top_p"], asked["seed"], asked["max_tokens"]) == (1.0, 0.2, 3, 5)
    assert "max_completion_tokens" not in asked
    asked = body(limited, override={"max_completion_tokens": 7})
    assert (asked["max_completion_tokens"], asked.get("max_tokens")) == (7, None)


def test_results_of_tools_go_before_what_else_the_user_says() -> None:
    result = ToolResult("call_1", (Text("a"), Text("b")), "f")
    assert messages(Text("x"), result, Text("y")) == [
        {"role": "tool", "content": "a\n\nb", "tool_call_id": "call_1"},
        {"role": "user", "content": "x\n\ny"},
    ]


def test_what_tools_return_besides_text_follows_their_results() -> None:
    """A call's results stand in a row, whether the client sent them in one turn or in several."""
    shot = ToolResult("call_1", (Text("1 x 1"), Image(PNG)), "Read")
    paper = ToolResult("call_2", (File(PDF, "a.pdf"),), "Read")
    results = [
        {"role": "tool", "content": "1 x 1", "tool_call_id": "call_1"},
        {"role": "tool", "content": MEDIA_FOLLOW, "tool_call_id": "call_2"},
    ]
    media = [
        {"type": "text", "text": "Returned by the tool call call_1:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "text", "text": "Returned by the tool call call_2:"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
    ]
    more = {"role": "user", "content": [*media, {"type": "text", "text": "Well?"}]}
    assert messages(shot, paper, Text("Well?")) == [*results, more]

    def told(*turns: Turn) -> Any:
        return body(structs.replace(PLAIN, turns=turns))["messages"]

    one, other = Turn("user", (shot,)), Turn("user", (paper,))
    assert told(one, other) == [*results, {"role": "user", "content": media}]
    assert told(one, other, Turn("user", (Text("Well?"),))) == [*results, more]
    for role in ("system", "assistant"):
        after = told(one, other, Turn(role, (Text("x"),)), HI)
        assert after[2:] == [{"role": "user", "content": media}, {"role": role, "content": "x"}, {"role": "user", "content": "Hi"}]


def test_media() -> None:
    parts = (
        Text("Look:"),
        Image(Media(url="https://example.com/a.png"), "high"),
        Image(PNG),
        File(Media(data="aGk=", media_type="audio/mpeg")),
        File(PDF),
        File(Media(data="aGk=", media_type="text/plain"), "a.txt"),
        File(Media(file_id="file-1")),
    )
    assert messages(*parts)[0]["content"] == [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "document.pdf"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk=", "filename": "a.txt"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]


def test_thoughts_go_back_to_those_who_ask_for_them() -> None:
    """DeepSeek wants them with tool calls; OpenAI's models know no such member."""
    parts = (Reasoning("a", origin="openai_chat"), Reasoning("b", origin="openai_chat"), CALL)
    assert messages(*parts, role="assistant")[0]["reasoning_content"] == "ab"
    assert "reasoning_content" not in messages(*parts, role="assistant", output_limit_field="max_completion_tokens")[0]


def test_signed_thoughts_go_back_as_they_came() -> None:
    told = [
        {"type": "reasoning.text", "text": "Hm", "signature": "s/+==", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "gAAA", "format": "openai-responses-v1", "id": "rs_1", "index": 1},
        {"type": "reasoning.text", "text": "So", "signature": "t", "index": 2},
    ]
    answer = {"choices": [{"message": {"content": "a", "reasoning_details": told}, "finish_reason": "stop"}]}
    parts = fold(codec.read_answer(msgspec.json.encode(answer))).choices[0].parts
    assert messages(*parts, role="assistant")[0]["reasoning_details"] == told


def test_a_refusal_and_nothing_at_all() -> None:
    assert messages(Refusal("I won't."), role="assistant") == [{"role": "assistant", "refusal": "I won't."}]
    assert messages(Reasoning("Hm", "s", origin="gemini"), role="assistant") == [{"role": "assistant", "content": ""}]


@pytest.mark.parametrize(
    ("choice", "offered", "written"),
    [
        (ToolChoice("auto"), ["f", "g"], "auto"),
        (ToolChoice("none", ("f",)), ["f", "g"], "none"),
        (ToolChoice("required", ("g",)), ["f", "g"], {"type": "function", "function": {"name": "g"}}),
        (ToolChoice("auto", ("g",)), ["g"], "auto"),
        (ToolChoice("required", ("f", "g")), ["f", "g"], "required"),
    ],
)
def test_of_the_tools_only_those_that_may_be_called(choice: ToolChoice, offered: list[str], written: object) -> None:
    asked = body(structs.replace(PLAIN, tools=TOOLS, tool_choice=choice))
    assert [tool["function"]["name"] for tool in asked["tools"]] == offered
    assert asked["tool_choice"] == written


def test_without_tools_nothing_is_said_of_them() -> None:
    asked = body(structs.replace(PLAIN, tool_choice=ToolChoice("auto"), parallel_tools=True))
    assert asked.keys() == {"model", "messages"}


@pytest.mark.parametrize(
    ("thinking", "effort"),
    [
        (Thinking("minimal"), "minimal"),
        (Thinking(budget_tokens=1024), "low"),
        (Thinking(budget_tokens=1025), "medium"),
        (Thinking(budget_tokens=100_000), "high"),  # not every model takes more
        (Thinking(budget_tokens=-1), None),
        (Thinking(budget_tokens=0), None),
    ],
)
def test_thinking_in_words(thinking: Thinking, effort: str | None) -> None:
    assert body(structs.replace(PLAIN, thinking=thinking)).get("reasoning_effort") == effort


def test_a_schema_has_a_name() -> None:
    asked = body(structs.replace(PLAIN, format=JsonFormat({"type": "object"}, strict=True)))
    schema = {"name": "answer", "schema": {"type": "object"}, "strict": True}
    assert asked["response_format"] == {"type": "json_schema", "json_schema": schema}
