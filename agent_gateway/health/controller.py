"""The degradation controller of one model: sends its traffic to the fallback by itself when too much ends there anyway, and back again.

Promise: without new failures it always finds its way back, and it does not flap.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from agent_gateway.health.window import Window

State = Literal["normal", "alert", "tripped", "recovering"]

SHORT_S = 60.0
LONG_S = 300.0
#: A rate over fewer requests than this says nothing.
MIN_REQUESTS = 50
#: The alert ends below this share of its threshold.
ALERT_RELEASE = 0.8
#: While tripped: this share of the traffic tests the primary, and at least one request in so long (s).
PROBE_SHARE = 0.05
PROBE_EVERY_S = 2.0
#: Success above this share, over at least so many probes, makes a step back to the primary.
RECOVERED_SHARE = 0.95
STEP_MIN_REQUESTS = 20
#: Shares of the traffic that the primary gets back, step by step; each lasts at least so long (s).
STEPS = (0.25, 0.5)
STEP_S = 5.0
#: After a trip the first probes' verdict is awaited at least so long (s); doubled for each relapse in a row, up to the cap.
TRIP_S = 5.0
TRIP_CAP_S = 300.0
RELAPSES_COUNTED = 10


@dataclass(frozen=True, slots=True)
class Reading:
    """`rate_*`: share of requests that the model itself did not answer, 0–1, over 1 min and 5 min; None under `MIN_REQUESTS`."""

    state: State
    primary_share: float
    rate_short: float | None
    rate_long: float | None


class Controller:
    """Told of every request that it let through to the primary; asked before each whether the primary may be tried."""

    def __init__(self, alert_rate: float, trigger_rate: float, random: Random) -> None:
        self._alert_rate = alert_rate
        self._trigger_rate = trigger_rate
        self._random = random
        self.state: State = "normal"
        #: Of the last `LONG_S`, in slices of a tenth of `SHORT_S`.
        self._requests = Window(LONG_S, slices=int(10 * LONG_S / SHORT_S))
        self._trial = Window(SHORT_S)
        #: Successes of the trial without a failure between: what speaks where the traffic is too low to fill its window.
        self._in_a_row = 0
        self._step = -1
        self._since = 0.0
        self._last_probe = 0.0
        self._relapses = 0

    def follow(self, alert_rate: float, trigger_rate: float) -> None:
        """Takes a reloaded policy; what is known stays."""
        self._alert_rate, self._trigger_rate = alert_rate, trigger_rate

    def admits_primary(self, now: float) -> bool:
        """Whether this request tries the primary first. Each question may be a probe's."""
        if self.state in ("normal", "alert"):
            return True
        if self._random.random() < self._share or now - self._last_probe >= PROBE_EVERY_S:
            self._last_probe = now
            return True
        return False

    def observe(self, now: float, *, fell_back: bool, can_trip: bool, tried: bool = True) -> None:
        """One request has ended. `can_trip`: there is another model to go to. Not `tried`: all of the primary was ejected or cooling down,
        which counts as any other fallback, but is no trial.
        """
        if self.state in ("tripped", "recovering"):
            if not tried:
                return
            self._trial.add(now, hits=fell_back)
            self._in_a_row = 0 if fell_back else self._in_a_row + 1
            self._judge_trial(now)
            return
        self._requests.add(now, 1, fell_back)
        if fell_back and can_trip and self._exceeds(now, self._trigger_rate):
            self._trip(now)
        elif fell_back or self.state == "alert":  # a success alone never raises a rate
            self._judge_alert(now)

    def reading(self, now: float) -> Reading:
        if self.state == "alert":
            self._judge_alert(now)
        return Reading(self.state, self._share, *self._rates(now))

    @property
    def _share(self) -> float:
        if self.state == "tripped":
            return PROBE_SHARE
        return STEPS[self._step] if self.state == "recovering" else 1.0

    def _exceeds(self, now: float, threshold: float) -> bool:
        return any((rate or 0.0) > threshold for rate in self._rates(now))

    def _rates(self, now: float) -> tuple[float | None, float | None]:
        """Over `SHORT_S` and over `LONG_S`."""
        return _rate(self._requests.latest_counts(now, SHORT_S)), _rate(self._requests.counts(now))

    def _judge_alert(self, now: float) -> None:
        if self.state == "normal" and self._exceeds(now, self._alert_rate):
            self.state = "alert"
        elif self.state == "alert" and not self._exceeds(now, self._alert_rate * ALERT_RELEASE):
            self.state = "normal"

    def _trip(self, now: float) -> None:
        self.state = "tripped"
        self._step = -1
        self._since = self._last_probe = now
        self._clear_trial()
        self._requests.clear()

    def _judge_trial(self, now: float) -> None:
        tried, failed = self._trial.counts(now)
        # What trips it trips it again: a threshold below that would keep a primary out for the few failures that it always has.
        if self.state == "recovering" and failed > max(STEP_MIN_REQUESTS, tried) * self._trigger_rate:
            self._relapses += 1
            self._trip(now)
            return
        enough = tried if tried >= STEP_MIN_REQUESTS else self._in_a_row
        if enough < STEP_MIN_REQUESTS or tried - failed <= tried * RECOVERED_SHARE or now - self._since < self._stay_s:
            return
        self._since = now
        self._clear_trial()
        self._step += 1
        if self._step < len(STEPS):
            self.state = "recovering"
        else:
            self.state = "normal"
            self._step = -1
            self._relapses = 0

    def _clear_trial(self) -> None:
        self._trial.clear()
        self._in_a_row = 0

    @property
    def _stay_s(self) -> float:
        return min(TRIP_S * 2 ** min(self._relapses, RELAPSES_COUNTED), TRIP_CAP_S) if self.state == "tripped" else STEP_S


def _rate(counts: tuple[int, float]) -> float | None:
    total, hits = counts
    return hits / total if total >= MIN_REQUESTS else None
