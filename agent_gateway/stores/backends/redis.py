"""State in Redis or Valkey: what belongs together is changed in one step by `redis.lua`, beside this file.

Promise: no call takes longer than `CALL_TIMEOUT_S`; nothing is sent twice, or a turn that was kept would look like another's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from redis.exceptions import RedisError

from agent_gateway.core.errors import BadRequest, StoreDown
from agent_gateway.stores.base import (
    CHAIN_MAX,
    NO_ROW,
    SECRET_BYTES,
    TURNS_MAX,
    AuditRow,
    Key,
    KeyPage,
    Owner,
    Session,
    SessionInfo,
    SessionPage,
    StoredResponse,
    StoredTurn,
    Swept,
    Team,
    before_rotation,
    key_exists,
    number_of,
    session_changed,
    team_in_use,
    unknown_cursor,
)
from agent_gateway.stores.redis_client import redis_client

CONNECTIONS_MAX = 16
CONNECT_TIMEOUT_S = 2.0
#: One answer.
ANSWER_TIMEOUT_S = 3.0
#: A call, and the wait for a connection.
CALL_TIMEOUT_S = 4.0
#: Hashes asked for in one call; the script bounds them.
VALUES_AT_ONCE = 1_000
#: So often an append to the audit log is tried again when another came between.
APPENDS_MAX = 100

_SCRIPT = Path(__file__).with_suffix(".lua")
_turn = msgspec.msgpack.Decoder(StoredTurn)
_response = msgspec.msgpack.Decoder(StoredResponse)
_key_decoder = msgspec.msgpack.Decoder(Key)
_team = msgspec.msgpack.Decoder(Team)
_audit_row = msgspec.msgpack.Decoder(AuditRow)


class RedisStore:
    def __init__(self, url: str) -> None:
        self._client = redis_client(
            url, connections_max=CONNECTIONS_MAX, wait_s=CALL_TIMEOUT_S, connect_s=CONNECT_TIMEOUT_S, answer_s=ANSWER_TIMEOUT_S
        )
        self._script = self._client.register_script(_SCRIPT.read_text())

    async def close(self) -> None:
        await self._client.aclose(close_connection_pool=True)

    async def _run(self, operation: str, *values: str | bytes | float) -> Any:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await self._script(args=[operation, *values])
        except UnicodeEncodeError as error:
            raise _not_unicode(error) from error
        except (RedisError, OSError) as error:
            raise StoreDown("The gateway's store cannot be used at the moment.", detail=f"Redis: {error!r}") from error

    # --- keys

    async def create_key(self, key: Key, secret_hash: bytes) -> None:
        if not await self._run("create_key", key.id, secret_hash, msgspec.msgpack.encode(key), key.created_at, key.team or ""):
            raise key_exists(key.id)

    async def list_keys(self, *, limit: int, cursor: str | None = None, team: str | None = None) -> KeyPage:
        found = await self._run("list_keys", "all" if team is None else f"of:{team}", cursor or "", limit)
        if found is None:
            raise unknown_cursor()
        return KeyPage.of([_key(row) for row in found], limit)

    async def find_key(self, key_id: str) -> Key | None:
        return _key_or_none(await self._run("find_key", key_id))

    async def update_key(self, key: Key) -> Key | None:
        return _key_or_none(await self._run("update_key", key.id, msgspec.msgpack.encode(key), key.team or ""))

    async def rotate_key(self, key_id: str, secret_hash: bytes, *, previous_until: float) -> Key | None:
        return _key_or_none(await self._run("rotate_key", key_id, secret_hash, previous_until))

    async def revoke_key(self, key_id: str, at: float) -> Key | None:
        return _key_or_none(await self._run("revoke_key", key_id, at))

    async def find_keys(self, secret_hashes: Collection[bytes]) -> Mapping[bytes, Key]:
        hashes, found = list(secret_hashes), {}
        for start in range(0, len(hashes), VALUES_AT_ONCE):
            some = hashes[start : start + VALUES_AT_ONCE]
            for secret_hash, answer in zip(some, await self._run("find_keys", *some), strict=True):
                if answer is not None:
                    is_current, row = answer
                    found[secret_hash] = _key(row) if is_current else before_rotation(_key(row))
        return found

    async def put_team(self, team: Team) -> None:
        await self._run("put_team", team.id, msgspec.msgpack.encode(team))

    async def list_teams(self) -> Sequence[Team]:
        return sorted(map(_team.decode, await self._run("list_teams")), key=lambda team: team.id)

    async def delete_team(self, team_id: str) -> bool:
        deleted = await self._run("delete_team", team_id)
        if deleted is None:
            raise team_in_use(team_id)
        return bool(deleted)

    async def keys_version(self) -> int:
        return int(await self._run("keys_version"))

    # --- money

    async def add_spend(self, spent: Mapping[tuple[str, float], float]) -> None:
        await self._run("add_spend", *(value for account, usd in spent.items() for value in (*account, usd)))

    async def spend_of(self, accounts: Collection[tuple[str, float]]) -> Mapping[tuple[str, float], float]:
        asked, found = list(accounts), {}
        for start in range(0, len(asked), VALUES_AT_ONCE // 2):
            some = asked[start : start + VALUES_AT_ONCE // 2]
            answers = await self._run("spend_of", *(value for account in some for value in account))
            found.update({account: float(usd) for account, usd in zip(some, answers, strict=True) if usd is not None})
        return found

    # --- the audit log

    async def append_audit(self, chain: Callable[[AuditRow | None], AuditRow], sign: Callable[[AuditRow], bytes]) -> AuditRow:
        for _ in range(APPENDS_MAX):
            last, _ = await self._run("last_audit")
            row = chain(_audit_row.decode(last) if last else None)
            if await self._run("append_audit", last, row.number, msgspec.msgpack.encode(row), sign(row)):
                return row
        raise StoreDown("The gateway's store cannot be used at the moment.", detail="Redis: too many append to the audit log at once")

    async def read_audit(self, *, after: int, limit: int) -> Sequence[AuditRow]:
        return [_audit_row.decode(row) for row in await self._run("read_audit", after, limit)]

    async def audit_head(self) -> tuple[AuditRow, bytes] | None:
        last, signature = await self._run("last_audit")
        return (_audit_row.decode(last) if last else NO_ROW, signature) if last or signature else None

    async def secret(self, name: str) -> bytes:
        made: bytes = await self._run("secret", name, secrets.token_bytes(SECRET_BYTES))
        return made

    # --- values

    async def keep_value(self, kind: str, name: str, body: bytes, *, now: float, expires_at: float | None = None) -> None:
        await self._run("keep_value", kind, name, body, now, "" if expires_at is None else expires_at)

    async def claim_value(self, kind: str, name: str, body: bytes, *, now: float, expires_at: float) -> bool:
        return bool(await self._run("claim_value", kind, name, body, now, expires_at))

    async def find_value(self, kind: str, name: str, now: float) -> bytes | None:
        found = await self._run("find_value", kind, name, now)
        return None if found is None else _body(found)

    async def list_values(self, kind: str, now: float) -> Mapping[str, bytes]:
        found = await self._run("list_values", kind, now)
        return {name.decode(): _body(value) for name, value in sorted(zip(found[::2], found[1::2], strict=True))}

    async def drop_value(self, kind: str, name: str) -> bool:
        return bool(await self._run("drop_value", kind, name))

    # --- sessions

    async def fetch(self, owner: Owner, session_id: str, now: float, *, newest: int = TURNS_MAX) -> Session | None:
        found = await self._run("fetch", _place(owner, session_id), now, newest)
        if found is None:
            return None
        fields, first, turns = _fields(found[0]), found[1], found[2]
        there = {place: _turn.decode(turn) for place, turn in enumerate(turns, first) if turn}  # one that was deleted is empty
        summary = fields.get(b"summary")
        return Session(_info(fields), list(there.values()), list(there), None if summary is None else _turn.decode(summary))

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
        version = await self._run(
            "append",
            _place(owner, session_id),
            *(owner.key, owner.user, session_id, expected_version),
            *(now, now + ttl_s, _milliseconds(ttl_s)),
            sum(turn.tokens for turn in turns),
            metadata or b"",
            *map(msgspec.msgpack.encode, turns),
        )
        return _changed(version, session_id)

    async def replace_by_summary(
        self, owner: Owner, session_id: str, summary: StoredTurn, *, before: int, expected_version: int, now: float
    ) -> int:
        body = msgspec.msgpack.encode(summary)
        return _changed(await self._run("summarize", _place(owner, session_id), expected_version, now, before, body), session_id)

    async def delete_turn(self, owner: Owner, session_id: str, place: int, *, now: float) -> bool:
        return bool(await self._run("delete_turn", _place(owner, session_id), place, now))

    async def touch(self, owner: Owner, session_id: str, *, now: float, ttl_s: float) -> bool:
        return bool(await self._run("touch", _place(owner, session_id), now, now + ttl_s, _milliseconds(ttl_s)))

    async def acquire(self, owner: Owner, session_id: str, holder: str, *, now: float, lease_s: float) -> bool:
        return bool(await self._run("acquire", _place(owner, session_id), holder, now, now + lease_s, _milliseconds(lease_s)))

    async def release(self, owner: Owner, session_id: str, holder: str) -> None:
        await self._run("release", _place(owner, session_id), holder)

    async def list_sessions(self, owner: Owner | None, *, now: float, limit: int, cursor: str | None = None) -> SessionPage:
        below = "+inf" if cursor is None else f"({number_of(cursor)}"
        which = b"all" if owner is None else b"of:" + _place(owner, "")
        sessions, looked_at, last = await self._run("list", which, now, below, limit)
        more = looked_at and looked_at == limit
        return SessionPage([_info(_fields(session)) for session in sessions], last.decode() if more else None)

    async def delete_session(self, owner: Owner, session_id: str, *, now: float) -> bool:
        return bool(await self._run("delete", "session", _place(owner, session_id), now))

    async def delete_user(self, user: str) -> int:
        return int(await self._run("delete_user", user)) if user else 0

    async def sweep(self, now: float, limit: int) -> Swept:
        return Swept(*await self._run("sweep", now, limit))

    async def count_sessions(self, now: float) -> int:
        return int(await self._run("count_sessions", now))

    # --- responses

    async def put_response(self, owner: Owner, response: StoredResponse, *, now: float, ttl_s: float) -> None:
        await self._run(
            "put_response",
            *(_place(owner, ""), response.id, response.parent or "", msgspec.msgpack.encode(response)),
            *(now, now + ttl_s, _milliseconds(ttl_s)),
        )

    async def fetch_chain(self, owner: Owner, response_id: str, *, now: float, limit: int = CHAIN_MAX) -> Sequence[StoredResponse]:
        found = await self._run("fetch_chain", _place(owner, ""), response_id, now, limit)
        return [_response.decode(response) for response in reversed(found)]

    async def delete_response(self, owner: Owner, response_id: str, *, now: float) -> bool:
        return bool(await self._run("delete", "response", _place(owner, response_id), now))


def _place(owner: Owner, object_id: str) -> bytes:
    """With lengths, so that no owner can be spelled as another's."""
    try:
        key, user = owner.key.encode(), owner.user.encode()
        return b"%d:%b%d:%b%b" % (len(key), key, len(user), user, object_id.encode())
    except UnicodeEncodeError as error:
        raise _not_unicode(error) from error


