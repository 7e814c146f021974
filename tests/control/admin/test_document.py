"""docs/admin.md names the routes that there are, and the bounds that hold."""

from __future__ import annotations

import re
from pathlib import Path

from agent_gateway.control import admin_route
from agent_gateway.control.admin import keys, usage
from agent_gateway.edge import feedback
from agent_gateway.record import figures
from agent_gateway.record.table import READ_TIMEOUT_S
from tests.control.admin.conftest import Stage

DOCUMENT = (Path(__file__).parents[3] / "docs" / "admin.md").read_text()


async def test_every_route_is_in_the_document_as_it_is(stage: Stage) -> None:
    told = re.findall(r"^\| `([A-Z]+) /([^`]+)` \| (\w+) \| (.*) \|$", DOCUMENT, re.MULTILINE)
    assert told == [(route.method, route.path, route.role, route.summary) for route in stage.api.routes]


def test_the_bounds_are_those_that_hold() -> None:
    assert f"`?limit=` is {admin_route.LIMIT} and at most {admin_route.LIMIT_MAX} (usage: 100 and\nat most {usage.GROUPS_MAX})" in DOCUMENT
    assert f'{{"overlap_s": {keys.OVERLAP_S:.0f}}}' in DOCUMENT
    assert f"longer than {READ_TIMEOUT_S:g} s" in DOCUMENT
    assert f"up to {feedback.COMMENT_MAX_CHARS:,} characters" in DOCUMENT
    assert f"for {figures.KEPT_MS // figures.DAY_MS} days" in DOCUMENT
    assert f"those beyond {figures.MODELS_MAX:,}," in DOCUMENT
    assert f"an object of up to {keys.METADATA_MAX_BYTES // 1024} KB" in DOCUMENT
    assert all(f"`{name}`" in DOCUMENT for name in keys.NewKey.__struct_fields__)
