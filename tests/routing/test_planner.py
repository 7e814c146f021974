"""From a route to an order: fallbacks after the model, what is out of order last, and never nobody."""

from __future__ import annotations

from typing import Any

from agent_gateway.core.plan import Plan
from agent_gateway.core.pricing import Price
from agent_gateway.core.route import Route
from agent_gateway.core.settings import Breaker, Streaming
from agent_gateway.routing.planner import EXPECTED_OUTPUT_TOKENS
from tests.upstream.stage import Stage, call, deployment, play, route

EJECT = Breaker(consecutive_failures=1)


def chain(**policies: Any) -> list[Route]:
    return [route("a", "b", fallbacks=("one", "two"), breaker=EJECT, **policies), route("c", name="one"), route("d", name="two")]


def plan(stage: Stage, **members: Any) -> Plan:
    async def story() -> Plan:
        return stage.planner.plan(stage.exchange(call(**members)), stage.asked)

    return play(story)


def names(plan: Plan) -> str:
    return "".join(candidate.deployment.model for candidate in plan.candidates)


def test_the_models_own_come_first_and_fallbacks_in_their_order() -> None:
    made = plan(Stage(*chain()))
    assert (names(made), made.detour) == ("abcd", None)
    assert [candidate.fallback for candidate in made.candidates] == [False, False, True, True]
    assert [candidate.route.name for candidate in made.candidates] == ["chat", "chat", "one", "two"]


def test_what_is_ejected_or_cooling_down_comes_last() -> None:
    stage = Stage(*chain())
    stage.health.of("fake/a").breaker.failed(0)
    stage.health.of("fake/c").cooldown_until = 10
    made = plan(stage)
    assert (names(made), made.detour) == ("bdac", None)


def test_a_model_that_is_out_as_a_whole_is_a_detour() -> None:
    stage = Stage(*chain())
    for name in "ab":
        stage.health.of(f"fake/{name}").breaker.failed(0)
    made = plan(stage)
    assert (names(made), made.detour) == ("cdab", "unavailable")


def test_a_model_of_which_what_works_cools_down_is_another_detour() -> None:
    stage = Stage(*chain())
    stage.health.of("fake/a").breaker.failed(0)
    stage.health.of("fake/b").cooldown_until = 10
    made = plan(stage)
    assert (names(made), made.detour) == ("cdab", "cooling")


def test_when_nothing_is_left_the_order_is_as_if_nothing_were_wrong() -> None:
    stage = Stage(*chain())
    for name in "abcd":
        stage.health.of(f"fake/{name}").cooldown_until = 10
    made = plan(stage)
    assert (names(made), made.detour) == ("abcd", None)


def test_tripped_the_fallbacks_come_first() -> None:
    stage = Stage(*chain())
    for _ in range(100):
        stage.health.controller("chat").observe(0, fell_back=True, can_trip=True)
    plans = [plan(stage) for _ in range(100)]
    assert {(names(made), made.detour) for made in plans} == {("cdab", "controller"), ("abcd", None)}
    assert 0 < sum(made.detour is None for made in plans) < 20


def test_a_lone_deployment_has_one_plan_for_ever() -> None:
    stage = Stage(route("a"))
    assert plan(stage) is plan(stage)


def test_the_strategy_sees_price_load_and_latency() -> None:
    cheap = deployment("a", price=Price(input=1, output=1))
    dear = deployment("b", price=Price(input=2, output=2))
    stage = Stage(route(dear, cheap, strategy="lowest_cost"))
    assert names(plan(stage)) == "ab"
    stage.health.of("fake/a").load.observe_output(100 * EXPECTED_OUTPUT_TOKENS)
    assert names(plan(stage)) == "ba"
    assert names(plan(stage, max_tokens=10)) == "ab", "no more is expected than was allowed"
    stage = Stage(route("a", "b", strategy="least_busy"))
    stage.health.of("fake/a").load.in_flight = 1
    assert names(plan(stage)) == "ba"


def test_streams_and_unary_answers_are_ordered_by_their_own_latency() -> None:
    stage = Stage(route("a", "b", strategy="lowest_latency"))
    for name, streams_s, wholes_s in (("a", 1.0, 0.1), ("b", 0.1, 1.0)):
        load = stage.health.of(f"fake/{name}").load
        load.streams.observe(streams_s, 0, 0)
        load.wholes.observe(wholes_s, 0, 0)
    assert [names(plan(stage, stream=stream)) for stream in (True, False)] == ["ba", "ab"]
    unstreamed = Stage(route("a", "b", strategy="lowest_latency", streaming=Streaming(enabled=False)))
    for name, wholes_s in (("a", 0.1), ("b", 1.0)):
        unstreamed.health.of(f"fake/{name}").load.wholes.observe(wholes_s, 0, 0)
    assert names(plan(unstreamed, stream=True)) == "ab"
