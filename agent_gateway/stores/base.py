"""What a store promises, and which one a URL means.

Every method raises `StoreDown` when the store cannot be reached, within seconds; it works again when the store is back. Text that
a store cannot hold (a lone surrogate; NUL in PostgreSQL) is the client's fault: `BadRequest`. Times: Unix seconds, the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, cast

from agent_gateway.core.errors import BadRequest, Conflict
from agent_gateway.core.plugins import Seat
from agent_gateway.core.settings import Budget

BACKENDS = Seat(
    "backends",
    {
        "sqlite": "agent_gateway.stores.backends.sqlite:SqliteStore",
        "memory": "agent_gateway.stores.backends.memory:MemoryStore",
        "postgres": "agent_gateway.stores.backends.postgres:PostgresStore",
        "redis": "agent_gateway.stores.backends.redis:RedisStore",
    },
)

#: State that ends with the process.
IN_MEMORY = "sqlite:///:memory:"
#: What a URL may begin with, and the backend that it means.
_SCHEMES = {
    "sqlite": "sqlite",
    "postgresql": "postgres",
    "postgres": "postgres",
    "redis": "redis",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
}
_EXAMPLES = "sqlite:///path, sqlite:///:memory:, postgresql://user:password@host/database or redis://host:6379/0"
#: Where the records go that have no database file to lie beside.
_RECORDS_FILE = Path("agent-gateway.records.db")

#: Of one session: what a 32-bit integer holds.
TURNS_MAX = 2**31 - 1
#: Responses that may hang together by `previous_response_id`; what is older is not found.
CHAIN_MAX = 1_000

#: What a key may do in `/admin/v1`: nothing, read, or all.
Role = Literal["user", "auditor", "admin"]


@dataclass(frozen=True, slots=True)
class Key:
    """A virtual key, without its secret. Times are Unix seconds."""

    id: str
    name: str
    #: Names it may use; None: all.
    models: frozenset[str] | None = None
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None
    #: None: what the configuration allows every key.
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_parallel: int | None = None
    role: Role = "user"
    #: Where it may ask, as paths (`/v1/chat/completions`; a `*` at the end stands for any rest); None: everywhere.
    endpoints: frozenset[str] | None = None
    #: Who answers for it, in words.
    owner: str = ""
    #: A team's id.
    team: str | None = None
    #: None: what the configuration allows every key.
    budget: Budget | None = None
    #: JSON object of the caller's own.
    metadata: bytes | None = None
    #: Until when the secret before the last rotation is good; None: there is none.
    previous_until: float | None = None


@dataclass(frozen=True, slots=True)
class Team:
    """Keys that share a budget."""

    id: str
    name: str
    created_at: float = 0.0
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class KeyPage:
    keys: Sequence[Key]
    #: Give it as `cursor` to go on; None: there are no more.
    next: str | None

    @classmethod
    def of(cls, keys: Sequence[Key], limit: int) -> KeyPage:
        """Keys are never deleted: the last one's id says where to go on."""
        return cls(keys, keys[-1].id if keys and len(keys) == limit else None)


class KeyStore(Protocol):
    async def create_key(self, key: Key, secret_hash: bytes) -> None:
        """Raises `Conflict` when the id or the hash is taken."""

    async def list_keys(self, *, limit: int, cursor: str | None = None, team: str | None = None) -> KeyPage:
        """Of everybody or of one team, revoked and expired ones too, oldest first. A cursor that was never given: `BadRequest`."""

    async def find_key(self, key_id: str) -> Key | None: ...

    async def update_key(self, key: Key) -> Key | None:
        """All but its secret, its creation and its revocation become as given; the key as it is now, None when there is none."""

    async def rotate_key(self, key_id: str, secret_hash: bytes, *, previous_until: float) -> Key | None:
        """A new secret; the one before it is good until then, those before that no more. None when there is no key, or it is revoked."""

    async def revoke_key(self, key_id: str, at: float) -> Key | None:
        """The key as it is now; None when there is none. A second time changes nothing."""

    async def find_keys(self, secret_hashes: Collection[bytes]) -> Mapping[bytes, Key]:
        """Those that exist, by hash; revoked and expired ones too. Under the hash of a secret that was rotated away, its key expires
        when that secret does.
        """

    async def put_team(self, team: Team) -> None:
        """Makes it or replaces it."""

    async def list_teams(self) -> Sequence[Team]:
        """By id."""

    async def delete_team(self, team_id: str) -> bool:
        """Raises `Conflict` while a key that is not revoked belongs to it; False: there was none."""

    async def keys_version(self) -> int:
        """Another number after any key or team was created or changed, by whatever process. Cheap: it is asked several times a second."""

    async def close(self) -> None: ...


