"""The service levels as a load test sees them: the same targets as the gateway judges itself by, and exact figures of the clients' side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from agent_gateway.bench.load import Load
from agent_gateway.bench.tally import Figures
from agent_gateway.bench.times import Told
from agent_gateway.record.slo import OBJECTIVES, Figure, Objective, Verdict, verdict

PresetName = Literal["support", "codegen"]

#: Of errors, those that say that time was up.
_TIMED_OUT = ("timeout", "no connection in time", "408 ", "504 ", "in the stream: provider_timeout")
_ALWAYS = ("fallback_rate", "degraded_within", "availability", "errors", "timeouts", "cost")
_DURATIONS = ("duration_p50", "duration_p95", "duration_p99", "overhead_p99")
#: What is judged of a load, by its mode.
_OF_MODE: Mapping[str, tuple[str, ...]] = {
    "unary": (*_DURATIONS, *_ALWAYS),
    "stream": ("first_token", "stream_completion", "stream_errors", *_DURATIONS, *_ALWAYS),
    "batch": ("batch_p95", "batch_p99", "batch_throughput", "batch_errors", "cost"),
}
_OF_PRESET: Mapping[PresetName, tuple[str, ...]] = {
    "support": ("first_content", "support_cost"),
    "codegen": ("token_efficiency",),
}
_OBJECTIVES = {objective.name: objective for objective in OBJECTIVES}


def judged(figures: Figures, load: Load, preset: PresetName | None = None) -> list[Verdict]:
    """Every target of such a load, in their usual order; what nothing is known of is not judged."""
    wanted = {*_OF_MODE[load.mode], *(() if preset is None else _OF_PRESET[preset])}
    return [verdict(_named(objective, load), _FIGURES[name](figures, load)) for name, objective in _OBJECTIVES.items() if name in wanted]


def _named(objective: Objective, load: Load) -> Objective:
    """A client sees whole batches, where the gateway sees their items."""
    if objective.name in ("batch_p95", "batch_p99"):
        return replace(objective, text=f"{objective.name[-3:]} of a batch of {load.batch_size}")
    if objective.name == "batch_throughput":
        return replace(objective, text="requests of batches that are answered a second")
    return objective


# --- figures ----------------------------------------------------------------------------------------------------------


def _time(of: Callable[[Figures], Told | None], percentile: str) -> Callable[[Figures, Load], Figure]:
    def figure(figures: Figures, _: Load) -> Figure:
        told = of(figures)
        return Figure(None, 0) if told is None else Figure(told[percentile], told.count)

    return figure


def _share(part: Callable[[Figures], float]) -> Callable[[Figures, Load], Figure]:
    return lambda figures, _: Figure(part(figures) / figures.requests if figures.requests else None, figures.requests)


def _timed_out(figures: Figures) -> int:
    return sum(count for why, count in figures.errors.items() if why.startswith(_TIMED_OUT))


def _fell_back(figures: Figures) -> int:
    return figures.statuses.get("fallback", 0) + figures.statuses.get("degraded", 0)


def _available(figures: Figures) -> int:
    """The fixed reply is no answer of a model."""
    return figures.answered - figures.statuses.get("degraded", 0)


def _broke_off(figures: Figures) -> int:
    """Streams that had begun."""
    begun = 0 if figures.first_token is None else figures.first_token.count
    return max(begun - figures.answered, 0)


def _throughput(figures: Figures, load: Load) -> Figure:
    """Judged only where so much was asked for."""
    target = _OBJECTIVES["batch_throughput"].target
    asked_for_more = load.rate is None or load.rate >= target
    return Figure(figures.per_s if asked_for_more or figures.per_s >= target else None, figures.answered)


def _cost(figures: Figures, _: Load) -> Figure:
    if figures.cost_usd is None or not figures.answered:
        return Figure(None, 0)
    return Figure(figures.cost_usd / figures.answered, figures.answered)


def _efficiency(figures: Figures, _: Load) -> Figure:
    tokens = figures.input_tokens + figures.output_tokens
    return Figure(figures.output_tokens / tokens if tokens else None, tokens)


_FIGURES: Mapping[str, Callable[[Figures, Load], Figure]] = {
    "first_token": _time(lambda figures: figures.first_token, "p95"),
    "first_content": _time(lambda figures: figures.first_token, "p95"),
    "overhead_p99": _time(lambda figures: figures.overhead, "p99"),
    "stream_completion": _share(lambda figures: figures.answered),
    "stream_errors": _share(_broke_off),
    "batch_p95": _time(lambda figures: figures.latency, "p95"),
    "batch_p99": _time(lambda figures: figures.latency, "p99"),
    "batch_throughput": _throughput,
    "batch_errors": _share(lambda figures: figures.failed),
    "fallback_rate": _share(_fell_back),
    "degraded_within": _time(lambda figures: figures.degraded, "p95"),
    "availability": _share(_available),
    "duration_p50": _time(lambda figures: figures.latency, "p50"),
    "duration_p95": _time(lambda figures: figures.latency, "p95"),
    "duration_p99": _time(lambda figures: figures.latency, "p99"),
    "errors": _share(lambda figures: figures.failed),
    "timeouts": _share(_timed_out),
    "support_cost": _cost,
    "token_efficiency": _efficiency,
    "cost": _cost,
}
