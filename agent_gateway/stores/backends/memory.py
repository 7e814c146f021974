"""State that ends with the process: for `sqlite:///:memory:`, demos and tests. What was used longest ago makes room."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TypeAlias, TypeVar

from agent_gateway.stores.base import (
    CHAIN_MAX,
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
from agent_gateway.stores.memory_batches import MemoryBatches

SESSIONS_MAX = 10_000
RESPONSES_MAX = 10_000
#: Accounts in a period each; of those spent on longest ago, what was spent is forgotten.
SPENDS_MAX = 100_000
#: The oldest entries make room: what is left is still a chain.
AUDIT_MAX = 10_000

_Name = TypeVar("_Name", bound=Hashable)
_Value = TypeVar("_Value")
#: An owner's session or response.
_Place: TypeAlias = tuple[Owner, str]


@dataclass(slots=True)
class _Conversation:
    number: int
    info: SessionInfo
    #: None: one that was deleted.
    turns: list[StoredTurn | None]
    summary: StoredTurn | None = None


@dataclass(slots=True)
class _Kept:
    response: StoredResponse
    expires_at: float


class MemoryStore(MemoryBatches):
    def __init__(self) -> None:
        super().__init__()
        #: The hash of each secret that is or, before the last rotation, was good → the key's id.
        self._hashes: dict[bytes, str] = {}
        self._keys: dict[str, Key] = {}
        #: By the key's id: the hash of its secret, and of the one before.
        self._current: dict[str, bytes] = {}
        self._previous: dict[str, bytes] = {}
        self._teams: dict[str, Team] = {}
        self._version = 0
        self._spend: dict[tuple[str, float], float] = {}
        self._audit: deque[AuditRow] = deque(maxlen=AUDIT_MAX)
        self._audit_signature = b""
        self._secrets: dict[str, bytes] = {}
        #: By kind and name: the body, and when its time is over.
        self._values: dict[str, dict[str, tuple[bytes, float | None]]] = {}
        self._numbers = count(1)
        # Both in the order of their last change.
        self._sessions: dict[_Place, _Conversation] = {}
        self._responses: dict[_Place, _Kept] = {}
        #: Who holds it, until when.
        self._leases: dict[_Place, tuple[str, float]] = {}

    async def close(self) -> None:
        return None

    # --- keys

    async def create_key(self, key: Key, secret_hash: bytes) -> None:
        if key.id in self._keys or secret_hash in self._hashes:
            raise key_exists(key.id)
        self._keys[key.id] = key
        self._hashes[secret_hash] = key.id
        self._current[key.id] = secret_hash
        self._version += 1

    async def list_keys(self, *, limit: int, cursor: str | None = None, team: str | None = None) -> KeyPage:
        shown = None if cursor is None else self._keys.get(cursor)
        if cursor is not None and shown is None:
            raise unknown_cursor()
        fitting = [
            key
            for key in self._keys.values()
            if team in (None, key.team) and (shown is None or (key.created_at, key.id) > (shown.created_at, shown.id))
        ]
        return KeyPage.of(sorted(fitting, key=lambda key: (key.created_at, key.id))[:limit], limit)

    async def find_key(self, key_id: str) -> Key | None:
        return self._keys.get(key_id)

    async def update_key(self, key: Key) -> Key | None:
        return self._change(
            key.id, lambda was: replace(key, created_at=was.created_at, revoked_at=was.revoked_at, previous_until=was.previous_until)
        )

    async def rotate_key(self, key_id: str, secret_hash: bytes, *, previous_until: float) -> Key | None:
        key = self._keys.get(key_id)
        if key is None or key.revoked_at is not None:
            return None
        self._hashes.pop(self._previous.get(key_id, b""), None)
        self._previous[key_id] = self._current[key_id]
        self._current[key_id] = secret_hash
        self._hashes[secret_hash] = key_id
        return self._change(key_id, lambda was: replace(was, previous_until=previous_until))

    async def revoke_key(self, key_id: str, at: float) -> Key | None:
        key = self._keys.get(key_id)
        if key is None or key.revoked_at is not None:
            return key
        return self._change(key_id, lambda was: replace(was, revoked_at=at))

    async def find_keys(self, secret_hashes: Collection[bytes]) -> Mapping[bytes, Key]:
        found = {}
        for secret_hash in secret_hashes:
            key_id = self._hashes.get(secret_hash)
            if key_id is not None:
                key = self._keys[key_id]
                found[secret_hash] = key if self._current[key_id] == secret_hash else before_rotation(key)
        return found

    async def put_team(self, team: Team) -> None:
        self._teams[team.id] = team
        self._version += 1

    async def list_teams(self) -> Sequence[Team]:
        return sorted(self._teams.values(), key=lambda team: team.id)

    async def delete_team(self, team_id: str) -> bool:
        if any(key.team == team_id and key.revoked_at is None for key in self._keys.values()):
            raise team_in_use(team_id)
        gone = self._teams.pop(team_id, None)
        self._version += gone is not None
        return gone is not None

    async def keys_version(self) -> int:
        return self._version

    def _change(self, key_id: str, change: Callable[[Key], Key]) -> Key | None:
        key = self._keys.get(key_id)
        if key is None:
            return None
        key = self._keys[key_id] = change(key)
        self._version += 1
        return key

    # --- money

    async def add_spend(self, spent: Mapping[tuple[str, float], float]) -> None:
        for account, usd in spent.items():
            _put_last(self._spend, account, self._spend.get(account, 0.0) + usd, SPENDS_MAX)

    async def spend_of(self, accounts: Collection[tuple[str, float]]) -> Mapping[tuple[str, float], float]:
        return {account: self._spend[account] for account in accounts if account in self._spend}

    # --- the audit log

    async def append_audit(self, chain: Callable[[AuditRow | None], AuditRow], sign: Callable[[AuditRow], bytes]) -> AuditRow:
        row = chain(self._audit[-1] if self._audit else None)
        self._audit_signature = sign(row)
        self._audit.append(row)
        return row

    async def read_audit(self, *, after: int, limit: int) -> Sequence[AuditRow]:
        rows = (row for row in self._audit if row.number > after)
        return list(islice(rows, limit))

    async def audit_head(self) -> tuple[AuditRow, bytes] | None:
        return (self._audit[-1], self._audit_signature) if self._audit else None

    async def secret(self, name: str) -> bytes:
        return self._secrets.setdefault(name, secrets.token_bytes(SECRET_BYTES))

    # --- values

    async def keep_value(self, kind: str, name: str, body: bytes, *, now: float, expires_at: float | None = None) -> None:
        live = await self.list_values(kind, now)
        known = self._values[kind] = {each: kept for each, kept in self._values.get(kind, {}).items() if each in live}
        known[name] = (body, expires_at)

    async def claim_value(self, kind: str, name: str, body: bytes, *, now: float, expires_at: float) -> bool:
        if await self.find_value(kind, name, now) not in (None, body):
            return False
        await self.keep_value(kind, name, body, now=now, expires_at=expires_at)
        return True

    async def find_value(self, kind: str, name: str, now: float) -> bytes | None:
        return (await self.list_values(kind, now)).get(name)

    async def list_values(self, kind: str, now: float) -> Mapping[str, bytes]:
        known = sorted(self._values.get(kind, {}).items())
        return {name: body for name, (body, expires_at) in known if expires_at is None or expires_at > now}

    async def drop_value(self, kind: str, name: str) -> bool:
        return self._values.get(kind, {}).pop(name, None) is not None

    # --- sessions

    async def fetch(self, owner: Owner, session_id: str, now: float, *, newest: int = TURNS_MAX) -> Session | None:
        found = self._live(owner, session_id, now)
        if found is None:
            return None
        first = max(found.info.summarized, len(found.turns) - newest)
        there = {place: turn for place, turn in enumerate(found.turns[first:], first) if turn is not None}
        return Session(found.info, list(there.values()), list(there), found.summary)

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
        found = self._live(owner, session_id, now)
        if (0 if found is None else found.info.version) != expected_version:
            raise session_changed(session_id)
        if found is None:
            found = _Conversation(next(self._numbers), SessionInfo(session_id, owner, 0, 0, 0, now, now, now), [])
        info = found.info
        found.turns.extend(turns)
        found.info = replace(
            info,
            version=info.version + 1,
            turns=len(found.turns),
            tokens=info.tokens + sum(turn.tokens for turn in turns),
            used_at=now,
            expires_at=now + ttl_s,
            metadata=info.metadata if metadata is None else metadata,
        )
        _put_last(self._sessions, (owner, session_id), found, SESSIONS_MAX)
        return found.info.version

    async def replace_by_summary(
        self, owner: Owner, session_id: str, summary: StoredTurn, *, before: int, expected_version: int, now: float
    ) -> int:
        found = self._live(owner, session_id, now)
        if found is None or found.info.version != expected_version or before > len(found.turns):
            raise session_changed(session_id)
        found.summary = summary
        found.info = replace(found.info, version=expected_version + 1, summarized=before)
        return expected_version + 1

    async def delete_turn(self, owner: Owner, session_id: str, place: int, *, now: float) -> bool:
        found = self._live(owner, session_id, now)
        if found is None or not 0 <= place < len(found.turns) or found.turns[place] is None:
            return False
        found.turns[place] = None
        found.info = replace(found.info, version=found.info.version + 1)
        return True

    async def touch(self, owner: Owner, session_id: str, *, now: float, ttl_s: float) -> bool:
        found = self._live(owner, session_id, now)
        if found is None:
            return False
        found.info = replace(found.info, used_at=now, expires_at=now + ttl_s)
        _put_last(self._sessions, (owner, session_id), found, SESSIONS_MAX)
        return True

    async def acquire(self, owner: Owner, session_id: str, holder: str, *, now: float, lease_s: float) -> bool:
        held_by, until = self._leases.get((owner, session_id), (holder, now))
        if held_by != holder and until > now:
            return False
        _put_last(self._leases, (owner, session_id), (holder, now + lease_s), SESSIONS_MAX)
        return True

    async def release(self, owner: Owner, session_id: str, holder: str) -> None:
        held_by, _ = self._leases.get((owner, session_id), (None, 0.0))
        if held_by == holder:
            del self._leases[owner, session_id]

    async def list_sessions(self, owner: Owner | None, *, now: float, limit: int, cursor: str | None = None) -> SessionPage:
        below = None if cursor is None else number_of(cursor)
        fitting = [
            found
            for (whose, _), found in self._sessions.items()
            if found.info.expires_at > now and owner in (None, whose) and (below is None or found.number < below)
        ]
        page = sorted(fitting, key=lambda found: -found.number)[:limit]
        return SessionPage([found.info for found in page], str(page[-1].number) if page and len(page) == limit else None)

    async def delete_session(self, owner: Owner, session_id: str, *, now: float) -> bool:
        gone = self._sessions.pop((owner, session_id), None)
        return gone is not None and gone.info.expires_at > now

    async def delete_user(self, user: str) -> int:
        places = [(table, place) for table in (self._sessions, self._responses) for place in table if user and place[0].user == user]
        for table, place in places:
            del table[place]
        return len(places) + self.delete_batches_of(user)

    async def sweep(self, now: float, limit: int) -> Swept:
        sessions = [place for place, found in self._sessions.items() if found.info.expires_at <= now]
        responses = [place for place, kept in self._responses.items() if kept.expires_at <= now]
        leases = [place for place, (_, until) in self._leases.items() if until <= now]
        for table, expired in ((self._sessions, sessions), (self._responses, responses), (self._leases, leases)):
            for place in expired[:limit]:
                del table[place]
        return Swept(min(len(sessions), limit), min(len(responses), limit))

    async def count_sessions(self, now: float) -> int:
        return sum(found.info.expires_at > now for found in self._sessions.values())

    def _live(self, owner: Owner, session_id: str, now: float) -> _Conversation | None:
        found = self._sessions.get((owner, session_id))
        return None if found is None or found.info.expires_at <= now else found

    # --- responses

    async def put_response(self, owner: Owner, response: StoredResponse, *, now: float, ttl_s: float) -> None:
        _put_last(self._responses, (owner, response.id), _Kept(response, now + ttl_s), RESPONSES_MAX)
        for kept in islice(self._chain(owner, response.parent, now), CHAIN_MAX):
            kept.expires_at = max(kept.expires_at, now + ttl_s)

    async def fetch_chain(
        self, owner: Owner, response_id: str, *, now: float, limit: int = CHAIN_MAX
    ) -> Sequence[StoredResponse]:
        return [kept.response for kept in islice(self._chain(owner, response_id, now), limit)][::-1]

    async def delete_response(self, owner: Owner, response_id: str, *, now: float) -> bool:
        gone = self._responses.pop((owner, response_id), None)
        return gone is not None and gone.expires_at > now

    def _chain(self, owner: Owner, response_id: str | None, now: float) -> Iterator[_Kept]:
        while response_id is not None:
            kept = self._responses.get((owner, response_id))
            if kept is None or kept.expires_at <= now:
                return
            yield kept
            response_id = kept.response.parent


def _put_last(table: dict[_Name, _Value], place: _Name, value: _Value, most: int) -> None:
    table.pop(place, None)
    if len(table) >= most:
        del table[next(iter(table))]
    table[place] = value
