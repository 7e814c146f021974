"""What a store keeps, in SQL, written once for SQLite and PostgreSQL: here sessions and responses, the rest beside it."""

# ruff: noqa: S608 – what is put into statements are names of this module; values never are

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from functools import lru_cache
from typing import Any

from agent_gateway.stores.base import (
    CHAIN_MAX,
    Owner,
    Session,
    SessionInfo,
    SessionPage,
    StoredResponse,
    StoredTurn,
    Swept,
    number_of,
    session_changed,
)
from agent_gateway.stores.operation import Database, Operation, Row
from agent_gateway.stores.operation import marks as _marks
from agent_gateway.stores.operation import rows as _rows
from agent_gateway.stores.sql_audit import SqlAudit
from agent_gateway.stores.sql_keys import SqlKeys
from agent_gateway.stores.sql_spend import SqlSpend

#: Rows that one statement inserts.
TURNS_AT_ONCE = 100

_INFO = "id, key_id, user_id, version, turns, tokens, created_at, used_at, expires_at, summarized, metadata"
_RESPONSE = "id, status, input, body, created_at, parent, conversation"
#: A session or a response of an owner; expired or not.
_OWNED = "key_id = ? AND user_id = ? AND id = ?"


class SqlStore(SqlKeys, SqlSpend, SqlAudit):
    def __init__(self, database: Database) -> None:
        self.database = database

    async def close(self) -> None:
        await self.database.close()

    # --- sessions

    async def fetch(self, owner: Owner, session_id: str, now: float) -> Session | None:
        return await self.database.read(_fetch(owner, session_id, now))

    async def append(
        self,
        owner: Owner,
        session_id: str,
        turns: Sequence[StoredTurn],
        *,
        expected_version: int,
        now: float,
        ttl_s: float,
        metadata: bytes | None = None,
    ) -> int:
        change = _create if expected_version == 0 else _extend
        await self.database.write(change(owner, session_id, turns, expected_version, now, now + ttl_s, metadata))
        return expected_version + 1

    async def replace_by_summary(
        self, owner: Owner, session_id: str, summary: StoredTurn, *, before: int, expected_version: int, now: float
    ) -> int:
        update = f"""
            UPDATE sessions SET version = version + 1, summarized = ?, summary_dialect = ?, summary = ?, summary_tokens = ?
            WHERE {_OWNED} AND version = ? AND turns >= ? AND expires_at > ? RETURNING version
        """
        new = (before, summary.dialect, summary.body, summary.tokens)
        if not await self.database.write(_rows(update, (*new, *_owned(owner, session_id), expected_version, before, now))):
            raise session_changed(session_id)
        return expected_version + 1

    async def touch(self, owner: Owner, session_id: str, *, now: float, ttl_s: float) -> bool:
        update = f"UPDATE sessions SET used_at = ?, expires_at = ? WHERE {_OWNED} AND expires_at > ? RETURNING 1"
        return bool(await self.database.write(_rows(update, (now, now + ttl_s, *_owned(owner, session_id), now))))

    async def acquire(self, owner: Owner, session_id: str, holder: str, *, now: float, lease_s: float) -> bool:
        take = """
            INSERT INTO leases (key_id, user_id, session_id, holder, expires_at) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (key_id, user_id, session_id) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
            WHERE leases.holder = excluded.holder OR leases.expires_at <= ? RETURNING 1
        """
        return bool(await self.database.write(_rows(take, (*_owned(owner, session_id), holder, now + lease_s, now))))

    async def release(self, owner: Owner, session_id: str, holder: str) -> None:
        give = "DELETE FROM leases WHERE key_id = ? AND user_id = ? AND session_id = ? AND holder = ?"
        await self.database.write(_rows(give, (*_owned(owner, session_id), holder)))

    async def list_sessions(self, owner: Owner | None, *, now: float, limit: int, cursor: str | None = None) -> SessionPage:
        wheres: list[tuple[str, tuple[Any, ...]]] = [("expires_at > ?", (now,))]
        if cursor is not None:
            wheres.append(("number < ?", (number_of(cursor),)))
        if owner is not None:
            wheres.append(("key_id = ? AND user_id = ?", (owner.key, owner.user)))
        where = " AND ".join(text for text, _ in wheres)
        values = [value for _, some in wheres for value in some]
        select = f"SELECT {_INFO}, number FROM sessions WHERE {where} ORDER BY number DESC LIMIT ?"
        rows = await self.database.read(_rows(select, (*values, limit)))
        return SessionPage([_info(row) for row in rows], str(rows[-1][-1]) if rows and len(rows) == limit else None)

    async def delete_session(self, owner: Owner, session_id: str, *, now: float) -> bool:
        return await self.database.write(_delete("sessions", owner, session_id, now))

    async def delete_user(self, user: str) -> int:
        def delete() -> Operation[int]:
            sessions = yield "DELETE FROM sessions WHERE user_id = ? RETURNING 1", (user,)
            responses = yield "DELETE FROM responses WHERE user_id = ? RETURNING 1", (user,)
            return len(sessions) + len(responses)

        return await self.database.write(delete())

    async def sweep(self, now: float, limit: int) -> Swept:
        return await self.database.write(_sweep(now, limit))

    async def count_sessions(self, now: float) -> int:
        ((count,),) = await self.database.read(_rows("SELECT count(*) FROM sessions WHERE expires_at > ?", (now,)))
        return int(count)

    # --- responses

    async def put_response(self, owner: Owner, response: StoredResponse, *, now: float, ttl_s: float) -> None:
        await self.database.write(_put_response(owner, response, now, now + ttl_s))

    async def fetch_chain(
        self, owner: Owner, response_id: str, *, now: float, limit: int = CHAIN_MAX
    ) -> Sequence[StoredResponse]:
        columns = ", ".join(f"r.{name}" for name in _RESPONSE.split(", "))
        select = f"""
            WITH RECURSIVE chain AS (
                SELECT {_RESPONSE}, 1 AS depth FROM responses WHERE {_OWNED} AND expires_at > ?
                UNION ALL
                SELECT {columns}, chain.depth + 1 FROM chain JOIN responses r ON r.id = chain.parent
                WHERE r.key_id = ? AND r.user_id = ? AND r.expires_at > ? AND chain.depth < ?
            )
            SELECT {_RESPONSE} FROM chain ORDER BY depth DESC
        """
        values = (*_owned(owner, response_id), now, owner.key, owner.user, now, limit)
        return [_response(row) for row in await self.database.read(_rows(select, values))]

    async def delete_response(self, owner: Owner, response_id: str, *, now: float) -> bool:
        return await self.database.write(_delete("responses", owner, response_id, now))


