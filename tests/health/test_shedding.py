"""Overload in virtual time: planner, health and attempt loop are the real ones, the provider can only do so much at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from statistics import mean
from typing import Any, cast

import pytest

from agent_gateway.core.errors import GatewayError
from agent_gateway.core.exchange import Edge, Exchange
from agent_gateway.core.settings import Breaker, Concurrency, Fallback, Timeouts
from agent_gateway.upstream.base import Provider
from agent_gateway.upstream.loop import AttemptLoop
from tests.upstream.capped import CappedProvider
from tests.upstream.stage import CLOCK, Stage, call, now, play, route

CAPACITY = 20
#: A mean answer takes 3.5 s, so this many a second are what the provider can do.
FULL_RATE = CAPACITY / 3.5
#: Idle streams are not what is tried here.
PATIENT = {
    "fallback": Fallback(reply=None),
    "breaker": Breaker(consecutive_failures=10**6),
    "timeouts": Timeouts(idle_s=600, first_token_s=60),
}


@dataclass
class Story:
    provider: CappedProvider
    #: (s, limit, under way) once a second.
    limits: list[tuple[float, int | None, int]] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    errors: list[GatewayError] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[str]:
        return Counter(exchange.status or "none" for exchange in self.exchanges)

    def limits_between(self, begin: float, end: float) -> list[int | None]:
        return [limit for at, limit, _ in self.limits if begin <= at < end]


async def overload(
    provider: CappedProvider,
    rate: Callable[[float], float],
    seconds: float,
    *,
    stream: bool = False,
    timeout_s: float = 60.0,
    edge_of: Callable[[int], Edge] = lambda number: "http",
    on_second: Callable[[float], None] = lambda at: None,
    **policies: Any,
) -> Story:
    """Requests come at random, `rate` a second."""
    stage = Stage(route("a", **(PATIENT | policies)))
    stage.loop = AttemptLoop({"fake": cast(Provider, provider)}, stage.health, CLOCK, random=Random(1))
    story, random, asked = Story(provider), Random(3), call(stream=stream)
    health = stage.health.of("fake/a")

    async def one(number: int) -> None:
        exchange = stage.exchange(asked, timeout_s=timeout_s)
        exchange.edge = edge_of(number)
        story.exchanges.append(exchange)
        try:
            async for _ in stage.loop.answer(exchange, stage.planner.plan(exchange, stage.asked)):
                pass
        except GatewayError as error:
            exchange.error = error
            exchange.status = "error"
            story.errors.append(error)
        exchange.ended = now()

    async with asyncio.TaskGroup() as requests:
        number, begun = 0, now()
        while now() - begun < seconds:
            if now() - begun >= len(story.limits):
                story.limits.append((now() - begun, health.concurrency.limit, provider.under_way))
                on_second(now() - begun)
            requests.create_task(one(number))
            number += 1
            await asyncio.sleep(random.expovariate(rate(now() - begun)))
    assert health.load.in_flight == provider.under_way == len(health.line) == 0
    return story


@pytest.mark.parametrize("wait_s", [None, 1.0], ids=["no time named", "a time named"])
def test_it_converges_to_what_the_provider_can_do(wait_s: float | None) -> None:
    story = play(lambda: overload(CappedProvider(CAPACITY, wait_s=wait_s), lambda at: 2 * FULL_RATE, 120))
    settled = story.limits_between(20, 120)
    assert all(limit is not None and 0.7 * CAPACITY <= limit <= 1.3 * CAPACITY for limit in settled)
    assert len(story.provider.refused) < 0.08 * story.provider.served
    blind = play(
        lambda: overload(CappedProvider(CAPACITY, wait_s=wait_s), lambda at: 2 * FULL_RATE, 120, concurrency=Concurrency(adaptive=False))
    )
    assert len(blind.provider.refused) > 10 * len(story.provider.refused)
    assert story.provider.served > blind.provider.served
    assert len([error for error in story.errors if error.status == 429]) < 0.01 * len(story.exchanges)


def test_it_recovers_when_the_provider_can_do_more() -> None:
    provider = CappedProvider(CAPACITY)

    def grows(at: float) -> None:
        provider.capacity = CAPACITY if at < 60 else 4 * CAPACITY

    story = play(lambda: overload(provider, lambda at: 2 * FULL_RATE, 160, on_second=grows))
    assert max([limit or 0 for limit in story.limits_between(20, 60)]) <= 1.3 * CAPACITY
    assert min([limit or 10**6 for limit in story.limits_between(110, 160)]) > 2 * CAPACITY
    late = [exchange for exchange in story.exchanges if exchange.started > 130]
    assert [exchange.status for exchange in late] == ["success"] * len(late)
    assert max([exchange.queued_s for exchange in late]) < 1


def test_it_is_forgotten_when_it_is_far_above_what_is_used() -> None:
    story = play(lambda: overload(CappedProvider(CAPACITY), lambda at: 3 * FULL_RATE if 10 < at < 30 else 0.5, 240))
    assert story.limits_between(25, 30)[-1] is not None
    assert story.limits_between(230, 240)[-1] is None


def test_without_overload_noise_and_growth_make_no_bound() -> None:
    """First tokens as they come, and in the end five times the traffic."""
    story = play(lambda: overload(CappedProvider(10**6), lambda at: 4 if at < 100 else 20, 300, stream=True))
    assert {limit for _, limit, _ in story.limits} == {None}
    assert {exchange.queued_s for exchange in story.exchanges} == {0.0}
    assert set(story.statuses) == {"success"}


def test_a_provider_that_only_gets_slow_is_held_to_what_it_does_well() -> None:
    def rate(at: float) -> float:
        return FULL_RATE / 2 if at < 60 else 6 * FULL_RATE

    held = play(lambda: overload(CappedProvider(CAPACITY, slow=True), rate, 150, stream=True, timeout_s=20))
    assert held.limits_between(0, 60)[-1] is None
    assert all(limit is not None and limit < 4 * CAPACITY for limit in held.limits_between(80, 150))
    assert not held.provider.refused
    first_tokens = [
        attempt.first_token - attempt.started
        for exchange in held.exchanges
        for attempt in exchange.attempts
        if attempt.first_token is not None and attempt.started > 90
    ]
    assert sorted(first_tokens)[len(first_tokens) // 2] < 4 * 0.3


def test_nobody_starves_and_batch_yields() -> None:
    """One in two is of a batch; the interactive ones alone are less than the provider can do."""

    def edge_of(number: int) -> Edge:
        return "batch" if number % 2 else "http"

    story = play(
        lambda: overload(CappedProvider(10**6), lambda at: 1.6 * FULL_RATE, 120, edge_of=edge_of, concurrency=Concurrency(max=CAPACITY))
    )
    interactive = [exchange for exchange in story.exchanges if exchange.edge == "http"]
    batch = [exchange for exchange in story.exchanges if exchange.edge == "batch"]
    assert story.provider.most_under_way == CAPACITY
    assert [exchange.status for exchange in interactive] == ["success"] * len(interactive)
    assert mean([exchange.queued_s for exchange in interactive]) < 0.1 * mean([exchange.queued_s for exchange in batch])
    served = [exchange for exchange in batch if exchange.status == "success"]
    assert len(served) > 0.3 * len(batch)
    starts = [exchange.started for exchange in served]
    assert all(any(at <= start < at + 20 for start in starts) for at in range(0, 100, 20)), "at all times some are served"


def test_who_cannot_be_served_in_time_is_told_so_at_once() -> None:
    story = play(lambda: overload(CappedProvider(10**6), lambda at: 3 * FULL_RATE, 60, timeout_s=8, concurrency=Concurrency(max=CAPACITY)))
    refused = [exchange for exchange in story.exchanges if exchange.error is not None and exchange.error.param == "deadline"]
    at_once = [exchange for exchange in refused if exchange.queued_s == 0]
    assert len(at_once) > 0.9 * len(refused) > 100
    waits = [exchange.error.retry_after_s for exchange in at_once if exchange.error is not None]
    assert all(wait is not None and 8 < wait <= 60 for wait in waits)
    assert {exchange.attempts == [] for exchange in refused} == {True}
