"""What rules look at: shares of the recorder's counters, and gauges; each names metrics that Prometheus has as well.

Promise: a signal is data, so that the engine here and the rules for Prometheus cannot mean different things.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent_gateway.record.metrics import Family, Histogram

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

    def series(self, families: Families) -> Iterator[tuple[Mapping[str, str], float]]:
        """Labels and count; none of a metric that is not there."""
        family = families.get(self.metric)
        if family is None:
            return
        for values, value in family.values.items():
            labels = dict(zip(family.labels, values, strict=True))
            if all(labels[name] in wanted for name, wanted in self.where) and all(labels[name] not in no for name, no in self.but):
                yield labels, self._observed(value) if isinstance(value, Histogram) else value

    def _observed(self, histogram: Histogram) -> float:
        first = 0 if self.above is None else histogram.bounds.index(self.above) + 1
        return float(sum(histogram.counts[first:]))


@dataclass(frozen=True, slots=True)
class Share:
    """`part` / `whole` within a time, by a label; both are sums that only grow. A mean is one too: what was spent / how often."""

    part: tuple[Count, ...]
    whole: tuple[Count, ...]
    #: None: of everything together.
    by: str | None = None

    def read(self, families: Families) -> dict[str, tuple[float, float]]:
        """Both since the process began, by label; "" where there is none."""
        parts, wholes = (_summed(counts, self.by, families) for counts in (self.part, self.whole))
        return {label: (parts.get(label, 0.0), wholes.get(label, 0.0)) for label in parts.keys() | wholes.keys()}


@dataclass(frozen=True, slots=True)
class Level:
    """A gauge, by a label."""

    metric: str
    by: str

    def read(self, families: Families) -> dict[str, float]:
        family = families.get(self.metric)
        if family is None:
            return {}
        place = family.labels.index(self.by)
        return {labels[place]: value for labels, value in family.values.items()}


def _summed(counts: tuple[Count, ...], by: str | None, families: Families) -> dict[str, float]:
    sums: dict[str, float] = {}
    for count in counts:
        for labels, value in count.series(families):
            label = "" if by is None else labels[by]
            sums[label] = sums.get(label, 0.0) + value
    return sums
