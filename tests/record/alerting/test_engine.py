"""The engine in virtual time: when an alert begins and is over, what is one alert, and what is none."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from statistics import median

import pytest

from agent_gateway.core.settings import AlertRule, Alerts, Fallback
from agent_gateway.record.alerting.engine import EVERY_S
from agent_gateway.record.alerting.rules import RULES, rules_for
from agent_gateway.record.family import Family
from agent_gateway.record.metrics import Metrics
from tests.record.alerting.stage import WALL, Stage


def fired(changes: list[tuple[float, str, str]], what: str = "firing") -> list[tuple[float, str]]:
    return [(at, rule) for at, each, rule in changes if each == what]


def test_an_outage_is_one_alert_from_its_first_minute_to_its_end() -> None:
    stage = Stage()
    assert stage.run(600) == []
    ((at, rule),) = fired(stage.run(300, answered=0, failed=10))
    assert (at <= 660, rule) == (True, "errors_fast")
    (alert,) = stage.engine.firing()
    assert (alert.label, alert.severity, alert.value, alert.began) == ("chat", "critical", 1.0, WALL + at)
    assert alert.text == "100 % of the requests for chat fail (more than 5 %, five times the budget)."
    changes = stage.run(3600)
    assert [(what, rule) for _, what, rule in changes] == [("resolved", "errors_fast")], "nothing of it begins again"
    (over,) = stage.engine.past()
    assert over.ended is not None
    assert 900 + 60 < over.ended - WALL <= 900 + 60 + 120 + 2 * EVERY_S
    assert stage.engine.firing() == []


def test_a_leak_is_seen_by_the_slow_rule_alone() -> None:
    stage = Stage()
    assert stage.run(600, answered=100) == []
    changes = stage.run(1800, answered=97, failed=3)
    assert [rule for _, rule in fired(changes)] == ["errors_slow"]


def test_what_is_within_the_budget_is_none() -> None:
    stage = Stage()
    assert stage.run(7200, answered=198, failed=2) == []


@pytest.mark.parametrize(("failed", "fires"), [(4, False), (6, True)])
def test_little_traffic_has_to_fail_more_than_once(failed: int, fires: bool) -> None:
    stage = Stage()
    stage.run(600, answered=0)
    changes = []
    for _ in range(failed):
        changes += stage.run(40, answered=0)
        changes += stage.run(10, answered=0, failed=1)
    assert bool(fired(changes)) is fires


def test_what_clients_do_wrong_and_what_they_leave_is_no_failure() -> None:
    stage = Stage()
    for _ in range(120):
        stage.count("requests", "chat", "openai_chat", "unary", "error", by=10)
        stage.count("errors", "chat", "bad_request", "client", by=10)
        stage.count("requests", "chat", "openai_chat", "unary", "cancelled", by=10)
        assert stage.look() == []


def test_it_does_not_flap_about_its_threshold() -> None:
    stage = Stage()
    random = Random(7)
    changes = []
    for _ in range(720):  # two hours at 3 to 8 %, by turns
        failed = sum(random.random() < random.choice((0.03, 0.08)) for _ in range(200))
        changes += stage.run(10, answered=200 - failed, failed=failed)
    assert [rule for _, rule in fired(changes) if rule == "errors_fast"] == ["errors_fast"]


def test_after_its_end_only_what_is_new_counts() -> None:
    stage = Stage()
    stage.run(300)
    stage.run(120, answered=0, failed=10)
    over = fired(stage.run(400), "resolved")[0][0]
    assert stage.now - over < 300, "the long window reaches back into it"
    assert stage.run(10, answered=8, failed=2) == []
    assert fired(stage.run(60, answered=0, failed=10)), "what begins anew is told anew"


def test_the_urgent_rule_speaks_for_the_other() -> None:
    stage = Stage()
    stage.run(600, answered=90)
    changes = []
    for _ in range(30):
        stage.requests(1000, status="fallback")
        changes += stage.run(10, answered=40)
    assert [rule for _, rule in fired(changes)] == ["fallback_high"]
    assert fired(stage.run(1800, answered=50)) == []


def test_every_rule_fires_for_what_it_is_for() -> None:
    stage = Stage()
    stage.run(300, answered=100)
    seen = set()
    for step in range(120):
        stage.requests(40)
        stage.requests(100, failed=4, model="leaking")
        stage.requests(10, failed=10, model="broken")
        stage.requests(10, model="fixed", status="degraded")
        stage.requests(47, model="falling")
        stage.requests(4, model="falling", status="fallback")
        stage.count("timeouts", "total", by=4 if step < 100 else 30)
        stage.observe("request_duration_seconds", "chat", "unary", seconds=7.0)
        stage.observe("time_to_first_token_seconds", "chat", seconds=3.0)
        stage.count("cost_usd", "chat", by=2.0)
        stage.count("records", "database", "written", by=50)
        stage.count("records", "database", "dropped", by=2)
        stage.set("breaker_state", "a/broken", to=2.0)
        stage.count("sessions_forgotten", by=4)
        stage.set("budget_spent", "key:7", to=0.83)
        for deployment, outcome in (
            ("b/failing", "provider_error"),
            ("b/limited", "provider_rate_limited"),
            ("b/key", "provider_key_refused"),
            ("b/gone", "provider_model_missing"),
        ):
            stage.count("attempts", deployment, "success", by=2)
            stage.count("attempts", deployment, outcome, by=2)
        seen |= {(change.alert.rule, change.alert.label) for change in stage.look()}
    labels = {
        "errors_slow": "leaking",
        "errors_fast": "broken",
        "degraded": "fixed",
        "fallback": "falling",
        "fallback_high": "fixed",
        "breaker_open": "a/broken",
        "provider_failing": "b/failing",
        "provider_rate_limited": "b/limited",
        "provider_key_refused": "b/key",
        "provider_model_missing": "b/gone",
        "records_lost": "database",
        "budget": "key:7",
    }
    assert {rule for rule, _ in seen} == {rule.name for rule in RULES}
    assert set(labels.items()) <= seen
    assert ("fallback", "fixed") not in seen
    budget = next(alert for alert in stage.engine.firing() if alert.rule == "budget")
    assert budget.text == "key:7 has spent 83 % of its budget."


def test_a_level_is_over_when_it_is_not_there_any_more() -> None:
    stage = Stage()
    stage.set("breaker_state", "a/small", to=2.0)
    assert [change.what for change in stage.look()] == ["firing"]
    stage.set("breaker_state", "a/small", to=1.0)
    assert stage.run(60) == []
    stage.set("breaker_state", "a/small", to=None)
    assert [what for _, what, _ in stage.run(200)] == ["resolved"]


def test_a_silence_outlives_the_alert_and_ends_by_itself() -> None:
    stage = Stage()
    stage.set("breaker_state", "a/small", to=2.0)
    (change,) = stage.look()
    silenced = stage.engine.silence(change.alert, WALL + stage.now + 1000)
    assert silenced.silenced_until == WALL + stage.now + 1000
    stage.set("breaker_state", "a/small", to=0.0)
    (over,) = [change for _ in range(20) for change in stage.look()]
    assert stage.engine.is_silenced(over.alert)
    stage.set("breaker_state", "a/small", to=2.0)
    (again,) = stage.look()
    assert again.alert.id == change.alert.id
    assert stage.engine.is_silenced(again.alert)
    stage.run(1000)
    assert not stage.engine.is_silenced(again.alert)
    assert stage.engine.find(change.alert.id) == stage.engine.firing()[0]
    assert stage.engine.find("alert_of_nobody") is None


def test_a_reload_keeps_what_goes_on_and_ends_what_is_no_rule_any_more() -> None:
    stage = Stage()
    stage.run(300)
    stage.run(60, answered=0, failed=10)
    began = stage.engine.firing()[0].began
    stage.engine.configure(rules_for(Alerts(), {}))
    stage.requests(0, failed=10)
    assert stage.look() == []
    assert stage.engine.firing()[0].began == began
    stage.engine.configure(rules_for(Alerts(rules={"errors_fast": AlertRule(enabled=False)}), {}))
    (change,) = stage.look()
    assert (change.what, change.alert.rule) == ("resolved", "errors_fast")


def test_rules_are_as_they_are_configured() -> None:
    alerts = Alerts(rules={"latency": AlertRule(bound_s=30.0), "cost": AlertRule(threshold=0.5), "degraded": AlertRule(enabled=False)})
    rules = {rule.name: rule for rule in rules_for(alerts, {"chat": Fallback(alert_rate=0.2, trigger_rate=0.4)})}
    assert rules.keys() == {rule.name for rule in RULES} - {"degraded"}
    assert (rules["latency"].bound, rules["latency"].threshold) == (30.0, 0.05)
    assert (rules["cost"].threshold, rules["fallback"].threshold_of("chat"), rules["fallback"].threshold_of("code")) == (0.5, 0.2, 0.05)
    assert rules["fallback_high"].threshold_of("chat") == 0.4
    assert rules_for(Alerts(enabled=False), {}) == ()
    late = Stage([rules["latency"]])
    for _ in range(60):
        late.observe("request_duration_seconds", "chat", "unary", seconds=20.0)
        assert late.look() == []


def test_what_was_counted_before_the_first_look_is_no_evidence() -> None:
    stage = Stage()
    stage.engine = type(stage.engine)(RULES, stage.families, stage.clock)
    stage.requests(10, failed=1000)
    assert stage.engine.evaluate() == []
    assert stage.run(600) == []


def test_a_rule_stands_behind_the_one_that_speaks_for_it() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule.under is None or names.index(rule.under) < names.index(rule.name)
        assert rule.windows_s == tuple(sorted(rule.windows_s))
        assert replace(rule).told("x", 0.5)


def test_every_metric_of_a_rule_is_one_of_the_gateway() -> None:
    """By name and label; those that only some gateways have are in the stage."""
    told = {family.name: family.labels for family in Metrics().families()}
    known = dict(told)
    for family in Stage().families():
        assert known.setdefault(family.name, family.labels) == family.labels, family.name
    for rule in RULES:
        for count in (*getattr(rule.signal, "part", ()), *getattr(rule.signal, "whole", ())):
            assert {name for name, _ in (*count.where, *count.but)} <= set(known.get(count.metric, ())), count


@pytest.mark.parametrize("quiet", [True, False])
def test_chance_makes_few_alerts_and_incidents_are_seen_soon(quiet: bool) -> None:
    """Of 30 hours each with another traffic: from one request in 10 s to 20 a second, waves, and up to 0.9 % errors at rest."""
    waits, wrong = [], []
    for seed in range(30):
        random, stage = Random(seed), Stage()
        a_second, at_rest = 10 ** random.uniform(-1, 1.3), random.choice([0.0, 0.003, 0.009])
        share = random.choice([0.2, 0.5, 1.0])
        begun = None
        while stage.now < 3600 and begun is None:
            breaks = not quiet and stage.now >= 1200
            many = _some(random, a_second * EVERY_S * random.choice([0.3, 1.0, 1.7]))
            failed = sum(random.random() < (share if breaks else at_rest) for _ in range(many))
            changes = fired(stage.run(EVERY_S, many - failed, failed))
            wrong += [] if breaks else changes
            begun = changes[0][0] if changes and breaks else None
        waits.append((begun or 3600) - 1200)
    assert len(wrong) <= 1
    if not quiet:
        assert median(waits) < 120
        assert sum(wait < 900 for wait in waits) >= 29


def _some(random: Random, mean: float) -> int:
    return max(0, round(random.gauss(mean, mean**0.5))) if mean > 5 else sum(random.random() < mean / 10 for _ in range(10))


def test_a_metric_that_is_not_there_is_no_alert() -> None:
    stage = Stage()
    stage.engine = type(stage.engine)(
        RULES, lambda: [Family("counter", "requests", "", ("model", "dialect", "pattern", "status"), {})], stage.clock
    )
    assert stage.engine.evaluate() == []


@pytest.mark.parametrize("outcome", ["dropped", "missing"])
def test_lost_records_are_an_alert_whatever_another_process_left_behind(outcome: str) -> None:
    stage = Stage()
    fired = []
    for _ in range(60):
        stage.count("records", "database", "written", by=95)
        stage.count("records", "database", outcome, by=5)
        stage.count("records", "database", "adopted", by=10_000)
        fired += [(change.what, change.alert.rule, round(change.alert.value, 3)) for change in stage.look()]
    assert fired == [("firing", "records_lost", 0.05)]
    over = []
    for _ in range(60):
        stage.count("records", "database", "written", by=100)
        over += [(change.what, change.alert.rule) for change in stage.look()]
    assert over == [("resolved", "records_lost")], "the share is of a time, not since the start"
