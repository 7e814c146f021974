"""What of a request is new to its session, when the client sends its history along."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.core.call import Call, Dialect
from agent_gateway.protocols.turns import TURNS, turns_of
from agent_gateway.session.history import Merged, merge
from agent_gateway.session.translation import call_of, stored_turn, told_in
from agent_gateway.stores.base import StoredTurn

every_dialect = pytest.mark.parametrize("dialect", TURNS.table)


def user(text: str, dialect: Dialect = "openai_chat") -> Any:
    match dialect:
        case "gemini":
            return {"role": "user", "parts": [{"text": text}]}
        case "openai_responses":
            return {"type": "message", "role": "user", "content": text}
    return {"role": "user", "content": text}


def model(text: str, dialect: Dialect = "openai_chat") -> Any:
    turns = turns_of(dialect)
    assert turns is not None
    return msgspec.json.decode(turns.said(text))


def stored(*turns: Any, dialect: Dialect = "openai_chat") -> list[StoredTurn]:
    return [stored_turn(dialect, msgspec.json.encode(turn)) for turn in turns]


def merged(session: list[StoredTurn], *asked: Any, dialect: Dialect = "openai_chat", truncated: bool = False) -> Merged:
    spoken = turns_of(dialect)
    assert spoken is not None
    # As other encoders space it.
    call: Call = call_of(dialect, [msgspec.json.format(msgspec.json.encode(turn), indent=3) for turn in asked])
    return merge(call, spoken, session, truncated=truncated)


def new(found: Merged) -> list[Any]:
    return [msgspec.json.decode(turn) for turn in found.new]


@every_dialect
def test_what_holds_no_answer_adds_to_the_session(dialect: Dialect) -> None:
    session = stored(user("one", dialect), model("1", dialect), dialect=dialect)
    found = merged(session, user("one", dialect), dialect=dialect)
    assert found.before == session
    assert new(found) == [user("one", dialect)]


@every_dialect
def test_a_history_that_is_sent_along_is_known(dialect: Dialect) -> None:
    session = stored(*[turn for n in "123" for turn in (user(n, dialect), model(f"{n}!", dialect))], dialect=dialect)
    history = [msgspec.json.decode(turn.body) for turn in session]
    for start in (0, 2, 5):  # all of it, or its newest turns
        found = merged(session, *history[start:], user("4", dialect), dialect=dialect)
        assert found.before == session
        assert new(found) == [user("4", dialect)]


def test_a_copy_of_an_answer_may_lack_a_providers_members_and_thoughts() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}, "extra_content": {"sig": "s"}}
    answer = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}
    session = stored(user("one"), answer)
    bare = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    result = {"role": "tool", "tool_call_id": "a", "content": "7"}
    found = merged(session, user("one"), {"role": "assistant", "tool_calls": [bare]}, result)
    assert found.before == session
    assert new(found) == [result]
    other = {"role": "assistant", "tool_calls": [{**bare, "id": "b"}]}
    assert merged(session, user("one"), other, result).before == session
    assert len(merged(session, user("one"), other, result).new) == 3


def test_pieces_of_an_answer_are_that_answer() -> None:
    """As Google's SDK keeps a streamed one: a content for every chunk."""
    session = stored(user("one", "gemini"), model("first second", "gemini"), dialect="gemini")
    found = merged(
        session, user("one", "gemini"), model("first ", "gemini"), model("second", "gemini"), user("2", "gemini"), dialect="gemini"
    )
    assert found.before == session
    assert new(found) == [user("2", "gemini")]


def test_an_answer_that_is_asked_for_again_is_answered_from_what_came_before_it() -> None:
    session = stored(user("one"), model("1"), user("two"), model("2"))
    found = merged(session, user("one"), model("1"), user("two"))
    assert found.before == session[:2]
    assert new(found) == [user("two")]


def test_a_history_that_went_another_way_goes_that_way_and_is_known_from_there_on() -> None:
    session = stored(user("one"), model("1"), user("two"), model("2"))
    edited = [user("one"), model("1"), user("zwei")]
    found = merged(session, *edited)
    assert found.before == session[:2]
    assert new(found) == [user("zwei")]
    session += stored(user("zwei"), model("Zwei!"))
    found = merged(session, *edited, model("Zwei!"), user("drei"))
    assert found.before == [*session[:2], *session[4:]]
    assert new(found) == [user("drei")]


def test_examples_of_the_clients_own_stay_beside_a_session_that_knows_nothing_of_them() -> None:
    session = stored(user("one"), model("1"))
    asked = [user("an example"), model("an answer"), user("two")]
    found = merged(session, *asked)
    assert found.before == session
    assert new(found) == asked


def test_instructions_at_the_beginning_are_apart() -> None:
    system = {"role": "system", "content": "be brief"}
    session = stored(user("one"), model("1"))
    found = merged(session, system, user("one"), model("1"), {"role": "developer", "content": "now"}, user("two"))
    assert [msgspec.json.decode(turn) for turn in found.system] == [system]
    assert new(found) == [{"role": "developer", "content": "now"}, user("two")]


def test_behind_a_summary_a_whole_history_is_known_by_its_end() -> None:
    history = [turn for n in "123" for turn in (user(n), model(f"{n}!"))]
    left = stored(*history[-2:])
    found = merged(left, *history, user("4"), truncated=True)
    assert found.before == left
    assert new(found) == [user("4")]
    again = merged(stored(*history[-4:]), *history[:-1], truncated=True)
    assert [turn.body for turn in again.before] == [turn.body for turn in stored(*history[2:4])]
    assert new(again) == [user("3")]


def test_the_same_words_are_another_turn_where_a_user_says_them_again() -> None:
    session = stored(user("yes"), model("ok"), user("yes"), model("ok"))
    found = merged(session, user("yes"), model("ok"), user("yes"), model("ok"), user("yes"))
    assert found.before == session
    assert new(found) == [user("yes")]


@every_dialect
def test_turns_of_another_protocol_are_translated_and_known_then_too(dialect: Dialect) -> None:
    session = [*stored(user("one"), model("1")), *stored(user("two", "anthropic"), model("2", "anthropic"), dialect="anthropic")]
    told = told_in(dialect, session)
    assert {turn.dialect for turn in told} == {dialect}
    if dialect in ("openai_chat", "anthropic"):
        same = slice(0, 2) if dialect == "openai_chat" else slice(2, 4)
        assert told[same] == session[same]
    found = merged(told, *[msgspec.json.decode(turn.body) for turn in told], user("three", dialect), dialect=dialect)
    assert found.before == told
    assert new(found) == [user("three", dialect)]
