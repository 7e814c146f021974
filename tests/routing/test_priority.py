"""priority: as it is written down, whatever is known."""

from __future__ import annotations

from random import Random

from agent_gateway.routing.strategies.priority import Options, Strategy
from tests.routing.views import view


def test_the_order_is_the_configurations() -> None:
    views = [view(in_flight=99, latency_s=9, cost_usd=9), view(weight=100), view(latency_s=0, cost_usd=0)]
    assert all(Strategy(Options()).order(views, Random(seed)) == [0, 1, 2] for seed in range(20))
