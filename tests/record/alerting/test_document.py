"""docs/alerts.md names the rules and the service levels that there are, and the bounds that hold."""

from __future__ import annotations

import re
from pathlib import Path

from agent_gateway.record.alerting import engine, webhook
from agent_gateway.record.alerting.rules import RELEASE, RULES, SURE
from agent_gateway.record.alerting.signals import Share
from agent_gateway.record.slo import OBJECTIVES
from agent_gateway.record.slo import told as level_told

DOCUMENT = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text()


def rows(columns: int) -> list[tuple[str, ...]]:
    """Of the tables whose rows begin with a name, the cells of each."""
    cells = [tuple(line[2:-2].split(" | ")) for line in DOCUMENT.splitlines() if line.startswith("| `")]
    return [row for row in cells if len(row) == columns]


def test_every_rule_is_told_as_it_is() -> None:
    told = [tuple(cell.strip() for cell in row[:5]) for row in rows(6)]
    assert told == [
        (
            f"`{rule.name}`",
            rule.severity,
            rule.signal.by or "",
            f"> {rule.threshold_told}" if isinstance(rule.signal, Share) else "",
            " and ".join(f"{window_s / 60:g} min" for window_s in rule.windows_s) if isinstance(rule.signal, Share) else "",
        )
        for rule in RULES
    ]


def test_every_service_level_is_told_as_it_is() -> None:
    assert rows(4) == [
        (f"`{each.name}`", each.of, each.text, f"{'<' if each.better == 'below' else '≥'} {level_told(each.target, each.unit)}")
        for each in OBJECTIVES
    ]


def test_its_bounds_hold() -> None:
    assert f"every {engine.EVERY_S:g} s" in DOCUMENT
    assert f"in the {webhook.GROUP_S:g} s after it" in DOCUMENT
    assert f"{RELEASE:.0%}".replace("%", " %") in DOCUMENT
    assert f"{SURE:g} standard deviations" in DOCUMENT
    assert re.search(rf"Up to {webhook.WAITING_MAX:,} alerts wait", DOCUMENT)
    assert f"the last {engine.HISTORY_MAX:,} that are over" in DOCUMENT
    waits = [webhook.FIRST_WAIT_S * 2**number for number in range(webhook.TRIES_MAX - 1)]
    assert (webhook.TRIES_MAX, sum(waits) // 60) == (10, 8)
