"""docs/reference/metrics.md: every metric as the gateway tells it to Prometheus, in the order of the catalogue."""

from __future__ import annotations

from agent_gateway.record.catalogue import CATALOGUE
from agent_gateway.record.family import PREFIX
from reference.running import families

_OPENING = """# Metrics

Made from the gateway's own list by `python -m reference`. `GET /metrics` tells them in Prometheus' text format; [alerts.md](../alerts.md) has rules for them,
and `deploy/grafana/dashboard.json` is a dashboard of all of them. Labels are bounded: a configured name, a code of the gateway's own, or `other`; never a key
or a user. A scrape sees every request that has ended.
"""


def page() -> str:
    by_name = {family.name: family for family in families()}
    lines = [_OPENING]
    for title, row in CATALOGUE.items():
        lines += [f"## {title}", "", "| metric | kind | labels | |", "|---|---|---|---|"]
        for shown in row:
            family = by_name[shown.metric]
            name = f"{PREFIX}{family.name}{'_total' if family.kind == 'counter' else ''}"
            labels = ", ".join(f"`{label}`" for label in family.labels)
            lines.append(f"| `{name}` | {family.kind} | {labels} | {family.text} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
