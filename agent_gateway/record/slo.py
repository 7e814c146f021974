"""The service levels: every figure that the gateway is to reach, what it is, and whether it is reached.

Promise: a target on a time is judged exactly, for it is a bound of the buckets that times are counted in; only the figure beside it is
estimated from them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, Literal

from msgspec import Struct

from agent_gateway.core.errors import ProviderTimeout
from agent_gateway.record.completeness import RECORDS_LOST
from agent_gateway.record.family import Family, Histogram
from agent_gateway.record.metrics import DURATION_S, OVERHEAD_S

Unit = Literal["s", "share", "usd", "per_s"]

TIMES: dict[str, tuple[float, ...]] = {
    "durations": DURATION_S,
    "batch_durations": DURATION_S,
    "degraded_durations": DURATION_S,
    "first_tokens": DURATION_S,
    "model_calls": DURATION_S,
    "overheads": OVERHEAD_S,
}
#: `ended`: all requests; `requests`: without those that clients left; `available`: answered by a model or from the cache; `batch_peak`: the
#: most in a minute.
_NUMBERS = (
    *("ended", "requests", "available", "fell_back", "degraded", "failed", "timed_out", "streams", "streams_completed", "streams_failed"),
    *("batch_requests", "batch_failed", "batch_peak", "input_tokens", "output_tokens", "cost_usd"),
    *("fallback_quality", "fallback_rated", "records", "records_lost"),
)
#: Items of batches in a minute, from which on their number is judged: who asks for less is not served worse.
PEAK_LEAST = 6_000
_PLACES: dict[str, slice] = {}
for _name, _length in [*[(name, 1) for name in _NUMBERS], *[(name, len(bounds) + 1) for name, bounds in TIMES.items()]]:
    _begin = max((place.stop for place in _PLACES.values()), default=0)
    _PLACES[_name] = slice(_begin, _begin + _length)
_LENGTH = max(place.stop for place in _PLACES.values())


class Sums:
    """What requests of a time add up to: numbers, and times by bucket. A kilobyte."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values = array("d", bytes(8 * _LENGTH))

    def packed(self) -> bytes:
        return self._values.tobytes()

    @classmethod
    def unpacked(cls, data: bytes) -> Sums:
        """Of the same release."""
        sums = cls()
        sums._values = array("d", data)
        return sums

    def __sub__(self, earlier: Sums) -> Sums:
        """What came after it."""
        since = Sums()
        since._values = array("d", [now - then for now, then in zip(self._values, earlier._values, strict=True)])
        return since

    def __add__(self, other: Sums) -> Sums:
        both = Sums()
        both._values = array("d", [one + more for one, more in zip(self._values, other._values, strict=True)])
        return both

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sums) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]  # they change

    def add(self, name: str, amount: float, bucket: int = 0) -> None:
        self._values[_PLACES[name].start + bucket] += amount

    def number(self, name: str) -> float:
        return float(self._values[_PLACES[name].start])

    def times(self, name: str) -> Sequence[float]:
        return self._values[_PLACES[name]]

    def share(self, part: str, whole: str) -> float | None:
        of = self.number(whole)
        return self.number(part) / of if of else None


@dataclass(frozen=True, slots=True)
class Figure:
    """`of`: how many there were of what it is worked out of. `kept`: None where the figure itself tells, by the target. `spent`: of what
    the target allows to go wrong, the share that did; None where there is no such thing.
    """

    value: float | None
    of: float
    kept: bool | None = None
    spent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    name: str
    #: The pattern, the preset or the list of the targets that asks for it.
    of: str
    text: str
    target: float
    unit: Unit
    #: Reached by a figure below the target, or above it.
    better: Literal["below", "above"]
    figure: Callable[[Sums, float], Figure]


class Verdict(Struct, frozen=True, kw_only=True):
    """`met`: null where there was nothing to judge by. `ratio`: what is used of the target; up to 1 is well. `budget_left`: of what the
    target allows to go wrong in that time, the share that is left; below 0 more did. Null where a target is no share of anything.
    """

    slo: str
    of: str
    text: str
    target: float
    unit: Unit
    better: Literal["below", "above"]
    figure: float | None
    ratio: float | None
    met: bool | None
    #: How many requests, streams, calls, … it is worked out of.
    count: int
    budget_left: float | None = None


