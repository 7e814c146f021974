"""docs/alerts.md tells every kind of scenario, as it is, and the bounds of a drill."""

from __future__ import annotations

import re
from pathlib import Path

from agent_gateway.rehearsal.drill import AFTER_S
from agent_gateway.rehearsal.kinds import KINDS
from agent_gateway.rehearsal.verdict import DETECTED_S, RIGHT

SECTION = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text().partition("\n## Drill\n")[2]


def test_every_kind_is_told() -> None:
    assert re.findall(r"^\| `(\w+)` \| ([^|]+) \|", SECTION, re.MULTILINE) == [(kind.name, kind.text) for kind in KINDS.values()]


def test_its_bounds_hold() -> None:
    assert f"below {RIGHT:.0%}".replace("%", " %") in SECTION
    assert f"later than after {DETECTED_S / 60:g} min" in SECTION
    assert f"over for {AFTER_S / 60:g} min" in SECTION
