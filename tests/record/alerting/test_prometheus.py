"""The shipped rules for Prometheus: they are those of the program, and promtool finds that both see the same alerts in the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent_gateway.record.alerting.engine import EVERY_S
from agent_gateway.record.alerting.prometheus import NOT_TOLD, alert_name, rules_yaml
from agent_gateway.record.alerting.rules import RULES
from agent_gateway.record.family import PREFIX, Family, Histogram
from tests.kit.servers import promtool
from tests.record.alerting.stage import Stage

RULES_FILE = Path(__file__).parents[3] / "deploy" / "prometheus" / "rules.yaml"
STEPS = 170
BREAKS, ENDS = 40, 100
#: Steps at which both are asked: at rest, in the midst of it, and long after.
AT_REST, WITHIN, AFTER = 38, 98, 169


def incident(stage: Stage, broken: bool) -> None:
    """A step of everything at once, each with a name of its own. `broken`: it is on."""
    stage.requests(200)
    stage.requests(answered=20, failed=10 * broken, model="failing")
    stage.requests(answered=100, failed=5 * broken, model="leaking")
    stage.requests(20, model="misused")
    stage.count("requests", "misused", "openai_chat", "unary", "error", by=20 * broken)
    stage.count("errors", "misused", "bad_request", "client", by=20 * broken)
    for _ in range(10):
        stage.observe("request_duration_seconds", "slow", "unary", seconds=7.0 if broken else 1.0)
        stage.observe("request_duration_seconds", "bulk", "batching", seconds=90.0)
        stage.observe("time_to_first_token_seconds", "slow", seconds=2.5 if broken else 0.3)
    stage.requests(20, model="dear")
    stage.count("cost_usd", "dear", by=20 * (0.1 if broken else 0.002))
    stage.requests(20, model="falling")
    stage.requests(20 * broken, model="falling", status="fallback")
    stage.requests(20, model="fixed")
    stage.requests(10 * broken, model="fixed", status="degraded")
    stage.count("limits_failed_open", "store_down", by=20 * broken)
    stage.count("sessions_forgotten", by=20 * broken)
    stage.count("timeouts", "first_token", by=40 * broken)
    for outcome, many in (("success", 10), ("provider_error", 10 * broken), ("provider_rate_limited", 10 * broken)):
        stage.count("attempts", "a/failing", outcome, by=many)
        stage.count("attempts", "a/ejected", outcome, by=many)
    stage.count("attempts", "b/small", "success", by=10)
    for deployment, outcome in (("c/key", "provider_key_refused"), ("d/gone", "provider_model_missing")):
        stage.count("attempts", deployment, outcome, by=2 * broken)
        stage.count("attempts", deployment, "success", by=5)
    stage.set("breaker_state", "a/ejected", to=2.0 * broken)
    stage.count("records", "database", "written", by=20)
    stage.count("records", "database", "dropped", by=2 * broken)


ALERTS = {
    ("errors_fast", "failing"),
    ("errors_slow", "leaking"),
    ("latency", "slow"),
    ("first_token", "slow"),
    ("cost", "dear"),
    ("fallback_high", "falling"),
    ("fallback_high", "fixed"),
    ("degraded", "fixed"),
    ("store_down", ""),
    ("timeouts_fast", ""),
    ("provider_failing", "a/failing"),
    ("provider_rate_limited", "a/failing"),
    ("provider_rate_limited", "a/ejected"),
    ("breaker_open", "a/ejected"),
    ("provider_key_refused", "c/key"),
    ("provider_model_missing", "d/gone"),
    ("records_lost", "database"),
}


def run() -> tuple[list[Mapping[str, float]], list[set[tuple[str, str]]]]:
    """By step: the samples as they are scraped, and the alerts that the engine has firing."""
    stage = Stage()
    samples: list[Mapping[str, float]] = []
    alerts = []
    for step in range(STEPS):
        incident(stage, BREAKS <= step < ENDS)
        stage.look()
        samples.append({name: value for family in stage.families() for name, value in told(family)})
        alerts.append({(alert.rule, alert.label) for alert in stage.engine.firing()})
    return samples, alerts


def told(family: Family) -> list[tuple[str, float]]:
    base = PREFIX + family.name
    series: list[tuple[str, float]] = []
    for values, value in family.values.items():
        labels = dict(zip(family.labels, values, strict=True))
        if isinstance(value, Histogram):
            series += [(_series(f"{base}_bucket", {**labels, "le": bound}), below) for bound, below in value.cumulative()]
            series.append((_series(f"{base}_count", labels), float(sum(value.counts))))
        else:
            series.append((_series(base if family.kind == "gauge" else f"{base}_total", labels), value))
    return series


def _series(name: str, labels: Mapping[str, str]) -> str:
    told = ",".join([f'{label}="{value}"' for label, value in labels.items()])
    return f"{name}{{{told}}}"


def _case(samples: Sequence[Mapping[str, float]], alerts: Sequence[set[tuple[str, str]]]) -> dict[str, Any]:
    series = [{"series": each, "values": " ".join(f"{row[each]:g}" if each in row else "_" for row in samples)} for each in samples[-1]]
    up = {"series": f"{PREFIX}edge_requests_total", "values": f"0x{STEPS}"}
    rules = {rule.name: rule for rule in RULES}
    expected = []
    for step in (AT_REST, WITHIN, AFTER):
        for rule in RULES:
            if rule.name in NOT_TOLD:
                continue
            labels = [label for fired, label in alerts[step] if fired == rule.name]
            by = rules[rule.name].signal.by
            shown = [{"exp_labels": {"severity": rule.severity, **({by: label} if by else {})}} for label in labels]
            at = f"{int(step * EVERY_S)}s"
            expected.append({"eval_time": at, "alertname": alert_name(rule), "exp_alerts": shown})
    return {"interval": f"{EVERY_S:g}s", "input_series": [up, *series], "alert_rule_test": expected}


def test_the_shipped_file_is_what_the_program_has() -> None:
    assert RULES_FILE.read_text() == rules_yaml(), "run: python -m agent_gateway.record.alerting.prometheus > deploy/prometheus/rules.yaml"


def test_promtool_accepts_it() -> None:
    done = promtool("check", "rules", str(RULES_FILE))
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_sees_what_the_engine_sees(tmp_path: Path) -> None:
    samples, alerts = run()
    assert (alerts[AT_REST], alerts[WITHIN], alerts[AFTER]) == (set(), ALERTS, set())
    # What an alert says is not compared: its value is a sample's there, a look's here.
    bare = [
        line for line in RULES_FILE.read_text().splitlines() if not line.lstrip().startswith(("annotations:", "summary:", "description:"))
    ]
    (tmp_path / "rules.yaml").write_text("\n".join(bare))
    test = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{EVERY_S:g}s", "tests": [_case(samples, alerts)]}
    (tmp_path / "test.yaml").write_bytes(msgspec.json.encode(test))
    done = promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert done.returncode == 0, (done.stdout + done.stderr)[:5000]