def judged(sums: Sums) -> list[Verdict]:
    """Every objective, in their order."""
    return [verdict(objective, objective.figure(sums, objective.target)) for objective in OBJECTIVES]


def told(value: float, unit: Unit) -> str:
    """As people read it."""
    match unit:
        case "s":
            return f"{value:.3g} s" if value >= 0.1 else f"{value * 1000:.3g} ms"
        case "share":
            return f"{value * 100:.4g} %"
        case "usd":
            return f"${value:.4g}"
        case "per_s":
            return f"{value:.4g}/s"


def verdict(objective: Objective, found: Figure) -> Verdict:
    value, target, better = found.value, objective.target, objective.better
    ratio = met = None
    if value is not None:
        if better == "below":
            ratio = value / target
            met = value < target if found.kept is None else found.kept
        elif value > 0:
            ratio = target / value
        met = (value >= target if found.kept is None else found.kept) if better == "above" else met
    return Verdict(
        slo=objective.name,
        of=objective.of,
        text=objective.text,
        target=target,
        unit=objective.unit,
        better=better,
        figure=value,
        ratio=ratio,
        met=met,
        count=int(found.of),
        budget_left=None if found.spent is None else 1 - found.spent,
    )


def summed(families: Iterable[Family]) -> Sums:
    """What the metrics of a process add up to since it began; `batch_peak` is not among it."""
    sums = Sums()
    for family in families:
        _add_family(family, lambda _: sums)
    return sums


def summed_by_model(families: Iterable[Family]) -> dict[str, Sums]:
    """The same of each model, as far as metrics tell models apart."""
    models: defaultdict[str, Sums] = defaultdict(Sums)
    for family in families:
        if "model" in family.labels:
            _add_family(family, partial(_of_model, models, family.labels.index("model")))
    return models


def _of_model(models: Mapping[str, Sums], place: int, of: tuple[str, ...]) -> Sums:
    return models[of[place]]


def _add_family(family: Family, sums_of: Callable[[tuple[str, ...]], Sums]) -> None:
    """`sums_of`: the sums that what has these labels is added to."""
    if (adding := _ADDING.get(family.name)) is None:
        return
    labels, add = adding
    places = [family.labels.index(label) for label in labels]
    groups: dict[tuple[int, tuple[str, ...]], tuple[Sums, list[Any]]] = {}
    for of, value in family.values.items():
        sums, group = sums_of(of), tuple([of[place] for place in places])
        groups.setdefault((id(sums), group), (sums, []))[1].append(value)
    for (_, group), (sums, values) in groups.items():
        add(sums, values, *group)


# --- out of metrics ---------------------------------------------------------------------------------------------------


def add_requests(sums: Sums, pattern: str, status: str, count: float) -> None:
    sums.add("ended", count)
    if status == "cancelled":
        return
    sums.add("requests", count)
    if status in ("success", "fallback", "cached"):
        sums.add("available", count)
    if status in ("fallback", "degraded"):
        sums.add("fell_back", count)
    if status == "degraded":
        sums.add("degraded", count)
    if pattern == "batching":
        sums.add("batch_requests", count)
        if status == "error":
            sums.add("batch_failed", count)


def add_errors(sums: Sums, code: str, fault: str, count: float) -> None:
    """What clients did wrong speaks neither for nor against the gateway."""
    if fault == "client":
        sums.add("requests", -count)
        return
    sums.add("failed", count)
    if code == ProviderTimeout.code:
        sums.add("timed_out", count)


def add_streams(sums: Sums, outcome: str, count: float) -> None:
    if outcome != "cancelled":
        sums.add("streams", count)
        sums.add("streams_completed" if outcome == "completed" else "streams_failed", count)


def _add_histograms(sums: Sums, name: str, histograms: Sequence[Histogram]) -> None:
    for bucket, counts in enumerate(zip(*[histogram.counts for histogram in histograms], strict=True)):
        sums.add(name, sum(counts), bucket)


