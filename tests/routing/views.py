"""Views for the strategies' tests, and who comes first how often."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol

from agent_gateway.routing.base import View


class Orders(Protocol):
    def order(self, views: Sequence[View], random: Random) -> list[int]: ...


def view(*, weight: float = 1.0, in_flight: int = 0, latency_s: float = 0.5, cost_usd: float | None = 0.001) -> View:
    return View(weight, in_flight, latency_s, cost_usd)


def shares(strategy: Orders, views: Sequence[View], draws: int = 20_000) -> list[float]:
    """How often each comes first."""
    random = Random(1)
    firsts = [strategy.order(views, random)[0] for _ in range(draws)]
    return [firsts.count(index) / draws for index in range(len(views))]
