"""`/admin/v1/sessions`: everybody's conversations; one is shown with what was said in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from agent_gateway.control.admin_route import Asked, Listed, PageQuery, Route
from agent_gateway.control.audit import AuditLog
from agent_gateway.control.times import told
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import NotFound
from agent_gateway.stores.base import Owner, Session, SessionInfo, SessionStore, StoredTurn, number_of


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


class OwnerQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose it is, as the list tells; left out: null there."""

    key: str = ""
    user: str = ""


class SessionQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str = ""
    user: str = ""


class TurnShown(Struct, frozen=True):
    #: Among all that were ever appended, from 0.
    place: int
    dialect: str
    #: As it was said, in the JSON of its protocol.
    body: Any
    tokens: int
    partial: bool


class SessionWhole(SessionShown, frozen=True, kw_only=True):
    #: In their order: the newest, or those before the page that was given.
    turns: Sequence[TurnShown]
    #: What stands for the oldest ones.
    summary: TurnShown | None
    #: Give it as `cursor` for older turns; null: there are no more.
    next: str | None


class Deleted(Struct, frozen=True):
    id: str
    deleted: bool = True


def session_routes(store: SessionStore, audit: AuditLog, clock: Clock) -> Sequence[Route]:
    async def listed(asked: Asked[PageQuery, None]) -> Listed[SessionShown]:
        page = await store.list_sessions(None, now=clock.wall(), limit=asked.query.limit, cursor=asked.query.cursor)
        return Listed([_shown(info) for info in page.sessions], page.next)

    async def one(asked: Asked[SessionQuery, None]) -> SessionWhole:
        query, now = asked.query, clock.wall()
        owner, before = Owner(query.key, query.user), None if query.cursor is None else number_of(query.cursor)
        session = await store.fetch(owner, asked.of, now, newest=query.limit + 1)
        if session is not None and before is not None:
            session = await store.fetch(owner, asked.of, now, newest=max(session.info.turns - before, 0) + query.limit + 1)
        if session is None:
            raise _unknown(asked.of)
        return _whole(session, before, query.limit)

    async def delete(asked: Asked[OwnerQuery, None]) -> Deleted:
        owner, now = Owner(asked.query.key, asked.query.user), clock.wall()
        session = await store.fetch(owner, asked.of, now, newest=0)
        if session is None:
            raise _unknown(asked.of)
        before = {"key": owner.key, "turns": session.info.turns}
        async with audit.acting("sessions.delete", asked.of, asked.by, before=before):
            await store.delete_session(owner, asked.of, now=now)
        return Deleted(asked.of)

    return (
        Route(
            method="GET",
            path="sessions",
            summary="Everybody's sessions, youngest first",
            query=PageQuery,
            answer=Listed[SessionShown],
            handler=listed,
        ),
        Route(
            method="GET",
            path="sessions/{id}",
            slashes=True,
            summary="One session, with what was said in it, the newest turns first to be had",
            query=SessionQuery,
            answer=SessionWhole,
            handler=one,
        ),
        Route(
            method="DELETE",
            path="sessions/{id}",
            slashes=True,
            summary="Deletes a session, with all that was said in it",
            role="admin",
            query=OwnerQuery,
            answer=Deleted,
            handler=delete,
        ),
    )


def _whole(session: Session, before: int | None, limit: int) -> SessionWhole:
    known = [(place, turn) for place, turn in zip(session.places, session.turns, strict=True) if before is None or place < before]
    page = known[-limit:]
    older = str(page[0][0]) if len(known) > len(page) else None
    summary = None if session.summary is None else _turn(-1, session.summary)
    shown = {name: getattr(told, name) for told in [_shown(session.info)] for name in SessionShown.__struct_fields__ if name != "object"}
    return SessionWhole(**shown, turns=[_turn(*each) for each in page], summary=summary, next=older)


def _turn(place: int, turn: StoredTurn) -> TurnShown:
    try:
        msgspec.json.decode(turn.body)
        body: Any = Raw(turn.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = turn.body.decode("utf-8", "replace")
    return TurnShown(place, turn.dialect, body, turn.tokens, turn.partial)


def _unknown(session_id: str) -> NotFound:
    return NotFound(
        f"There is no session {session_id[:100]!r} of this key and user. Name them as GET /admin/v1/sessions shows them: ?key=…&user=…; "
        "leave out what is null there."
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