def before_rotation(key: Key) -> Key:
    """What the key is to those who show the secret that was rotated away."""
    until = key.previous_until
    return key if until is None else replace(key, expires_at=until if key.expires_at is None else min(until, key.expires_at))


def key_exists(key_id: str) -> Conflict:
    return Conflict(f"There is a key {key_id} already.")


def team_in_use(team_id: str) -> Conflict:
    return Conflict(f"There are keys of the team {team_id[:100]} that are not revoked; revoke them, or give them another team.")


def unknown_cursor() -> BadRequest:
    return BadRequest("This cursor is none that was given here.", param="cursor")


# --- money ------------------------------------------------------------------------------------------------------------


class SpendStore(Protocol):
    """What was spent, by account (`key:ID`, `team:ID`) and the beginning of a period (Unix seconds; 0: of all time)."""

    async def add_spend(self, spent: Mapping[tuple[str, float], float]) -> None:
        """Adds USD to each, in one transaction."""

    async def spend_of(self, accounts: Collection[tuple[str, float]]) -> Mapping[tuple[str, float], float]:
        """Those that have spent anything."""


# --- the audit log ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry, as the chain has it; what it says, and how it is chained, is `control/audit`'s."""

    #: From 1, without a gap.
    number: int
    #: JSON, verbatim: what `hash` was made of.
    body: bytes
    hash: bytes


#: Of `AuditStore.secret`.
SECRET_BYTES = 32
#: Of a log that has a signature and no rows any more.
NO_ROW = AuditRow(0, b"", b"")


class AuditStore(Protocol):
    """Append-only. Databases refuse a change of what is there (triggers); whoever gets round that is found by the chain."""

    async def append_audit(self, chain: Callable[[AuditRow | None], AuditRow], sign: Callable[[AuditRow], bytes]) -> AuditRow:
        """`chain` makes the row that follows the last one; both are called within one transaction that no other append overlaps,
        in whatever thread, and again where another append came between. `sign`'s signature of the new head replaces the one before.
        """

    async def read_audit(self, *, after: int, limit: int) -> Sequence[AuditRow]:
        """In order of their numbers."""

    async def audit_head(self) -> tuple[AuditRow, bytes] | None:
        """The last row and the signature; None: nothing was ever appended. What somebody took away is empty (`NO_ROW`, b"")."""

    async def secret(self, name: str) -> bytes:
        """`SECRET_BYTES` random bytes that stay the same: made when they are first asked for, by whatever process."""


