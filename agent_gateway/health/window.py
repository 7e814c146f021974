"""Two counts over the last so-many seconds, in a bounded number of slices."""

from __future__ import annotations

from collections import deque

SLICES = 10


class Window:
    """`total` things happened, `hits` of them of the kind that is watched. Times are monotonic seconds."""

    __slots__ = ("_hits", "_latest", "_older", "_rate", "_slices", "_total")

    def __init__(self, span_s: float, slices: int = SLICES) -> None:
        self._rate = slices / span_s
        self._slices = slices
        #: [slice number, total, hits]: the slice that is being filled, and those before it, oldest first.
        self._latest = [-1, 0, 0]
        self._older: deque[list[int]] = deque()
        #: Of all slices that are kept.
        self._total = 0
        self._hits = 0

    @property
    def span_s(self) -> float:
        return self._slices / self._rate

    def add(self, now: float, total: int = 1, hits: int = 0) -> None:
        if int(now * self._rate) != self._latest[0]:
            self._turn(int(now * self._rate))
        latest = self._latest
        latest[1] += total
        latest[2] += hits
        self._total += total
        self._hits += hits

    def counts(self, now: float) -> tuple[int, int]:
        """`(total, hits)` within the span, to the precision of a slice."""
        if int(now * self._rate) != self._latest[0]:
            self._turn(int(now * self._rate))
        return self._total, self._hits

    def latest_counts(self, now: float, seconds: float) -> tuple[int, int]:
        """`(total, hits)` within the last `seconds` of the span, to the precision of a slice."""
        self.counts(now)
        after = self._latest[0] - int(seconds * self._rate)
        slices = [piece for piece in (*self._older, self._latest) if piece[0] > after]
        return sum(piece[1] for piece in slices), sum(piece[2] for piece in slices)

    def clear(self) -> None:
        self._older.clear()
        self._latest = [self._latest[0], 0, 0]
        self._total = self._hits = 0

    def _turn(self, number: int) -> None:
        """A new slice begins; those that are out of the span are forgotten."""
        self._older.append(self._latest)
        self._latest = [number, 0, 0]
        while self._older and self._older[0][0] <= number - self._slices:
            _, total, hits = self._older.popleft()
            self._total -= total
            self._hits -= hits
