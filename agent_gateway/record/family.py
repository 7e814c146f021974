"""A metric as it stands at one time, and how Prometheus is told of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PREFIX = "agent_gateway_"
Kind = Literal["counter", "gauge", "histogram"]


class Histogram:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        #: Per bucket, not cumulative; the last is everything above the bounds.
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        buckets = []
        below = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            below += count
            buckets.append((bound, float(below)))
        return buckets


@dataclass(frozen=True, slots=True)
class Family:
    """A metric as it stands now. `name` is without prefix and suffix; `values` are numbers, or histograms, by the values of `labels`."""

    kind: Kind
    name: str
    text: str
    labels: tuple[str, ...]
    values: Mapping[Any, Any]


def rendered(families: Iterable[Family]) -> tuple[bytes, str]:
    """The text and its content type. prometheus_client is imported here: a start does not need it."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(families))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector:
    """As prometheus_client asks for them."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        """Nothing: it would cost a collection at every registration."""
        return []

    def collect(self) -> Iterable[Metric]:
        return map(_told, self._families)


def _told(family: Family) -> Metric:
    """As prometheus_client tells it."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    name = PREFIX + family.name
    if family.kind == "histogram":
        histograms = HistogramMetricFamily(name, family.text, labels=family.labels)
        for labels, histogram in family.values.items():
            histograms.add_metric(labels, histogram.cumulative(), sum_value=histogram.total)
        return histograms
    numbers = (CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily)(name, family.text, labels=family.labels)
    for labels, value in family.values.items():
        numbers.add_metric(labels, value)
    return numbers
