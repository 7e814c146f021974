"""What this process does now: its last minute, and the minutes before, of all models and of each.

Promise: bounded, a kilobyte for each minute of a model that was asked for; what it tells is as old as the last look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.record.family import Family
from agent_gateway.record.slo import TIMES, Sums, quantile, summed_by_model

MINUTE_S = 60.0
MINUTES_MAX = 120
#: Models that are told apart in a minute: those that were asked for most.
MODELS_MAX = 20
#: Between two marks, from which the last minute is reckoned (s).
MARK_EVERY_S = 5.0
#: The name of all models together; none has it.
ALL = ""

_Models: TypeAlias = Mapping[str, Sums]


@dataclass(frozen=True, slots=True)
class Past:
    """What came in a time, by model; `ALL` is always there. `began` is Unix seconds."""

    began: float
    seconds: float
    models: _Models


@dataclass(frozen=True, slots=True)
class _Mark:
    #: Monotonic, and Unix seconds.
    at: float
    wall: float
    #: Since the process began.
    models: _Models


class Traffic:
    """`read` gives the metrics as they stand."""

    def __init__(self, read: Callable[[], Iterable[Family]], clock: Clock = SYSTEM_CLOCK) -> None:
        self._read = read
        self._clock = clock
        self._latest = _Mark(clock.monotonic(), clock.wall(), {ALL: Sums()})
        #: Of the last minute, oldest first; the first is a minute old or older, where the process is.
        self._marks: deque[_Mark] = deque([self._latest])
        #: Those that are over, and where the one that runs began.
        self._minutes: deque[Past] = deque(maxlen=MINUTES_MAX)
        self._minute = self._latest
        self.in_flight: Mapping[str, int] = {}

    def look(self) -> None:
        """To be called several times a minute, and before anything is asked that is to be of now."""
        families = {family.name: family for family in self._read()}
        models = summed_by_model(families.values())
        before = self._latest.models
        models = {name: before[name] if before.get(name) == sums else sums for name, sums in models.items()}  # most have nothing new
        models[ALL] = sum(models.values(), Sums())
        now = self._clock.monotonic()
        self._latest = latest = _Mark(now, self._clock.wall(), models)
        under_way = families.get("in_flight")  # of several processes there may be none just now
        self.in_flight = {} if under_way is None else {name: int(count) for (name,), count in under_way.values.items()}
        if now - self._marks[-1].at >= MARK_EVERY_S:
            self._marks.append(latest)
        while len(self._marks) > 1 and self._marks[1].at <= now - MINUTE_S:
            self._marks.popleft()
        if now - self._minute.at >= MINUTE_S:
            self._minutes.append(_between(self._minute, latest))
            self._minute = latest

    def last_minute(self) -> Past:
        """Or since the process began."""
        return _between(self._marks[0], self._latest)

    def minutes(self, count: int) -> list[Past]:
        """The last so many, oldest first; the very last is the one that runs."""
        return [*self._minutes, _between(self._minute, self._latest)][-count:]


def _between(earlier: _Mark, later: _Mark) -> Past:
    changed = {
        name: sums - (earlier.models.get(name) or Sums())
        for name, sums in later.models.items()
        if name == ALL or sums is not earlier.models.get(name)
    }
    busiest = sorted(changed, key=lambda name: (name != ALL, -changed[name].number("ended")))
    return Past(earlier.wall, later.at - earlier.at, {name: changed[name] for name in busiest[: MODELS_MAX + 1]})


def percentile_s(sums: Sums, times: str, share: float) -> float | None:
    """Of `slo.TIMES`; None: there were none."""
    return quantile(TIMES[times], sums.times(times), share)
