"""What this process has seen of late, minute by minute: service levels over any time up to a day.

Promise: bounded, a kilobyte a minute; what it tells is as old as the last look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import pairwise

from agent_gateway.record.family import Family
from agent_gateway.record.slo import Sums, judged, summed

MINUTE_S = 60.0
#: How far back it reaches, and what `/metrics` tells of (s).
REACH_S = 86_400.0
TOLD_S = 3_600.0


class SloWindow:
    """Times are monotonic seconds."""

    def __init__(self) -> None:
        #: (when, all since the process began), oldest first, a minute apart; the first may have been when it began.
        self._minutes: deque[tuple[float, Sums]] = deque()
        self._latest = Sums()
        self._now = 0.0

    def look(self, families: Iterable[Family], now: float) -> None:
        """To be called several times a minute."""
        self._latest, self._now = summed(families), now
        if not self._minutes:
            self._minutes.append((now, Sums()))  # as the process began
        elif now - self._minutes[-1][0] >= MINUTE_S:
            self._minutes.append((now, self._latest))
        while len(self._minutes) > 1 and self._minutes[1][0] <= now - REACH_S:
            self._minutes.popleft()

    def sums(self, span_s: float) -> Sums:
        """Of the last so-many seconds, or as far as it reaches."""
        if not self._minutes:
            return Sums()
        after = [(at, sums) for at, sums in self._minutes if at > self._now - span_s]
        before = [(at, sums) for at, sums in self._minutes if at <= self._now - span_s]
        _, first = before[-1] if before else after[0]
        since = self._latest - first
        marks = [first, *(sums for _, sums in after), self._latest]
        counts = [sums.number("batch_requests") for sums in marks]
        since.add("batch_peak", max((later - earlier for earlier, later in pairwise(counts)), default=0.0))
        return since

    @property
    def ratios(self) -> Mapping[str, float]:
        """By objective, of the last hour."""
        return {verdict.slo: verdict.ratio for verdict in judged(self.sums(TOLD_S)) if verdict.ratio is not None}
