"""How long a deployment's streams take to begin, against what is usual for it with inputs of that size and fewer calls at once.

Promise: noise is not taken for load — a window is late only where even its faster quarter took twice the usual time.
"""

from __future__ import annotations

#: Times that are judged together.
WINDOW = 32
#: So many times the usual one, and this much more of it (s), is late.
TOLERANCE = 2.0
LATE_MIN_S = 0.25
#: It can be load only where so many times as many calls were under way as when the usual time was measured.
CROWD = 2.0
#: What is usual is believed less as time goes by: in so long (s), twice the time and twice the crowd have become usual.
DOUBLES_S = 600.0
#: After so many doublings nothing of it is left.
FORGOTTEN = 32


class FirstTokens:
    """Inputs are of one size where none is four times as long as another."""

    __slots__ = ("_sizes",)

    def __init__(self) -> None:
        self._sizes: dict[int, _Size] = {}

    def observe(self, seconds: float, input_tokens: int, in_flight: int, now: float) -> float | None:
        """As a window fills: by what factor it is over the tolerance, 1 or less where it is not late. Else None."""
        number = input_tokens.bit_length() >> 1
        size = self._sizes.get(number)
        if size is None:
            size = self._sizes[number] = _Size()
        size.times.append(seconds)
        size.in_flight += in_flight
        return size.judged(now) if len(size.times) >= WINDOW else None


class _Size:
    """The usual time is the smallest median of the windows so far."""

    __slots__ = ("_at", "_usual_crowd", "_usual_s", "in_flight", "times")

    def __init__(self) -> None:
        self.times: list[float] = []
        #: Summed over the window.
        self.in_flight = 0
        self._usual_s: float | None = None
        self._usual_crowd = 0.0
        self._at = 0.0

    def judged(self, now: float) -> float:
        times = sorted(self.times)
        quarter_s, median_s, crowd = times[WINDOW // 4], times[WINDOW // 2], self.in_flight / WINDOW
        self.times = []
        self.in_flight = 0
        late = 0.0
        usual_s = self._usual_s
        if usual_s is not None:
            growth = 2 ** min((now - self._at) / DOUBLES_S, FORGOTTEN)
            usual_s *= growth
            self._usual_crowd *= growth
            if quarter_s - usual_s >= LATE_MIN_S and crowd >= CROWD * self._usual_crowd:
                late = quarter_s / (TOLERANCE * usual_s)
        if usual_s is None or median_s <= usual_s:
            usual_s, self._usual_crowd = median_s, crowd
        self._usual_s, self._at = usual_s, now
        return late
