"""`/admin/v1/sessions`: everybody's conversations, without what is said in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from agent_gateway.control.admin_route import Asked, Listed, PageQuery, Route
from agent_gateway.control.times import told
from agent_gateway.core.clock import Clock
from agent_gateway.stores.base import SessionInfo, SessionStore


class SessionShown(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["session"] = "session"
    #: The key's id.
    key: str | None
    user: str | None
    turn_count: int
    summarized_count: int
    tokens: int
    created_at: str
    used_at: str
    expires_at: str


def session_routes(store: SessionStore, clock: Clock) -> Sequence[Route]:
    async def listed(asked: Asked[PageQuery, None]) -> Listed[SessionShown]:
        page = await store.list_sessions(None, now=clock.wall(), limit=asked.query.limit, cursor=asked.query.cursor)
        return Listed([_shown(info) for info in page.sessions], page.next)

    return (
        Route(
            method="GET",
            path="sessions",
            summary="Everybody's sessions, youngest first",
            query=PageQuery,
            answer=Listed[SessionShown],
            handler=listed,
        ),
    )


def _shown(info: SessionInfo) -> SessionShown:
    return SessionShown(
        id=info.id,
        key=info.owner.key or None,
        user=info.owner.user or None,
        turn_count=info.turns,
        summarized_count=info.summarized,
        tokens=info.tokens,
        created_at=told(info.created_at),
        used_at=told(info.used_at),
        expires_at=told(info.expires_at),
    )
