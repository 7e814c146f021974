"""`/admin/v1/feedback`: what users thought of answers, on average; of fixed replies apart, so that no score hides behind another."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from agent_gateway.control.admin_route import Asked, Listed, Route
from agent_gateway.control.times import span
from agent_gateway.core.clock import Clock
from agent_gateway.record.archive import Archive, FeedbackGroup, Scores
from agent_gateway.record.figures import DAY_MS


class FeedbackQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    since: str = "30d"
    until: str | None = None
    group_by: FeedbackGroup = "model"


class ScoresShown(Struct, frozen=True, kw_only=True):
    #: Null where there was none.
    group: str | None
    #: How many answers were scored, and their mean, 1–5; null where there are none.
    scores: int
    score: float | None
    #: The same of fixed replies, which the others leave out.
    degraded_scores: int
    degraded_score: float | None


def feedback_routes(archive: Archive, clock: Clock) -> Sequence[Route]:
    async def listed(asked: Asked[FeedbackQuery, None]) -> Listed[ScoresShown]:
        query, now = asked.query, clock.wall()
        since, until = span(query.since, query.until, now)
        since_ms, until_ms = int((since or 0.0) * 1000) // DAY_MS * DAY_MS, int((now if until is None else until) * 1000)
        return Listed([_shown(scores) for scores in await archive.feedback(query.group_by, since_ms, until_ms)])

    return (
        Route(
            method="GET",
            path="feedback",
            summary="What users thought of answers (`POST /v1/feedback`): mean scores by model, pattern, status or key",
            query=FeedbackQuery,
            answer=Listed[ScoresShown],
            handler=listed,
        ),
    )


def _shown(scores: Scores) -> ScoresShown:
    return ScoresShown(
        group=scores.group or None,
        scores=scores.scores,
        score=_mean(scores.score, scores.scores),
        degraded_scores=scores.degraded_scores,
        degraded_score=_mean(scores.degraded_score, scores.degraded_scores),
    )


def _mean(total: int, number: int) -> float | None:
    return total / number if number else None
