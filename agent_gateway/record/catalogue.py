"""Every metric and how it is looked at; `python -m agent_gateway.record.catalogue > deploy/grafana/dashboard.json` draws it.

Promise: a metric stands here once; the dashboard shows all of them and none that there is not.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from agent_gateway.record.family import PREFIX, Kind

Together = Literal["sum", "max", "min"]
_WIDTH, _HEIGHT, _PANELS_A_LINE = 8, 8, 3
_UNITS = {"seconds": "s", "bytes": "bytes", "usd": "currencyUSD"}


@dataclass(frozen=True, slots=True)
class Shown:
    """`by`: the labels that its lines are told apart by. `together`: what a gauge of several processes is, or that which is worst."""

    metric: str
    kind: Kind
    title: str
    by: tuple[str, ...] = ()
    together: Together = "sum"


def _count(metric: str, title: str, *by: str) -> Shown:
    return Shown(metric, "counter", title, by)


def _state(metric: str, title: str, *by: str, together: Together = "sum") -> Shown:
    return Shown(metric, "gauge", title, by, together)


def _times(metric: str, title: str, *by: str) -> Shown:
    return Shown(metric, "histogram", title, by)


#: Row by row.
CATALOGUE: dict[str, tuple[Shown, ...]] = {
    "Service levels and alerts": (
        _state("slo_ratio", "Used of each target (1 is all of it)", "slo", together="max"),
        _state("alerts_firing", "Alerts", "rule", "severity"),
        _count("alert_notices", "Notices to webhooks", "outcome"),
    ),
    "Requests": (
        _count("edge_requests", "Requests that come in"),
        _count("requests", "Requests by model and status", "model", "status"),
        _count("errors", "Errors by code", "model", "code"),
        _state("in_flight", "Under way", "model"),
        _count("timeouts", "Timeouts", "kind"),
        _count("rate_limited", "Refused by limits", "reason"),
        _count("shed", "Refused for want of room", "reason"),
        _count("limits_failed_open", "Let in without limits", "reason"),
        _count("guard", "Guards", "check", "action"),
    ),
    "Time": (
        _times("request_duration_seconds", "Request", "model"),
        _times("time_to_first_token_seconds", "First token", "model"),
        _times("time_per_output_token_seconds", "Per token", "model"),
        _times("overhead_seconds", "The gateway's own"),
        _times("upstream_duration_seconds", "Model call", "deployment"),
        _times("degraded_duration_seconds", "Fixed reply"),
    ),
    "Providers": (
        _count("attempts", "Model calls by outcome", "deployment", "outcome"),
        _state("breaker_state", "Breakers (0 closed, 2 open)", "deployment", together="max"),
        _state("breakers_shared", "Breakers are shared (0: each for itself)", together="min"),
        _state("concurrency_limit", "Calls at once, at most", "deployment"),
        _state("waiting", "Waiting for room", "deployment"),
        _count("fallbacks", "Fallbacks", "model", "reason"),
        _count("degraded", "Fixed replies", "model"),
        _state("degradation_state", "Degradation (0 normal, 2 tripped)", "model", together="max"),
        _times("quality", "Quality of answers", "status"),
        _times("feedback_score", "Feedback, 1–5"),
    ),
    "Tokens and cost": (
        _count("tokens", "Tokens", "model", "direction"),
        _count("cost_usd", "Cost", "model"),
        _times("token_efficiency", "Token efficiency", "model"),
        _count("cache", "Cache", "result"),
        _count("cache_failures", "Answers not looked up or kept"),
        _state("cache_bytes", "Kept in the cache"),
    ),
    "Streams, sessions, batches": (
        _count("streams", "Streams that ended", "model", "outcome"),
        _state("resumable_streams", "Resumable streams", "state"),
        _state("resumable_bytes", "Kept of them"),
        _count("resumable_failures", "Streams not copied to Redis"),
        _state("sessions_active", "Sessions", together="max"),
        _count("sessions_expired", "Sessions that expired"),
        _count("sessions_forgotten", "Turns without memory"),
        _count("responses_unsaved", "Responses not kept"),
        _count("batch_items", "Items of batches", "status"),
        _times("batch_duration_seconds", "Batch"),
    ),
    "Records": (
        _count("records", "Records", "sink", "outcome"),
        _state("records_complete_ratio", "Records that are complete", "sink", together="min"),
        _state("records_waiting", "Records on their way", "sink"),
    ),
    "Workers": (
        _state("workers", "Processes", "state"),
        _state("worker_configurations", "Configurations in use"),
        _count("worker_ends", "Workers that ended", "how"),
        _count("workers_unheard", "Answers not waited for"),
    ),
}


def together(gauge: str) -> Together:
    """Of one that is not listed, the highest."""
    return next((shown.together for row in CATALOGUE.values() for shown in row if shown.metric == gauge), "max")


def dashboard() -> bytes:
    """For Grafana 10 and later, over any data source of Prometheus's kind."""
    panels: list[dict[str, Any]] = []
    line = 0
    for row, shown in CATALOGUE.items():
        panels.append({"type": "row", "title": row, "collapsed": False, "gridPos": {"x": 0, "y": line, "w": 24, "h": 1}, "panels": []})
        line += 1
        for number, each in enumerate(shown):
            column = number % _PANELS_A_LINE
            place = {"x": column * _WIDTH, "y": line, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_panel(each, place))
            if column == _PANELS_A_LINE - 1 or number == len(shown) - 1:
                line += _HEIGHT
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    told = {
        "uid": "agent-gateway",
        "title": "agent-gateway",
        "tags": ["agent-gateway"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}]},
        "annotations": {"list": []},
        "panels": panels,
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n"


def expressions(shown: Shown) -> dict[str, str]:
    """PromQL by the legend of its lines."""
    by = f" by ({', '.join(shown.by)})" if shown.by else ""
    legend = " ".join([f"{{{{{label}}}}}" for label in shown.by])
    name = PREFIX + shown.metric
    match shown.kind:
        case "counter":
            return {legend or "all": f"sum{by} (rate({name}_total[$__rate_interval]))"}
        case "gauge":
            return {legend or "all": f"{shown.together}{by} ({name})"}
        case "histogram":
            buckets = f"sum by ({', '.join((*shown.by, 'le'))}) (rate({name}_bucket[$__rate_interval]))"
            return {f"p{share} {legend}".rstrip(): f"histogram_quantile({share / 100:g}, {buckets})" for share in (50, 95, 99)}


def _panel(shown: Shown, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    unit = next((unit for suffix, unit in _UNITS.items() if shown.metric.endswith(suffix)), "short")
    targets = [
        {"refId": chr(ord("A") + number), "datasource": source, "expr": expression, "legendFormat": legend}
        for number, (legend, expression) in enumerate(expressions(shown).items())
    ]
    title = f"{shown.title} a second" if shown.kind == "counter" else shown.title
    return {
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
    }


if __name__ == "__main__":
    sys.stdout.write(dashboard().decode())
