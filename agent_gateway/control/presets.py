"""`preset: support`: the settings of `presets.toml` under those of the file, the environment and the command.

What was said elsewhere stays as it was said; what a preset sets, and who went over it, can be told (`agent-gateway check`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from agent_gateway.control.errors import Findings

#: Of a preset: what each model has that says nothing else.
_EACH_MODEL = "model"
FILE = "the file"


@dataclass(frozen=True, slots=True)
class PresetSetting:
    """One setting of the preset in force."""

    place: tuple[str, ...]
    value: Any
    #: `the file`, a variable or an option. None: the preset's own value is in force.
    overridden_by: str | None

    @property
    def path(self) -> str:
        return ".".join(self.place)


@cache
def presets() -> dict[str, dict[str, Any]]:
    """Name → sections, as a file would say them."""
    return tomllib.loads((files("agent_gateway.control") / "presets.toml").read_text("utf-8"))


def fill(raw: dict[str, Any], findings: Findings) -> dict[tuple[str, ...], Any]:
    """Puts what the preset that `raw` names sets under what `raw` says itself: place → the preset's value, for all of them.

    A name that is no preset's is left to be reported as what it is.
    """
    name = raw.get("preset")
    sections = presets().get(name, {}) if isinstance(name, str) else {}
    set_by_preset: dict[tuple[str, ...], Any] = {}
    for place, value in _placed(sections, raw.get("models")):
        set_by_preset[place] = value
        if _put(raw, place, value):
            findings.origins[".".join(place)] = _origin(str(name))
    return set_by_preset


def told(name: str | None, set_by_preset: dict[tuple[str, ...], Any], findings: Findings) -> tuple[PresetSetting, ...]:
    """What became of what `fill` has put, once everything else has been put over it."""
    return tuple(
        PresetSetting(place, value, None if by == _origin(str(name)) else by)
        for place, value in set_by_preset.items()
        for by in [findings.origins.get(".".join(place), FILE)]
    )


def _origin(name: str) -> str:
    return f"preset: {name}"


def _placed(sections: dict[str, Any], models: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every single setting. One of a model is whole, a mapping too (a strategy's factors belong to their strategy)."""
    for section, values in sections.items():
        if section != _EACH_MODEL:
            yield from _leaves((section,), values)
        elif isinstance(models, dict):
            names = [name for name in models if isinstance(name, str)]
            yield from ((("models", name, setting), value) for name in names for setting, value in values.items())


def _leaves(place: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves((*place, name), item)
    else:
        yield place, value


def _put(raw: dict[str, Any], place: tuple[str, ...], value: Any) -> bool:
    """False where something is said there already, or a section is no mapping, which is then reported as what it is."""
    *sections, name = place
    section: Any = raw
    for each in sections:
        if section.get(each) is None:
            section[each] = {}
        section = section[each]
        if not isinstance(section, dict):
            return False
    if name in section:
        return False
    section[name] = value
    return True
