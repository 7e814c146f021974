"""What all the outcomes of a load test come to: counts, times, and how they went from slice to slice of its time."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from agent_gateway.bench.load import Load
from agent_gateway.bench.outcome import Outcome
from agent_gateway.bench.times import Times, Told
from agent_gateway.core.usage import Usage

#: The measured time is told in so many slices, none shorter than a second.
SLICES_MAX = 120


class Point(Struct, frozen=True, kw_only=True):
    """A slice: what ended in it. Times of answers; None where there were none."""

    at_s: float
    requests_per_s: float
    errors_per_s: float
    in_flight: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


class Figures(Struct, frozen=True, kw_only=True):
    """`requests`: to a model, that were to be sent in the measured time; `per_s`: answered in it, each second. A batch is one time and
    many requests.
    """

    measured_s: float
    requests: int
    answered: int
    failed: int
    per_s: float
    errors: dict[str, int]
    statuses: dict[str, int]
    input_tokens: int
    output_tokens: int
    #: None: nobody said.
    cost_usd: float | None
    #: From the moment that it was to be sent to the end of its answer; and from the moment that it was.
    latency: Told | None
    service: Told | None
    first_token: Told | None
    gap: Told | None
    overhead: Told | None
    degraded: Told | None
    #: How late requests were sent: by the generator, or for the bound on what is under way.
    late: Told | None
    timeline: list[Point]


class _Slice:
    __slots__ = ("errors", "in_flight", "latency", "requests")

    def __init__(self) -> None:
        self.requests = self.errors = self.in_flight = 0
        self.latency = Times()


class Tally:
    """`begins`: when it begins to be measured (monotonic)."""

    def __init__(self, load: Load, begins: float) -> None:
        self._load = load
        self._begins = begins
        self._ends = begins + load.duration_s
        self._slice_s = max(load.duration_s / SLICES_MAX, 1.0)
        self._slices = [_Slice() for _ in range(max(round(load.duration_s / self._slice_s), 1))]
        self._errors: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._requests = self._answered = self._answered_in_time = 0
        self._usage = Usage()
        self._cost_usd: float | None = None
        self._latency, self._service, self._first_token = Times(), Times(), Times()
        self._overhead, self._degraded, self._late = Times(), Times(), Times()
        self._gap, self._unmeasured = Times(), Times()

    def gaps(self, due: float) -> Times:
        """Where those of a request go that was to be sent then."""
        return self._gap if self._measures(due) else self._unmeasured

    def stop(self, at: float) -> None:
        """What comes later is not measured."""
        self._ends = min(self._ends, at)

    def under_way(self, count: int, now: float) -> None:
        if self._begins <= now < self._ends:
            part = self._at(now)
            part.in_flight = max(part.in_flight, count)

    def add(self, outcome: Outcome) -> None:
        if self._begins <= outcome.ended < self._ends:
            self._answered_in_time += outcome.answered
            part = self._at(outcome.ended)
            part.requests += outcome.answered
            part.errors += sum(outcome.errors.values())
            if outcome.answered:
                part.latency.add(outcome.ended - outcome.due)
        if self._measures(outcome.due):
            self._measure(outcome)

    def _measures(self, due: float) -> bool:
        return self._begins <= due < self._ends

    def _measure(self, outcome: Outcome) -> None:
        self._requests += self._load.requests_each
        self._answered += outcome.answered
        self._errors.update(outcome.errors)
        self._late.add(outcome.sent - outcome.due)
        if outcome.status is not None and outcome.answered:
            self._statuses[outcome.status] += outcome.answered
        if outcome.first_token is not None:
            self._first_token.add(outcome.first_token - outcome.due)
        if not outcome.answered:
            return
        self._latency.add(outcome.ended - outcome.due)
        self._service.add(outcome.ended - outcome.sent)
        if outcome.status == "degraded":
            self._degraded.add(outcome.ended - outcome.due)
        if outcome.overhead_s is not None:
            self._overhead.add(outcome.overhead_s)
        self._usage += outcome.usage
        if outcome.cost_usd is not None:
            self._cost_usd = (self._cost_usd or 0.0) + outcome.cost_usd

    def figures(self) -> Figures:
        measured_s = max(self._ends - self._begins, 0.0)
        return Figures(
            measured_s=measured_s,
            requests=self._requests,
            answered=self._answered,
            failed=sum(self._errors.values()),
            per_s=self._answered_in_time / measured_s if measured_s else 0.0,
            errors=dict(self._errors.most_common()),
            statuses=dict(self._statuses.most_common()),
            input_tokens=self._usage.input,
            output_tokens=self._usage.output,
            cost_usd=self._cost_usd,
            latency=self._latency.told(),
            service=self._service.told(),
            first_token=self._first_token.told(),
            gap=self._gap.told(),
            overhead=self._overhead.told(),
            degraded=self._degraded.told(),
            late=self._late.told(),
            timeline=[self._point(number) for number in range(len(self._slices))],
        )

    def _at(self, now: float) -> _Slice:
        return self._slices[min(int((now - self._begins) / self._slice_s), len(self._slices) - 1)]

    def _point(self, number: int) -> Point:
        part = self._slices[number]
        p50_s, p95_s, p99_s = part.latency.quantiles_s((0.5, 0.95, 0.99)) if part.latency.count else (None, None, None)
        return Point(
            at_s=number * self._slice_s,
            requests_per_s=part.requests / self._slice_s,
            errors_per_s=part.errors / self._slice_s,
            in_flight=part.in_flight,
            p50_s=p50_s,
            p95_s=p95_s,
            p99_s=p99_s,
        )
