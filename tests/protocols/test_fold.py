"""Deltas folded: what belongs together is one part, and what does not stays apart."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, structs

from agent_gateway.core.conversation import Reasoning, Refusal, Text, ToolUse
from agent_gateway.core.delta import (
    ArgumentsDelta,
    Delta,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.fold import Choice, fold
from tests.protocols.conversations import Expressible, answers

ALL = Expressible(
    reasoning_origin="anthropic",
    unsigned_reasoning=True,
    redacted_reasoning=True,
    refusals=True,
    choices_max=3,
    logprobs=True,
    finish_reasons=("stop", "length", "tool_calls", "refusal", "content_filter"),
    stop_sequences=True,
)


def only(*deltas: Delta) -> Choice:
    (choice,) = fold(deltas).choices
    return choice


def test_pieces_of_one_kind_are_one_part() -> None:
    choice = only(
        TextDelta("a"), TextDelta(""), TextDelta("b"), RefusalDelta("n"), RefusalDelta("o"), TextDelta("c"), Finished("stop")
    )
    assert choice == Choice(0, (Text("ab"), Refusal("no"), Text("c")), "stop")
    assert choice.text == "abc"


def test_arguments_find_their_tool_call() -> None:
    begun = [ToolCallStarted(0, "x", "f"), ToolCallStarted(1, "y", "g")]
    choice = only(*begun, ArgumentsDelta(1, "{"), ArgumentsDelta(0, "[]"), ArgumentsDelta(1, "}"), Finished("tool_calls"))
    assert choice.tool_uses == [ToolUse("x", "f", "[]"), ToolUse("y", "g", "{}")]


def test_a_signature_ends_its_thought() -> None:
    thoughts = [ReasoningDelta("a"), ReasoningDelta("b"), ReasoningDelta("", "s", origin="anthropic"), ReasoningDelta("c")]
    assert only(*thoughts).parts == (Reasoning("ab", "s", None, "anthropic"), Reasoning("c"))


def test_thoughts_of_others_stand_alone() -> None:
    redacted = ReasoningDelta(redacted="r")
    parts = only(ReasoningDelta("a"), redacted, redacted, ReasoningDelta("b", id="1"), ReasoningDelta("c", id="2")).parts
    assert parts == (
        Reasoning("a"),
        Reasoning(redacted="r"),
        Reasoning(redacted="r"),
        Reasoning("b", id="1"),
        Reasoning("c", id="2"),
    )
    parts = only(ReasoningDelta("a", origin="gemini"), ReasoningDelta("b", origin="anthropic")).parts
    assert parts == (Reasoning("a", origin="gemini"), Reasoning("b", origin="anthropic"))


def test_an_answer_that_broke_off_has_no_reason() -> None:
    assert only(TextDelta("a")).finish_reason is None


def test_what_is_said_of_all_choices() -> None:
    answer = fold(
        [Used(Usage(input=1)), Started("first"), TextDelta("b", 1), TextDelta("a"), Used(Usage(input=2)), Started("second")]
    )
    assert answer.started == Started("first")
    assert answer.usage == Usage(input=2)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "a"), (1, "b")]


def test_logprobs_are_one_list() -> None:
    choice = only(TextDelta("a", logprobs=Raw(b'[{"token":"a"}]')), TextDelta("b"), TextDelta("", logprobs=Raw(b"[1,2]")))
    assert choice.logprobs == (Raw(b'{"token":"a"}'), Raw(b"1"), Raw(b"2"))


def letter_by_letter(delta: Delta) -> list[Delta]:
    match delta:
        case TextDelta(text=text, choice=choice) if text:
            return [*[TextDelta(letter, choice) for letter in text[:-1]], structs.replace(delta, text=text[-1])]
        case RefusalDelta() | ReasoningDelta() if delta.text:
            return [structs.replace(delta, text=letter) for letter in delta.text]
        case ArgumentsDelta():
            return [structs.replace(delta, arguments=letter) for letter in delta.arguments]
        case _:
            return [delta]


@given(answers(ALL))
def test_however_it_is_cut_the_fold_is_the_same(deltas: list[Delta]) -> None:
    assert fold([piece for delta in deltas for piece in letter_by_letter(delta)]) == fold(deltas)


@given(st.data(), answers(ALL))
def test_choices_may_come_interleaved(data: st.DataObject, deltas: list[Delta]) -> None:
    """Each choice's deltas in their order, those of several mixed."""
    queues: dict[int, list[Delta]] = {}
    for delta in deltas:
        queues.setdefault(-1 if isinstance(delta, Started | Used) else delta.choice, []).append(delta)
    mixed: list[Delta] = []
    while queues:
        index = data.draw(st.sampled_from(sorted(queues)))
        mixed.append(queues[index].pop(0))
        if not queues[index]:
            del queues[index]
    assert fold(mixed) == fold(deltas)


def test_a_fold_can_be_recorded() -> None:
    answer = fold([Started("a"), ReasoningDelta("b"), TextDelta("c"), Finished("stop"), Used(Usage(input=1))])
    assert msgspec.json.decode(msgspec.json.encode(answer), type=type(answer)) == answer
