"""balanced: the better of two random choices, by load, latency and cost together."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from agent_gateway.routing.strategies.balanced import Options, Strategy
from tests.routing.views import shares, view

STRATEGY = Strategy(Options())


def test_the_formula() -> None:
    views = [view(in_flight=1, weight=1, latency_s=0.5, cost_usd=0.004), view(in_flight=7, weight=2, latency_s=1.0, cost_usd=0.001)]
    assert STRATEGY.scores(views) == pytest.approx([2 / 4 + 0.5 + 1, 1 + 1 + 0.25])
    weighed = Strategy(Options(load=2, latency=0.5, cost=0))
    assert weighed.scores(views) == pytest.approx([2 * 2 / 4 + 0.5 * 0.5, 2 + 0.5])


def test_an_unknown_price_counts_as_the_dearest_and_an_unknown_latency_as_none() -> None:
    views = [view(cost_usd=None, latency_s=0), view(cost_usd=0.002, latency_s=0.5), view(cost_usd=0.004, latency_s=1.0)]
    assert STRATEGY.scores(views) == pytest.approx([1 + 0 + 1, 1 + 0.5 + 0.5, 3])


def test_where_no_price_and_no_latency_is_known_the_load_decides() -> None:
    views = [view(in_flight=5, latency_s=0, cost_usd=None), view(in_flight=0, latency_s=0, cost_usd=None)]
    assert STRATEGY.scores(views) == pytest.approx([1, 1 / 6])
    assert STRATEGY.order(views, Random(1)) == [1, 0]


def test_of_two_the_better_is_always_first() -> None:
    assert shares(STRATEGY, [view(), view(in_flight=1)], 1000) == [1, 0]


def test_of_three_the_worst_is_never_first_and_the_best_not_always() -> None:
    drawn = shares(STRATEGY, [view(in_flight=2), view(in_flight=1), view(in_flight=0)])
    assert drawn == pytest.approx([0, 1 / 3, 2 / 3], abs=0.02)


def test_pairs_are_drawn_by_weight() -> None:
    """The same score for all: first is whoever was drawn, and weight 8 is drawn the most."""
    level = Strategy(Options(load=0, latency=0, cost=0))
    drawn = shares(level, [view(weight=8), view(weight=1), view(weight=1)])
    assert drawn[0] > 0.7


def test_the_rest_follow_by_score() -> None:
    views = [view(in_flight=load) for load in (4, 0, 3, 1, 2)]
    for seed in range(50):
        first, *rest = STRATEGY.order(views, Random(seed))
        assert rest == [index for index in (1, 3, 4, 2, 0) if index != first]


def test_its_factors_are_configured_and_checked() -> None:
    assert msgspec.convert({"kind": "balanced", "cost": 3}, Options) == Options(cost=3)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"cost": -1}, Options)
