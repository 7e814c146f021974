"""What a gateway does now, and did in its last minutes, as operators are shown it. As old as the last look of what it is told out of."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from agent_gateway.control.times import told
from agent_gateway.core.clock import Clock
from agent_gateway.record.slo import Sums
from agent_gateway.record.traffic import ALL, MINUTE_S, Traffic, percentile_s


class Point(Struct, frozen=True, kw_only=True):
    """What came in one minute. Times are those of requests that are no items of batches; null: there were none."""

    at: str
    #: How long it is: the last one runs still.
    seconds: float
    requests: int
    #: Those that rates are shares of: without what clients gave up or did wrong.
    counted: int
    errors: int
    fallbacks: int
    degraded: int
    timeouts: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    cost_usd: float
    tokens: int


class Points(Struct, frozen=True):
    step_s: float
    since: str
    #: Oldest first.
    points: Sequence[Point]


class ModelNow(Struct, frozen=True, kw_only=True):
    model: str
    requests_per_s: float
    in_flight: int
    p95_s: float | None
    fallback_rate: float | None


class Now(Struct, frozen=True, kw_only=True):
    """Of the last minute."""

    at: str
    requests_per_s: float
    errors_per_s: float
    in_flight: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    #: Of requests that the model itself did not answer; null: there were none.
    fallback_rate: float | None
    cost_usd_per_h: float
    tokens_per_s: float
    models: Sequence[ModelNow]


def minutes_of(traffic: Traffic, count: int, model: str | None) -> Points:
    """The last so many, of all models or of one."""
    name, nothing = model or ALL, Sums()
    past = traffic.minutes(count)
    points = [_point(each.began, each.seconds, each.models.get(name) or nothing) for each in past]
    return Points(MINUTE_S, told(past[0].began), points)


def now_of(traffic: Traffic, clock: Clock) -> Now:
    """As it is told live."""
    past = traffic.last_minute()
    sums, seconds = past.models[ALL], max(past.seconds, 1.0)
    names = dict.fromkeys([*past.models, *(name for name, count in traffic.in_flight.items() if count)])
    del names[ALL]
    return Now(
        at=told(clock.wall()),
        requests_per_s=sums.number("ended") / seconds,
        errors_per_s=sums.number("failed") / seconds,
        in_flight=sum(traffic.in_flight.values()),
        p50_s=percentile_s(sums, "durations", 0.5),
        p95_s=percentile_s(sums, "durations", 0.95),
        p99_s=percentile_s(sums, "durations", 0.99),
        ttft_p50_s=percentile_s(sums, "first_tokens", 0.5),
        ttft_p95_s=percentile_s(sums, "first_tokens", 0.95),
        fallback_rate=sums.share("fell_back", "requests"),
        cost_usd_per_h=sums.number("cost_usd") / seconds * 3600,
        tokens_per_s=_tokens(sums) / seconds,
        models=[_model(name, past.models.get(name) or Sums(), traffic.in_flight.get(name, 0), seconds) for name in names],
    )


def _model(name: str, sums: Sums, in_flight: int, seconds: float) -> ModelNow:
    return ModelNow(
        model=name,
        requests_per_s=sums.number("ended") / seconds,
        in_flight=in_flight,
        p95_s=percentile_s(sums, "durations", 0.95),
        fallback_rate=sums.share("fell_back", "requests"),
    )


def _point(began: float, seconds: float, sums: Sums) -> Point:
    degraded = int(sums.number("degraded"))
    return Point(
        at=told(began),
        seconds=seconds,
        requests=int(sums.number("ended")),
        counted=int(sums.number("requests")),
        errors=int(sums.number("failed")),
        fallbacks=int(sums.number("fell_back")) - degraded,
        degraded=degraded,
        timeouts=int(sums.number("timed_out")),
        p50_s=percentile_s(sums, "durations", 0.5),
        p95_s=percentile_s(sums, "durations", 0.95),
        p99_s=percentile_s(sums, "durations", 0.99),
        ttft_p50_s=percentile_s(sums, "first_tokens", 0.5),
        ttft_p95_s=percentile_s(sums, "first_tokens", 0.95),
        cost_usd=sums.number("cost_usd"),
        tokens=int(_tokens(sums)),
    )


def _tokens(sums: Sums) -> float:
    return sums.number("input_tokens") + sums.number("output_tokens")
