"""`/admin/v1/slo`: every service level beside what the records say."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from agent_gateway.control.admin_route import Asked, Listed, Route
from agent_gateway.control.oversight import Oversight
from agent_gateway.control.times import span
from agent_gateway.core.clock import Clock
from agent_gateway.record.archive import Archive
from agent_gateway.record.slo import Verdict, judged


class SloQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    since: str = "1h"
    until: str | None = None


def slo_routes(archive: Archive, oversight: Oversight, clock: Clock) -> Sequence[Route]:
    async def listed(asked: Asked[SloQuery, None]) -> Listed[Verdict]:
        now = clock.wall()
        since, until = span(asked.query.since, asked.query.until, now)
        began = since or 0.0
        sums = await archive.sums(int(began * 1000), int((now + 1 if until is None else until) * 1000))
        if until is None:  # what records cannot tell, the gateway knows of itself
            seen = await oversight.sums(now - began)
            for name in ("records", "records_lost"):
                sums.add(name, seen.number(name))
        return Listed(judged(sums))

    return (
        Route(
            method="GET",
            path="slo",
            summary="Every service level: its target, the figure that the records of a time give, and whether it is met",
            query=SloQuery,
            answer=Listed[Verdict],
            handler=listed,
        ),
    )
