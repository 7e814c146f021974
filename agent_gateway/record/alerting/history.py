"""What a share was within the last so-many seconds, by label: sums that only grow, remembered as they were at each look."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from operator import itemgetter

from agent_gateway.record.alerting.signals import Reading, Share


class History:
    """Of one share. `span_s`: how far back it is asked. As long as nothing changes, a look costs no memory."""

    __slots__ = ("_looked", "_seen", "_share", "_span_s")

    def __init__(self, share: Share, span_s: float) -> None:
        self._share = share
        self._span_s = span_s
        #: By label: (when, part, whole), oldest first; the first may be older than the span, for it held until the second.
        self._seen: dict[str, deque[tuple[float, float, float]]] = {}
        self._looked = False

    def look(self, reading: Reading, now: float) -> None:
        for label, (part, whole) in self._share.read(reading).items():
            seen = self._seen.get(label)
            if seen is None:
                # What was counted before the first look is of no known time; a series that appears later began at 0.
                seen = self._seen[label] = deque([(now, 0.0, 0.0) if self._looked else (now, part, whole)])
            _, part_before, whole_before = seen[-1]
            if part != part_before or whole != whole_before:
                seen.append((now, part, whole))
            while len(seen) > 1 and seen[1][0] <= now - self._span_s:
                seen.popleft()
        self._looked = True

    def labels(self) -> Iterator[str]:
        """Those of which the part has grown within the span."""
        return (label for label, seen in self._seen.items() if seen[0][1] != seen[-1][1])

    def within(self, label: str, since: float) -> tuple[float, float]:
        """Part and whole of what happened after `since`."""
        seen = self._seen.get(label)
        if seen is None:
            return 0.0, 0.0
        _, part, whole = seen[-1]
        _, part_before, whole_before = seen[max(bisect_right(seen, since, key=_when) - 1, 0)]
        return part - part_before, whole - whole_before


_when = itemgetter(0)
