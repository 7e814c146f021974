"""What is written is read back with the same meaning: requests, whole answers, and streams however their bytes are split."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, structs

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.conversation import Conversation, File, Part, Reasoning, ToolChoice, ToolUse, Turn
from agent_gateway.core.delta import Delta
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.fold import Answer
from agent_gateway.protocols.openai_chat.codec import OpenAIChat
from agent_gateway.protocols.openai_chat.request import BETWEEN_TEXTS
from tests.protocols.conversations import PLAIN_FIELDS, Expressible, answers, conversations, cut, fold, settled

codec = OpenAIChat()
HEAD = AnswerHead("abc123", 1_700_000_000, "the-model")
CALL = Call("openai_chat", "the-model", b"{}", wants_usage=True)

ALL = Expressible(
    fields=PLAIN_FIELDS - {"top_k", "metadata"},
    instruction_roles=("system", "developer"),
    instructions_anywhere=True,
    turn_names=True,
    details=("low", "high", "auto"),
    file_sources=("data", "file_id"),
    file_names=True,
    reasoning_origin="openai_chat",
    unsigned_reasoning=True,
    redacted_reasoning=True,
    refusals=True,
    strict=True,
    chosen_tools="many",
    parallel_tools=True,
    json_object=True,
    json_schema=True,
    schema_facts=True,
    efforts=("minimal", "low", "medium", "high", "xhigh"),
    choices_max=3,
    logprobs=True,
    finish_reasons=("stop", "length", "tool_calls", "refusal", "content_filter"),
    cache_write=True,
    reasoning_tokens=True,
)


# --- requests ---------------------------------------------------------------------------------------------------------


def written(conversation: Conversation) -> bytes:
    return codec.write_request(conversation, Deployment("local/the-model", "local", "the-model", output_limit_field="max_tokens"))


def read(body: bytes) -> Conversation:
    return codec.read_conversation(Call("openai_chat", "the-model", body))


def meant(conversation: Conversation) -> Conversation:
    """`settled`, and: a developer is the system; files have names; thoughts that nobody signed are known where tools are called, and of
    the tools those that the client allows.
    """
    turns = [
        Turn("system" if turn.role == "developer" else turn.role, tuple(_told(turn.parts)), turn.name)
        for turn in conversation.turns
    ]
    choice, tools = conversation.tool_choice, conversation.tools
    if choice is not None and choice.names and not (choice.mode == "required" and len(choice.names) == 1):
        tools = tuple([tool for tool in tools if tool.name in choice.names])
        choice = ToolChoice(choice.mode)
    return structs.replace(
        settled(structs.replace(conversation, turns=tuple(turns)), BETWEEN_TEXTS),
        tools=tools,
        tool_choice=choice,
        stream=conversation.stream,
    )


def _told(parts: tuple[Part, ...]) -> list[Part]:
    calls_tools = any(isinstance(part, ToolUse) for part in parts)
    told: list[Part] = []
    for part in parts:
        if isinstance(part, Reasoning) and not (part.signature or part.redacted or calls_tools):
            continue
        if isinstance(part, File) and part.name is None and part.media.data is not None:
            part = structs.replace(part, name="document.pdf")
        told.append(part)
    return told


@given(conversations(ALL))
def test_a_conversation_keeps_its_meaning(conversation: Conversation) -> None:
    assert meant(read(written(conversation))) == meant(conversation)


@given(conversations(ALL))
def test_what_was_read_is_written_the_same_again(conversation: Conversation) -> None:
    """History is append-only: what was sent once is sent again byte for byte."""
    once = written(conversation)
    assert written(read(once)) == once


# --- answers ----------------------------------------------------------------------------------------------------------


def told(answer: Answer) -> Answer:
    """Whose answer it is, the client learns from the head."""
    return structs.replace(answer, started=None)


@given(answers(ALL))
def test_a_whole_answer_says_the_same(deltas: list[Delta]) -> None:
    assert told(fold(codec.read_answer(codec.write_answer(HEAD, deltas, CALL)))) == told(fold(deltas))


@given(st.data(), answers(ALL))
def test_a_stream_says_the_same_however_it_is_split(data: st.DataObject, deltas: list[Delta]) -> None:
    writer = codec.stream_writer(HEAD, CALL)
    stream = b"".join([writer.write([delta]) for delta in deltas]) + writer.end()
    reader = codec.stream_reader()
    read = [delta for piece in data.draw(cut(stream)) for delta in reader.feed(piece)]
    reader.finish()
    assert reader.done
    assert told(fold(read)) == told(fold(deltas))


@given(answers(ALL))
def test_deltas_may_be_written_together(deltas: list[Delta]) -> None:
    one_by_one, together = (codec.stream_writer(HEAD, CALL) for _ in range(2))
    pieces = b"".join([one_by_one.write([delta]) for delta in deltas]) + one_by_one.end()
    assert together.write(deltas) + together.end() == pieces


# --- thoughts of other providers, through the client and back ---------------------------------------------------------


def of(origin: Dialect) -> st.SearchStrategy[list[Delta]]:
    return answers(Expressible(reasoning_origin=origin, redacted_reasoning=origin != "gemini"))


foreign = st.one_of([of("anthropic"), of("gemini"), of("openai_responses"), of("openai_chat")])


def sent_back(message: Any) -> tuple[Part, ...]:
    """A client's next request holds the message as it came."""
    messages = [{"role": "user", "content": "Hi"}, message, {"role": "user", "content": "Go on"}]
    return read(msgspec.json.encode({"model": "m", "messages": messages})).turns[1].parts