def _times_of(name: str) -> Callable[..., None]:
    return lambda sums, histograms: _add_histograms(sums, name, histograms)


def _add_durations(sums: Sums, histograms: Sequence[Histogram], pattern: str) -> None:
    """What a provider runs in a batch of its own takes hours, and nobody waits for it."""
    if pattern != "native":
        _add_histograms(sums, "batch_durations" if pattern == "batching" else "durations", histograms)


def _add_quality(sums: Sums, histograms: Sequence[Histogram], status: str) -> None:
    if status == "fallback":
        sums.add("fallback_quality", sum(histogram.total for histogram in histograms))
        sums.add("fallback_rated", sum(sum(histogram.counts) for histogram in histograms))


def _add_records(sums: Sums, counts: Sequence[float], outcome: str) -> None:
    """As the books have it: what an earlier process left behind makes up for nothing."""
    if outcome == "adopted":
        return
    sums.add("records", sum(counts))
    if outcome in RECORDS_LOST:
        sums.add("records_lost", sum(counts))


#: By metric: the labels by which it is told apart, and who adds what is alike in them.
_ADDING: dict[str, tuple[tuple[str, ...], Callable[..., None]]] = {
    "requests": (("pattern", "status"), lambda sums, counts, pattern, status: add_requests(sums, pattern, status, sum(counts))),
    "errors": (("code", "fault"), lambda sums, counts, code, fault: add_errors(sums, code, fault, sum(counts))),
    "streams": (("outcome",), lambda sums, counts, outcome: add_streams(sums, outcome, sum(counts))),
    "request_duration_seconds": (("pattern",), _add_durations),
    "time_to_first_token_seconds": ((), _times_of("first_tokens")),
    "upstream_duration_seconds": ((), _times_of("model_calls")),
    "degraded_duration_seconds": ((), _times_of("degraded_durations")),
    "overhead_seconds": ((), _times_of("overheads")),
    "tokens": (("direction",), lambda sums, counts, direction: sums.add(f"{direction}_tokens", sum(counts))),
    "cost_usd": ((), lambda sums, usd: sums.add("cost_usd", sum(usd))),
    "quality": (("status",), _add_quality),
    "records": (("outcome",), _add_records),
}


# --- figures ----------------------------------------------------------------------------------------------------------


def quantile(bounds: Sequence[float], counts: Sequence[float], share: float) -> float | None:
    """The time within which that share was, as if each bucket's were spread evenly over it; None: there are none. Of what is above all
    bounds no more is known than the highest.
    """
    total = sum(counts)
    if not total:
        return None
    sought, below = total * share, 0.0
    for count, low, high in zip(counts, (0.0, *bounds), bounds, strict=False):
        if count and below + count >= sought:
            return low + (high - low) * (sought - below) / count
        below += count
    return bounds[-1]


def _time(name: str, share: float) -> Callable[[Sums, float], Figure]:
    def figure(sums: Sums, target: float) -> Figure:
        bounds, counts = TIMES[name], sums.times(name)
        within = list(accumulate(counts))
        total = within[-1]
        quick = within[bisect_left(bounds, target)]
        spent = (1 - quick / total) / (1 - share) if total else None
        return Figure(quantile(bounds, counts, share), total, quick >= share * total, spent)

    return figure


def _share(part: str, whole: str) -> Callable[[Sums, float], Figure]:
    return lambda sums, _: Figure(sums.share(part, whole), sums.number(whole))


def _wrong(part: str, whole: str) -> Callable[[Sums, float], Figure]:
    """The share of what went wrong."""

    def figure(sums: Sums, target: float) -> Figure:
        share = sums.share(part, whole)
        return Figure(share, sums.number(whole), spent=None if share is None else share / target)

    return figure


def _right(part: str, whole: str) -> Callable[[Sums, float], Figure]:
    """The share of what went as it should."""

    def figure(sums: Sums, target: float) -> Figure:
        share = sums.share(part, whole)
        return Figure(share, sums.number(whole), spent=None if share is None else (1 - share) / (1 - target))

    return figure