# --- sessions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a session or a response belongs to; to anybody else it does not exist."""

    #: The key's id; "" where no key is required.
    key: str = ""
    #: "" where none was named.
    user: str = ""


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One message, content or item, verbatim."""

    #: In whose JSON `body` is.
    dialect: str
    body: bytes
    #: Estimated.
    tokens: int = 0
    #: Of an answer that was cut.
    partial: bool = False


@dataclass(frozen=True, slots=True)
class SessionInfo:
    id: str
    owner: Owner
    #: Another number after every change; 0 is a session that is not there yet.
    version: int
    #: All that were ever appended, and their tokens.
    turns: int
    tokens: int
    created_at: float
    used_at: float
    expires_at: float
    #: So many of its oldest turns are represented by a summary.
    summarized: int = 0
    #: JSON of the caller's own.
    metadata: bytes | None = None


@dataclass(frozen=True, slots=True)
class Session:
    info: SessionInfo
    #: Those that no summary represents, in order.
    turns: Sequence[StoredTurn]
    #: The number of each among all that were ever appended, from 0.
    places: Sequence[int]
    summary: StoredTurn | None = None


@dataclass(frozen=True, slots=True)
class SessionPage:
    sessions: Sequence[SessionInfo]
    #: Give it as `cursor` to go on; None: there are no more.
    next: str | None


@dataclass(frozen=True, slots=True)
class Swept:
    sessions: int
    responses: int


class SessionStore(Protocol):
    """Conversations, append-only. A session that has expired, or is another owner's, is not there."""

    async def fetch(self, owner: Owner, session_id: str, now: float, *, newest: int = TURNS_MAX) -> Session | None:
        """Of its turns those among the `newest` that were appended."""

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
        """The new version. All turns are kept or none; the session is made where 0 is expected, its life renewed, its metadata
        replaced where any are given. Raises `Conflict` when the version is another one.
        """

    async def replace_by_summary(
        self, owner: Owner, session_id: str, summary: StoredTurn, *, before: int, expected_version: int, now: float
    ) -> int:
        """The new version. From now on `summary` stands for the first `before` of all turns, which stay in the store.
        Raises `Conflict` when the version is another one or there are not so many turns.
        """

    async def delete_turn(self, owner: Owner, session_id: str, place: int, *, now: float) -> bool:
        """For good; all others keep their places. False: there is none."""

    async def touch(self, owner: Owner, session_id: str, *, now: float, ttl_s: float) -> bool:
        """Renews its life; False: it is not there."""

    async def acquire(self, owner: Owner, session_id: str, holder: str, *, now: float, lease_s: float) -> bool:
        """Whether it is the holder's turn, for `lease_s` at most; to ask again renews. The session need not be there yet."""

    async def release(self, owner: Owner, session_id: str, holder: str) -> None:
        """What another holds stays held."""

    async def list_sessions(self, owner: Owner | None, *, now: float, limit: int, cursor: str | None = None) -> SessionPage:
        """Youngest first; of everybody when `owner` is None. A page may be short. A cursor that was never given: `BadRequest`."""

    async def delete_session(self, owner: Owner, session_id: str, *, now: float) -> bool:
        """With its turns, for good; False: there was none."""

    async def delete_user(self, user: str) -> int:
        """All sessions, responses, batches and files of the user, whatever key they were made with, for good; how many. "" is no user."""

    async def sweep(self, now: float, limit: int) -> Swept:
        """Deletes what has expired, at most `limit` of each kind, in one small transaction that holds nobody up."""

    async def count_sessions(self, now: float) -> int: ...


def session_changed(session_id: str) -> Conflict:
    """What every backend says of a version that moved on."""
    return Conflict(f"The session {session_id[:100]} has changed in the meantime, or is gone. Try again.")


def number_of(cursor: str) -> int:
    """Sessions are numbered as they are made; a cursor is the last one shown."""
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise unknown_cursor()
    return int(cursor)


# --- responses --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One answer of the Responses API, and what was asked. A conversation is a session of the same id."""

    id: str
    #: As the API names it: queued, in_progress, completed, …
    status: str
    #: JSON array of the input items that are new with this response, verbatim.
    input: bytes
    #: The response object, verbatim JSON.
    body: bytes
    created_at: float
    #: `previous_response_id`.
    parent: str | None = None
    conversation: str | None = None