# --- operations of several statements ---------------------------------------------------------------------------------


def _fetch(owner: Owner, session_id: str, now: float) -> Operation[Session | None]:
    select = f"SELECT {_INFO}, number, summary_dialect, summary, summary_tokens FROM sessions WHERE {_OWNED} AND expires_at > ?"
    found = yield select, (*_owned(owner, session_id), now)
    if not found:
        return None
    *_, number, dialect, summary, tokens = found[0]
    info = _info(found[0])
    # Turns are only ever added, so that these belong to the row above, whatever was committed in between. Unless it was deleted.
    rows = yield (
        "SELECT dialect, body, tokens, partial FROM turns WHERE session = ? AND place >= ? AND place < ? ORDER BY place",
        (number, info.summarized, info.turns),
    )
    if len(rows) != info.turns - info.summarized:
        return None
    turns = [StoredTurn(row[0], bytes(row[1]), row[2], bool(row[3])) for row in rows]
    return Session(info, turns, None if summary is None else StoredTurn(dialect, bytes(summary), tokens))


def _create(
    owner: Owner, session_id: str, turns: Sequence[StoredTurn], _: int, now: float, expires_at: float, metadata: bytes | None
) -> Operation[None]:
    yield f"DELETE FROM sessions WHERE {_OWNED} AND expires_at <= ?", (*_owned(owner, session_id), now)
    made = yield (
        f"INSERT INTO sessions ({_INFO}) VALUES ({_marks(11)}) ON CONFLICT DO NOTHING RETURNING number",
        (session_id, owner.key, owner.user, 1, len(turns), _tokens(turns), now, now, expires_at, 0, metadata),
    )
    if not made:
        raise session_changed(session_id)
    yield from _insert_turns(made[0][0], 0, turns)


