"""lowest_cost: the cheapest for this request, and unknown prices last."""

from __future__ import annotations

from random import Random

import pytest

from agent_gateway.routing.strategies.lowest_cost import Options, Strategy
from tests.routing.views import shares, view

STRATEGY = Strategy(Options())


def test_the_cheapest_comes_first_however_slow() -> None:
    views = [view(cost_usd=0.3), view(cost_usd=0.1, latency_s=9, in_flight=9), view(cost_usd=0.2)]
    assert STRATEGY.order(views, Random(1)) == [1, 2, 0]


def test_free_comes_first_and_unknown_last() -> None:
    assert STRATEGY.order([view(cost_usd=None), view(cost_usd=100), view(cost_usd=0)], Random(1)) == [2, 1, 0]


def test_ties_go_to_the_less_busy_for_its_weight_and_then_at_random() -> None:
    assert STRATEGY.order([view(in_flight=4, weight=1), view(in_flight=6, weight=2)], Random(1)) == [1, 0]
    assert shares(STRATEGY, [view(), view()]) == pytest.approx([0.5, 0.5], abs=0.02)
