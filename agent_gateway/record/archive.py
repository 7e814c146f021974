"""Records read back: one, those that were looked for, and what they add up to.

Promise: nothing here runs on the event loop, and no question takes longer than `READ_TIMEOUT_S`, however much there is.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from agent_gateway.core.errors import BadRequest, Overloaded, StoreDown
from agent_gateway.record.row import Record

#: Questions answered at once, and those that may wait for it; any more are turned away.
READERS = 2
WAITING_MAX = 16
#: Of one question (s): what takes longer is given up.
READ_TIMEOUT_S = 5.0
#: Records that are read at once, where all of them are wanted.
PIECE_ROWS = 500
#: Steps of SQLite's machine between two looks at the clock.
_STEPS = 20_000

Group = Literal["key", "model", "day", "user"]

#: What a list shows: all but the bodies.
LISTED = tuple(name for name in Record._fields if name not in ("attempts", "request", "answer"))
_ID, _STARTED = Record._fields.index("id"), Record._fields.index("started_ms")
_GROUPS: dict[Group, str] = {
    "key": "coalesce(key_id, '')",
    "model": "model",
    "day": "strftime('%Y-%m-%d', started_ms / 1000, 'unixepoch')",
    "user": "coalesce(user_id, '')",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records; None: whatever it is. Times in Unix ms: `since_ms` is in, `until_ms` is out."""

    model: str | None = None
    key: str | None = None
    status: str | None = None
    session: str | None = None
    user: str | None = None
    error: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RecordPage:
    """`rows`: the columns `LISTED`, newest first."""

    rows: Sequence[tuple[Any, ...]]
    next: str | None


@dataclass(frozen=True, slots=True)
class UsageRow:
    #: The key's id, the model, the day (UTC) or the user; "" where there was none.
    group: str
    requests: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost_usd: float


_CONDITIONS = (
    ("model = ?", "model"),
    ("key_id = ?", "key"),
    ("status = ?", "status"),
    ("session_id = ?", "session"),
    ("user_id = ?", "user"),
    ("error_code = ?", "error"),
    ("started_ms >= ?", "since_ms"),
    ("started_ms < ?", "until_ms"),
)


class Archive:
    """`reader` opens a connection that only reads, for the thread that calls. All methods raise `StoreDown` and `Overloaded`."""

    def __init__(self, reader: Callable[[], sqlite3.Connection], *, timeout_s: float = READ_TIMEOUT_S) -> None:
        self._reader = reader
        self._timeout_s = timeout_s
        self._threads: ThreadPoolExecutor | None = None
        self._waiting = 0

    async def page(self, wanted: Wanted, limit: int, cursor: str | None = None) -> RecordPage:
        """Raises `BadRequest` for a cursor that was never given."""
        conditions, values = _where(wanted)
        if cursor is not None:
            conditions.append("(started_ms, rowid) < (?, ?)")
            values += _place(cursor)
        # The columns are those of `Record`, the conditions those above; what was asked for is bound.
        statement = (
            f"SELECT rowid, {', '.join(LISTED)} FROM records {_clause(conditions)} "  # noqa: S608
            "ORDER BY started_ms DESC, rowid DESC LIMIT ?"
        )
        rows = await self._rows(statement, [*values, limit + 1])
        shown = rows[:limit]
        more = len(rows) > limit
        return RecordPage([row[1:] for row in shown], f"{shown[-1][1 + LISTED.index('started_ms')]}-{shown[-1][0]}" if more else None)

    async def find(self, request_id: str) -> Record | None:
        statement = f"SELECT {', '.join(Record._fields)} FROM records WHERE id = ?"  # noqa: S608 – as above
        rows = await self._rows(statement, [request_id])
        return Record._make(rows[0]) if rows else None

    async def oldest_first(self, since_ms: int, until_ms: int) -> AsyncIterator[Record]:
        """All of a time, without what was answered; read in pieces, so that no question takes long."""
        columns = ", ".join(["NULL" if name == "answer" else name for name in Record._fields])
        statement = (
            f"SELECT {columns} FROM records WHERE started_ms >= ? AND (started_ms > ? OR id > ?) AND started_ms < ? "  # noqa: S608 – as above
            "ORDER BY started_ms, id LIMIT ?"
        )
        at, last = since_ms, ""
        while rows := await self._rows(statement, [at, at, last, until_ms, PIECE_ROWS]):
            for row in rows:
                yield Record._make(row)
            at, last = rows[-1][_STARTED], rows[-1][_ID]

    async def usage(self, group: Group, since_ms: int, until_ms: int, limit: int, after: str | None = None) -> tuple[list[UsageRow], bool]:
        """In the order of their groups, those behind `after`; whether there are more."""
        name = _GROUPS[group]
        behind, values = ("", []) if after is None else (f"AND {name} > ?", [after])
        statement = (
            f"SELECT {name}, count(*), sum(status = 'error'), {_sum('input_tokens')}, {_sum('output_tokens')}, total(cost_usd) "  # noqa: S608
            f"FROM records WHERE started_ms >= ? AND started_ms < ? {behind} GROUP BY 1 ORDER BY 1 LIMIT ?"
        )
        rows = await self._rows(statement, [since_ms, until_ms, *values, limit + 1])
        return [UsageRow(*row) for row in rows[:limit]], len(rows) > limit

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)

    async def _rows(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """Empty where no record was ever written."""
        if self._waiting >= READERS + WAITING_MAX:
            raise Overloaded("Too many questions about records are being answered. Try again.", retry_after_s=1)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="archive")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, statement, values)
        finally:
            self._waiting -= 1

    def _answer(self, statement: str, values: Sequence[Any]) -> list[Any]:
        until = time.monotonic() + self._timeout_s
        try:
            with closing(self._reader()) as connection:
                connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
                return connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise Overloaded("The search took too long and was given up; ask for a shorter time, or narrow it down.") from None
            if error.sqlite_errorcode == sqlite3.SQLITE_CANTOPEN or "no such table" in str(error):
                return []
            raise _unreadable(error) from error
        except sqlite3.Error as error:
            raise _unreadable(error) from error


def _sum(column: str) -> str:
    return f"coalesce(sum({column}), 0)"


def _unreadable(error: sqlite3.Error) -> StoreDown:
    return StoreDown("The records cannot be read at the moment.", detail=str(error))


def _where(wanted: Wanted) -> tuple[list[str], list[Any]]:
    given = [(condition, value) for condition, name in _CONDITIONS if (value := getattr(wanted, name)) is not None]
    return [condition for condition, _ in given], [value for _, value in given]


def _clause(conditions: list[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _place(cursor: str) -> list[int]:
    """The time and the row of the last record that was shown."""
    parts = cursor.split("-")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise BadRequest("This cursor is none that was given here.", param="cursor")
    return [int(part) for part in parts]