def _extend(
    owner: Owner,
    session_id: str,
    turns: Sequence[StoredTurn],
    version: int,
    now: float,
    expires_at: float,
    metadata: bytes | None,
) -> Operation[None]:
    changed = yield (
        f"""
        UPDATE sessions SET version = version + 1, turns = turns + ?, tokens = tokens + ?, used_at = ?, expires_at = ?,
            metadata = coalesce(?, metadata)
        WHERE {_OWNED} AND version = ? AND expires_at > ? RETURNING number, turns
        """,
        (len(turns), _tokens(turns), now, expires_at, metadata, *_owned(owner, session_id), version, now),
    )
    if not changed:
        raise session_changed(session_id)
    number, total = changed[0]
    yield from _insert_turns(number, total - len(turns), turns)


def _insert_turns(number: int, place: int, turns: Sequence[StoredTurn]) -> Operation[None]:
    for start in range(0, len(turns), TURNS_AT_ONCE):
        some = turns[start : start + TURNS_AT_ONCE]
        rows = ((number, place + start + index, *astuple(turn)) for index, turn in enumerate(some))
        yield _insert_of(len(some)), [value for row in rows for value in row]


@lru_cache(TURNS_AT_ONCE)
def _insert_of(rows: int) -> str:
    return f"INSERT INTO turns (session, place, dialect, body, tokens, partial) VALUES {', '.join([f'({_marks(6)})'] * rows)}"


def _delete(table: str, owner: Owner, object_id: str, now: float) -> Operation[bool]:
    rows = yield f"DELETE FROM {table} WHERE {_OWNED} RETURNING expires_at", _owned(owner, object_id)
    return bool(rows) and bool(rows[0][0] > now)


def _sweep(now: float, limit: int) -> Operation[Swept]:
    """What was renewed after it was chosen is looked at again by the outer condition, and stays."""
    swept = []
    for table, key in (("sessions", "number"), ("responses", "key_id, user_id, id"), ("leases", "key_id, user_id, session_id")):
        oldest = f"SELECT {key} FROM {table} WHERE expires_at <= ? ORDER BY expires_at LIMIT ?"
        rows = yield f"DELETE FROM {table} WHERE ({key}) IN ({oldest}) AND expires_at <= ? RETURNING 1", (now, limit, now)
        swept.append(len(rows))
    sessions, responses, _ = swept
    return Swept(sessions, responses)


def _put_response(owner: Owner, response: StoredResponse, now: float, expires_at: float) -> Operation[None]:
    columns = _RESPONSE.split(", ")
    replaced = ", ".join(f"{name} = excluded.{name}" for name in (*columns[1:], "expires_at"))
    yield (
        f"""
        INSERT INTO responses (key_id, user_id, {_RESPONSE}, expires_at) VALUES ({_marks(10)})
        ON CONFLICT (key_id, user_id, id) DO UPDATE SET {replaced}
        """,
        (owner.key, owner.user, *(getattr(response, name) for name in columns), expires_at),
    )
    if response.parent is None:
        return
    yield (
        """
        WITH RECURSIVE chain AS (
            SELECT id, parent, 1 AS depth FROM responses WHERE key_id = ? AND user_id = ? AND id = ? AND expires_at > ?
            UNION ALL
            SELECT r.id, r.parent, chain.depth + 1 FROM chain JOIN responses r ON r.id = chain.parent
            WHERE r.key_id = ? AND r.user_id = ? AND r.expires_at > ? AND chain.depth < ?
        )
        UPDATE responses SET expires_at = ? WHERE key_id = ? AND user_id = ? AND id IN (SELECT id FROM chain) AND expires_at < ?
        """,
        (
            *(*_owned(owner, response.parent), now),
            *(owner.key, owner.user, now, CHAIN_MAX),
            *(expires_at, owner.key, owner.user, expires_at),
        ),
    )


# --- rows -------------------------------------------------------------------------------------------------------------


def _owned(owner: Owner, object_id: str) -> tuple[str, str, str]:
    return owner.key, owner.user, object_id


def _tokens(turns: Iterable[StoredTurn]) -> int:
    return sum(turn.tokens for turn in turns)


def _info(row: Row) -> SessionInfo:
    session_id, key, user, version, turns, tokens, created_at, used_at, expires_at, summarized, metadata = row[:11]
    labels = None if metadata is None else bytes(metadata)
    return SessionInfo(session_id, Owner(key, user), version, turns, tokens, created_at, used_at, expires_at, summarized, labels)


def _response(row: Row) -> StoredResponse:
    response_id, status, given, body, *rest = row
    return StoredResponse(response_id, status, bytes(given), bytes(body), *rest)
