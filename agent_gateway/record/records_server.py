"""The table `records`, and what it adds up to, in PostgreSQL: a partition a day, written by one thread of each gateway.

Promise: a batch is in it whole or not at all, and a request never twice, whatever gateway writes it and however often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]

from agent_gateway.record import figures
from agent_gateway.record.figures import DAY_MS, HOUR_MS
from agent_gateway.record.row import Record
from agent_gateway.record.server_reader import CONNECT_TIMEOUT_S, ServerReader
from agent_gateway.stores.operation import Operation, numbered

#: One statement, at the server and here; a lock that another transaction holds (s).
STATEMENT_TIMEOUT_S = 5.0
LOCK_TIMEOUT_S = 2.0
MIGRATION_TIMEOUT_S = 120.0
#: Of the advisory lock under which one gateway makes tables: "agent-gr".
SCHEMA_LOCK = 0x6167656E742D6772
#: A day's partition is there this long before it begins.
AHEAD_MS = HOUR_MS
VERSION = 3

_T = TypeVar("_T")
#: In the order of bytes, whatever the database's language: quicker, and the same on every machine.
_TEXT = 'TEXT COLLATE "C"'
_NOT_NULL = (
    *("id", "started_ms", "model", "dialect", "pattern", "status", "http_status", "stream", "tokens_estimated"),
    *("duration_ms", "overhead_ms", "attempts_count", "request_bytes"),
)


def _type(column: str) -> str:
    if column in ("attempts", "request", "answer"):
        return "BYTEA"
    if column in ("cost_usd", "quality") or (column.endswith("_ms") and column != "started_ms"):
        return "FLOAT8"
    if column.endswith(("_tokens", "_bytes")) or column == "started_ms":
        return "BIGINT"
    return "INTEGER" if column in ("http_status", "stream", "tokens_estimated", "attempts_count") else _TEXT


_COLUMNS = ", ".join([f"{name} {_type(name)}{' NOT NULL' if name in _NOT_NULL else ''}" for name in Record._fields])
#: By version: what leads from the one before to it.
_STEPS = {
    1: (
        f"CREATE TABLE records ({_COLUMNS}, PRIMARY KEY (id, started_ms)) PARTITION BY RANGE (started_ms)",
        "CREATE INDEX records_started ON records (started_ms, id)",
        "CREATE INDEX records_model ON records (model, started_ms)",
        "CREATE INDEX records_status ON records (status, started_ms)",
        "CREATE INDEX records_key ON records (key_id, started_ms) WHERE key_id IS NOT NULL",
        "CREATE INDEX records_error ON records (error_code, started_ms) WHERE error_code IS NOT NULL",
        "CREATE INDEX records_user ON records (user_id, started_ms) WHERE user_id IS NOT NULL",
        "CREATE INDEX records_session ON records (session_id, started_ms) WHERE session_id IS NOT NULL",
        f"""
        CREATE TABLE feedback (
            request_id {_TEXT} PRIMARY KEY,
            started_ms BIGINT NOT NULL,
            user_id {_TEXT},
            score INTEGER NOT NULL,
            comment TEXT,
            given_ms BIGINT NOT NULL
        )
        """,
        "CREATE INDEX feedback_started ON feedback (started_ms)",
        "CREATE INDEX feedback_user ON feedback (user_id) WHERE user_id IS NOT NULL",
    ),
    2: (f"ALTER TABLE records ADD COLUMN IF NOT EXISTS traceparent {_TEXT}",),
    # As in SQLite (records_file.py).
    3: ("DROP TABLE IF EXISTS figures", figures.table(_TEXT), *figures.whole("records")),
}
#: Arrays, one a column: a statement of one shape, however many rows.
_INSERT = (
    f"INSERT INTO records ({', '.join(Record._fields)}) SELECT * FROM unnest("  # noqa: S608 – our own names
    + ", ".join([f"${place}::{_type(name).split()[0]}[]" for place, name in enumerate(Record._fields, 1)])
    + ") ON CONFLICT DO NOTHING RETURNING id"
)
_PARTITIONS = """
    SELECT partition.relname FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class AS partition ON partition.oid = inhrelid
    WHERE inhparent = 'records'::regclass
