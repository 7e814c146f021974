"""The table `records`, and what it adds up to, in an SQLite file of its own (or in memory): written by one thread, read by anyone.

Promise: a batch is in it whole or not at all, and a request never twice. Errors are `sqlite3.Error` and `OSError`, as they come.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agent_gateway.record import figures
from agent_gateway.record.file_reader import FileReader
from agent_gateway.record.row import Record
from agent_gateway.stores.base import create_privately
from agent_gateway.stores.operation import Operation, T
from agent_gateway.stores.write_ahead import use_log

#: How long a write waits for another writer before the batch goes to the spill file (s).
BUSY_TIMEOUT_S = 0.1
#: Rows of one statement. `executemany` takes and releases the GIL for each row, which stalls the event loop; a statement of many
#: rows is one step without the GIL.
STATEMENT_ROWS = (64, 8, 1)
#: Different statements kept compiled: they differ in their rows, and in the columns that are NULL throughout.
STATEMENTS_MAX = 32
#: Records fill large pages one after the other; each page written is two system calls (bytes).
PAGE_BYTES = 16384
#: Pages of the log after which it is worked into the file: fewer, larger checkpoints cost less than many small ones.
CHECKPOINT_PAGES = 1000
#: How often the log is tried to be cut off; each waits `BUSY_TIMEOUT_S`.
CLEAR_TRIES = 20
#: Rows kept when the database is in memory.
MEMORY_ROWS = 10_000
VERSION = 5

#: By version: what leads from the one before to it. The columns are those of `Record`, in its order; a test compares them.
_STEPS = {
    1: (
        """
        CREATE TABLE records (
            id TEXT NOT NULL UNIQUE,
            started_ms INTEGER NOT NULL,
            model TEXT NOT NULL,
            deployment TEXT,
            dialect TEXT NOT NULL,
            pattern TEXT NOT NULL,
            status TEXT NOT NULL,
            http_status INTEGER NOT NULL,
            error_code TEXT,
            reason TEXT,
            finish_reason TEXT,
            stream INTEGER NOT NULL,
            key_id TEXT,
            user_id TEXT,
            session_id TEXT,
            client_request_id TEXT,
            input_tokens INTEGER,
            output_tokens INTEGER,
            cache_read_tokens INTEGER,
            cache_write_tokens INTEGER,
            reasoning_tokens INTEGER,
            tokens_estimated INTEGER NOT NULL,
            cost_usd REAL,
            quality REAL,
            duration_ms REAL NOT NULL,
            ttft_ms REAL,
            overhead_ms REAL NOT NULL,
            attempts_count INTEGER NOT NULL,
            attempts BLOB,
            request_bytes INTEGER NOT NULL,
            request BLOB,
            answer BLOB
        )
        """,
        "CREATE INDEX records_started_ms ON records (started_ms)",
    ),
    # Usage is read off an index alone, past the bodies; a user's and a session's records are looked up.
    2: (
        "ALTER TABLE records ADD COLUMN guards TEXT",
        "CREATE INDEX records_usage ON records (started_ms, model, key_id, user_id, status, input_tokens, output_tokens, cost_usd)",
        "DROP INDEX records_started_ms",
        "CREATE INDEX records_user_id ON records (user_id) WHERE user_id IS NOT NULL",
        "CREATE INDEX records_session_id ON records (session_id) WHERE session_id IS NOT NULL",
    ),
    # What is looked for is found in one index, past the bodies; what records add up to is read off `figures`, but by user.
    3: (
        "ALTER TABLE records ADD COLUMN edge TEXT",
        "ALTER TABLE records ADD COLUMN route TEXT",
        "ALTER TABLE records ADD COLUMN per_token_ms REAL",
        "DROP INDEX records_usage",
        "DROP INDEX records_user_id",
        "DROP INDEX records_session_id",
        "CREATE INDEX records_started ON records (started_ms, model, key_id, status, error_code)",
        """
        CREATE INDEX records_user ON records (user_id, started_ms, status, input_tokens, output_tokens, cost_usd)
        WHERE user_id IS NOT NULL
        """,
        "CREATE INDEX records_session ON records (session_id, started_ms) WHERE session_id IS NOT NULL",
        """
        CREATE TABLE feedback (
            request_id TEXT PRIMARY KEY,
            started_ms BIGINT NOT NULL,
            user_id TEXT,
            score INTEGER NOT NULL,
            comment TEXT,
            given_ms BIGINT NOT NULL
        )
        """,
        "CREATE INDEX feedback_started ON feedback (started_ms)",
        "CREATE INDEX feedback_user ON feedback (user_id) WHERE user_id IS NOT NULL",
    ),
    4: ("ALTER TABLE records ADD COLUMN traceparent TEXT",),
    # Figures are added up from the records that there are; those that were kept for a while before held less.
    5: ("DROP TABLE IF EXISTS figures", figures.table(options="WITHOUT ROWID"), *figures.whole("records")),
}
_BLOBS = {Record._fields.index(name) for name in ("attempts", "request", "answer")}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@lru_cache(STATEMENTS_MAX)
def _insert(columns: tuple[int, ...], rows: int) -> str:
    names = ", ".join([Record._fields[column] for column in columns])
    values = ", ".join([f"({', '.join('?' * len(columns))})"] * rows)
    return f"INSERT INTO records ({names}) VALUES {values} ON CONFLICT (id) DO NOTHING"  # noqa: S608 – our own names


def _statement(records: Sequence[Record]) -> tuple[str, list[Any]]:
    """The module sqlite3 looks for an adapter for every None and every bytes (0.25 µs each, ten times what another value costs):
    so columns that are NULL in every row are left out, and blobs are bytearrays.
    """
    rows = len(records)
    kept, values = [], []
    for place, column in enumerate(zip(*records, strict=True)):
        if column[0] is not None or column.count(None) != rows:
            kept.append(place)
            values.append([cell and bytearray(cell) for cell in column] if place in _BLOBS else column)
    return _insert(tuple(kept), rows), list(chain.from_iterable(zip(*values, strict=True)))


class RecordsFile:
    """A `RecordTable`. `path` None: in memory, the last `MEMORY_ROWS`. Opened when first needed, and again after any error."""

    down: tuple[type[Exception], ...] = (sqlite3.Error, OSError)
    unwritable: tuple[type[Exception], ...] = (OverflowError, UnicodeError)
    row_lock = ""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        memory = f"file:agent-gateway-records-{secrets.token_hex(8)}?mode=memory&cache=shared"
        self._uri = f"file:{quote(str(path))}" if path else memory
        self._connection: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None
        self._rollup = figures.Rollup()

    def insert(self, records: Sequence[Record]) -> int:
        """How many were new. `OverflowError` or `UnicodeError`: a value that SQLite cannot hold; nothing was written."""
        try:
            return self._insert(records)
        except _Known:
            records = self._unknown(records)
        return self._insert(records) if records else 0

    def _insert(self, records: Sequence[Record]) -> int:
        with self._transaction() as connection:
            before = connection.total_changes
            start = 0
            for rows in STATEMENT_ROWS:
                while len(records) - start >= rows:
                    connection.execute(*_statement(records[start : start + rows]))
                    start += rows
            if connection.total_changes - before < len(records):
                raise _Known
            for row in self._rollup.of(records):
                connection.execute(figures.ADD, row)
            if self.path is None:
                connection.execute("DELETE FROM records WHERE rowid <= (SELECT max(rowid) FROM records) - ?", (MEMORY_ROWS,))
        return len(records)

    def _unknown(self, records: Sequence[Record]) -> list[Record]:
        """Each once. Others may write too, but never the same records."""
        by_id = {record.id: record for record in records}
        asked = f"SELECT id FROM records WHERE id IN ({', '.join('?' * len(by_id))})"  # noqa: S608 – marks
        for (known,) in self._open().execute(asked, list(by_id)).fetchall():
            del by_id[known]
        return list(by_id.values())

    def sweep(self, records_before_ms: int, figures_before_ms: int, limit: int) -> bool:
        connection = self._open()
        gone = connection.execute(
            "DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE started_ms < ? ORDER BY started_ms LIMIT ?)",
            (records_before_ms, limit),
        ).rowcount
        connection.execute("DELETE FROM feedback WHERE started_ms < ?", (records_before_ms,))
        connection.execute("DELETE FROM figures WHERE at_ms < ?", (figures_before_ms,))
        return gone == limit

    def change(self, operation: Operation[T]) -> T:
        """What it frees is overwritten."""
        self._open().execute("PRAGMA secure_delete = ON")
        try:
            with self._transaction() as connection:
                return _driven(connection, operation)
        finally:
            with suppress(sqlite3.Error, OSError):
                self._open().execute("PRAGMA secure_delete = OFF")

    def finish_erasing(self) -> None:
        """What was erased is still in the write-ahead log until that is worked in and cut off. Raises when somebody reads it for long."""
        for _ in range(CLEAR_TRIES):
            (is_busy, *_) = self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not is_busy:
                return
        raise sqlite3.OperationalError("the write-ahead log is being read")

    def set_aside_if_corrupt(self, error: BaseException) -> Path | None:
        """A file that is no database any more is renamed, never deleted; its new name."""
        code = getattr(error, "sqlite_errorcode", None)
        if self.path is None or code is None or code & 0xFF not in _CORRUPT:
            return None
        self.close()
        aside = self.path.with_name(f"{self.path.name}.corrupt-{time.time_ns() // 1_000_000}")
        for suffix in ("", "-wal", "-shm"):
            source = self.path.with_name(self.path.name + suffix)
            if source.exists():
                source.rename(aside.with_name(aside.name + suffix))
        return aside

    def open_reader(self) -> FileReader:
        return FileReader(self.reader)

    def reader(self) -> sqlite3.Connection:
        """A connection of the caller's own, that cannot write; for one thread."""
        if self.path is not None:
            return sqlite3.connect(f"{self._uri}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        connection = sqlite3.connect(self._uri, uri=True)
        # A shared cache locks whole tables; this reader neither waits for the writer nor holds it up.
        connection.execute("PRAGMA read_uncommitted = on")
        connection.execute("PRAGMA query_only = on")
        return connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            if not self._was_moved():
                return self._connection
            self.close()
        if self.path is not None:
            create_privately(self.path)
        connection = sqlite3.connect(
            self._uri,
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS_MAX,
        )
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file; an old one keeps its own
            use_log(connection, BUSY_TIMEOUT_S)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            _migrate(connection)
            self._opened = self.path.stat() if self.path else None
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _was_moved(self) -> bool:
        """SQLite goes on writing into a file that was deleted or replaced; those records would be lost."""
        if self.path is None or self._opened is None:
            return False
        try:
            return not os.path.samestat(self._opened, self.path.stat())
        except OSError:
            return True

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._open()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            except sqlite3.Error:
                self.close()
            raise


class _Known(Exception):
    """Of the records of a batch one is there already."""


def _driven(connection: sqlite3.Connection, operation: Operation[T]) -> T:
    try:
        text, values = next(operation)
        while True:
            text, values = operation.send(connection.execute(text, values).fetchall())
    except StopIteration as end:
        result: T = end.value
        return result


def _migrate(connection: sqlite3.Connection) -> None:
    """Creates the table in a new file, and brings an older one up to date. A file of a later version is left alone."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise sqlite3.OperationalError(f"a later version wrote the records (schema {version}; this one knows {VERSION})")
        for step in range(version + 1, VERSION + 1):
            for statement in _STEPS[step]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
