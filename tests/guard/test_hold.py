"""Texts in pieces: however they are cut, the same comes out; and only what a match could still begin in waits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent_gateway.guard.hold import Alarm, ArgumentsHold, Edit, Hold, Rules
from agent_gateway.guard.phrases import GAP_MAX_CHARS
from agent_gateway.guard.placeholders import Placeholders
from tests.contracts.test_checks import FOUND, make, texts

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SECRET = bytes(32)
PII: Any = make("pii", {"names": ["Ann Smith"]})
SECRETS: Any = make("secrets", {})
PATTERN: Any = make("deny", {"pattern": "(?i)project\\s+x|[0-9]{3,6}b?", "max_chars": 16})
WORDS: Any = make("deny", {"words": ["secret plan", "bob"]})


def known(*values: str) -> Placeholders:
    placeholders = Placeholders(SECRET, "owner")
    for value in values:
        placeholders.hide("EMAIL", value)
    return placeholders


def rules_of(*alarms: Alarm) -> Rules:
    hide = Placeholders(SECRET, "owner").stand_in
    return Rules([Edit("pii", PII, hide), Edit("secrets", SECRETS, hide), Edit("deny", PATTERN, hide)], alarms)


def undo(placeholders: Placeholders) -> Rules:
    return Rules([Edit("", placeholders, lambda _, value: placeholders.value(value))])


def cut(text: str, places: Sequence[int]) -> list[str]:
    bounds = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


def through(hold: Hold | ArgumentsHold, parts: Sequence[str]) -> str:
    return "".join([hold.feed(part) for part in parts]) + hold.feed("", is_last=True)


cuts = st.lists(st.integers(0, 400), max_size=12)


@unhurried
@given(text=texts, places=cuts)
@example(text="to ann@example.com, 4111 1111 1111 1111", places=list(range(60)))
def test_masks_do_not_depend_on_the_cut(text: str, places: list[int]) -> None:
    whole, parts = rules_of(), rules_of()
    assert through(Hold(parts), cut(text, places)) == whole.applied(text)
    assert parts.masked == whole.masked


@unhurried
@given(text=texts, places=cuts)
def test_alarms_do_not_depend_on_the_cut(text: str, places: list[int]) -> None:
    alarms = (Alarm("words", WORDS, True), Alarm("pattern", PATTERN, True), Alarm("cards", PII, False))
    whole, parts = rules_of(*alarms), rules_of(*alarms)
    assert through(Hold(parts), cut(text, places)) == whole.applied(text)
    assert parts.blocked == whole.blocked
    if whole.blocked is None:
        assert parts.flagged == whole.flagged


@unhurried
@given(text=st.lists(st.sampled_from(FOUND)).map("; ".join))
def test_what_is_masked_is_found_no_more(text: str) -> None:
    hide = Placeholders(SECRET, "owner").stand_in
    again = Rules([Edit("pii", PII, hide), Edit("secrets", SECRETS, hide)])
    once = Rules(again.edits).applied(text)
    assert again.applied(once) == once
    assert not again.masked


@unhurried
@given(text=texts, places=cuts, upper=st.booleans(), bare=st.booleans())
def test_what_was_hidden_comes_back(text: str, places: list[int], upper: bool, bare: bool) -> None:
    placeholders = Placeholders(SECRET, "owner")
    masked = Rules([Edit("pii", PII, placeholders.hide), Edit("secrets", SECRETS, placeholders.hide)]).applied(text)
    assert through(Hold(undo(placeholders)), cut(masked, places)) == text


@pytest.mark.parametrize("spelt", ["<{}>", "{}", "({})", "`<{}>`", "{}.", "**{}**", "[{}](mailto:{})"])
def test_a_model_may_spell_it_its_own_way(spelt: str) -> None:
    placeholders = known("ann@example.com")
    name = placeholders.hide("EMAIL", "ann@example.com").strip("<>")
    for told in (name, name.upper(), name.lower()):
        text = spelt.replace("{}", told)
        expected = spelt.replace("<{}>", "{}").replace("{}", "ann@example.com")
        assert through(Hold(undo(placeholders)), list(text)) == expected


def test_what_looks_like_one_and_is_none_stays() -> None:
    placeholders = known("ann@example.com")
    for text in ("<EMAIL_aaaaaaaaaa>", "EMAIL_", "<EMAIL", "an EMAIL_k3 or <b>bold</b>", "xEMAIL_aaaaaaaaaa"):
        assert through(Hold(undo(placeholders)), list(text)) == text


def test_only_what_a_match_could_begin_in_waits() -> None:
    hold = Hold(Rules([Edit("pii", PII, Placeholders(SECRET, "").stand_in)]))
    assert hold.feed("Write to me, my address is ") == "Write to me, my address is "
    assert hold.feed("ann@exa") == ""
    assert hold.feed("mple.com") == ""
    assert hold.feed(" or call 0").startswith("<EMAIL_")
    assert hold.feed("30. 我的电话是") == "030. 我的电话是"
    assert hold.feed("1381234") == ""
    assert hold.feed("5678。").startswith("<PHONE_")


def test_restoring_holds_nothing_of_plain_text() -> None:
    hold = Hold(undo(known("ann@example.com")))
    for word in ("The ", "quick, ", "brown ", "<b>", " fox ", "jumps. "):
        assert hold.feed(word) == word


@unhurried
@given(gap=st.text(st.sampled_from(" \n\t\u00a0"), min_size=1, max_size=GAP_MAX_CHARS), places=cuts)
def test_a_phrase_may_be_broken_and_spaced_anyhow(gap: str, places: list[int]) -> None:
    rules = Rules([Edit("words", WORDS, lambda label, value: "<>")])
    assert through(Hold(rules), cut(f"our Secret{gap}Plan{gap}of old", places)) == f"our <>{gap}of old"


def test_what_is_too_far_apart_is_no_phrase_and_waits_no_longer() -> None:
    hold = Hold(Rules((), [Alarm("words", WORDS, True)]))
    said = "secret" + " " * (GAP_MAX_CHARS + 1)
    assert "".join(hold.feed(letter) for letter in said) == said


def test_nothing_of_a_blocked_match_goes_out() -> None:
    rules = Rules((), [Alarm("words", WORDS, True)])
    hold = Hold(rules)
    assert "".join(hold.feed(letter) for letter in "this is our secret plan, so") == "this is our "
    assert rules.blocked == "words"
    assert hold.feed("more") == ""


def test_many_matches_cost_no_more_than_their_number() -> None:
    """Not their number times the text."""
    calls = 0

    class Counting:
        def find(self, text: str, start: int = 0) -> Any:
            nonlocal calls
            calls += len(text) - start
            return SECRETS.find(text, start)

        settled = SECRETS.settled

    hide = Placeholders(SECRET, "").stand_in
    text = "to ann@example.com, " * 5_000
    assert Rules([Edit("pii", PII, hide), Edit("secrets", Counting(), hide)]).applied(text).count("<EMAIL_") == 5_000
    assert calls < 3 * len(text)


# --- arguments --------------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | texts.map(lambda text: text.replace("\ud83d", "")) | st.sampled_from(FOUND),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["to", "a b", "é", "ann@example.com"]), inner, max_size=3),
    max_leaves=6,
)


@unhurried
@given(value=st.lists(values, max_size=3) | st.dictionaries(st.sampled_from(["to", "cc", "body"]), values, max_size=3), places=cuts)
@example(value={"body": '\nann@example.com\t"4111 1111 1111 1111"\\'}, places=list(range(60)))
def test_arguments_stay_json_and_only_their_texts_change(value: Any, places: list[int]) -> None:
    placeholders = Placeholders(SECRET, "owner")
    rules = Rules([Edit("pii", PII, placeholders.hide)])
    text = msgspec.json.encode(value).decode()
    masked = through(ArgumentsHold(rules), cut(text, places))
    assert msgspec.json.decode(masked) == _each(value, Rules([Edit("pii", PII, placeholders.hide)]))
    assert msgspec.json.decode(through(ArgumentsHold(undo(placeholders)), cut(masked, places))) == value
    assert through(ArgumentsHold(Rules([Edit("pii", PII, placeholders.hide)])), [text]) == masked


def _each(value: Any, rules: Rules) -> Any:
    if isinstance(value, str):
        return rules.applied(value)
    if isinstance(value, list):
        return [_each(item, rules) for item in value]
    if isinstance(value, dict):
        return {rules.applied(key): _each(item, rules) for key, item in value.items()}
    return value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "\\u003cEMAIL_x\\u003e"}',
        '{"a": "\\ud83d\\ude00", "b": [1, 2.50, "\\/"]}',
        '{"torn": "abc',
        '{"torn": "a\\',
        "",
        "  ",
        "plain words",
    ],
)
def test_arguments_that_hold_nothing_say_the_same(text: str) -> None:
    told = through(ArgumentsHold(undo(known("ann@example.com"))), list(text))
    if text.startswith("{") and text.endswith("}"):
        assert msgspec.json.decode(told) == msgspec.json.decode(text)
    else:
        assert told == text


def test_an_escaped_placeholder_in_arguments_comes_back_escaped() -> None:
    placeholders = Placeholders(SECRET, "")
    hidden = placeholders.hide("NAME", 'Ann "the\nKey" Smith')
    text = '{"to": "' + hidden.replace("<", "\\u003c").replace(">", "\\u003e") + '"}'
    told = through(ArgumentsHold(undo(placeholders)), list(text))
    assert msgspec.json.decode(told) == {"to": 'Ann "the\nKey" Smith'}


def test_arguments_that_are_no_json_are_a_text() -> None:
    rules = rules_of()
    assert through(ArgumentsHold(rules), list("mail ann@example.com")).startswith("mail <EMAIL_")
