"""State that ends with the process: for `sqlite:///:memory:`, demos and tests. What was used longest ago makes room."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TypeAlias, TypeVar

from agent_gateway.core.errors import Conflict
from agent_gateway.stores.base import (
    CHAIN_MAX,
    TURNS_MAX,
    Key,
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

SESSIONS_MAX = 10_000
RESPONSES_MAX = 10_000

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


class MemoryStore:
    def __init__(self) -> None:
        self._hashes: dict[bytes, str] = {}
        self._keys: dict[str, Key] = {}
        self._version = 0
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
            raise Conflict(f"There is a key {key.id} already.")
        self._keys[key.id] = key
        self._hashes[secret_hash] = key.id
        self._version += 1

    async def list_keys(self) -> Sequence[Key]:
        return list(self._keys.values())

    async def revoke_key(self, key_id: str, at: float) -> Key | None:
        key = self._keys.get(key_id)
        if key is not None and key.revoked_at is None:
            key = self._keys[key_id] = replace(key, revoked_at=at)
            self._version += 1
        return key

    async def find_keys(self, secret_hashes: Collection[bytes]) -> Mapping[bytes, Key]:
        return {known: self._keys[self._hashes[known]] for known in secret_hashes if known in self._hashes}

    async def keys_version(self) -> int:
        return self._version

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
        return len(places)

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


def _put_last(table: dict[_Place, _Value], place: _Place, value: _Value, most: int) -> None:
    table.pop(place, None)
    if len(table) >= most:
        del table[next(iter(table))]
    table[place] = value
