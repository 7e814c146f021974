"""What counts as late: not noise, not a quiet deployment, not what has long been so."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from agent_gateway.health.first_tokens import DOUBLES_S, WINDOW, FirstTokens

USUAL_S = 0.5


def window(known: FirstTokens, seconds: float, in_flight: int, now: float = 0, tokens: int = 1000) -> float:
    told = [known.observe(seconds, tokens, in_flight, now) for _ in range(WINDOW)]
    assert told[:-1] == [None] * (WINDOW - 1)
    assert told[-1] is not None
    return told[-1]


def met(in_flight: int = 10) -> FirstTokens:
    known = FirstTokens()
    assert window(known, USUAL_S, in_flight) == 0
    return known


def test_late_is_more_than_twice_the_usual_time_with_twice_as_many_calls() -> None:
    assert window(met(), 4 * USUAL_S, in_flight=20) == pytest.approx(2)


def test_slow_with_no_more_calls_than_usual_is_not_their_doing() -> None:
    assert window(met(), 4 * USUAL_S, in_flight=19) == 0


def test_a_few_late_ones_do_not_make_a_window_late() -> None:
    known = met()
    slow = WINDOW * 7 // 10
    told = [known.observe(10 * USUAL_S if index < slow else USUAL_S, 1000, 40, 0) for index in range(WINDOW)]
    assert told[-1] is not None
    assert told[-1] <= 1


def test_milliseconds_are_never_late() -> None:
    known = FirstTokens()
    window(known, 0.005, 10)
    assert window(known, 0.2, 40) == 0


def test_inputs_of_other_sizes_are_judged_apart() -> None:
    known = met()
    assert window(known, 20 * USUAL_S, 40, tokens=100_000) == 0
    assert window(known, 4 * USUAL_S, 40) > 1


def test_what_stays_so_becomes_usual() -> None:
    known = met()
    assert window(known, 4 * USUAL_S, 40, now=1) > 1
    assert window(known, 4 * USUAL_S, 40, now=1 + DOUBLES_S) <= 1
    assert window(met(), 4 * USUAL_S, 40, now=1e9) == 0


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0])
def test_noise_is_not_late_twice_in_a_row_however_many_calls_there_are(sigma: float) -> None:
    random, known, late = Random(7), FirstTokens(), [0.0]
    for number in range(200_000):
        told = known.observe(USUAL_S * random.lognormvariate(0, sigma), 1000, 5 if number < 1000 else 50, number / 10)
        if told is not None:
            late.append(told)
    assert not [pair for pair in itertools.pairwise(late) if min(pair) > 1]
