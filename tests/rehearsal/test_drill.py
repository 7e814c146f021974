"""The drill: what it draws, what it plays, and that the alerts are right about it; two dozen hours of the real gateway in virtual time."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest

from agent_gateway.cli.drill import CONFIGURATION, made, scenarios
from agent_gateway.control.load import compile_mapping
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import StoreDown
from agent_gateway.record.alerting.rules import RULES
from agent_gateway.rehearsal.drill import AFTER_S, Guarded, Played, Told, play
from agent_gateway.rehearsal.kinds import KINDS
from agent_gateway.rehearsal.scenario import LENGTH_S, Scenario
from agent_gateway.rehearsal.verdict import DETECTED_S, Verdict, judge
from agent_gateway.rehearsal.world import SPENDER, Ask, Faults, asks, store_of
from agent_gateway.simulator.faults import steered_fault

CONFIG = compile_mapping(dict(CONFIGURATION))
ROUTES = CONFIG.routes
INCIDENTS = [name for name, kind in KINDS.items() if not kind.quiet]
QUIET = [name for name, kind in KINDS.items() if kind.quiet]
SEED = 3


def draw(number: int, kinds: list[str], seed: int = SEED) -> list[Scenario]:
    return scenarios(CONFIG, number, seed, kinds)


def one(kind: str, seed: int = SEED) -> Scenario:
    return draw(1, [kind], seed)[0]


def asked(scenario: Scenario) -> list[Ask]:
    return list(asks(scenario, Random(1), LENGTH_S))


class Hand:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.clock = Clock(lambda: self.now, lambda: self.now)


# --- what is drawn


def test_every_rule_is_drilled_and_every_alert_that_is_expected_exists() -> None:
    rules = {rule.name for rule in RULES}
    assert set().union(*(kind.expected for kind in KINDS.values())) == rules
    assert set().union(*(kind.besides for kind in KINDS.values())) <= rules
    assert not any(kind.besides for kind in KINDS.values() if kind.quiet)


def test_the_simulator_knows_every_fault() -> None:
    assert all(steered_fault(fault) is not None for kind in KINDS.values() for fault in kind.faults)


def test_half_are_quiet_and_each_kind_comes_as_often_as_another() -> None:
    drawn = Counter(scenario.kind.name for scenario in draw(2 * len(INCIDENTS) * len(QUIET), list(KINDS)))
    assert {drawn[name] for name in INCIDENTS} == {len(QUIET)}
    assert {drawn[name] for name in QUIET} == {len(INCIDENTS)}
    assert [scenario.name for scenario in draw(3, ["steady"])] == ["steady-1", "steady-2", "steady-3"]


def test_a_scenario_depends_on_its_seed_kind_and_number_alone() -> None:
    among_others = {scenario.name: scenario for scenario in draw(60, list(KINDS))}
    for name in KINDS:
        assert one(name) == among_others[f"{name}-1"]
        assert one(name) != one(name, seed=4)


def test_an_incident_leaves_time_before_it_and_after_it() -> None:
    for scenario in draw(60, [name for name in INCIDENTS if name != "budget"]):
        assert 600 <= scenario.begins_s < scenario.ends_s <= LENGTH_S - AFTER_S
        assert scenario.models
        assert scenario.deployments


def test_what_comes_and_goes_is_on_and_off_by_turns() -> None:
    scenario = replace(one("flapping"), begins_s=100, ends_s=200, flaps_s=(10, 20))
    assert [at for at in range(0, 300, 5) if scenario.is_on(at)] == [100, 105, 130, 135, 160, 165, 190, 195]


@pytest.mark.parametrize("kind", ["steady", "waves", "bursts"])
def test_requests_come_as_often_as_is_demanded(kind: str) -> None:
    demand = replace(one(kind).demand, per_s=0.4, wave_s=LENGTH_S, swing=0.9 if kind == "waves" else 0.0)
    times = [ask.at for ask in asked(replace(one(kind), demand=demand))]
    expected = sum(demand.per_s_at(at) for at in range(int(LENGTH_S)))
    assert abs(len(times) - expected) < 4 * math.sqrt(expected)
    early, late = (sum(1 for at in times if (at < LENGTH_S / 2) is half) for half in (True, False))
    assert (early > 3 * late) == (kind == "waves")
    for begins in demand.bursts:
        assert sum(1 for at in times if begins <= at < begins + 60) > 3 * 60 * demand.per_s


def test_clients_ask_for_models_in_more_than_one_protocol_and_way() -> None:
    calls = [ask.call for ask in asked(replace(one("steady"), demand=replace(one("steady").demand, per_s=0.4)))]
    assert {call.model for call in calls} == set(ROUTES)
    assert {call.dialect for call in calls} == {"openai_chat", "anthropic"}
    assert {call.stream for call in calls} == {True, False}


def test_prompts_grow_for_the_model_that_is_hit_and_while_it_lasts() -> None:
    scenario = one("cost_jump")
    grown = {(ask.call.model in scenario.models, scenario.is_on(ask.at)): len(ask.call.body) for ask in asked(scenario)}
    assert grown[True, True] > 4 * scenario.prompt_tokens
    assert all(size < 4000 for of, size in grown.items() if of != (True, True))


def test_nobody_asks_where_nobody_is() -> None:
    assert asked(one("nobody")) == []


def test_one_call_and_no_more_is_hit() -> None:
    scenario, hand = one("one_slow"), Hand()
    faults = Faults(scenario, hand.clock, Random(1))
    deployment = next(each for route in ROUTES.values() for each in route.deployments if each.id in scenario.deployments)
    other = next(each for route in ROUTES.values() for each in route.deployments if each.id not in scenario.deployments)
    assert faults.of(deployment) == ""
    hand.now = scenario.begins_s
    assert (faults.of(other), faults.of(deployment), faults.of(deployment)) == ("", "hang", "")


async def test_the_store_is_down_while_the_incident_lasts() -> None:
    scenario, hand = one("database_down"), Hand()
    store = store_of(scenario, hand.clock)
    assert await store.keys_version() == 0
    hand.now = scenario.begins_s
    with pytest.raises(StoreDown):
        await store.keys_version()
    hand.now = scenario.ends_s
    assert await store.keys_version() == 0


# --- what is played


@cache
def played(kind: str) -> Played:
    return play(one(kind), made(CONFIG))


@pytest.mark.parametrize("kind", INCIDENTS)
def test_an_incident_is_told_by_the_alerts_that_are_right(kind: str) -> None:
    detected_after_s = played(kind).detected_after_s
    assert detected_after_s is not None
    assert 0 <= detected_after_s < 600


@pytest.mark.parametrize("kind", QUIET)
def test_of_a_quiet_hour_nothing_is_told(kind: str) -> None:
    assert played(kind).alerts == []


def test_alerts_are_right() -> None:
    """As of 240 hours in docs/alerts.md; here the same in little."""
    verdict = judge([played(kind) for kind in KINDS], SEED)
    assert verdict.passed
    assert verdict.precision is not None
    assert verdict.precision >= 0.95, verdict.false
    assert verdict.detection_s is not None
    assert verdict.detection_s < DETECTED_S


def test_breakers_open_where_calls_fail_and_close_again() -> None:
    errors = played("errors").breakers
    assert errors.times >= 1
    assert errors.after_s is not None
    assert 0 <= errors.after_s < 300
    assert errors.back_after_s is not None
    assert errors.back_after_s < 600
    assert {played(kind).breakers.times for kind in QUIET} == {0}


def test_a_controller_trips_for_a_model_that_has_a_fallback_and_comes_back() -> None:
    """It judges by fifty requests in five minutes at least."""
    drawn = next(each for each in draw(20, ["errors"]) if each.models == {"assistant"} and len(each.deployments) == 2)
    scenario = replace(drawn, share=1.0, demand=replace(drawn.demand, per_s=0.5))
    controllers = play(scenario, made(CONFIG)).controllers
    assert controllers.times >= 1
    assert controllers.after_s is not None
    assert 0 <= controllers.after_s < 300
    assert controllers.back_after_s is not None
    assert 0 < controllers.back_after_s < 600


def test_a_budget_is_told_as_soon_as_it_is_spent_and_of_that_key() -> None:
    budget = played("budget")
    assert budget.began_s is not None
    assert [(alert.rule, alert.label) for alert in budget.alerts] == [("budget", f"key:{SPENDER}")]
    assert budget.detected_after_s is not None
    assert 0 <= budget.detected_after_s <= 10


def test_the_same_scenario_is_played_in_the_same_way() -> None:
    assert play(one("stall"), made(CONFIG)) == played("stall")


def test_rules_that_are_off_tell_nothing_and_it_is_noticed() -> None:
    configuration = compile_mapping({**CONFIGURATION, "alerts": {"rules": {"records_lost": {"enabled": False}}}})
    verdict = judge([play(one("records_lost"), made(configuration))], SEED)
    assert verdict.missed == ["records_lost-1"]
    assert not verdict.passed


def test_rules_that_are_too_eager_are_false_alarms() -> None:
    """A whole answer takes about 0.7 s."""
    configuration = compile_mapping({**CONFIGURATION, "alerts": {"rules": {"latency": {"bound_s": 0.5}}}})
    scenario = next(each for each in draw(20, ["steady"]) if each.demand.per_s > 0.1)
    verdict = judge([play(scenario, made(configuration))], SEED)
    assert verdict.quiet_false_alarms >= 1
    assert {false.alert.rule for false in verdict.false} == {"latency"}
    assert not verdict.passed


# --- how it is judged


def hour(kind: str, *alerts: Told, began_s: float | None = None, detected: float | None = None, **more: Any) -> Played:
    calm = {"breakers": Guarded(), "controllers": Guarded()}
    return Played(f"{kind}-1", kind, 10, began_s, None if began_s is None else 900.0, detected, list(alerts), **{**calm, **more})


def told(*, right: bool) -> Told:
    return Told("errors_fast", "code", 700.0, "…", right)


def verdict_of(*played: Played) -> Verdict:
    return judge(played, 0)


def test_precision_and_recall_are_shares_of_alerts_and_of_incidents() -> None:
    verdict = verdict_of(
        hour("errors", told(right=True), told(right=True), told(right=False), began_s=600.0, detected=30.0),
        hour("slow", began_s=600.0),
        hour("steady", told(right=False)),
    )
    assert (verdict.precision, verdict.recall) == (0.5, 0.5)
    assert (verdict.alerts, verdict.false_alarms, verdict.quiet_false_alarms) == (4, 2, 1)
    assert verdict.missed == ["slow-1"]
    assert [false.scenario for false in verdict.false] == ["errors-1", "steady-1"]
    assert not verdict.passed


def test_nothing_to_be_right_about_is_no_failure() -> None:
    verdict = verdict_of(hour("nobody"))
    assert (verdict.precision, verdict.recall, verdict.detection_s, verdict.passed) == (None, None, None, True)


def test_incidents_that_are_told_late_are_no_pass() -> None:
    right = told(right=True)
    late = [hour("errors", right, began_s=600.0, detected=each) for each in (10.0, DETECTED_S, 200.0)]
    assert not verdict_of(*late).passed
    assert verdict_of(*late, hour("errors", right, began_s=600.0, detected=20.0)).passed


def test_what_breakers_did_is_told_of_the_scenarios_where_they_did_anything() -> None:
    verdict = verdict_of(
        hour("errors", began_s=600.0, breakers=Guarded(2, 10.0, 40.0)),
        hour("errors", began_s=600.0, breakers=Guarded(1, 30.0, None)),
        hour("errors", began_s=600.0),
    )
    reaction = verdict.kinds[0].breakers
    assert (reaction.scenarios, reaction.after_s, reaction.back_after_s) == (2, 20.0, 40.0)
