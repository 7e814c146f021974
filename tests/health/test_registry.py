"""What outlives a reload, and the two budgets: of repeats and of hedges."""

from __future__ import annotations

from collections.abc import Callable

from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.settings import Breaker, Concurrency, Fallback
from agent_gateway.health.registry import BUDGET_FLOOR, BUDGET_WINDOW_S, PASSING_MAX, DeploymentHealth, Health

SHARED = Deployment("p/m", "p", "m")


def test_a_reload_keeps_what_is_known() -> None:
    health = Health()
    route = Route(name="a", deployments=(SHARED,), breaker=Breaker(consecutive_failures=1))
    health.follow(route)
    known, controller = health.of("p/m"), health.controller("a")
    known.breaker.failed(0)
    health.follow(Route(name="a", deployments=(SHARED,), fallback=Fallback(alert_rate=0.5)))
    assert health.of("p/m") is known
    assert health.controller("a") is controller
    assert known.breaker.state == "open"


def test_a_deployment_under_two_models_is_one_thing() -> None:
    health = Health()
    for name in ("a", "b"):
        health.follow(Route(name=name, deployments=(SHARED,)))
    assert [name for name, _ in health.deployments()] == ["p/m"]
    assert [name for name, _ in health.controllers()] == ["a", "b"]


def test_of_several_bounds_the_tightest_holds_as_long_as_its_model_is_there() -> None:
    health = Health()
    routes = [Route(name=f"m{most}", deployments=(SHARED,), concurrency=Concurrency(max=most)) for most in (None, 3, 7)]
    for route in routes:
        health.follow(route)
    limits = [health.of("p/m").concurrency.limit]
    changes: list[Callable[[], None]] = [
        lambda: health.follow(routes[1]),
        lambda: health.follow(Route(name="m3", deployments=(SHARED,))),
        lambda: health.forget(routes[2]),
        lambda: health.follow(Route(name="m3", deployments=(SHARED,), concurrency=Concurrency(max=2))),
    ]
    for change in changes:
        change()
        limits.append(health.of("p/m").concurrency.limit)
    assert limits == [3, 3, 7, None, 2]


def test_cooling_down_or_ejected_it_is_not_available() -> None:
    health = DeploymentHealth(Breaker(consecutive_failures=1, open_s=30))
    assert health.available(0)
    health.cooldown_until = 10
    assert [health.available(9), health.available(10)] == [False, True]
    health.breaker.failed(20)
    assert [health.available(49), health.available(50)] == [False, True]


def test_repeats_are_a_share_of_the_traffic_with_a_floor() -> None:
    health = DeploymentHealth(Breaker())
    allowed = 0
    while health.may_repeat(0.2, 0):
        health.repeats.add(0, total=0, hits=1)
        allowed += 1
    assert allowed == BUDGET_FLOOR
    health.repeats.add(0, total=100)
    while health.may_repeat(0.2, 0):
        health.repeats.add(0, total=0, hits=1)
        allowed += 1
    assert allowed == 20
    assert health.may_repeat(0.2, BUDGET_WINDOW_S + 1)


def test_hedges_are_a_share_of_the_traffic_without_one() -> None:
    health = DeploymentHealth(Breaker())
    assert not health.may_hedge(0.05, 0)
    health.hedges.add(0, total=19)
    assert not health.may_hedge(0.05, 0)
    health.hedges.add(0, total=1)
    assert health.may_hedge(0.05, 0)
    health.hedges.add(0, total=0, hits=1)
    assert not health.may_hedge(0.05, 0)


def test_a_reload_forgets_what_is_not_configured_any_more_and_what_that_wanted() -> None:
    def bound(name: str, most: int | None) -> Route:
        return Route(name=name, deployments=(SHARED,), concurrency=Concurrency(max=most))

    health = Health()
    health.configure([bound("gone", 1), bound("stays", 5)])
    health.meet(bound("p/m", 3))
    known = health.of("p/m")
    limits = [known.concurrency.limit]
    health.configure([bound("stays", 5)])
    limits.append(known.concurrency.limit)
    assert [name for name, _ in health.controllers()] == ["stays", "p/m"]
    health.configure([])  # what was met stands there still, with a bound that is not known yet
    limits.append(known.concurrency.limit)
    health.meet(bound("p/m", 7))
    limits.append(known.concurrency.limit)
    assert limits == [1, 5, 5, 7]
    assert health.of("p/m") is known


def test_names_that_clients_make_up_are_forgotten_but_not_while_they_are_under_way() -> None:
    health = Health()
    health.follow(Route(name="configured", deployments=(SHARED,)))
    health.meet(Route(name="also", deployments=(SHARED,)))
    busy = Route(name="p/busy", deployments=(Deployment("p/busy", "p", "busy"),))
    health.meet(busy)
    health.of("p/busy").load.in_flight = 1
    kept = health.of("p/busy"), health.controller("p/busy"), health.of("p/m")
    for number in range(5000):
        health.meet(Route(name=f"p/{number}", deployments=(Deployment(f"p/{number}", "p", str(number)),)))
    assert len(health.passing()) <= PASSING_MAX + 1
    assert len(health.deployments()) <= PASSING_MAX + 2
    assert len(health.controllers()) <= PASSING_MAX + 2
    assert (health.of("p/busy"), health.controller("p/busy"), health.of("p/m")) == kept
    assert "also" not in dict(health.controllers())
    health.of("p/0").breaker.failed(0)  # a request that waited meanwhile goes on
    assert "p/0" not in dict(health.deployments())


def test_batches_leave_room_for_as_many_as_came_lately_and_what_chance_adds() -> None:
    known = DeploymentHealth(Breaker(), Concurrency(max=60))
    assert known.room_for_batches(now=1.0) == 60
    known.load.interactive.note(25, 2.0)
    assert known.room_for_batches(now=3.0) == 60 - 25 - 5
    known.load.interactive.note(58, 4.0)
    assert known.room_for_batches(now=5.0) == 0
    assert DeploymentHealth(Breaker()).room_for_batches(now=1.0) is None
