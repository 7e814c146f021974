"""What a store promises, and which one a database URL means.

Every method raises `StoreDown` when the store cannot be reached, within seconds; it works again when the store is back.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from agent_gateway.core.plugins import Seat

BACKENDS = Seat(
    "backends",
    {
        "sqlite": "agent_gateway.stores.backends.sqlite:SqliteStore",
        "memory": "agent_gateway.stores.backends.memory:MemoryStore",
    },
)

Role = Literal["user", "admin"]


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
    role: Role = "user"


class KeyStore(Protocol):
    async def create_key(self, key: Key, secret_hash: bytes) -> None:
        """Raises `Conflict` when the id or the hash is taken."""

    async def list_keys(self) -> Sequence[Key]:
        """All, revoked and expired ones too, oldest first."""

    async def revoke_key(self, key_id: str, at: float) -> Key | None:
        """The key as it is now; None when there is none. A second time changes nothing."""

    async def find_keys(self, secret_hashes: Collection[bytes]) -> Mapping[bytes, Key]:
        """Those that exist, by hash; revoked and expired ones too."""

    async def keys_version(self) -> int:
        """Another number after any key was created or changed, by whatever process. Cheap: it is asked several times a second."""

    async def close(self) -> None: ...


class UnknownStore(ValueError):
    """A URL that no store is known for; the text says which ones are."""


def open_store(url: str) -> KeyStore:
    """Opens nothing yet: a store that is down says so when it is asked. Raises `UnknownStore`."""
    path = database_path(url)
    if path is None:
        return cast(KeyStore, BACKENDS.load("memory")())
    return cast(KeyStore, BACKENDS.load("sqlite")(path))


def database_path(url: str) -> Path | None:
    """The file of `sqlite:///relative` or `sqlite:////absolute`; None for `sqlite:///:memory:`. Raises `UnknownStore`."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme.split("+")[0] in ("postgresql", "postgres"):
        raise UnknownStore("postgresql:// is not available yet; use sqlite:///path or sqlite:///:memory:")
    if scheme != "sqlite" or not separator:
        raise UnknownStore(f"{scheme[:40]!r} is no kind of database known here; use sqlite:///path or sqlite:///:memory:")
    if not rest.startswith("/") or rest == "/":
        raise UnknownStore("a path must follow sqlite:/// (sqlite:///here.db, sqlite:////var/lib/there.db or sqlite:///:memory:)")
    return None if rest == "/:memory:" else Path(rest[1:])


def create_privately(path: Path) -> None:
    """A database that is not there yet becomes an empty file that only its owner reads; SQLite's files beside it take that over.

    One that is there is not opened: closing it again would drop the locks that this process holds on it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def records_path(url: str) -> Path | None:
    """The file of the request records, beside the database: `agent-gateway.db` → `agent-gateway.records.db`."""
    path = database_path(url)
    return path and path.with_name(f"{path.stem}.records{path.suffix or '.db'}")
