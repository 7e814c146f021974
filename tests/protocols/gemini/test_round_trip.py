"""What is written and read back keeps its meaning.

The equivalence is `tests.protocols.conversations.settled`, and that a tool's result has its text before its images.
"""

from __future__ import annotations

from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import Conversation, Part, Text, ToolResult
from agent_gateway.core.delta import Delta
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.gemini.codec import Gemini
from tests.protocols.conversations import PLAIN_FIELDS, Expressible, answers, conversations, cut, fold, settled

REQUESTS = Expressible(
    fields=PLAIN_FIELDS - {"user", "metadata"},
    file_sources=("url", "data"),
    file_types=("application/pdf", "audio/wav", "video/mp4"),
    reasoning_origin="gemini",
    unsigned_reasoning=True,
    result_images=True,
    result_errors=True,
    chosen_tools="many",
    json_object=True,
    json_schema=True,
    budgets=(-1, 0, 1024),
)
ANSWERS = Expressible(
    reasoning_origin="gemini",
    unsigned_reasoning=True,
    choices_max=3,
    logprobs=True,
    finish_reasons=("stop", "length", "content_filter", "tool_calls"),
    reasoning_tokens=True,
)
FOREIGN_ANSWERS = Expressible(reasoning_origin="anthropic", redacted_reasoning=True)

codec = Gemini()
HEAD = AnswerHead("abc123", 1_700_000_000, "provider-model")


def texts_first(conversation: Conversation) -> Conversation:
    return structs.replace(
        conversation,
        turns=tuple([structs.replace(turn, parts=tuple(map(_text_first, turn.parts))) for turn in conversation.turns]),
    )


def _text_first(part: Part) -> Part:
    if not isinstance(part, ToolResult):
        return part
    return structs.replace(part, content=tuple(sorted(part.content, key=lambda piece: not isinstance(piece, Text))))


@settings(max_examples=150, deadline=None)
@given(conversations(REQUESTS))
def test_a_conversation(conversation: Conversation) -> None:
    body = codec.write_request(conversation, Deployment("g/m", "g", "the-model"))
    method = "streamGenerateContent?alt=sse" if conversation.stream else "generateContent"
    read = codec.read_conversation(codec.read_call(body, {}, f"/v1beta/models/the-model:{method}"))
    assert settled(texts_first(read)) == settled(texts_first(conversation))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_an_answer_as_a_stream_split_anyhow(data: st.DataObject) -> None:
    deltas: list[Delta] = data.draw(answers(ANSWERS))
    framing: Literal["sse", "json_array"] = data.draw(st.sampled_from(["sse", "json_array"]))
    writer = codec.stream_writer(HEAD, Call("gemini", "m", b"", True, framing=framing))
    written = b"".join([writer.write([delta]) for delta in deltas]) + writer.end()
    reader = codec.stream_reader()
    read = [delta for piece in data.draw(cut(written)) for delta in reader.feed(piece)]
    reader.finish()
    assert fold(read).choices == fold(deltas).choices
    assert fold(read).usage == fold(deltas).usage


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([ANSWERS, FOREIGN_ANSWERS]).flatmap(answers))
def test_an_answer_in_one_piece(deltas: list[Delta]) -> None:
    read = codec.read_answer(codec.write_answer(HEAD, deltas, Call("gemini", "m", b"")))
    assert fold(read).choices == fold(deltas).choices
    assert fold(read).usage == fold(deltas).usage
