"""How much of a session goes in front of a request."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.protocols.turns import Kind
from agent_gateway.session.window import newest, room_for_input, second_round

#: Rounds as conversations have them: something said, perhaps tools called and heard of, an answer.
_ROUNDS = st.lists(
    st.builds(
        lambda users, steps: ["user"] * users + [kind for step in range(steps) for kind in ["assistant", "results"]] + ["assistant"],
        st.integers(1, 2),
        st.integers(0, 3),
    ),
    max_size=6,
)


def kept(kinds: str, budget: int, *, turns_max: float = 100, goes_on: bool = False) -> str:
    """Kinds by their first letters, each turn of weight 1; what is kept, by places."""
    words: dict[str, Kind] = {"u": "user", "a": "assistant", "r": "results", "s": "system"}
    places = newest([words[kind] for kind in kinds], [1] * len(kinds), tokens_max=budget, turns_max=turns_max, goes_on=goes_on)
    return "".join([kinds[place] if place in places else "-" for place in range(len(kinds))])


def test_whole_rounds_are_kept_newest_first() -> None:
    assert kept("uauaua", 6) == "uauaua"
    assert kept("uauaua", 5) == "--uaua"
    assert kept("uauaua", 2) == "----ua"
    assert kept("uauaua", 6, turns_max=3) == "----ua"


def test_of_a_newest_round_that_does_not_fit_the_question_and_the_newest_steps_are_kept() -> None:
    assert kept("uauararara", 5) == "--u----ara"
    assert kept("uarararara", 6) == "u----arara"
    assert kept("uarararara", 1) == "----------"


def test_a_call_stays_with_the_result_that_follows_in_the_request() -> None:
    assert kept("uaua", 0, goes_on=True) == "--ua"
    assert kept("uarara", 0, goes_on=True) == "u----a"


def test_what_begins_with_an_answer_is_a_round_too() -> None:
    assert kept("aua", 3) == "aua"
    assert kept("aua", 2) == "-ua"


@given(_ROUNDS, st.integers(0, 30), st.integers(0, 30), st.booleans(), st.data())
def test_nothing_is_kept_without_what_it_belongs_to(
    rounds: list[list[Kind]], budget: int, turns_max: int, goes_on: bool, data: st.DataObject
) -> None:
    kinds = [kind for one in rounds for kind in one]
    tokens = data.draw(st.lists(st.integers(0, 5), min_size=len(kinds), max_size=len(kinds)))
    places = newest(kinds, tokens, tokens_max=budget, turns_max=turns_max, goes_on=goes_on)
    assert places == sorted(set(places))
    if not places:
        return
    assert kinds[places[0]] == "user"
    for before, place in pairwise(places):
        if kinds[place] == "results":
            assert place == before + 1
    if not goes_on:
        assert sum(tokens[place] for place in places) <= budget
        assert len(places) <= turns_max
    else:
        assert places[-1] == len(kinds) - 1


def test_room_is_left_for_the_answer() -> None:
    assert room_for_input(1000, 100) == 800
    assert room_for_input(100_000, None) == 90_000 - 4096
    assert room_for_input(1000, None) == 650
    assert room_for_input(1000, 5000) == 0


@given(_ROUNDS, st.integers(1, 12), st.integers(0, 12), st.integers(0, 3), st.booleans())
def test_the_same_is_sent_of_a_session_that_is_read_in_part(
    rounds: list[list[Kind]], most: int, tokens: int, new: int, goes_on: bool
) -> None:
    kinds = [kind for each in rounds for kind in each]

    def sent(first: int) -> list[int]:
        read = kinds[first:]
        places = newest(read, [1] * len(read), tokens_max=tokens, turns_max=most - new, goes_on=goes_on)
        return [first + place for place in places]

    read = max(len(kinds) - most - 1, 0)
    start = second_round(kinds[read:]) if read else 0
    assert sent(0) == sent(0 if start is None else read + start)
