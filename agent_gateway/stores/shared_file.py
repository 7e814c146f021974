"""A meeting of the workers of one machine, in an SQLite file that is as short-lived as they are.

Promise: nothing on the event loop waits for the file; a worker that is killed leaves it whole.
"""

# ruff: noqa: S608 – what is put into statements are marks; values never are

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

from agent_gateway.core.errors import StoreDown
from agent_gateway.stores.base import create_privately
from agent_gateway.stores.meeting import Script
from agent_gateway.stores.operation import VALUES_AT_ONCE, marks
from agent_gateway.stores.write_ahead import use_log

#: How long an exchange waits for another worker's (s); each takes some tenths of a millisecond.
BUSY_TIMEOUT_S = 0.5
#: What nobody speaks of any more is swept out so often (ms).
SWEEP_EVERY_MS = 60_000

T = TypeVar("T")

_TABLE = """
    CREATE TABLE IF NOT EXISTS entries (
        name BLOB NOT NULL, field TEXT NOT NULL, value TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (name, field)
    ) WITHOUT ROWID
"""
_PUT = "INSERT OR REPLACE INTO entries (name, field, value, until) VALUES (?, ?, ?, ?)"
_DROP = "DELETE FROM entries WHERE name = ? AND field = ?"


class FileMeeting(Generic[T]):
    place = "the file that the workers share"

    def __init__(self, path: Path, script: Script[T]) -> None:
        self._path = path
        self._script = script
        self._thread = ThreadPoolExecutor(1, "shared-file")
        # The thread's own.
        self._connection: sqlite3.Connection | None = None
        self._swept_at = 0.0

    async def exchange(self, names: Sequence[bytes], message: Any, *, within_s: float) -> T:
        async with asyncio.timeout(within_s):
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._exchange, names, message)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=False)

    # --- in the thread

    def _exchange(self, names: Sequence[bytes], message: Any) -> T:
        try:
            connection = self._connection = self._connection or _connect(self._path)
            connection.execute("BEGIN IMMEDIATE")
            entries = _Entries(connection, time.monotonic() * 1000)  # all processes of a machine have the same, and nobody sets it back
            answer = self._script.here(entries, names, message)
            entries.write()
            if entries.now - self._swept_at >= SWEEP_EVERY_MS:
                self._swept_at = entries.now
                connection.execute("DELETE FROM entries WHERE until <= ?", (entries.now,))
            connection.execute("COMMIT")
        except BaseException as error:
            self._drop()  # and with it what was begun
            if isinstance(error, sqlite3.Error | OSError):
                raise StoreDown("The workers' file cannot be used at the moment.", detail=f"{self._path}: {error}") from error
            raise
        return answer

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Entries:
    """`Entries`, within one transaction."""

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self.now = now
        self._connection = connection
        self._puts: list[tuple[bytes, str, str, float]] = []
        self._drops: list[tuple[bytes, str]] = []

    def of(self, names: Sequence[bytes]) -> list[dict[str, str]]:
        found: dict[bytes, dict[str, str]] = {name: {} for name in names}
        for start in range(0, len(names), VALUES_AT_ONCE):
            some = names[start : start + VALUES_AT_ONCE]
            select = f"SELECT name, field, value FROM entries WHERE name IN ({marks(len(some))}) AND until > ?"
            for name, field, value in self._connection.execute(select, (*some, self.now)).fetchall():
                found[name][field] = value
        return [found[name] for name in names]

    def put(self, name: bytes, field: str, value: str, life_ms: float) -> None:
        self._puts.append((name, field, value, self.now + life_ms))

    def drop(self, name: bytes, field: str) -> None:
        self._drops.append((name, field))

    def write(self) -> None:
        """A field is put or dropped in one exchange, not both."""
        if self._drops:
            self._connection.executemany(_DROP, self._drops)
        if self._puts:
            self._connection.executemany(_PUT, self._puts)


def _connect(path: Path) -> sqlite3.Connection:
    """What the machine's own crash takes with it need not be there after it: the disk is not waited for."""
    create_privately(path)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    use_log(connection, BUSY_TIMEOUT_S)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(_TABLE)
    return connection
