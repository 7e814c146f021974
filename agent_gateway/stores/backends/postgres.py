"""State in PostgreSQL, shared by gateways on any number of machines.

Promise: no call takes longer than `CALL_TIMEOUT_S`; the first to come makes the tables, the others wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]

from agent_gateway.core.errors import BadRequest, StoreDown
from agent_gateway.stores.base import session_changed
from agent_gateway.stores.operation import Operation, Row, numbered
from agent_gateway.stores.revision import is_head, script
from agent_gateway.stores.sql import CREATE, EXTEND, Addition, SqlStore

#: Of one process.
CONNECTIONS_MAX = 8
CONNECT_TIMEOUT_S = 2.0
#: One statement, at the server and here; a lock that another transaction holds.
STATEMENT_TIMEOUT_S = 3.0
LOCK_TIMEOUT_S = 2.0
#: A call with all its statements, and the wait for a connection.
CALL_TIMEOUT_S = 5.0
#: A connection that nobody needed for so long is closed (s).
IDLE_S = 60.0
MIGRATION_TIMEOUT_S = 120.0
#: Of the advisory lock under which one gateway migrates: "agent-ga".
MIGRATION_LOCK = 0x6167656E742D6761

_T = TypeVar("_T")
_DOWN = "The gateway's database cannot be used at the moment."


_HEAD = """format('[%s,%s,%s,%s,"%s"]', place, length(body), turns.tokens, partial::integer, dialect)"""
_HEADS = f"string_agg({_HEAD}, ',' ORDER BY place)"
#: Turns go to their session in the statement that finds or makes it: each statement more, with a transaction around, would be a trip
#: to the server and back.
_WITH_TURNS = """
    WITH session AS ({session}),
    added AS (
        INSERT INTO turns (session, place, dialect, body, tokens, partial)
        SELECT session.number, session.turns - ? + new.place - 1, new.dialect, new.body, new.tokens, new.partial
        FROM session, unnest(?::text[], ?::bytea[], ?::integer[], ?::boolean[])
            WITH ORDINALITY AS new (dialect, body, tokens, partial, place)
    )
    SELECT 1 FROM session
"""
_EXTEND = _WITH_TURNS.format(session=EXTEND)
_CREATE = _WITH_TURNS.format(session=CREATE)


class PostgresStore(SqlStore):
    row_lock = " FOR UPDATE"
    skip_locked = " SKIP LOCKED"
    blob = "BYTEA"

    def __init__(self, url: str) -> None:
        super().__init__(PostgresServer(url), heads=_HEADS, bodies="string_agg(body, ''::bytea ORDER BY place)")

    async def _add(self, addition: Addition) -> None:
        is_new, turns = addition.expected_version == 0, addition.turns
        columns = [[getattr(turn, name) for turn in turns] for name in ("dialect", "body", "tokens", "partial")]
        if await self.database.change(_CREATE if is_new else _EXTEND, (*addition.session, len(turns), *columns)):
            return
        if not is_new:
            raise session_changed(addition.session_id)
        await super()._add(addition)  # one of that name lives, or has expired


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

    async def change(self, text: str, values: Sequence[Any]) -> list[Row]:
        async def change(connection: Any) -> list[Row]:
            rows: list[Row] = await connection.fetch(numbered(text), *values)
            return rows

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
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task is not None else 0
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if migrated and not self._is_migrated:
                    await self._migrate()
                pool = self._pool or await self._open()
                async with pool.acquire() as connection:
                    return await work(connection)
        except asyncpg.DataError as error:
            raise BadRequest("There is text in the request that the database cannot hold.", detail=str(error)) from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            if task is not None and task.cancelling() > cancelled_before:  # and what was begun could not be rolled back
                raise asyncio.CancelledError from error
            raise StoreDown(_DOWN, detail=f"PostgreSQL: {error!r}") from error

    async def _open(self) -> asyncpg.Pool[Any]:
        """Connects to nothing yet."""
        pool: asyncpg.Pool[Any] = await asyncpg.create_pool(
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
        self._pool = pool
        return pool

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
        async with asyncio.timeout(MIGRATION_TIMEOUT_S), (self._pool or await self._open()).acquire() as connection:
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
            rows: list[Row] = await connection.fetch(numbered(text), *values)
            text, values = operation.send(rows)
    except StopIteration as end:
        result: _T = end.value
        return result


async def _revision(connection: Any) -> str | None:
    # Of the catalogue's rows: `to_regclass` answers from a cache that, within a transaction, misses what another has just made.
    there = "SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'alembic_version' AND pg_catalog.pg_table_is_visible(oid)"
    if await connection.fetchval(there) is None:
        return None
    return str(await connection.fetchval("SELECT version_num FROM alembic_version"))


async def _leave_as_it_is(_: object) -> None:
    """Nothing here changes a connection's settings, so that nothing need be reset: it would be a round trip a call."""
