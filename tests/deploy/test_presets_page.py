"""docs/deployment/presets.md shows every setting of every preset, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_gateway.control.presets import presets

PAGE = Path(__file__).parents[2] / "docs" / "deployment" / "presets.md"


def settings(sections: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in sections.items():
        if prefix == "" and name == "model":
            found.update({f"models.*.{setting}": one for setting, one in value.items()})
        elif isinstance(value, dict):
            found.update(settings(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found


@pytest.mark.parametrize("name", presets())
def test_the_page_shows_what_the_preset_sets(name: str) -> None:
    section = PAGE.read_text().partition(f"## `preset: {name}`\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", section, re.MULTILINE)
    assert {path: msgspec.json.decode(value) for path, value in rows} == settings(presets()[name])
