"""Questions to records that lie in an SQLite file, answered in threads.

Promise: nothing here runs on the event loop, and no question takes longer than its time, however much there is.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from agent_gateway.record.table import READ_TIMEOUT_S, READERS, WAITING_MAX, too_many, took_too_long, unreadable

#: Steps of SQLite's machine between two looks at the clock.
_STEPS = 20_000


class FileReader:
    """A `Reader`. `connect` opens a connection that only reads, for the thread that calls."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, timeout_s: float = READ_TIMEOUT_S) -> None:
        self._connect = connect
        self._timeout_s = timeout_s
        self._threads: ThreadPoolExecutor | None = None
        self._waiting = 0

    async def rows(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self._waiting >= READERS + WAITING_MAX:
            raise too_many()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="archive")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, statement, values)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)

    def _answer(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        until = time.monotonic() + self._timeout_s
        try:
            with closing(self._connect()) as connection:
                connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
                return connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise took_too_long() from None
            if error.sqlite_errorcode == sqlite3.SQLITE_CANTOPEN or "no such table" in str(error):
                return []
            raise unreadable(error) from error
        except sqlite3.Error as error:
            raise unreadable(error) from error
