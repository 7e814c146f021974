"""`/admin/v1/live`: what happens, as server-sent events; what they hold is what the lists of the same names show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from agent_gateway.control.admin.newest import NewestRecords
from agent_gateway.control.admin_route import LIMIT_MAX, Asked, Listed, Route
from agent_gateway.control.live import LiveFeed, Source
from agent_gateway.control.oversight import Oversight
from agent_gateway.core.errors import BadRequest
from agent_gateway.core.streamed import Streamed
from agent_gateway.record.alerting.notice import shown


class LiveQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: Some of now, routes, alerts, batches and records, with commas between them; all, where it is left out.
    topics: str | None = None


def live_feed(
    oversight: Oversight, newest: NewestRecords, states: Mapping[str, Source], news: Mapping[str, Source], over: Callable[[], bool]
) -> LiveFeed:
    """`states`: further topics that are told whole; `news`: those of which only what is new is."""

    async def of_now() -> Any:
        return await oversight.now()

    async def of_alerts() -> Any:
        firing, past = await oversight.alerts()
        return Listed([shown(alert) for alert in [*firing, *past][:LIMIT_MAX]])

    states, news = {"now": of_now, "alerts": of_alerts, **states}, {"records": newest.take, **news}
    return LiveFeed(states, news, begin=newest.begin, end=newest.end, over=over)


def live_routes(feed: LiveFeed) -> Sequence[Route]:
    async def listen(asked: Asked[LiveQuery, None]) -> Streamed:
        return Streamed(feed.listen(_topics(asked.query.topics, feed)))

    return (
        Route(
            method="GET",
            path="live",
            summary="What happens, told as server-sent events: figures of now, routes, alerts, batches and records",
            query=LiveQuery,
            answer=str,
            media="text/event-stream",
            handler=listen,
        ),
    )


def _topics(asked: str | None, feed: LiveFeed) -> Sequence[str]:
    if asked is None:
        return list(feed.topics)
    topics = [topic.strip() for topic in asked.split(",")]
    if unknown := [topic for topic in topics if topic not in feed.topics]:
        raise BadRequest(f"topics: {unknown[0][:40]!r} is not one of {', '.join(feed.topics)}.", param="topics")
    return topics