def _not_unicode(error: UnicodeEncodeError) -> BadRequest:
    return BadRequest("There is text in the request that is no valid Unicode.", detail=str(error))


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _changed(version: int, session_id: str) -> int:
    if version == 0:
        raise session_changed(session_id)
    return version


def _body(value: bytes) -> bytes:
    """Of a kept value, behind its end."""
    return value.partition(b" ")[2]


def _fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _info(fields: Mapping[bytes, bytes]) -> SessionInfo:
    return SessionInfo(
        id=fields[b"id"].decode(),
        owner=Owner(fields[b"key"].decode(), fields[b"user"].decode()),
        version=int(fields[b"version"]),
        turns=int(fields[b"turns"]),
        tokens=int(fields[b"tokens"]),
        created_at=float(fields[b"created_at"]),
        used_at=float(fields[b"used_at"]),
        expires_at=float(fields[b"expires_at"]),
        summarized=int(fields[b"summarized"]),
        metadata=fields.get(b"metadata"),
    )


def _key_or_none(row: Sequence[bytes | None] | None) -> Key | None:
    return None if row is None else _key(row)


def _key(row: Sequence[bytes | None]) -> Key:
    """As it was given last, and what only its own operations change."""
    data, *times = row
    assert data is not None
    created_at, revoked_at, previous_until = (None if time is None else float(time) for time in times)
    return replace(_key_decoder.decode(data), created_at=created_at or 0.0, revoked_at=revoked_at, previous_until=previous_until)
