"""What is written is read back with the same meaning: requests, whole answers, and streams however their bytes are split."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import Conversation, Part, Text, ToolChoice, ToolResult, Turn
from agent_gateway.core.delta import Delta, Finished
from agent_gateway.core.route import Deployment
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.anthropic.codec import Anthropic
from agent_gateway.protocols.anthropic.request import MAX_TOKENS
from agent_gateway.protocols.anthropic.usage import counted, told
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.fold import Answer
from tests.protocols.conversations import Expressible, answers, conversations, cut, fold, settled

codec = Anthropic()
HEAD = AnswerHead("abc123", 1_700_000_000, "the-model")
CALL = Call("anthropic", "the-model", b"{}")

ALL = Expressible(
    fields=frozenset({"stream", "max_output_tokens", "top_k", "user"}),
    image_types=("image/png", "image/jpeg", "image/gif", "image/webp"),
    file_sources=("url", "data"),
    file_names=True,
    cache_for=("5m", "1h"),
    reasoning_origin="anthropic",
    redacted_reasoning=True,
    result_images=True,
    result_errors=True,
    strict=True,
    chosen_tools="one",
    parallel_tools=True,
    json_schema=True,
    finish_reasons=("stop", "length", "tool_calls", "refusal"),
    stop_sequences=True,
    cache_write=True,
    reasoning_tokens=True,
)


def written(conversation: Conversation, model: str) -> bytes:
    return codec.write_request(conversation, Deployment("anthropic/it", "anthropic", model))


def read(body: bytes) -> Conversation:
    return codec.read_conversation(Call("anthropic", "the-model", body))


def is_spoken(conversation: Conversation) -> bool:
    """No user's turn is white space only: those are refused."""
    return all(_told(turn.parts) for turn in conversation.turns if turn.role == "user")


def meant(conversation: Conversation) -> Conversation:
    """`settled`, and: a text of white space is as good as none; tools that nothing is said about may be called, in parallel too; that a
    PDF is at an address is not said; no limit is the one that Anthropic is given.
    """
    turns = []
    for turn in conversation.turns:
        parts = _told(turn.parts)
        if parts:
            turns.append(structs.replace(turn, parts=parts))
    choice = conversation.tool_choice
    if conversation.tools and choice is None:
        choice = ToolChoice("auto")
    parallel = None if conversation.parallel_tools or (choice is not None and choice.mode == "none") else conversation.parallel_tools
    return structs.replace(
        settled(structs.replace(conversation, turns=tuple(turns))),
        tool_choice=choice,
        parallel_tools=parallel,
        max_output_tokens=conversation.max_output_tokens or MAX_TOKENS,
    )


def _told(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    told: list[Part] = []
    for part in parts:
        if isinstance(part, ToolResult):
            told.append(structs.replace(part, content=_told(part.content)))
        elif not isinstance(part, Text) or part.text.strip():
            told.append(_without_address_type(part))
    return tuple(told)


def _without_address_type(part: Any) -> Any:
    if getattr(part, "media", None) is None or part.media.url is None:
        return part
    return structs.replace(part, media=structs.replace(part.media, media_type=None))


@given(conversations(ALL).filter(is_spoken))
def test_a_conversation_keeps_its_meaning(conversation: Conversation) -> None:
    back = read(written(conversation, conversation.model))
    assert meant(back) == meant(conversation)
    assert not back.beyond


EFFORTS = Expressible(efforts=("low", "medium", "high", "xhigh"), fields=frozenset(), tools=False)
BUDGETS = Expressible(budgets=(0, 1024, 4096), fields=frozenset(), tools=False)


@given(conversations(EFFORTS).filter(is_spoken))
def test_an_effort_comes_back_from_models_that_think_by_it(conversation: Conversation) -> None:
    back = read(written(conversation, "claude-opus-4-8"))
    assert meant(back) == structs.replace(meant(conversation), model="claude-opus-4-8")


@given(conversations(BUDGETS).filter(is_spoken))
def test_a_budget_comes_back_from_models_that_think_by_it(conversation: Conversation) -> None:
    assert read(written(conversation, "claude-haiku-4-5")).thinking == conversation.thinking


@pytest.mark.parametrize("field", ["temperature", "top_p", "top_k", "stop"])
def test_sampling_and_stops_come_back(field: str) -> None:
    value = {"temperature": 0.5, "top_p": 0.9, "top_k": 40, "stop": ("END", "\n\nHuman:")}[field]
    asked = Conversation(model="m", turns=(Turn("user", (Text("hi"),)),))
    assert getattr(read(written(structs.replace(asked, **{field: value}), "m")), field) == value


# --- answers ----------------------------------------------------------------------------------------------------------


def said(deltas: list[Delta]) -> Answer:
    """What the client gets is the head's, not the provider's; and a sequence that stopped an answer says that it stopped."""
    return structs.replace(fold(deltas), started=None)


@given(answers(ALL))
def test_a_whole_answer_keeps_its_meaning(deltas: list[Delta]) -> None:
    assert said(codec.read_answer(codec.write_answer(HEAD, deltas, CALL))) == said(deltas)


@given(st.data(), answers(ALL))
def test_a_stream_keeps_its_meaning_however_it_is_split(data: st.DataObject, deltas: list[Delta]) -> None:
    writer = codec.stream_writer(HEAD, CALL)
    stream = b"".join(writer.write([delta]) for delta in deltas) + writer.end()
    reader = codec.stream_reader()
    back = [delta for piece in data.draw(cut(stream)) for delta in reader.feed(piece)]
    reader.finish()
    assert reader.done
    assert said(back) == said(deltas)


@given(answers(ALL))
def test_the_stream_says_what_the_whole_answer_says(deltas: list[Delta]) -> None:
    writer, reader = codec.stream_writer(HEAD, CALL), codec.stream_reader()
    streamed = reader.feed(writer.write(deltas) + writer.end())
    assert fold(streamed) == fold(codec.read_answer(codec.write_answer(HEAD, deltas, CALL)))


@given(answers(Expressible(reasoning_origin="openai_responses", redacted_reasoning=True, unsigned_reasoning=True, cache_write=True)))
def test_thoughts_of_another_origin_come_back_through_an_anthropic_client(deltas: list[Delta]) -> None:
    """As the client hands the answer back: its blocks are the next request's turn."""
    answer: dict[str, Any] = msgspec.json.decode(codec.write_answer(HEAD, deltas, CALL))
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": answer["content"]}]
    back = read(msgspec.json.encode({"model": "m", "messages": turns}))
    assert back.turns[1].parts == fold(deltas).choices[0].parts


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "refusal"])
def test_every_reason_comes_back(reason: Any) -> None:
    deltas: list[Delta] = [Finished(reason)]
    assert said(codec.read_answer(codec.write_answer(HEAD, deltas, CALL))).choices[0].finish_reason == reason


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_usage_is_counted_both_ways(fresh: int, read_tokens: int, written_tokens: int, output: int) -> None:
    usage = Usage(input=fresh + read_tokens + written_tokens, output=output, cache_read=read_tokens, cache_write=written_tokens)
    on_the_wire = told(usage)
    assert on_the_wire.input_tokens == fresh
    assert counted(on_the_wire) == usage
