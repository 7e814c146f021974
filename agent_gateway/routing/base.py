"""What a strategy promises, and the seat they sit in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, Protocol

import msgspec

from agent_gateway.core.plugins import Seat

STRATEGIES = Seat(
    "strategies",
    {
        name: f"agent_gateway.routing.strategies.{name}:Strategy"
        for name in ("weighted", "priority", "least_busy", "lowest_latency", "lowest_cost", "balanced")
    },
)


@dataclass(frozen=True, slots=True)
class View:
    """One deployment at one moment, as far as a strategy may know it."""

    weight: float
    in_flight: int
    #: Expected time to first token of this request (s); 0: never measured.
    latency_s: float
    #: Expected cost of this request (USD); None: price unknown.
    cost_usd: float | None


class Strategy(Protocol):
    """A pure function of what it is given; built from its own `Settings`."""

    Settings: ClassVar[type[msgspec.Struct]]

    def __init__(self, settings: Any) -> None: ...

    def order(self, views: Sequence[View], random: Random) -> list[int]:
        """Indices of all views, best first."""