@given(foreign)
def test_a_signed_thought_comes_back_as_its_provider_gave_it(deltas: list[Delta]) -> None:
    answer = msgspec.json.decode(codec.write_answer(HEAD, deltas, CALL))
    assert sent_back(answer["choices"][0]["message"]) == fold(deltas).choices[0].parts


@given(foreign)
def test_so_does_a_streamed_one(deltas: list[Delta]) -> None:
    writer = codec.stream_writer(HEAD, CALL)
    stream = writer.write(deltas) + writer.end()
    assert sent_back(accumulated(stream)) == fold(deltas).choices[0].parts


def accumulated(stream: bytes) -> dict[str, Any]:
    """As agents put the first choice's pieces together: strings joined, elements of lists found by their index."""
    message: dict[str, Any] = {}
    for line in stream.decode().split("\n\n")[:-2]:
        for choice in msgspec.json.decode(line.removeprefix("data: "))["choices"]:
            if choice["index"] == 0:
                _accumulate(message, choice["delta"])
    return message


def _accumulate(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    for name, value in piece.items():
        if isinstance(value, list):
            known = whole.setdefault(name, [])
            for element in value:
                while len(known) <= element["index"]:
                    known.append({})
                _accumulate(known[element["index"]], element)
        elif isinstance(value, dict):
            _accumulate(whole.setdefault(name, {}), value)
        elif isinstance(whole.get(name), str) and name not in ("type", "role") and value is not None:
            whole[name] += value
        elif value is not None or name not in whole:
            whole[name] = value


def test_a_signature_stays_with_the_tool_call_that_it_belongs_to() -> None:
    """Gemini signs the part that calls; the thought before all else is another's."""
    parts: tuple[Part, ...] = (
        Reasoning("Which one?", origin="openai_chat"),
        ToolUse("a", "f", "{}"),
        Reasoning("", "sig", origin="gemini"),
        ToolUse("b", "g", "{}"),
    )
    details = [
        {"type": "reasoning.text", "text": "Which one?", "index": 0},
        {"type": "reasoning.text", "signature": "agw^gemini:sig", "index": 1, "tool_call_id": "b"},
    ]
    calls = [
        {"id": name, "type": "function", "function": {"name": tool, "arguments": "{}"}} for name, tool in (("a", "f"), ("b", "g"))
    ]
    assert sent_back({"role": "assistant", "content": None, "tool_calls": calls, "reasoning_details": details}) == parts


def test_logprobs_are_the_providers_own() -> None:
    tokens = Raw(b'[{"token":"Hi","logprob":-0.25,"bytes":null,"top_logprobs":[]}]')
    body = b'{"choices":[{"index":0,"message":{"content":"Hi"},"logprobs":{"content":%b},"finish_reason":"stop"}]}' % bytes(
        tokens
    )
    assert bytes(tokens) in codec.write_answer(HEAD, codec.read_answer(body), CALL)
