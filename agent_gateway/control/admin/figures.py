"""`/admin/v1/figures`: what requests added up to, hour by hour or day by day; read off figures that are kept for over a year."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from agent_gateway.control.admin.usage import GROUPS_MAX
from agent_gateway.control.admin_route import Asked, Listed, Route
from agent_gateway.control.times import span, told
from agent_gateway.core.clock import Clock
from agent_gateway.record.archive import Archive, FigureGroup, Figures, Step
from agent_gateway.record.figures import STEPS_MS, quantile_ms


class FiguresQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    since: str = "24h"
    until: str | None = None
    step: Step = "hour"
    group_by: FigureGroup = "all"
    limit: Annotated[int, Meta(ge=1, le=GROUPS_MAX)] = 100
    #: `next` of the page before.
    cursor: str | None = None


class Times(Struct, frozen=True):
    """In ms. Percentiles are told within the buckets of the metrics."""

    mean: float
    p50: float
    p95: float
    p99: float


class FiguresShown(Struct, frozen=True, kw_only=True):
    #: Where the step begins.
    at: str
    #: Null where there was none.
    group: str | None
    requests: int
    success: int
    fallback: int
    degraded: int
    cached: int
    errors: int
    cancelled: int
    #: Requests that ran out of time in the end.
    timeouts: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    #: Requests whose tokens the gateway counted itself.
    tokens_estimated: int
    cost_usd: float
    duration_ms: Times | None
    #: Of streams.
    ttft_ms: Times | None
    overhead_ms: float
    #: Means, null where none is known.
    quality: float | None
    score: float | None
    #: Requests that have one.
    scores: int


def figure_routes(archive: Archive, clock: Clock) -> Sequence[Route]:
    async def listed(asked: Asked[FiguresQuery, None]) -> Listed[FiguresShown]:
        query, now = asked.query, clock.wall()
        since, until = span(query.since, query.until, now)
        step_ms = STEPS_MS[query.step]
        since_ms, until_ms = int((since or 0.0) * 1000) // step_ms * step_ms, int((now if until is None else until) * 1000)
        figures, following = await archive.figures(query.group_by, query.step, since_ms, until_ms, query.limit, query.cursor)
        return Listed([_shown(each) for each in figures], following)

    return (
        Route(
            method="GET",
            path="figures",
            summary="Requests, errors, tokens, cost, times and scores by the hour or day, together or by group",
            query=FiguresQuery,
            answer=Listed[FiguresShown],
            handler=listed,
        ),
    )


def _shown(figures: Figures) -> FiguresShown:
    status = figures.by_status
    return FiguresShown(
        at=told(figures.at_ms / 1000),
        group=figures.group or None,
        requests=figures.requests,
        success=status["success"],
        fallback=status["fallback"],
        degraded=status["degraded"],
        cached=status["cached"],
        errors=status["error"],
        cancelled=status["cancelled"],
        timeouts=figures.timeouts,
        attempts=figures.attempts,
        input_tokens=figures.input_tokens,
        output_tokens=figures.output_tokens,
        cache_read_tokens=figures.cache_read_tokens,
        cache_write_tokens=figures.cache_write_tokens,
        reasoning_tokens=figures.reasoning_tokens,
        tokens_estimated=figures.estimated,
        cost_usd=figures.cost_usd,
        duration_ms=_times(figures.duration_ms, figures.durations),
        ttft_ms=_times(figures.ttft_ms, figures.first_tokens),
        overhead_ms=figures.overhead_ms / figures.requests,
        quality=figures.quality / figures.rated if figures.rated else None,
        score=figures.score / figures.scores if figures.scores else None,
        scores=figures.scores,
    )


def _times(total_ms: float, counts: Sequence[int]) -> Times | None:
    number = sum(counts)
    if not number:
        return None
    p50, p95, p99 = (quantile_ms(counts, share) or 0.0 for share in (0.5, 0.95, 0.99))
    return Times(total_ms / number, p50, p95, p99)
