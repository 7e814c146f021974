"""Sessions as HTTP shows them to whoever they belong to; an admin's view is `control/admin`'s."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from msgspec import Raw

from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.stores.base import Owner, SessionInfo, SessionStore, StoredTurn

LIMIT = 20
LIMIT_MAX = 100


async def session_list(store: SessionStore, owner: Owner, query: bytes, now: float) -> dict[str, Any]:
    """Raises `BadRequest` and `StoreDown`."""
    asked = {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
    limit = asked.get("limit", str(LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 4 and 1 <= int(limit) <= LIMIT_MAX):
        raise BadRequest(f"limit: expected a number from 1 to {LIMIT_MAX}.", param="limit")
    page = await store.list_sessions(owner, now=now, limit=int(limit), cursor=asked.get("cursor"))
    return {"data": [_shown(info) for info in page.sessions], "next": page.next}


async def session_object(store: SessionStore, owner: Owner, session_id: str, now: float) -> dict[str, Any]:
    """With its turns. Raises `NotFound` and `StoreDown`."""
    session = await store.fetch(owner, session_id, now)
    if session is None:
        raise _unknown(session_id)
    summary = None if session.summary is None else _turn(session.summary)
    return _shown(session.info) | {"summary": summary, "turns": [_turn(turn) for turn in session.turns]}


async def delete_session(store: SessionStore, owner: Owner, session_id: str, now: float) -> dict[str, Any]:
    """Raises `NotFound` and `StoreDown`."""
    if not await store.delete_session(owner, session_id, now=now):
        raise _unknown(session_id)
    return {"id": session_id, "object": "session", "deleted": True}


def _shown(info: SessionInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "object": "session",
        "user": info.owner.user or None,
        "turn_count": info.turns,
        "summarized_count": info.summarized,
        "tokens": info.tokens,
        "created_at": info.created_at,
        "used_at": info.used_at,
        "expires_at": info.expires_at,
    }


def _turn(turn: StoredTurn) -> dict[str, Any]:
    return {"dialect": turn.dialect, "tokens": turn.tokens, "partial": turn.partial, "body": Raw(turn.body)}


def _unknown(session_id: str) -> NotFound:
    return NotFound(f"There is no session {session_id[:140]!r}.")
