"""100,000 virtual requests through each strategy: what each gives, and what it costs, against the others.

The figures are those of `docs/routing.md`; run this file as a program to print them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush
from pathlib import Path
from random import Random

import pytest

from agent_gateway.health.load import Load
from agent_gateway.routing.base import STRATEGIES, Strategy, View

REQUESTS = 100_000
PER_SECOND = 30.0
INPUT_TOKENS = 1000
DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "routing.md"


@dataclass(frozen=True)
class Model:
    """An answer takes `idle_s` × (1 + in flight / `capacity`), give or take a third."""

    name: str
    idle_s: float
    capacity: float
    cost_usd: float
    weight: float


MODELS = (
    Model("near", idle_s=0.25, capacity=20, cost_usd=0.0030, weight=3),
    Model("middle", idle_s=0.40, capacity=30, cost_usd=0.0020, weight=2),
    Model("far", idle_s=0.80, capacity=40, cost_usd=0.0010, weight=1),
)


@dataclass(frozen=True)
class Figures:
    shares: tuple[float, ...]
    mean_s: float
    p95_s: float
    p99_s: float
    mean_usd: float


@cache
def simulate(name: str, seed: int = 1) -> Figures:
    plugin: type[Strategy] = STRATEGIES.load(name)
    strategy, random = plugin(plugin.Settings()), Random(seed)
    loads = [Load() for _ in MODELS]
    served = [0 for _ in MODELS]
    took: list[float] = []
    ends: list[tuple[float, int, float]] = []
    for now in _arrivals(random):
        while ends and ends[0][0] <= now:
            end, number, seconds = heappop(ends)
            loads[number].in_flight -= 1
            loads[number].streams.observe(seconds, INPUT_TOKENS, end)
        views = [
            View(model.weight, load.in_flight, load.streams.expected_s(INPUT_TOKENS, now), model.cost_usd)
            for model, load in zip(MODELS, loads, strict=True)
        ]
        number = strategy.order(views, random)[0]
        model, load = MODELS[number], loads[number]
        seconds = model.idle_s * (1 + load.in_flight / model.capacity) * random.uniform(2 / 3, 4 / 3)
        load.in_flight += 1
        served[number] += 1
        took.append(seconds)
        heappush(ends, (now + seconds, number, seconds))
    took.sort()
    return Figures(
        shares=tuple(count / REQUESTS for count in served),
        mean_s=sum(took) / REQUESTS,
        p95_s=took[int(REQUESTS * 0.95)],
        p99_s=took[int(REQUESTS * 0.99)],
        mean_usd=sum(count * model.cost_usd for count, model in zip(served, MODELS, strict=True)) / REQUESTS,
    )


def _arrivals(random: Random) -> Iterator[float]:
    now = 0.0
    for _ in range(REQUESTS):
        now += random.expovariate(PER_SECOND)
        yield now


def row(name: str) -> str:
    figures = simulate(name)
    shares = " / ".join(f"{share:.0%}" for share in figures.shares).replace("%", " %")
    return f"| {name} | {shares} | {figures.mean_s:.2f} | {figures.p95_s:.2f} | {figures.p99_s:.2f} | {figures.mean_usd * 1000:.2f} |"


if __name__ == "__main__":
    print("\n".join(row(name) for name in STRATEGIES.table))
