"""Times as a log-linear histogram, in the manner of HdrHistogram: millions of them in a few kilobytes, none further off than 0.1 %."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from msgspec import Struct

#: Of a time in microseconds so many bits are kept: the worst bucket is 1/1024 of its value wide.
SIGNIFICANT_BITS = 11
#: Percentiles that are told.
SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)


class Told(Struct, frozen=True, kw_only=True):
    """Seconds. `percentiles` by their names (`p99.9`); `buckets`: (upper bound in s, how many), of those in which there are any."""

    count: int
    mean_s: float
    min_s: float
    max_s: float
    percentiles: dict[str, float]
    buckets: list[tuple[float, int]]

    def __getitem__(self, percentile: str) -> float:
        return self.percentiles[percentile]


class Times:
    __slots__ = ("_counts", "count", "max_s", "min_s", "total_s")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.total_s = 0.0
        self.min_s = float("inf")
        self.max_s = 0.0

    def add(self, seconds: float) -> None:
        micros = int(seconds * 1e6) if seconds > 0 else 0
        shift = micros.bit_length() - SIGNIFICANT_BITS
        if shift > 0:
            micros = micros >> shift << shift
        counts = self._counts
        counts[micros] = counts.get(micros, 0) + 1
        self.count += 1
        self.total_s += seconds
        if seconds > self.max_s:
            self.max_s = seconds
        if seconds < self.min_s:
            self.min_s = seconds

    def quantile_s(self, share: float) -> float | None:
        """The time within which that share of all lies: the upper end of its bucket. None: there are none."""
        return self.quantiles_s((share,))[0] if self.count else None

    def quantiles_s(self, shares: Sequence[float]) -> list[float]:
        """`shares` ascend. There is at least one time."""
        found: list[float] = []
        within, buckets = 0, iter(sorted(self._counts.items()))
        upper_s = 0.0
        for share in shares:
            sought = max(ceil(share * self.count), 1)
            while within < sought:
                micros, count = next(buckets)
                within += count
                upper_s = min(_upper_s(micros), self.max_s)
            found.append(upper_s)
        return found

    def told(self) -> Told | None:
        """None: there are none."""
        if not self.count:
            return None
        return Told(
            count=self.count,
            mean_s=self.total_s / self.count,
            min_s=self.min_s,
            max_s=self.max_s,
            percentiles=dict(zip(map(name_of, SHARES), self.quantiles_s(SHARES), strict=True)),
            buckets=[(_upper_s(micros), count) for micros, count in sorted(self._counts.items())],
        )


def name_of(share: float) -> str:
    """`p99.9`."""
    return f"p{share * 100:.6g}"


def _upper_s(micros: int) -> float:
    """Where the bucket that begins there ends."""
    shift = max(micros.bit_length() - SIGNIFICANT_BITS, 0)
    return (micros + (1 << shift)) / 1e6
