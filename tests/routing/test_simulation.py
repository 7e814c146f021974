"""100,000 virtual requests through each strategy: what each gives, and what it costs, against the others.

The figures are those of `docs/routing.md`; run this file as a program to print them.
"""

from __future__ import annotations

import sys
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
PER_SECOND = 45.0
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


def test_weighted_keeps_its_shares_within_a_hundredth() -> None:
    weights = sum(model.weight for model in MODELS)
    assert simulate("weighted").shares == pytest.approx([model.weight / weights for model in MODELS], abs=0.01)


def test_priority_uses_the_first_alone() -> None:
    assert simulate("priority").shares == (1, 0, 0)


def test_lowest_cost_is_the_cheapest_and_by_far_the_slowest() -> None:
    cheapest = simulate("lowest_cost")
    others = [simulate(name) for name in STRATEGIES.table if name != "lowest_cost"]
    assert all(cheapest.mean_usd < 0.5 * other.mean_usd for other in others)
    assert all(cheapest.p95_s > 5 * other.p95_s for other in others)


@pytest.mark.parametrize("name", ["least_busy", "lowest_latency", "balanced"])
def test_who_looks_at_load_or_latency_has_a_shorter_tail(name: str) -> None:
    assert simulate(name).p95_s < 0.85 * simulate("weighted").p95_s
    assert simulate(name).p95_s < 0.2 * simulate("lowest_cost").p95_s


def test_who_looks_at_load_is_faster_on_average_than_who_crowds_the_fastest() -> None:
    for crowded in ("priority", "lowest_latency"):
        for spread in ("least_busy", "balanced"):
            assert simulate(spread).mean_s < 0.85 * simulate(crowded).mean_s


def test_balanced_is_no_worse_than_lowest_latency_on_any_axis() -> None:
    balanced, fastest = simulate("balanced"), simulate("lowest_latency")
    assert balanced.mean_s < fastest.mean_s
    assert balanced.p95_s < 1.02 * fastest.p95_s
    assert balanced.p99_s < fastest.p99_s
    assert balanced.mean_usd < 0.9 * fastest.mean_usd


def test_balanced_is_as_fast_as_least_busy_and_cheaper() -> None:
    balanced, least_busy = simulate("balanced"), simulate("least_busy")
    assert balanced.mean_usd < least_busy.mean_usd
    assert balanced.p95_s < 1.05 * least_busy.p95_s


@pytest.mark.parametrize("name", list(STRATEGIES.table))
def test_the_document_tells_these_figures(name: str) -> None:
    assert row(name) in DOCUMENT.read_text()


if __name__ == "__main__":
    sys.stdout.writelines(f"{row(name)}\n" for name in STRATEGIES.table)
