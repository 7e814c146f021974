"""State in PostgreSQL, shared by gateways on any number of machines.

Promise: no call takes longer than `CALL_TIMEOUT_S`; the first to come makes the tables, the others wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]

from agent_gateway.core.errors import BadRequest, StoreDown
from agent_gateway.stores.operation import Operation, Row
from agent_gateway.stores.revision import is_head, script
from agent_gateway.stores.sql import SqlStore

#: Of one process.
CONNECTIONS_MAX = 8
CONNECT_TIMEOUT_S = 2.0
#: One statement, at the server and here; a lock that another transaction holds.
STATEMENT_TIMEOUT_S = 3.0
LOCK_TIMEOUT_S = 2.0
#: A call with all its statements, and the wait for a connection.
CALL_TIMEOUT_S = 5.0
#: Different statements kept translated: those of `sql.py`, and of each the lengths that lists come in.
STATEMENTS_MAX = 1_000
#: A connection that nobody needed for so long is closed (s).
IDLE_S = 60.0
MIGRATION_TIMEOUT_S = 120.0
#: Of the advisory lock under which one gateway migrates: "agent-ga".
MIGRATION_LOCK = 0x6167656E742D6761

_T = TypeVar("_T")
_DOWN = "The gateway's database cannot be used at the moment."


class PostgresStore(SqlStore):
    def __init__(self, url: str) -> None:
        super().__init__(PostgresServer(url))


class PostgresServer:
    def __init__(self, url: str) -> None:
        self._dsn = "postgresql://" + url.partition("://")[2]
        self._pool: asyncpg.Pool[Any] | None = None
        self._is_migrated = False
        self._migrating: asyncio.Task[None] | None = None

    async def read(self, operation: Operation[_T]) -> _T:
        return await self._call(lambda connection: _drive(connection, operation))

    async def write(self, operation: Operation[_T]) -> _T:
        async def change(connection: Any) -> _T:
            async with connection.transaction():
                return await _drive(connection, operation)

        return await self._call(change)

    async def revision(self) -> str | None:
        return await self._call(_revision, migrated=False)

    async def close(self) -> None:
        if self._migrating is not None:
            self._migrating.cancel()
            await asyncio.wait([self._migrating])
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), CALL_TIMEOUT_S)
            except TimeoutError:
                pool.terminate()

    async def _call(self, work: Callable[[Any], Awaitable[_T]], *, migrated: bool = True) -> _T:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if migrated and not self._is_migrated:
                    await self._migrate()
                async with self._connection() as connection:
                    return await work(connection)
        except asyncpg.DataError as error:
            raise BadRequest("There is text in the request that the database cannot hold.", detail=str(error)) from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise StoreDown(_DOWN, detail=f"PostgreSQL: {error!r}") from error

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        if self._pool is None:
            self._pool = await asyncpg.create_pool(  # which connects to nothing yet
                self._dsn,
                min_size=0,
                max_size=CONNECTIONS_MAX,
                max_inactive_connection_lifetime=IDLE_S,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S,
                reset=_leave_as_it_is,
                server_settings={
                    "application_name": "agent-gateway",
                    "statement_timeout": f"{STATEMENT_TIMEOUT_S:.0f}s",
                    "lock_timeout": f"{LOCK_TIMEOUT_S:.0f}s",
                    "idle_in_transaction_session_timeout": f"{CALL_TIMEOUT_S:.0f}s",
                },
            )
        async with self._pool.acquire() as connection:
            yield connection

    # --- the schema

    async def _migrate(self) -> None:
        """One task for all who wait: it goes on when one of them gives up."""
        if self._migrating is None:
            self._migrating = asyncio.create_task(self._migrate_once())
            self._migrating.add_done_callback(self._end_of_migration)
        await asyncio.shield(self._migrating)

    def _end_of_migration(self, task: asyncio.Task[None]) -> None:
        self._migrating = None
        self._is_migrated = not task.cancelled() and task.exception() is None

    async def _migrate_once(self) -> None:
        async with asyncio.timeout(MIGRATION_TIMEOUT_S), self._connection() as connection:
            revision = await _revision(connection)
            if is_head(revision):
                return
            text = await asyncio.to_thread(script, "postgresql", revision)
            async with connection.transaction():
                await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
                await connection.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})", timeout=MIGRATION_TIMEOUT_S)
                found = await _revision(connection)
                if found == revision:
                    await connection.execute(text, timeout=MIGRATION_TIMEOUT_S)
                else:  # another gateway was first; of a later version, it may be
                    is_head(found)


async def _drive(connection: Any, operation: Operation[_T]) -> _T:
    try:
        text, values = next(operation)
        while True:
            rows: list[Row] = await connection.fetch(_numbered(text), *values)
            text, values = operation.send(rows)
    except StopIteration as end:
        result: _T = end.value
        return result


@lru_cache(STATEMENTS_MAX)
def _numbered(text: str) -> str:
    """`?, ?` → `$1, $2`: no statement has a question mark elsewhere."""
    first, *rest = text.split("?")
    return first + "".join(f"${number}{piece}" for number, piece in enumerate(rest, 1))


async def _revision(connection: Any) -> str | None:
    # Of the catalogue's rows: `to_regclass` answers from a cache that, within a transaction, misses what another has just made.
    there = "SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'alembic_version' AND pg_catalog.pg_table_is_visible(oid)"
    if await connection.fetchval(there) is None:
        return None
    return str(await connection.fetchval("SELECT version_num FROM alembic_version"))


async def _leave_as_it_is(_: object) -> None:
    """Nothing here changes a connection's settings, so that nothing need be reset: it would be a round trip a call."""