"""


class RecordsServer:
    """A `RecordTable`. One connection, kept from batch to batch; made anew after any error."""

    down: tuple[type[Exception], ...] = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    unwritable: tuple[type[Exception], ...] = (asyncpg.DataError, asyncpg.NotNullViolationError, OverflowError, UnicodeError)

    row_lock = " FOR UPDATE"

    def __init__(self, url: str) -> None:
        self._dsn = "postgresql://" + url.partition("://")[2]
        self._rollup = figures.Rollup()
        # The thread's own.
        self._runner: asyncio.Runner | None = None
        self._connection: Any = None
        #: That have a partition, by number since 1970.
        self._days: set[int] = set()

    def insert(self, records: Sequence[Record]) -> int:
        return self._run(self._insert(records))

    def sweep(self, records_before_ms: int, figures_before_ms: int, limit: int) -> bool:
        """Whole days, so that there is never more."""
        return self._run(self._sweep(records_before_ms, figures_before_ms))

    def change(self, operation: Operation[_T]) -> _T:
        return self._run(self._change(operation))

    def finish_erasing(self) -> None:
        """What the server frees it overwrites in its own time."""

    def set_aside_if_corrupt(self, error: BaseException) -> None:
        """A server minds its own files."""

    def open_reader(self) -> ServerReader:
        return ServerReader(self._dsn)

    def close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            self._let_go()
            runner.close()

    # --- in the thread's own event loop

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(work)
        except self.unwritable:
            raise
        except BaseException:
            self._let_go()
            raise

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        self._days.clear()
        if connection is not None:
            connection.terminate()

    async def _open(self) -> Any:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        self._let_go()
        connection = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S,
            server_settings={
                "application_name": "agent-gateway",
                "statement_timeout": f"{STATEMENT_TIMEOUT_S:.0f}s",
                "lock_timeout": f"{LOCK_TIMEOUT_S:.0f}s",
                "idle_in_transaction_session_timeout": f"{2 * STATEMENT_TIMEOUT_S:.0f}s",
            },
        )
        try:
            await _migrate(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection

    async def _insert(self, records: Sequence[Record]) -> int:
        connection = await self._open()
        days = {record.started_ms // DAY_MS for record in records}
        days |= {(record.started_ms + AHEAD_MS) // DAY_MS for record in records}
        if new := days - self._days:
            await _add_days(connection, new)
            self._days |= new
        columns = list(zip(*records, strict=True))
        async with connection.transaction():
            try:
                async with connection.transaction():
                    rows = await connection.fetch(_INSERT, *columns)
            except asyncpg.CharacterNotInRepertoireError:
                records = [Record._make(_without_nul(record)) for record in records]
                rows = await connection.fetch(_INSERT, *zip(*records, strict=True))
            inserted = {row[0] for row in rows}
            if inserted:
                by_id = {record.id: record for record in records if record.id in inserted}
                await connection.executemany(_ADD, self._rollup.of(list(by_id.values())))
        return len(inserted)

    async def _sweep(self, records_before_ms: int, figures_before_ms: int) -> bool:
        connection = await self._open()
        await connection.execute("DELETE FROM feedback WHERE started_ms < $1", records_before_ms)
        await connection.execute("DELETE FROM figures WHERE at_ms < $1", figures_before_ms)
        names = [row[0] for row in await connection.fetch(_PARTITIONS)]
        kept = _partition(records_before_ms // DAY_MS)
        for name in sorted(names):
            if name < kept:
                await connection.execute(f"DROP TABLE IF EXISTS {name}")
                self._days.clear()
        return False

    async def _change(self, operation: Operation[_T]) -> _T:
        connection = await self._open()
        async with connection.transaction():
            return await _driven(connection, operation)


_ADD = numbered(figures.ADD)


def _without_nul(column: Sequence[Any]) -> list[Any]:
    """PostgreSQL's text holds no NUL, and what a client chose may."""
    return [cell.replace("\0", "\ufffd") if isinstance(cell, str) else cell for cell in column]


def _partition(day: int) -> str:
    return f"records_{datetime.fromtimestamp(day * DAY_MS / 1000, UTC):%Y%m%d}"


async def _driven(connection: Any, operation: Operation[_T]) -> _T:
    try:
        text, values = next(operation)
        while True:
            text, values = operation.send(await connection.fetch(numbered(text), *_without_nul(values)))
    except StopIteration as end:
        result: _T = end.value
        return result


async def _add_days(connection: Any, days: Collection[int]) -> None:
    """Attached, not created in place: that takes no lock which readers and writers would wait for."""
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
        there = {row[0] for row in await connection.fetch(_PARTITIONS)}
        for day in sorted(days):
            if (name := _partition(day)) not in there:
                bounds = f"FROM ({day * DAY_MS}) TO ({(day + 1) * DAY_MS})"
                await connection.execute(f"CREATE TABLE {name} (LIKE records INCLUDING DEFAULTS)")
                await connection.execute(f"ALTER TABLE records ATTACH PARTITION {name} FOR VALUES {bounds}")


async def _migrate(connection: Any) -> None:
    """Creates the tables in a new database, and brings older ones up to date. Those of a later version are left alone."""
    if await _version(connection) == VERSION:
        return
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        await connection.execute(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})", timeout=MIGRATION_TIMEOUT_S)
        version = await _version(connection)
        if version > VERSION:
            raise OSError(f"a later version wrote the records (schema {version}; this one knows {VERSION})")
        if version == 0:
            await connection.execute("CREATE TABLE records_schema (version INTEGER NOT NULL)")
            await connection.execute("INSERT INTO records_schema VALUES (0)")
        for step in range(version + 1, VERSION + 1):
            for statement in _STEPS[step]:
                await connection.execute(statement, timeout=MIGRATION_TIMEOUT_S)
        await connection.execute("UPDATE records_schema SET version = $1", VERSION)


async def _version(connection: Any) -> int:
    there = "SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'records_schema' AND pg_catalog.pg_table_is_visible(oid)"
    if await connection.fetchval(there) is None:
        return 0
    return int(await connection.fetchval("SELECT version FROM records_schema"))
