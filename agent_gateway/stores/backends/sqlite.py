"""State in one SQLite file (WAL), shared by the processes of one machine: the gateway's workers and its commands.

Promise: nothing on the event loop waits for the disk, no reader for a writer; a file that was replaced is opened anew.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from agent_gateway.core.errors import BadRequest, StoreDown
from agent_gateway.stores.base import create_privately
from agent_gateway.stores.operation import Operation, Row
from agent_gateway.stores.revision import REVISIONS, is_head, script
from agent_gateway.stores.sql import SqlStore
from agent_gateway.stores.write_ahead import use_log

#: How long a statement waits for another process's write (s).
BUSY_TIMEOUT_S = 1.0
#: How long it waits for another process that migrates the file (s).
MIGRATION_TIMEOUT_S = 30.0
#: Rows changed after which the log is worked into the file, beside the writing; and the length of the log (pages) at which the
#: writer itself must, should that not keep up.
CHECKPOINT_ROWS = 2_000
LOG_PAGES_MAX = 32_000

#: In the order of the turns' only index.
_HEADS = """group_concat(printf('[%d,%d,%d,%d,"%s"]', place, length(body), turns.tokens, partial, dialect))"""
_T = TypeVar("_T")


class SqliteStore(SqlStore):
    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path)
        super().__init__(self._file, heads=_HEADS, bodies="CAST(group_concat(body, '') AS BLOB)")

    async def keys_version(self) -> int:
        """Another file counts its keys' versions anew."""
        version = await super().keys_version()
        return (self._file.openings << 40) + version

    async def delete_user(self, user: str) -> int:
        """Nor is it left in the log of the writes."""
        count = await super().delete_user(user)
        await self._file.cut_log()
        return count


