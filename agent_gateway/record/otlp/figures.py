"""Metrics by OpenTelemetry's GenAI conventions, counted while records go by and told now and then, as sums since the start.

Promise: bounded. A client can name any model; what goes beyond `SERIES_MAX` is counted in one series, marked as the conventions say.
"""

from __future__ import annotations

from agent_gateway.record.family import Histogram
from agent_gateway.record.otlp import naming
from agent_gateway.record.otlp.naming import INSTRUMENTS, Instrument, attributes
from agent_gateway.record.otlp.protobuf import data, double, fixed64, integer, packed_double, packed_fixed64, text
from agent_gateway.record.otlp.story import Called, Story
from agent_gateway.record.otlp.values import attribute

#: Of one instrument; OpenTelemetry's own default.
SERIES_MAX = 2000

_CUMULATIVE = 2
#: Names of a point's attributes, and their values: what makes a series.
Labels = tuple[tuple[str, object], ...]


class Figures:
    """Belongs to the sink's thread. `started`: Unix nanoseconds."""

    def __init__(self, started: int) -> None:
        self._started = started
        self._series: dict[Instrument, dict[Labels | None, Histogram]] = {instrument: {} for instrument in INSTRUMENTS}

    def observe(self, story: Story) -> None:
        record, told = story.record, story.values
        # The name of a model that does not exist is the client's own: it is no series.
        model = None if record.http_status == 404 and not story.calls else record.model
        common = {**{name: told.get(name) for name in ("operation", "provider", "answering_model", "error", "status")}, "model": model}
        labels = tuple(common.items())
        self._add(naming.REQUEST, labels, record.duration_ms / 1e3)
        first_token_s = told["first_token_s"]
        if first_token_s is not None:
            self._add(naming.FIRST_TOKEN, labels, first_token_s)
            output = record.output_tokens or 0
            if output > 1:
                self._add(naming.PER_TOKEN, labels, (record.duration_ms / 1e3 - first_token_s) / (output - 1))
        for call in story.calls:
            self._observe_call(call)

    def _observe_call(self, call: Called) -> None:
        values = call.values
        labels = tuple((name, values.get(name)) for name in ("operation", "provider", "model", "address", "port"))
        failed = (*labels, ("error", values["error"]))
        self._add(naming.OPERATION, failed, (call.ended - call.started) / 1e9)
        if "first_token_s" in values:
            self._add(naming.FIRST_CHUNK, failed, values["first_token_s"])
        for kind in ("input", "output"):
            if (tokens := values.get(f"{kind}_tokens")) is not None:
                self._add(naming.TOKENS, (*labels, ("token_type", kind)), tokens)
        if values["cost_usd"] is not None:
            self._add(naming.COST, labels, values["cost_usd"])

    def _add(self, instrument: Instrument, labels: Labels, value: float) -> None:
        series = self._series[instrument]
        there = series.get(labels)
        if there is None:
            key = labels if len(series) < SERIES_MAX - 1 else None
            there = series.get(key)
            if there is None:
                there = series[key] = Histogram(instrument.bounds or ())
        there.observe(value)

    def told(self, now: int) -> bytes:
        """All metrics that have a point, each as a field 2; `now` in Unix nanoseconds."""
        return b"".join([data(2, self._metric(instrument, series, now)) for instrument, series in self._series.items() if series])

    def _metric(self, instrument: Instrument, series: dict[Labels | None, Histogram], now: int) -> bytes:
        head = text(1, instrument.name) + text(2, instrument.description) + text(3, instrument.unit)
        times = fixed64(2, self._started) + fixed64(3, now)
        if instrument.bounds is None:
            points = [data(1, _labels(7, labels) + times + double(4, sum_.total)) for labels, sum_ in series.items()]
            return head + data(7, b"".join(points) + integer(2, _CUMULATIVE) + integer(3, 1))
        bounds = packed_double(7, instrument.bounds)
        points = [
            data(
                1, _labels(9, labels) + times + fixed64(4, sum(one.counts)) + double(5, one.total) + packed_fixed64(6, one.counts) + bounds
            )
            for labels, one in series.items()
        ]
        return head + data(9, b"".join(points) + integer(2, _CUMULATIVE))


def _labels(field: int, labels: Labels | None) -> bytes:
    return attribute(field, "otel.metric.overflow", True) if labels is None else attributes(field, "metrics", dict(labels))
