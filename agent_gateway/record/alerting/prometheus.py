"""The same rules for Prometheus: `python -m agent_gateway.record.alerting.prometheus > deploy/prometheus/rules.yaml`; with `--operator`,
as an object of the Prometheus operator.

Promise: nothing is said here that `rules.py` does not say, but for what only somebody outside can see: that no gateway is there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from textwrap import indent

from agent_gateway.record.alerting.rules import RULES, Rule
from agent_gateway.record.alerting.signals import Count, Level, Share
from agent_gateway.record.family import PREFIX

#: What is over fires on for so long: no window remembers it then.
KEEP_FIRING = "5m"
EVERY = "15s"
#: It is about one account, whose name is no label of a metric.
NOT_TOLD = ("budget",)

_HEAD = """\
# Alerts of agent-gateway. Generated from agent_gateway/record/alerting/rules.py; docs/alerts.md explains them. Needs Prometheus 2.42.
groups:
  - name: agent-gateway
    interval: 15s
    rules:
      - alert: AgentGatewayAbsent
        expr: absent(agent_gateway_edge_requests_total)
        for: 2m
        labels:
          severity: critical
        annotations:
          summary: 'No gateway is scraped: none runs, or none is reached.'
          description: 'See `up` of its job, and GET /health/ready.'
"""

_OBJECT = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: agent-gateway
  labels:
    app.kubernetes.io/name: agent-gateway
spec:
"""


def rules_yaml() -> str:
    return _HEAD + "".join(_alert(rule) for rule in RULES if rule.name not in NOT_TOLD)


def operator_yaml() -> str:
    comment, _, rules = rules_yaml().partition("\n")
    return f"{comment}\n{_OBJECT}{indent(rules, '  ')}"


def alert_name(rule: Rule) -> str:
    return "AgentGateway" + "".join(word.capitalize() for word in rule.name.split("_"))


def expression(rule: Rule) -> str:
    """One condition a line. What it gives is the share of the shortest window, or the level."""
    conditions = _level(rule, rule.signal) if isinstance(rule.signal, Level) else "\nand ".join(_conditions(rule, rule.signal))
    if rule.under is None:
        return conditions
    urgent = next(other for other in RULES if other.name == rule.under)
    firing = f'ALERTS{{alertname="{alert_name(urgent)}", alertstate="firing"}}'
    return f"({conditions})\nunless on ({rule.signal.by or ''}) {firing}"


def _alert(rule: Rule) -> str:
    label = f"{{{{ $labels.{rule.signal.by} }}}}"
    shown = {"share": "{{ $value | humanizePercentage }}", "usd": "${{ $value | humanize }}", "state": "{{ $value }}"}[rule.unit]
    summary = rule.text.format(label=label, value=shown, threshold=rule.threshold_told, bound=rule.bound_told)
    lines = "\n".join(f"          {line}" for line in expression(rule).splitlines())
    return (
        f"      - alert: {alert_name(rule)}\n        expr: |-\n{lines}\n{_waiting(rule)}        keep_firing_for: {KEEP_FIRING}\n"
        f"        labels:\n          severity: {rule.severity}\n"
        f"        annotations:\n          summary: {_quoted(summary)}\n          description: {_quoted(rule.advice)}\n"
    )


def _waiting(rule: Rule) -> str:
    return f"        for: {rule.for_s:g}s\n" if rule.for_s else ""


def _level(rule: Rule, level: Level) -> str:
    return f"max by ({level.by}) ({PREFIX}{level.metric}) > {rule.threshold:g}"


def _conditions(rule: Rule, share: Share) -> Iterator[str]:
    for window_s in rule.windows_s:
        yield f"{_sum(share.part, share.by, window_s)} / {_sum(share.whole, share.by, window_s)} > {rule.threshold:g}"
    part, whole = (_sum(counts, share.by, rule.windows_s[-1]) for counts in (share.part, share.whole))
    if rule.sure:
        spread = rule.threshold * (1 - rule.threshold)
        yield f"{part} > {rule.threshold:g} * {whole} + {rule.sure:g} * sqrt({spread:g} * {whole})"
    if rule.least_part:
        yield f"{part} >= {rule.least_part:g}"
    if rule.least_whole:
        yield f"{whole} >= {rule.least_whole:g}"


def _sum(counts: tuple[Count, ...], by: str | None, window_s: float) -> str:
    """Series of different metrics have different labels, so that `or` keeps all of them."""
    window = f"{window_s / 60:g}m"
    added = f"sum by ({by})" if by else "sum"
    if counts[0].above is not None:
        (count,) = counts
        base = f"{PREFIX}{count.metric}"
        within = _selector(f"{base}_bucket", count, f'le="{count.above}"')
        return f"({added} (increase({_selector(f'{base}_count', count)}[{window}])) - {added} (increase({within}[{window}])))"
    series = [_selector(f"{PREFIX}{count.metric}{'_count' if count.metric.endswith('_seconds') else '_total'}", count) for count in counts]
    return f"{added} ({' or '.join(f'increase({each}[{window}])' for each in series)})"


def _selector(name: str, count: Count, *matchers: str) -> str:
    told = [f'{label}=~"{"|".join(values)}"' for label, values in count.where]
    told += [f'{label}!~"{"|".join(values)}"' for label, values in count.but]
    told += matchers
    return f"{name}{{{', '.join(told)}}}" if told else name


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


if __name__ == "__main__":
    sys.stdout.write(operator_yaml() if "--operator" in sys.argv else rules_yaml())
