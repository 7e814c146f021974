"""Load, latency and cost together, by the better of two random choices."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from agent_gateway.routing.base import View

Factor = Annotated[float, Meta(ge=0)]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much each share of the score counts; 0 leaves it out."""

    kind: str = "balanced"
    load: Factor = 1.0
    latency: Factor = 1.0
    cost: Factor = 1.0


class Strategy:
    """score = load × L/max(L) + latency × T/max(T) + cost × C/max(C), lower is better, where L = (in flight + 1) / weight,
    T = expected time to first token and C = expected cost of this request; each is measured against the largest among the views.

    Two views are drawn in proportion to their weights and the better one comes first: the best one alone would draw every request
    that arrives before its load shows ("The Power of Two Choices in Randomized Load Balancing", Mitzenmacher, 2001). The rest follow
    by score. An unknown price counts as the dearest, an unknown latency as none, so that it becomes known.
    """

    Settings: ClassVar[type[Options]] = Options

    def __init__(self, settings: Options) -> None:
        self._settings = settings

    def order(self, views: Sequence[View], random: Random) -> list[int]:
        scores = self.scores(views)
        by_score = sorted(range(len(views)), key=scores.__getitem__)
        if len(views) > 1:
            draws = [random.random() ** (1 / view.weight) for view in views]
            one, other = sorted(range(len(views)), key=draws.__getitem__)[-2:]
            first = one if scores[one] < scores[other] else other
            by_score.remove(first)
            by_score.insert(0, first)
        return by_score

    def scores(self, views: Sequence[View]) -> list[float]:
        settings = self._settings
        loads = [(view.in_flight + 1) / view.weight for view in views]
        latencies = [view.latency_s for view in views]
        dearest = max((view.cost_usd for view in views if view.cost_usd is not None), default=0.0)
        costs = [dearest if view.cost_usd is None else view.cost_usd for view in views]
        load = settings.load / max(loads)
        latency = settings.latency / (max(latencies) or 1.0)
        cost = settings.cost / (dearest or 1.0)
        return [load * loads[i] + latency * latencies[i] + cost * costs[i] for i in range(len(views))]
