"""What a store keeps, in SQL, written once for SQLite and PostgreSQL: here sessions and responses, the rest beside it."""

# ruff: noqa: S608 – what is put into statements are names of this module; values never are

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import msgspec

from agent_gateway.stores.base import (
    CHAIN_MAX,
    TURNS_MAX,
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
from agent_gateway.stores.sql_batches import SqlBatches
from agent_gateway.stores.sql_files import SqlFiles
from agent_gateway.stores.sql_items import SqlItems
from agent_gateway.stores.sql_keys import SqlKeys
from agent_gateway.stores.sql_spend import SqlSpend
from agent_gateway.stores.sql_values import SqlValues

#: Rows that one statement inserts.
TURNS_AT_ONCE = 100

_INFO = "id, key_id, user_id, version, turns, tokens, created_at, used_at, expires_at, summarized, metadata"
_RESPONSE = "id, status, input, body, created_at, parent, conversation"
#: A session or a response of an owner; expired or not.
_OWNED = "key_id = ? AND user_id = ? AND id = ?"

#: Of a session that goes on, and of a new one.
EXTEND = f"""
    UPDATE sessions SET version = version + 1, turns = turns + ?, tokens = tokens + ?, used_at = ?, expires_at = ?,
        metadata = coalesce(?, metadata)
    WHERE {_OWNED} AND version = ? AND expires_at > ? RETURNING number, turns
"""
CREATE = f"INSERT INTO sessions ({_INFO}) VALUES ({', '.join('?' * 11)}) ON CONFLICT DO NOTHING RETURNING number, turns"
#: A session and its turns in one row: the heads of all in one JSON text, the bodies of all one after the other. With a row each, a thread
#: of SQLite's would give the interpreter up and wait for it again some forty times.
_FETCH = f"""
    SELECT {_INFO.replace(", tokens", ", sessions.tokens")}, summary_dialect, summary, summary_tokens,
        {{heads}} FILTER (WHERE place IS NOT NULL), {{bodies}}
    FROM sessions LEFT JOIN turns
        ON session = number AND place >= summarized AND place >= sessions.turns - ?
    WHERE {_OWNED} AND expires_at > ? GROUP BY number
"""
_heads = msgspec.json.Decoder(list[tuple[int, int, int, int, str]])


@dataclass(frozen=True, slots=True)
class Addition:
    """What is appended to a session."""

    owner: Owner
    session_id: str
    turns: Sequence[StoredTurn]
    expected_version: int
    now: float
    expires_at: float
    metadata: bytes | None

    @property
    def session(self) -> Sequence[Any]:
        """The values of `EXTEND`, or of `CREATE` where there is none yet."""
        count, tokens = len(self.turns), sum(turn.tokens for turn in self.turns)
        if self.expected_version == 0:
            names = (self.session_id, self.owner.key, self.owner.user)
            return *names, 1, count, tokens, self.now, self.now, self.expires_at, 0, self.metadata
        changes = (count, tokens, self.now, self.expires_at, self.metadata)
        return *changes, *_owned(self.owner, self.session_id), self.expected_version, self.now


class SqlStore(SqlKeys, SqlSpend, SqlAudit, SqlValues, SqlFiles, SqlBatches, SqlItems):
    """How the database puts together, of turns in their order, `heads`: `[place,size,tokens,partial,"dialect"],…`, and `bodies`."""

    def __init__(self, database: Database, *, heads: str, bodies: str) -> None:
        self.database = database
        self._fetch = _FETCH.format(heads=heads, bodies=bodies)

    async def close(self) -> None:
        await self.database.close()

    # --- sessions

    async def fetch(self, owner: Owner, session_id: str, now: float, *, newest: int = TURNS_MAX) -> Session | None:
        found = await self.database.read(_rows(self._fetch, (newest, *_owned(owner, session_id), now)))
        return _session(found[0]) if found else None

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
        await self._add(Addition(owner, session_id, turns, expected_version, now, now + ttl_s, metadata))
        return expected_version + 1

    async def _add(self, addition: Addition) -> None:
        await self.database.write(_add(addition))

    async def replace_by_summary(
        self, owner: Owner, session_id: str, summary: StoredTurn, *, before: int, expected_version: int, now: float
    ) -> int:
        update = f"""
            UPDATE sessions SET version = version + 1, summarized = ?, summary_dialect = ?, summary = ?, summary_tokens = ?
            WHERE {_OWNED} AND version = ? AND turns >= ? AND expires_at > ? RETURNING version
        """
        new = (before, summary.dialect, summary.body, summary.tokens)
        if not await self.database.change(update, (*new, *_owned(owner, session_id), expected_version, before, now)):
            raise session_changed(session_id)
        return expected_version + 1

    async def delete_turn(self, owner: Owner, session_id: str, place: int, *, now: float) -> bool:
        def delete() -> Operation[bool]:
            number = f"(SELECT number FROM sessions WHERE {_OWNED} AND expires_at > ?)"
            delete = f"DELETE FROM turns WHERE session = {number} AND place = ? RETURNING session"
            deleted = yield delete, (*_owned(owner, session_id), now, place)
            if deleted:
                yield "UPDATE sessions SET version = version + 1 WHERE number = ?", (deleted[0][0],)
            return bool(deleted)

        return await self.database.write(delete())

    async def touch(self, owner: Owner, session_id: str, *, now: float, ttl_s: float) -> bool:
        update = f"UPDATE sessions SET used_at = ?, expires_at = ? WHERE {_OWNED} AND expires_at > ? RETURNING 1"
        return bool(await self.database.change(update, (now, now + ttl_s, *_owned(owner, session_id), now)))

    async def acquire(self, owner: Owner, session_id: str, holder: str, *, now: float, lease_s: float) -> bool:
        take = """
            INSERT INTO leases (key_id, user_id, session_id, holder, expires_at) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (key_id, user_id, session_id) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
            WHERE leases.holder = excluded.holder OR leases.expires_at <= ? RETURNING 1
        """
        return bool(await self.database.change(take, (*_owned(owner, session_id), holder, now + lease_s, now)))

    async def release(self, owner: Owner, session_id: str, holder: str) -> None:
        give = "DELETE FROM leases WHERE key_id = ? AND user_id = ? AND session_id = ? AND holder = ?"
        await self.database.change(give, (*_owned(owner, session_id), holder))

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
        return await self._delete("sessions", owner, session_id, now)

    async def delete_user(self, user: str) -> int:
        def delete() -> Operation[int]:
            deleted = 0
            for table in ("sessions", "responses", "batches", "files"):
                deleted += len((yield f"DELETE FROM {table} WHERE user_id = ? AND user_id <> '' RETURNING 1", (user,)))
            return deleted

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
        return await self._delete("responses", owner, response_id, now)

    async def _delete(self, table: str, owner: Owner, object_id: str, now: float) -> bool:
        delete = f"DELETE FROM {table} WHERE {_OWNED} RETURNING expires_at"
        rows = await self.database.change(delete, _owned(owner, object_id))
        return bool(rows) and bool(rows[0][0] > now)


# --- operations of several statements ---------------------------------------------------------------------------------


def _add(addition: Addition) -> Operation[None]:
    is_new = addition.expected_version == 0
    if is_new:  # one of that name that has expired is in the way
        yield f"DELETE FROM sessions WHERE {_OWNED} AND expires_at <= ?", (*_owned(addition.owner, addition.session_id), addition.now)
    changed = yield CREATE if is_new else EXTEND, addition.session
    if not changed:
        raise session_changed(addition.session_id)
    number, total = changed[0]
    yield from _insert_turns(number, total - len(addition.turns), addition.turns)


def _insert_turns(number: int, place: int, turns: Sequence[StoredTurn]) -> Operation[None]:
    for start in range(0, len(turns), TURNS_AT_ONCE):
        some = turns[start : start + TURNS_AT_ONCE]
        rows = ((number, place + start + index, *astuple(turn)) for index, turn in enumerate(some))
        yield _insert_of(len(some)), [value for row in rows for value in row]


@lru_cache(TURNS_AT_ONCE)
def _insert_of(rows: int) -> str:
    return f"INSERT INTO turns (session, place, dialect, body, tokens, partial) VALUES {', '.join([f'({_marks(6)})'] * rows)}"


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




def _info(row: Row) -> SessionInfo:
    session_id, key, user, version, turns, tokens, created_at, used_at, expires_at, summarized, metadata = row[:11]
    labels = None if metadata is None else bytes(metadata)
    return SessionInfo(session_id, Owner(key, user), version, turns, tokens, created_at, used_at, expires_at, summarized, labels)


def _session(row: Row) -> Session:
    """Of `_FETCH`."""
    dialect, summary, tokens, heads, bodies = row[11:]
    known = _heads.decode(f"[{heads or ''}]")
    ends = accumulate(size for _, size, *_ in known)
    turns = [
        StoredTurn(spoken, bodies[end - size : end], weight, bool(partial))
        for (_, size, weight, partial, spoken), end in zip(known, ends, strict=True)
    ]
    places = [place for place, *_ in known]
    return Session(_info(row), turns, places, None if summary is None else StoredTurn(dialect, bytes(summary), tokens))


def _response(row: Row) -> StoredResponse:
    response_id, status, given, body, *rest = row
    return StoredResponse(response_id, status, bytes(given), bytes(body), *rest)