def _peak(sums: Sums, target: float) -> Figure:
    """Judged only where so much was asked for."""
    peak = sums.number("batch_peak") / 60
    return Figure(peak if peak >= target else None, sums.number("batch_requests"))


def _efficiency(sums: Sums, _: float) -> Figure:
    tokens = sums.number("input_tokens") + sums.number("output_tokens")
    return Figure(sums.number("output_tokens") / tokens if tokens else None, tokens)


def _complete(sums: Sums, target: float) -> Figure:
    records, lost = sums.number("records"), sums.share("records_lost", "records")
    return Figure(None, records) if lost is None else Figure(1 - lost, records, spent=lost / (1 - target))


def _below(name: str, of: str, text: str, target: float, unit: Unit, figure: Callable[[Sums, float], Figure]) -> Objective:
    return Objective(name=name, of=of, text=text, target=target, unit=unit, better="below", figure=figure)


def _above(name: str, of: str, text: str, target: float, unit: Unit, figure: Callable[[Sums, float], Figure]) -> Objective:
    return Objective(name=name, of=of, text=text, target=target, unit=unit, better="above", figure=figure)


#: By pattern, then what the two presets ask for beyond it, then what every release answers.
OBJECTIVES: tuple[Objective, ...] = (
    _below("first_token", "streaming", "p95 of the time to first token", 0.5, "s", _time("first_tokens", 0.95)),
    _below("overhead_p99", "streaming", "p99 of what the gateway adds to a request", 0.005, "s", _time("overheads", 0.99)),
    _above("stream_completion", "streaming", "streams that are completed", 0.95, "share", _right("streams_completed", "streams")),
    _below("stream_errors", "streaming", "streams that end in an error", 0.01, "share", _wrong("streams_failed", "streams")),
    _below("batch_p95", "batching", "p95 of an item of a batch", 8.0, "s", _time("batch_durations", 0.95)),
    _below("batch_p99", "batching", "p99 of an item of a batch", 15.0, "s", _time("batch_durations", 0.99)),
    _above("batch_throughput", "batching", "items of batches a second, in the busiest minute", PEAK_LEAST / 60, "per_s", _peak),
    _below(
        "batch_errors",
        "batching",
        "items of batches that fail, also by the client's fault",
        0.005,
        "share",
        _wrong("batch_failed", "batch_requests"),
    ),
    _below("fallback_rate", "fallback", "requests that the model itself does not answer", 0.05, "share", _wrong("fell_back", "requests")),
    _below("degraded_within", "fallback", "p95 of the time to a fixed reply", 2.0, "s", _time("degraded_durations", 0.95)),
    _above("availability", "fallback", "requests that a model or the cache answers", 0.98, "share", _right("available", "requests")),
    _above(
        "fallback_quality", "fallback", "mean quality of fallbacks' answers", 0.7, "share", _share("fallback_quality", "fallback_rated")
    ),
    _below("duration_p50", "monitoring", "median time of a request", 2.0, "s", _time("durations", 0.5)),
    _below("duration_p95", "monitoring", "p95 of the time of a request", 5.0, "s", _time("durations", 0.95)),
    _below("duration_p99", "monitoring", "p99 of the time of a request", 10.0, "s", _time("durations", 0.99)),
    _below("errors", "monitoring", "requests that fail, not by the client's fault", 0.01, "share", _wrong("failed", "requests")),
    _below("timeouts", "monitoring", "requests that run out of time", 0.005, "share", _wrong("timed_out", "requests")),
    _below("model_latency", "monitoring", "p95 of the time of a model call", 8.0, "s", _time("model_calls", 0.95)),
    _above("records_complete", "monitoring", "records that are kept", 0.99, "share", _complete),
    _below("first_content", "support", "p95 of the time to first token", 2.0, "s", _time("first_tokens", 0.95)),
    _below("support_cost", "support", "mean cost of a request", 0.005, "usd", _share("cost_usd", "requests")),
    _above("token_efficiency", "codegen", "completion tokens / all tokens", 0.3, "share", _efficiency),
    _below("cost", "release", "mean cost of a request", 0.01, "usd", _share("cost_usd", "requests")),
)
