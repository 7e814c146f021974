"""lowest_latency: the shortest expected time to first token, and unknown ones first, so that they become known."""

from __future__ import annotations

from random import Random

import pytest

from agent_gateway.routing.strategies.lowest_latency import Options, Strategy
from tests.routing.views import shares, view

STRATEGY = Strategy(Options())


def test_the_fastest_comes_first_whatever_it_costs() -> None:
    views = [view(latency_s=0.9), view(latency_s=0.1, cost_usd=9, in_flight=9), view(latency_s=0.5)]
    assert STRATEGY.order(views, Random(1)) == [1, 2, 0]


def test_one_that_was_never_measured_comes_before_all() -> None:
    assert STRATEGY.order([view(latency_s=0.001), view(latency_s=0)], Random(1)) == [1, 0]


def test_ties_go_to_the_less_busy_for_its_weight_and_then_at_random() -> None:
    assert STRATEGY.order([view(in_flight=4, weight=1), view(in_flight=6, weight=2)], Random(1)) == [1, 0]
    assert shares(STRATEGY, [view(), view()]) == pytest.approx([0.5, 0.5], abs=0.02)
