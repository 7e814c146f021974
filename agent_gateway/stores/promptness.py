"""How quickly a store answers lately, and so whether a request may wait for it, and how long: no longer than is worth it.

Promise: of a store that is slow or gone, those few requests that ask it just then learn it for all others; of one that comes and goes,
ever fewer do.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

#: On the average of lately; a store that takes longer is not waited for (s).
QUICK_S = 0.1
#: What a request waits is between these (s).
WAIT_MIN_S = 0.1
WAIT_MAX_S = 0.25
#: A store that is not waited for is asked so often, by nobody who waits, whether it may be again (s).
ASK_AGAIN_S = 0.05
#: After a failure it must have been quick for so long; twice that after the next one, and so on (s).
CALM_S = 1.0
CALM_MAX_S = 16.0
#: One that has been quick for so long has never failed (s).
FORGIVEN_S = 60.0


class Promptness:
    """The average time of an answer and its deviation, as TCP reckons its round trips (RFC 6298)."""

    __slots__ = ("_calm_s", "_clock", "_deviation_s", "_mean_s", "_quick_from")

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: monotonic s."""
        self._clock = clock
        self._mean_s = 0.0
        self._deviation_s = WAIT_MAX_S / 8
        self._quick_from = -inf
        self._calm_s = 0.0

    def took(self, seconds: float) -> None:
        self._deviation_s += (abs(seconds - self._mean_s) - self._deviation_s) / 4
        self._mean_s += (seconds - self._mean_s) / 8

    def failed(self) -> None:
        """It did not answer."""
        now = self._clock()
        if self.is_quick:
            self._calm_s = CALM_S if now - self._quick_from > FORGIVEN_S else min(2 * self._calm_s, CALM_MAX_S)
        self._quick_from = now + self._calm_s

    @property
    def is_quick(self) -> bool:
        return self._mean_s <= QUICK_S and self._clock() >= self._quick_from

    @property
    def wait_s(self) -> float:
        """Twice what an answer takes at the outside: who asks may come just after another has."""
        return min(max(2 * (self._mean_s + 4 * self._deviation_s), WAIT_MIN_S), WAIT_MAX_S)
