"""A storm in virtual time: the primary fails for a minute, then heals; planner, health and attempt loop are the real ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest

from agent_gateway.core.call import Call
from agent_gateway.core.errors import ProviderFault
from agent_gateway.core.exchange import Exchange
from agent_gateway.health.registry import BUDGET_FLOOR
from tests.upstream.stage import Script, Stage, answers, call, fails, now, play, route

PER_SECOND = 100
CALM_S, STORM_S, AFTER_S = 20, 60, 100
ANSWER_S = 0.2


@dataclass
class Story:
    states: list[tuple[float, str]] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    exchanges: list[Exchange] = field(default_factory=list)
    last_minute: Counter[str] = field(default_factory=Counter)


async def storm(seed: int, primary_fails: float, spare_fails: float) -> Story:
    stage = Stage(route("a", fallbacks=("spare",)), route("b", name="spare"), seed=seed)
    random, story, asked = Random(seed), Story(), call()

    def weather(rate: float, *, storm_only: bool) -> Script:
        raging = not storm_only or CALM_S <= now() < CALM_S + STORM_S
        return fails(ProviderFault("storm"), after_s=0.05) if raging and random.random() < rate else answers(after_s=ANSWER_S)

    def primary(_: Call) -> Script:
        return weather(primary_fails, storm_only=True)

    def spare(_: Call) -> Script:
        return weather(spare_fails, storm_only=False)

    stage.script(a=primary, b=spare)
    controller = stage.health.controller("chat")

    async def one() -> None:
        exchange = stage.exchange(asked)
        async for _ in stage.loop.answer(exchange, stage.planner.plan(exchange, stage.asked)):
            pass
        story.exchanges.append(exchange)
        story.statuses[exchange.status or "none"] += 1
        if exchange.started > CALM_S + STORM_S + AFTER_S - 10:
            story.last_minute[exchange.status or "none"] += 1

    async with asyncio.TaskGroup() as requests:
        for _ in range((CALM_S + STORM_S + AFTER_S) * PER_SECOND):
            requests.create_task(one())
            state = controller.reading(now()).state
            if not story.states or story.states[-1][1] != state:
                story.states.append((now(), state))
            await asyncio.sleep(1 / PER_SECOND)
    assert [known.load.in_flight for _, known in stage.health.deployments()] == [0, 0]
    return story


def assert_no_deployment_is_overrun(story: Story) -> None:
    """At no time more than 1.2 × the requests that came to it in their plan's order, but for the budget's floor."""
    attempts = sorted(
        (attempt.started, attempt.deployment, number == 0)
        for exchange in story.exchanges
        for name in ("fake/a", "fake/b")
        for number, attempt in enumerate([item for item in exchange.attempts if item.deployment == name])
    )
    planned: Counter[str] = Counter()
    called: Counter[str] = Counter()
    for _, name, first in attempts:
        called[name] += 1
        planned[name] += first
        assert called[name] <= max(1.2 * planned[name], planned[name] + BUDGET_FLOOR) + 1


@pytest.mark.parametrize(("seed", "primary_fails"), [(1, 0.3), (2, 0.3), (3, 1.0)], ids=["storm", "another", "outage"])
def test_the_fallback_trips_once_and_returns_once_and_the_answers_go_on(seed: int, primary_fails: float) -> None:
    """In an outage it is the breaker that keeps the calls off the primary; the controller has to see it all the same."""
    story = play(lambda: storm(seed, primary_fails, spare_fails=0.01))
    states = [state for _, state in story.states if state != "alert"]
    assert states == ["normal", "tripped", "recovering", "normal"]
    when = {state: at for at, state in story.states}
    tripped_at = next(at for at, state in story.states if state == "tripped")
    assert CALM_S < tripped_at < CALM_S + 30
    assert when["recovering"] > CALM_S + STORM_S
    answered = story.statuses["success"] + story.statuses["fallback"]
    assert answered / story.statuses.total() >= 0.999
    assert_no_deployment_is_overrun(story)
    assert story.last_minute["success"] >= 0.99 * story.last_minute.total()


def test_where_the_fallback_fails_too_repeats_stay_within_their_budget() -> None:
    story = play(lambda: storm(3, primary_fails=1.0, spare_fails=0.5))
    assert story.statuses["degraded"] > 0
    assert_no_deployment_is_overrun(story)
    assert max(len(exchange.attempts) for exchange in story.exchanges) <= 3
