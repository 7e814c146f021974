"""State in one SQLite file (WAL), shared by the processes of one machine: the gateway's workers and its commands.

Promise: nothing on the event loop waits for the disk; a file that was replaced is opened anew.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agent_gateway.core.errors import Conflict, StoreDown
from agent_gateway.stores.base import Key, create_privately

#: How long a statement waits for another process's write (s).
BUSY_TIMEOUT_S = 1.0
#: Hashes asked for in one statement.
FIND_AT_ONCE = 500

#: Each takes the schema from its place in this list to the next; `user_version` counts those that were done.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE keys (
            id TEXT NOT NULL PRIMARY KEY,
            secret_hash BLOB NOT NULL UNIQUE,
            name TEXT NOT NULL,
            models TEXT,
            created_at REAL NOT NULL,
            expires_at REAL,
            revoked_at REAL
        )
        """,
        # Counted by the database itself, so that no writer can forget to.
        "CREATE TABLE keys_version (version INTEGER NOT NULL)",
        "INSERT INTO keys_version VALUES (0)",
        "CREATE TRIGGER keys_inserted AFTER INSERT ON keys BEGIN UPDATE keys_version SET version = version + 1; END",
        "CREATE TRIGGER keys_updated AFTER UPDATE ON keys BEGIN UPDATE keys_version SET version = version + 1; END",
        "CREATE TRIGGER keys_deleted AFTER DELETE ON keys BEGIN UPDATE keys_version SET version = version + 1; END",
    ),
)

_SELECT = "SELECT id, name, models, created_at, expires_at, revoked_at, secret_hash FROM keys"
_INSERT = "INSERT INTO keys (id, name, models, created_at, expires_at, revoked_at, secret_hash) VALUES (?, ?, ?, ?, ?, ?, ?)"
_Result = TypeVar("_Result")
_models = msgspec.json.Decoder(frozenset[str])


class SqliteStore:
    """One connection, in one thread of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        # The thread's own.
        self._connection: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None
        #: How often the file was opened: another file counts its keys' versions anew.
        self._openings = 0
        #: `PRAGMA data_version` and the keys' version that was read under it.
        self._seen: tuple[int, int] | None = None

    async def create_key(self, key: Key, secret_hash: bytes) -> None:
        def create(database: sqlite3.Connection) -> None:
            models = None if key.models is None else msgspec.json.encode(sorted(key.models)).decode()
            row = (key.id, key.name, models, key.created_at, key.expires_at, key.revoked_at, secret_hash)
            try:
                database.execute(_INSERT, row)
            except sqlite3.IntegrityError:
                raise Conflict(f"There is a key {key.id} already.") from None
            self._seen = None

        await self._run(create)

    async def list_keys(self) -> Sequence[Key]:
        def read(database: sqlite3.Connection) -> list[Key]:
            return [_key(row) for row in database.execute(_SELECT + " ORDER BY created_at, rowid")]

        return await self._run(read)

    async def revoke_key(self, key_id: str, at: float) -> Key | None:
        def revoke(database: sqlite3.Connection) -> Key | None:
            database.execute("UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (at, key_id))
            self._seen = None
            row = database.execute(_SELECT + " WHERE id = ?", (key_id,)).fetchone()
            return None if row is None else _key(row)

        return await self._run(revoke)

    async def find_keys(self, secret_hashes: Collection[bytes]) -> Mapping[bytes, Key]:
        hashes = list(secret_hashes)

        def find(database: sqlite3.Connection) -> dict[bytes, Key]:
            found = {}
            for start in range(0, len(hashes), FIND_AT_ONCE):
                some = hashes[start : start + FIND_AT_ONCE]
                marks = ", ".join("?" * len(some))
                for row in database.execute(_SELECT + f" WHERE secret_hash IN ({marks})", some):
                    found[row[-1]] = _key(row)
            return found

        return await self._run(find)

    async def keys_version(self) -> int:
        def read(database: sqlite3.Connection) -> int:
            # The pragma changes with any other connection's commit; only then is the table worth reading.
            (data,) = database.execute("PRAGMA data_version").fetchone()
            if self._seen is None or self._seen[0] != data:
                (version,) = database.execute("SELECT version FROM keys_version").fetchone()
                self._seen = (data, (self._openings << 40) + version)
            return self._seen[1]

        return await self._run(read)

    async def close(self) -> None:
        def end() -> None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

        await asyncio.get_running_loop().run_in_executor(self._thread, end)
        self._thread.shutdown(wait=False)

    # --- in the thread

    async def _run(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)

    def _do(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        try:
            return work(self._open())
        except (sqlite3.Error, OSError) as error:
            self._drop()
            raise StoreDown("The gateway's database cannot be used at the moment.", detail=f"{self._path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            if not self._was_moved():
                return self._connection
            self._drop()
        create_privately(self._path)
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            _migrate(connection)
            self._opened = self._path.stat()
        except BaseException:
            connection.close()
            raise
        self._connection, self._seen = connection, None
        self._openings += 1
        return connection

    def _was_moved(self) -> bool:
        """SQLite goes on using a file that was deleted or replaced, blind to what others write at its path."""
        try:
            return self._opened is None or not os.path.samestat(self._opened, self._path.stat())
        except OSError:
            return True

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _migrate(database: sqlite3.Connection) -> None:
    if _version(database) == len(MIGRATIONS):
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        done = _version(database)
        if done > len(MIGRATIONS):
            raise sqlite3.DatabaseError(f"written by a later version (schema {done}; this one knows {len(MIGRATIONS)})")
        for statements in MIGRATIONS[done:]:
            for statement in statements:
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def _key(row: Sequence[Any]) -> Key:
    key_id, name, models, created_at, expires_at, revoked_at = row[:6]
    return Key(key_id, name, None if models is None else _models.decode(models), created_at, expires_at, revoked_at)
