"""least_busy: the fewest calls in flight for its weight."""

from __future__ import annotations

from random import Random

import pytest

from agent_gateway.routing.strategies.least_busy import Options, Strategy
from tests.routing.views import shares, view

STRATEGY = Strategy(Options())


def test_fewer_calls_come_first_whatever_they_cost() -> None:
    views = [view(in_flight=3), view(in_flight=1, latency_s=9, cost_usd=9), view(in_flight=2)]
    assert STRATEGY.order(views, Random(1)) == [1, 2, 0]


def test_a_weight_of_two_takes_twice_the_calls() -> None:
    flying = [0, 0]
    for _ in range(300):
        views = [view(weight=1, in_flight=flying[0]), view(weight=2, in_flight=flying[1])]
        flying[STRATEGY.order(views, Random(1))[0]] += 1
    assert flying == [100, 200]


def test_an_idle_one_of_more_weight_comes_first() -> None:
    assert STRATEGY.order([view(weight=1), view(weight=3)], Random(1)) == [1, 0]


def test_ties_fall_at_random() -> None:
    assert shares(STRATEGY, [view(), view()]) == pytest.approx([0.5, 0.5], abs=0.02)
