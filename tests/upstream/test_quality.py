"""The quality checks: what rejects an answer, and what each is worth in the score."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core.call import Call
from agent_gateway.core.settings import Quality
from agent_gateway.core.usage import Usage
from agent_gateway.upstream.quality import Facts, is_json, objection, objection_to_start, score

PLAIN = Call("openai_chat", "m", b"{}")
JSON = Call("openai_chat", "m", b"{}", wants_json=True)
LAX = Quality(reject_empty=False)
USAGE = Usage(input=80, output=20)


def facts(text: str | None = "hello", finish: str | None = "stop", usage: Usage | None = USAGE, says: bool = True) -> Facts:
    return Facts(says, finish, usage, text)


@pytest.mark.parametrize(
    ("told", "call", "policy", "why"),
    [
        (facts(), PLAIN, Quality(), None),
        (facts("", says=False), PLAIN, Quality(), "empty"),
        (facts("", says=False), PLAIN, LAX, None),
        (facts("no json"), PLAIN, Quality(), None),
        (facts("no json"), JSON, Quality(), "JSON"),
        (facts('{"a": 1}'), JSON, Quality(), None),
        (facts('{"a": ', finish="length"), JSON, Quality(), None),
        (facts(None), JSON, Quality(), None),
        (facts(), PLAIN, Quality(min_token_efficiency=0.3), "0.20 is below 0.3"),
        (facts(), PLAIN, Quality(min_token_efficiency=0.2), None),
        (facts(usage=None), PLAIN, Quality(min_token_efficiency=0.3), None),
        (facts(usage=Usage()), PLAIN, Quality(min_token_efficiency=0.3), None),
    ],
)
def test_what_is_not_good_enough(told: Facts, call: Call, policy: Quality, why: str | None) -> None:
    said = objection(told, call, policy)
    assert said is None if why is None else why in (said or "")


@pytest.mark.parametrize(
    ("told", "call", "policy", "points"),
    [
        (facts(), PLAIN, Quality(), 1.0),
        (facts(finish="length"), PLAIN, Quality(), 0.5),
        (facts(finish="tool_calls"), PLAIN, Quality(), 1.0),
        (facts("", finish="stop", says=False), PLAIN, Quality(), 0.5),
        (facts("", finish=None, says=False), PLAIN, Quality(), 0.0),
        (facts("no json"), JSON, Quality(), 2 / 3),
        (facts("[]"), JSON, Quality(), 1.0),
        (facts(), PLAIN, Quality(min_token_efficiency=0.4), (1 + 1 + 0.5) / 3),
        (facts(), PLAIN, Quality(min_token_efficiency=0.1), 1.0),
        (facts(), PLAIN, Quality(min_token_efficiency=0.0), 1.0),
    ],
)
def test_the_score_is_the_mean_of_the_checks_that_apply(told: Facts, call: Call, policy: Quality, points: float) -> None:
    assert score(told, call, policy) == pytest.approx(points)


@given(
    st.builds(
        Facts,
        st.booleans(),
        st.none() | st.sampled_from(["stop", "length", "content_filter"]),
        st.none() | st.builds(Usage, input=st.integers(0, 100), output=st.integers(0, 100)),
        st.none() | st.text(max_size=20),
    ),
    st.sampled_from([PLAIN, JSON]),
    st.none() | st.floats(0, 1),
)
def test_a_score_is_a_share_and_full_marks_are_never_rejected(told: Facts, call: Call, floor: float | None) -> None:
    policy = Quality(min_token_efficiency=floor)
    points = score(told, call, policy)
    assert 0 <= points <= 1
    if points == 1:
        assert objection(told, call, policy) is None


@pytest.mark.parametrize(
    ("text", "rejected"), [("Sure", True), ("```json", True), ("{", False), ("  [", False), ("\n", False), ("", False), (None, False)]
)
def test_the_beginning_of_a_stream_shows_whether_it_is_json(text: str | None, rejected: bool) -> None:
    assert (objection_to_start(text, JSON) is not None) is rejected
    assert objection_to_start(text, PLAIN) is None


@pytest.mark.parametrize(("text", "valid"), [("1", True), ('"a"', True), ("{}", True), ("", False), ("{", False), ("[" * 100_000, False)])
def test_what_is_json(text: str, valid: bool) -> None:
    assert is_json(text) is valid
