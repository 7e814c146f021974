"""What requests came to, out of their records: cost, outcomes, times; by model and in sum.

Promise: recorded and rehearsed requests are added up in the same way, record by record, whatever mode they were kept in.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev

import msgspec

from agent_gateway.core.errors import BudgetSpent, Overloaded, RateLimited
from agent_gateway.core.exchange import Status
from agent_gateway.record.row import Record

#: The answers whose times are told; an error is not an answer, and a client that left did not wait for one.
_ANSWERED: frozenset[Status] = frozenset({"success", "fallback", "degraded"})
#: Refused here, by what a key, a user, a team or a deployment may take.
LIMITS = frozenset(error.code for error in (RateLimited, BudgetSpent, Overloaded))


class Figures(msgspec.Struct, frozen=True):
    """Of requests that were asked of one model, or of all. Shares are 0–1; a time is None where nothing was timed."""

    requests: float
    cost_usd: float
    success: float
    fallback: float
    degraded: float
    error: float
    cancelled: float
    #: Of the errors, those by limits, budgets and full deployments.
    refused_by_limits: float
    #: Of all requests: answered by a fallback or by the fixed reply.
    fallback_rate: float
    attempts_per_request: float
    #: From the request to the end of its answer (s), of requests that were answered.
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    #: Of streams.
    ttft_p95_s: float | None


class Tally:
    """Adds up records."""

    def __init__(self) -> None:
        self._models: dict[str, _Sums] = {}

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            sums = self._models.get(record.model)
            if sums is None:
                sums = self._models[record.model] = _Sums()
            sums.add(record)

    def models(self) -> dict[str, Figures]:
        return {model: self._models[model].figures() for model in sorted(self._models)}

    def all(self) -> Figures:
        together = _Sums()
        for sums in self._models.values():
            together.join(sums)
        return together.figures()


class _Sums:
    __slots__ = ("attempts", "cost_usd", "durations_s", "first_tokens_s", "limited", "requests", "statuses")

    def __init__(self) -> None:
        self.requests = 0
        self.cost_usd = 0.0
        self.attempts = 0
        self.limited = 0
        self.statuses: Counter[str] = Counter()
        self.durations_s = array("d")
        self.first_tokens_s = array("d")

    def add(self, record: Record) -> None:
        self.requests += 1
        self.cost_usd += record.cost_usd or 0.0
        self.attempts += record.attempts_count
        self.statuses[record.status] += 1
        if record.error_code in LIMITS:
            self.limited += 1
        if record.status in _ANSWERED:
            self.durations_s.append(record.duration_ms / 1000)
            if record.ttft_ms is not None:
                self.first_tokens_s.append(record.ttft_ms / 1000)

    def join(self, other: _Sums) -> None:
        self.requests += other.requests
        self.cost_usd += other.cost_usd
        self.attempts += other.attempts
        self.limited += other.limited
        self.statuses += other.statuses
        self.durations_s += other.durations_s
        self.first_tokens_s += other.first_tokens_s

    def figures(self) -> Figures:
        durations, first_tokens, requests = sorted(self.durations_s), sorted(self.first_tokens_s), self.requests or 1
        statuses = self.statuses
        return Figures(
            requests=self.requests,
            cost_usd=self.cost_usd,
            success=statuses["success"],
            fallback=statuses["fallback"],
            degraded=statuses["degraded"],
            error=statuses["error"],
            cancelled=statuses["cancelled"],
            refused_by_limits=self.limited,
            fallback_rate=(statuses["fallback"] + statuses["degraded"]) / requests,
            attempts_per_request=self.attempts / requests,
            p50_s=_quantile(durations, 0.5),
            p95_s=_quantile(durations, 0.95),
            p99_s=_quantile(durations, 0.99),
            ttft_p95_s=_quantile(first_tokens, 0.95),
        )


def mean(several: Sequence[Figures]) -> Figures:
    """Of the same requests, rehearsed with several seeds."""
    return _each(several, fmean)


def spread(several: Sequence[Figures]) -> Figures:
    """The standard deviation of each figure over the seeds; 0 where there is one."""
    return _each(several, lambda values: stdev(values) if len(values) > 1 else 0.0)


def by_model(several: Sequence[Mapping[str, Figures]], join: Callable[[Sequence[Figures]], Figures]) -> dict[str, Figures]:
    names = sorted({name for models in several for name in models})
    return {name: join([models[name] for models in several if name in models]) for name in names}


def _each(several: Sequence[Figures], join: Callable[[Sequence[float]], float]) -> Figures:
    joined: dict[str, float | None] = {}
    for name in Figures.__struct_fields__:
        values = [value for figures in several if (value := getattr(figures, name)) is not None]
        joined[name] = join(values) if values else None
    return msgspec.convert(joined, Figures)


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None
