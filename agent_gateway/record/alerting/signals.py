"""What rules look at: shares of the recorder's counters, and gauges; each names metrics that Prometheus has as well.

Promise: a signal is data, so that the engine here and the rules for Prometheus cannot mean different things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent_gateway.record.family import Family, Histogram

#: Metrics by their names, without prefix and suffix.
Families = Mapping[str, Family]


@dataclass(frozen=True, slots=True)
class Count:
    """Series of one metric, added up. A histogram counts what it observed; `above`, only what was above that bound of its buckets."""

    metric: str
    #: Label → the values that count; with `but`, those that do not.
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()
    but: tuple[tuple[str, tuple[str, ...]], ...] = ()
    above: float | None = None

    def added(self, families: Families, by: str | None) -> dict[str, float]:
        """By label; nothing of a metric that is not there."""
        family = families.get(self.metric)
        if family is None:
            return {}
        places = {label: place for place, label in enumerate(family.labels)}
        kept = [(places[label], values, True) for label, values in self.where] + [
            (places[label], values, False) for label, values in self.but
        ]
        place = None if by is None else places[by]
        # Hundreds of models make thousands of series, looked at every few seconds beside requests.
        chosen = list(family.values.items())
        for where, values, wanted in kept:
            chosen = [item for item in chosen if (item[0][where] in values) is wanted]
        sums: dict[str, float] = {}
        for labels, value in chosen:
            label = "" if place is None else labels[place]
            sums[label] = sums.get(label, 0.0) + (self._observed(value) if isinstance(value, Histogram) else value)
        return sums

    def _observed(self, histogram: Histogram) -> int:
        return sum(histogram.counts if self.above is None else histogram.counts[histogram.bounds.index(self.above) + 1 :])


class Reading:
    """Metrics as they stand at one time; what several rules look at is added up once."""

    def __init__(self, families: Families) -> None:
        self._families = families
        self._sums: dict[tuple[tuple[Count, ...], str | None], dict[str, float]] = {}

    def sums(self, counts: tuple[Count, ...], by: str | None) -> dict[str, float]:
        known = self._sums.get((counts, by))
        if known is None:
            known = self._sums[counts, by] = {}
            for count in counts:
                for label, value in count.added(self._families, by).items():
                    known[label] = known.get(label, 0.0) + value
        return known

    def level(self, metric: str, by: str) -> dict[str, float]:
        family = self._families.get(metric)
        if family is None:
            return {}
        place = family.labels.index(by)
        return {labels[place]: value for labels, value in family.values.items()}


@dataclass(frozen=True, slots=True)
class Share:
    """`part` / `whole` within a time, by a label; both are sums that only grow. A mean is one too: what was spent / how often."""

    part: tuple[Count, ...]
    whole: tuple[Count, ...]
    #: None: of everything together.
    by: str | None = None

    def read(self, reading: Reading) -> dict[str, tuple[float, float]]:
        """Both since the process began, by label; "" where there is none."""
        parts, wholes = reading.sums(self.part, self.by), reading.sums(self.whole, self.by)
        return {label: (parts.get(label, 0.0), wholes.get(label, 0.0)) for label in parts.keys() | wholes.keys()}


@dataclass(frozen=True, slots=True)
class Level:
    """A gauge, by a label."""

    metric: str
    by: str

    def read(self, reading: Reading) -> dict[str, float]:
        return reading.level(self.metric, self.by)