class ResponseStore(Protocol):
    """A response that has expired, or is another owner's, is not there."""

    async def put_response(self, owner: Owner, response: StoredResponse, *, now: float, ttl_s: float) -> None:
        """Replaces the owner's response of that id; renews those that it goes back to, so that a chain lives as a whole."""

    async def fetch_chain(self, owner: Owner, response_id: str, *, now: float, limit: int = CHAIN_MAX) -> Sequence[StoredResponse]:
        """The response and those it goes back to, oldest first, at most `limit`: all of it when the first has no parent."""

    async def delete_response(self, owner: Owner, response_id: str, *, now: float) -> bool: ...


# --- what operators decided, and who is logged in ----------------------------------------------------------------------


class ValueStore(Protocol):
    """Small things by kind and name, each until its time is over. There are few of a kind: they may be asked for all at once."""

    async def keep_value(self, kind: str, name: str, body: bytes, *, now: float, expires_at: float | None = None) -> None:
        """Makes it or replaces it; forgets those of the kind whose time is over. None: it has no end."""

    async def claim_value(self, kind: str, name: str, body: bytes, *, now: float, expires_at: float) -> bool:
        """As `keep_value`, unless another body is there, whose time is not over: False. Of many at once, one has it; whoever has it claims
        it anew for longer, or until `now`, and has given it back.
        """

    async def find_value(self, kind: str, name: str, now: float) -> bytes | None: ...

    async def list_values(self, kind: str, now: float) -> Mapping[str, bytes]:
        """By name."""

    async def drop_value(self, kind: str, name: str) -> bool:
        """False: there was none."""


class Store(KeyStore, SpendStore, AuditStore, SessionStore, ResponseStore, ValueStore, Protocol):
    """What every backend is."""


# --- which one --------------------------------------------------------------------------------------------------------


class UnknownStore(ValueError):
    """A URL that no store is known for; the text says which ones are."""


def open_store(url: str) -> Store:
    """Opens nothing yet: a store that is down says so when it is asked. Raises `UnknownStore`."""
    backend = _backend(url)
    if backend != "sqlite":
        return cast(Store, BACKENDS.load(backend)(url))
    path = database_path(url)
    return cast(Store, BACKENDS.load("memory")() if path is None else BACKENDS.load("sqlite")(path))


def database_path(url: str) -> Path | None:
    """The file of `sqlite:///relative` or `sqlite:////absolute`; None: in memory, or on a server. Raises `UnknownStore`."""
    if _backend(url) != "sqlite":
        return None
    path = url.partition("://")[2]
    if not path.startswith("/") or path == "/":
        raise UnknownStore("a path must follow sqlite:/// (sqlite:///here.db, sqlite:////var/lib/there.db or sqlite:///:memory:)")
    return None if path == "/:memory:" else Path(path[1:])


def is_in_memory(url: str) -> bool:
    """Whether what is kept there ends with the process. Raises `UnknownStore`."""
    return _backend(url) == "sqlite" and database_path(url) is None


def is_postgres(url: str) -> bool:
    """Raises `UnknownStore`."""
    return _backend(url) == "postgres"


def records_path(url: str) -> Path | None:
    """The file of the request records, beside the database: `agent-gateway.db` → `agent-gateway.records.db`; None: in memory.

    Beside a database on a server there is no file: then it is one of the working folder. PostgreSQL has the records themselves; there
    only those lie beside the path that wait for it.
    """
    if _backend(url) != "sqlite":
        return _RECORDS_FILE
    path = database_path(url)
    return path and path.with_name(f"{path.stem}.records{path.suffix or '.db'}")


def _backend(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    backend = _SCHEMES.get(scheme.partition("+")[0])
    if backend is None or not separator:
        raise UnknownStore(f"{scheme[:40]!r} is no kind of database known here; use {_EXAMPLES}")
    return backend


def create_privately(path: Path) -> None:
    """A database that is not there yet becomes an empty file that only its owner reads; SQLite's files beside it take that over.

    One that is there is not opened: closing it again would drop the locks that this process holds on it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
