"""weighted: in proportion to the weights, whatever else is known."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from agent_gateway.routing.strategies.weighted import Options, Strategy
from tests.routing.views import shares, view

STRATEGY = Strategy(Options())


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (1, 2, 7), (0.1, 0.9), (1000, 1)])
def test_the_first_is_drawn_by_weight(weights: tuple[float, ...]) -> None:
    drawn = shares(STRATEGY, [view(weight=weight) for weight in weights])
    assert drawn == pytest.approx([weight / sum(weights) for weight in weights], abs=0.01)


def test_so_is_each_after_it_among_the_rest() -> None:
    random = Random(1)
    orders = Counter(tuple(STRATEGY.order([view(weight=weight) for weight in (1, 2, 7)], random)) for _ in range(20_000))
    assert orders[2, 1, 0] / 20_000 == pytest.approx(7 / 10 * 2 / 3, abs=0.01)
    assert orders[1, 2, 0] / 20_000 == pytest.approx(2 / 10 * 7 / 8, abs=0.01)


def test_load_latency_and_cost_change_nothing() -> None:
    assert shares(STRATEGY, [view(in_flight=99, latency_s=9, cost_usd=9), view()]) == shares(STRATEGY, [view(), view()])
