"""A seat: a lazy table name → import path, so that a start imports only what it uses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

#: How a plug-in that was configured is called in errors, headers and metrics.
TITLE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Seat:
    """`name` is also the entry-point group under which third parties add plug-ins (`agent_gateway.<name>`)."""

    name: str
    table: Mapping[str, str]
    #: More names for plug-ins of the table; asked only where the table itself does not do.
    more: Callable[[], Mapping[str, str]] = dict

    @property
    def names(self) -> list[str]:
        """In the order of the table, then of `more`, then those of third parties."""
        return list(dict.fromkeys([*self.table, *self.more(), *sorted(_installed(self.name))]))

    def load(self, plugin: str) -> Any:
        """The plug-in's class. `KeyError` with the names that exist when there is none of that name."""
        path = self.table.get(plugin) or self.more().get(plugin) or _installed(self.name).get(plugin)
        if path is None:
            raise KeyError(f"{plugin!r} is not one of {', '.join(self.names)}")
        module, _, attribute = path.partition(":")
        return getattr(import_module(module), attribute)


@cache
def _installed(seat: str) -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=f"agent_gateway.{seat}")}
