"""Settings that the configuration knows and the program does not do yet: refused, never silently ignored.

Whoever builds one deletes its line here; its default is always accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from agent_gateway.control.errors import Findings
from agent_gateway.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Later:
    """Beside the default, only values that `accepts` takes are available; `instead` says which those are."""

    accepts: Callable[[Any], bool] | None = None
    instead: str | None = None


#: Path of a setting, or of a whole section.
LATER: dict[str, Later] = {
    "preset": Later(),
    "server.workers": Later(),
}

_DEFAULTS = Settings()


def refuse_later(settings: Settings, findings: Findings) -> None:
    """An error for every setting that asks for what is not there yet."""
    for path, later in LATER.items():
        _compare(path, _at(settings, path), _at(_DEFAULTS, path), later, findings)


def _compare(path: str, value: Any, default: Any, later: Later, findings: Findings) -> None:
    if value == default:
        return
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _compare(f"{path}.{name}", getattr(value, name), getattr(default, name), later, findings)
    elif later.accepts is None or not later.accepts(value):
        findings.error(path, f"not available yet; {later.instead or _leave_out(default)}")


def _leave_out(default: Any) -> str:
    if default is None or default == ():
        return "leave it out"
    return f"leave it out, or at {msgspec.json.encode(default).decode()}"


def _at(settings: msgspec.Struct, path: str) -> Any:
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value
