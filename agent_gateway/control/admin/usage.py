"""`/admin/v1/usage`: what was used in a time, by key, model, day or user; worked out of the records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from agent_gateway.control.admin_route import Asked, Listed, Route
from agent_gateway.control.times import span
from agent_gateway.core.clock import Clock
from agent_gateway.record.archive import Archive, Group

GROUPS_MAX = 1_000


class UsageQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    since: str = "24h"
    until: str | None = None
    group_by: Group = "model"
    limit: Annotated[int, Meta(ge=1, le=GROUPS_MAX)] = 100
    #: `next` of the page before.
    cursor: str | None = None


class UsageShown(Struct, frozen=True):
    #: The key's id, the model's name, the day (in UTC) or the user; null where there was none.
    group: str | None
    requests: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost_usd: float


def usage_routes(archive: Archive, clock: Clock) -> Sequence[Route]:
    async def listed(asked: Asked[UsageQuery, None]) -> Listed[UsageShown]:
        query, now = asked.query, clock.wall()
        since, until = span(query.since, query.until, now)
        since_ms, until_ms = int((since or 0.0) * 1000), None if until is None else int(until * 1000)
        rows, more = await archive.usage(query.group_by, since_ms, until_ms, query.limit, query.cursor)
        data = [UsageShown(row.group or None, row.requests, row.errors, row.input_tokens, row.output_tokens, row.cost_usd) for row in rows]
        return Listed(data, rows[-1].group if more else None)

    return (
        Route(
            method="GET",
            path="usage",
            summary="Requests, errors, tokens and cost of a time, by key, model, day or user",
            query=UsageQuery,
            answer=Listed[UsageShown],
            handler=listed,
        ),
    )
