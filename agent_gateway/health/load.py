"""How busy and how fast a deployment is, from what its calls showed."""

from __future__ import annotations

from math import exp

#: Time constant of the averages (s): after it, an old observation weighs 1/e.
DECAY_S = 10.0
#: Without a new observation, an average is believed for `DECAY_S` and then fades with this time constant (s).
FADE_S = 60.0
#: Times kept for quantiles, below how many nothing is said, and how many new ones make them worth sorting again.
SAMPLES = 128
SAMPLES_MIN = 16
RESORT_EVERY = 8
#: How long the most calls at once are remembered (s).
PEAK_S = 20.0


class Latency:
    """Seconds until an answer begins. The average is per 1,000 input tokens above none, so that prompts of any length compare."""

    __slots__ = ("_next", "_peak_at", "_peak_s", "_samples", "_since_sort", "_sorted")

    def __init__(self) -> None:
        self._peak_s = 0.0
        self._peak_at = 0.0
        self._samples: list[float] = []
        self._next = 0
        self._since_sort = 0
        self._sorted: list[float] = []

    def observe(self, seconds: float, input_tokens: int, now: float) -> None:
        """Peak-EWMA: a slower answer counts whole at once, faster ones pull the average down over `DECAY_S`.

        Source of the shape: the `PeakEwma` load metric of Finagle.
        """
        normal = seconds / _scale(input_tokens)
        if normal >= self._peak_s:
            self._peak_s = normal
        else:
            weight = exp(-(now - self._peak_at) / DECAY_S)
            self._peak_s = self._peak_s * weight + normal * (1 - weight)
        self._peak_at = now
        if len(self._samples) < SAMPLES:
            self._samples.append(seconds)
        else:
            self._samples[self._next] = seconds
            self._next = (self._next + 1) % SAMPLES
        self._since_sort += 1

    def expected_s(self, input_tokens: int, now: float) -> float:
        """For a request of this size; 0 where nothing is known. Fades while nothing refreshes it, so that a slow one is tried again."""
        stale_s = now - self._peak_at - DECAY_S
        fresh_s = self._peak_s if stale_s <= 0 else self._peak_s * exp(-stale_s / FADE_S)
        return fresh_s * _scale(input_tokens)

    def quantile_s(self, share: float) -> float | None:
        """Of the last `SAMPLES` observations; None before there are `SAMPLES_MIN`."""
        if len(self._samples) < SAMPLES_MIN:
            return None
        if self._since_sort >= RESORT_EVERY or not self._sorted:
            self._sorted = sorted(self._samples)
            self._since_sort = 0
        return self._sorted[min(int(len(self._sorted) * share), len(self._sorted) - 1)]


class Peak:
    """The most of what was noted in the last `PEAK_S`, or up to three times as long."""

    __slots__ = ("_before", "_latest", "_turns_at")

    def __init__(self) -> None:
        self._before = 0
        self._latest = 0
        self._turns_at = 0.0

    def note(self, count: int, now: float) -> None:
        if now >= self._turns_at:
            self._turn(now)
        if count > self._latest:
            self._latest = count

    def value(self, now: float) -> int:
        if now >= self._turns_at:
            self._turn(now)
        return max(self._before, self._latest)

    def _turn(self, now: float) -> None:
        self._before = self._latest if now < self._turns_at + PEAK_S else 0
        self._latest = 0
        self._turns_at = now + PEAK_S


class Load:
    """Streams begin with their first token, unary answers with their end: they are measured apart."""

    __slots__ = ("in_flight", "interactive", "of_batches", "streams", "tokens_per_call", "wholes")

    def __init__(self) -> None:
        self.in_flight = 0
        #: Among them, those of batches; and the most that the others were lately, where there is a bound on all.
        self.of_batches = 0
        self.interactive = Peak()
        self.streams = Latency()
        self.wholes = Latency()
        #: Moving average of output tokens, for expected costs; 0: nothing known.
        self.tokens_per_call = 0.0

    def latency(self, *, stream: bool) -> Latency:
        return self.streams if stream else self.wholes

    def observe_output(self, tokens: int) -> None:
        self.tokens_per_call += (tokens - self.tokens_per_call) * (0.1 if self.tokens_per_call else 1.0)


def _scale(input_tokens: int) -> float:
    return 1.0 + input_tokens / 1000.0
