"""Two counts over the last so-many seconds, in a bounded number of slices."""

from __future__ import annotations

from collections import deque

SLICES = 10


class Window:
    """`total` things happened, `hits` of them of the kind that is watched. Times are monotonic seconds.

    Written several times a request, read seldom: what is written is two running counts, and a slice is what they were as it began.
    """

    __slots__ = ("_began", "_ends", "_hits", "_rate", "_slices", "_total")

    def __init__(self, span_s: float, slices: int = SLICES) -> None:
        self._rate = slices / span_s
        self._slices = slices
        #: Before that the slice that is being filled is not over: a hair early, so that it is `_turn` that decides.
        self._ends = 0.0
        #: Of everything since the last `clear`.
        self._total = 0
        self._hits = 0.0
        #: (slice number, total, hits) as each kept slice began, oldest first; the last one is being filled.
        self._began: deque[tuple[int, int, float]] = deque([(-1, 0, 0)])

    @property
    def span_s(self) -> float:
        return self._slices / self._rate

    def add(self, now: float, total: int = 1, hits: float = 0) -> None:
        if now >= self._ends:
            self._turn(now)
        self._total += total
        self._hits += hits

    def counts(self, now: float) -> tuple[int, float]:
        """`(total, hits)` within the span, to the precision of a slice."""
        if now >= self._ends:
            self._turn(now)
        _, total, hits = self._began[0]
        return self._total - total, self._hits - hits

    def latest_counts(self, now: float, seconds: float) -> tuple[int, float]:
        """`(total, hits)` within the last `seconds` of the span, to the precision of a slice."""
        self.counts(now)
        after = self._began[-1][0] - int(seconds * self._rate)
        _, total, hits = next(slice_began for slice_began in self._began if slice_began[0] > after)
        return self._total - total, self._hits - hits

    def clear(self) -> None:
        self._began = deque([(self._began[-1][0], 0, 0)])
        self._total = self._hits = 0

    def _turn(self, now: float) -> None:
        """A new slice begins; those that are out of the span are forgotten."""
        number = int(now * self._rate)
        self._ends = (number + 1) / self._rate * (1 - 1e-12)
        if number == self._began[-1][0]:
            return
        self._began.append((number, self._total, self._hits))
        while self._began[0][0] <= number - self._slices:
            self._began.popleft()