class SqliteFile:
    """Three connections, each in a thread of its own: one reads, one writes, one works the log of the writes into the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = _Lane(path, reads_only=True)
        self._writer = _Lane(path, reads_only=False)
        self._checkpointer = _Lane(path, reads_only=False)
        self._checkpointing: asyncio.Task[None] | None = None
        #: Rows that the writer's connection had changed at the last checkpoint.
        self._checkpointed = 0

    @property
    def openings(self) -> int:
        """How often it was opened to be read."""
        return self._reader.openings

    async def read(self, operation: Operation[_T]) -> _T:
        return await self._reader.run(lambda database: _drive(database, operation))

    async def write(self, operation: Operation[_T]) -> _T:
        return await self._write(lambda database: _in_transaction(database, operation))

    async def change(self, text: str, values: Sequence[Any]) -> list[Row]:
        return await self._write(lambda database: database.execute(text, values).fetchall())

    async def _write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        result, changes = await self._writer.run(lambda database: (work(database), database.total_changes))
        is_due = not 0 <= changes - self._checkpointed < CHECKPOINT_ROWS  # a new connection counts anew
        if is_due and (self._checkpointing is None or self._checkpointing.done()):
            self._checkpointed = changes
            self._checkpointing = asyncio.create_task(self._checkpoint())
        return result

    async def _checkpoint(self) -> None:
        """Waits for the disk, so that no write does: SQLite would have the write that comes to it wait, and all behind that."""
        with suppress(StoreDown):
            await self._checkpointer.run(lambda database: database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall())

    async def cut_log(self) -> None:
        """What the log holds is in the file, and nowhere else. Raises `StoreDown` where others need the log all the while."""
        await self._checkpointer.run(_cut_log)

    async def revision(self) -> str | None:
        if not await asyncio.to_thread(self._path.exists):
            return None
        return await self._reader.run(_revision, migrated=False)

    async def close(self) -> None:
        if self._checkpointing is not None:
            await self._checkpointing
        for lane in (self._reader, self._writer, self._checkpointer):
            await lane.close()


class _Lane:
    """A thread and its connection, which does one thing after the other. (Half of what an executor's thread costs.)"""

    def __init__(self, path: Path, *, reads_only: bool) -> None:
        self._path = path
        self._reads_only = reads_only
        self._thread: Thread | None = None
        #: What to do, and whose answer it is; None ends the thread. As many as there are callers that wait.
        self._work: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self.openings = 0
        # The thread's own.
        self._connection: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None

    async def run(self, work: Callable[[sqlite3.Connection], _T], *, migrated: bool = True) -> _T:
        """`migrated`: the file is there, with today's schema; else it is looked at as it is."""
        if self._thread is None:
            self._thread = Thread(target=self._serve, name="store", daemon=True)
            self._thread.start()
        answer: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._work.put((partial(self._do, work, migrated), answer))
        return await answer

    async def close(self) -> None:
        if self._thread is not None:
            dropped = asyncio.get_running_loop().create_future()
            self._work.put((self._drop, dropped))
            self._work.put(None)
            self._thread = None
            await dropped

    # --- in the thread

    def _serve(self) -> None:
        while (asked := self._work.get()) is not None:
            work, answer = asked
            if answer.cancelled():  # nobody waits for it any more
                continue
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:
                error = raised
            with suppress(RuntimeError):  # the loop was closed
                answer.get_loop().call_soon_threadsafe(_settle, answer, result, error)
            del asked, work, answer, result, error  # nothing is held while it waits

    def _do(self, work: Callable[[sqlite3.Connection], _T], migrated: bool) -> _T:
        try:
            if migrated:
                return work(self._open())
            connection = _connect(self._path)
            try:
                return work(connection)
            finally:
                connection.close()
        except UnicodeEncodeError as error:
            raise BadRequest("There is text in the request that is no valid Unicode.", detail=str(error)) from error
        except (sqlite3.Error, OSError) as error:
            self._drop()
            raise StoreDown("The gateway's database cannot be used at the moment.", detail=f"{self._path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            if not self._was_moved():
                return self._connection
            self._drop()
        create_privately(self._path)
        connection = _connect(self._path)
        try:
            use_log(connection, BUSY_TIMEOUT_S)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES_MAX}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")  # what was deleted is overwritten, too
            if not is_head(_revision(connection)):
                _migrate(connection)
            if self._reads_only:
                connection.execute("PRAGMA query_only = ON")
            self._opened = self._path.stat()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.openings += 1
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


def _settle(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if answer.cancelled():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


def _cut_log(database: sqlite3.Connection) -> None:
    """Nearly all of it beside the writing, the rest while no other writes."""
    database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    (is_busy, *_) = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if is_busy:
        raise sqlite3.OperationalError("the write-ahead log is being read")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def _drive(database: sqlite3.Connection, operation: Operation[_T]) -> _T:
    try:
        statement = next(operation)
        while True:
            statement = operation.send(database.execute(*statement).fetchall())
    except StopIteration as end:
        result: _T = end.value
        return result


def _in_transaction(database: sqlite3.Connection, operation: Operation[_T]) -> _T:
    database.execute("BEGIN IMMEDIATE")
    try:
        result = _drive(database, operation)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    return result


def _revision(database: sqlite3.Connection) -> str | None:
    """A file from before Alembic is told by its `user_version`: it is at the first revision."""
    if not _knows_alembic(database):
        (version,) = database.execute("PRAGMA user_version").fetchone()
        return {0: None, 1: REVISIONS[0]}.get(version, f"user_version {version}")
    (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(revision)


def _knows_alembic(database: sqlite3.Connection) -> bool:
    return database.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is not None


def _migrate(database: sqlite3.Connection) -> None:
    """Once, whichever process comes first; what fails changes nothing."""
    revision = _revision(database)
    statements = list(_statements(script("sqlite", revision)))  # takes its time: no lock is held yet
    database.execute(f"PRAGMA busy_timeout = {int(MIGRATION_TIMEOUT_S * 1000)}")
    database.execute("BEGIN IMMEDIATE")
    try:
        if _revision(database) == revision:
            if revision is not None and not _knows_alembic(database):
                database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
                database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
            for statement in statements:
                database.execute(statement)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    database.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")


def _statements(text: str) -> Iterator[str]:
    """A trigger's body has semicolons of its own: SQLite itself tells where a statement ends."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
