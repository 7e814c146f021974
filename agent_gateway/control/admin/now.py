"""`/admin/v1/now`: what the gateway did in the last hours, minute by minute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from agent_gateway.control.admin_route import Asked, Route
from agent_gateway.control.oversight import Oversight
from agent_gateway.control.pulse import Points
from agent_gateway.record.traffic import MINUTES_MAX


class NowQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    minutes: Annotated[int, Meta(ge=1, le=MINUTES_MAX)] = 60
    model: str | None = None


def now_routes(oversight: Oversight) -> Sequence[Route]:
    async def minutes(asked: Asked[NowQuery, None]) -> Points:
        return await oversight.minutes(asked.query.minutes, asked.query.model)

    return (
        Route(
            method="GET",
            path="now",
            summary="What the gateway did in the last hours, minute by minute, of all models or of one",
            query=NowQuery,
            answer=Points,
            handler=minutes,
        ),
    )
