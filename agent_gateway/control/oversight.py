"""What is known of all of the gateway, and of no request in particular: its alerts, its service levels, what it does now.

Promise: it is worked out in one place, however many processes the gateway has.
"""

from __future__ import annotations

from typing import Protocol

from agent_gateway.control.pulse import Now, Points, minutes_of, now_of
from agent_gateway.core.clock import Clock
from agent_gateway.record.alerting.engine import Alert
from agent_gateway.record.alerting.watch import Watch
from agent_gateway.record.slo import Sums


class Oversight(Protocol):
    """All raise `StoreDown` where it cannot be asked."""

    async def alerts(self) -> tuple[list[Alert], list[Alert]]:
        """Those that fire, and those that are over; the newest first."""

    async def silence(self, alert_id: str, until: float) -> Alert | None:
        """Until then (Unix s) nobody is told of it; None: there is none."""

    async def sums(self, span_s: float) -> Sums:
        """What requests of the last so-many seconds add up to."""

    async def now(self) -> Now: ...

    async def minutes(self, count: int, model: str | None) -> Points:
        """Of all models together, or of one."""


class OwnOversight:
    """Of the process that has the watch."""

    def __init__(self, watch: Watch, clock: Clock) -> None:
        self._watch = watch
        self._clock = clock

    async def alerts(self) -> tuple[list[Alert], list[Alert]]:
        return self._watch.engine.firing(), self._watch.engine.past()

    async def silence(self, alert_id: str, until: float) -> Alert | None:
        known = self._watch.engine.find(alert_id)
        return None if known is None else self._watch.engine.silence(known, until)

    async def sums(self, span_s: float) -> Sums:
        return self._watch.slo.sums(span_s)

    async def now(self) -> Now:
        self._watch.traffic.look()
        return now_of(self._watch.traffic, self._clock)

    async def minutes(self, count: int, model: str | None) -> Points:
        self._watch.traffic.look()
        return minutes_of(self._watch.traffic, count, model)
