"""Several workers' views of the routes as one."""

from __future__ import annotations

from typing import Any

from agent_gateway.control.interventions import Interventions
from agent_gateway.control.load import compile_mapping
from agent_gateway.control.routes_view import routes_view, together
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.health.registry import Health
from agent_gateway.stores.base import IN_MEMORY, open_store

CONFIGURATION = compile_mapping(
    {
        "providers": {"sim": {"kind": "simulated"}},
        "models": {
            name: {
                "deployments": [{"provider": "sim", "model": model} for model in ("small", "large")],
                "concurrency": {"max": 10},
                "breaker": {"consecutive_failures": 1},
            }
            for name in ("chat", "talk")
        },
    }
)


def interventions(health: Health) -> Interventions:
    return Interventions(open_store(IN_MEMORY), health, SYSTEM_CLOCK)


def seen() -> tuple[Health, dict[str, Any]]:
    """What a worker knows that has served nobody yet, and how it tells of it."""
    health = Health()
    health.configure(CONFIGURATION.routes.values())
    return health, routes_view(CONFIGURATION, health, interventions(health), 0.0)


def test_of_one_it_is_that_one() -> None:
    _, view = seen()
    assert together([view]) is view


def test_loads_are_added_and_the_worst_counts() -> None:
    one, other = seen()[0], seen()[0]
    one.of("sim/small").load.in_flight = 3
    other.of("sim/small").load.in_flight = 4
    other.of("sim/small").breaker.failed(0.0)
    other.of("sim/large").cool_down(0.0, 20.0)
    one.of("sim/large").cool_down(0.0, 5.0)
    views = [routes_view(CONFIGURATION, health, interventions(health), 1.0) for health in (one, other)]
    whole = together(views)
    assert [route["name"] for route in whole["data"]] == ["chat", "talk"]
    small, large = whole["data"][0]["deployments"]
    assert (small["id"], small["in_flight"], small["concurrency_limit"]) == ("sim/small", 7, 20)
    assert (small["breaker"], small["available"]) == ("open", True), "one of them may still ask it"
    assert (large["cooldown_s"], large["available"]) == (19.0, False)
    assert set(small) == set(views[0]["data"][0]["deployments"][0])
    assert whole["data"][0]["controller"]["state"] == "normal"


def test_a_route_that_only_one_has_met_is_told_as_it_is() -> None:
    _, view = seen()
    _, met = seen()
    met["data"].append({**met["data"][0], "name": "sim/other"})
    assert [route["name"] for route in together([view, met])["data"]] == ["chat", "talk", "sim/other"]


def test_deployments_are_told_by_their_names_while_a_reload_goes_round() -> None:
    _, old = seen()
    _, new = seen()
    (new_chat, _), (old_chat, _) = new["data"], old["data"]
    new_chat["deployments"] = [{**new_chat["deployments"][1], "in_flight": 5}, {**new_chat["deployments"][0], "id": "sim/new"}]
    old_chat["deployments"][1]["in_flight"] = 2
    told = {each["id"]: each["in_flight"] for each in together([new, old])["data"][0]["deployments"]}
    assert told == {"sim/large": 7, "sim/new": 0, "sim/small": 0}
