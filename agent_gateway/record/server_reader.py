"""Questions to records that lie in PostgreSQL: connections of their own, so that they never take one from a request.

Promise: no question takes longer than its time, at the server and here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from agent_gateway.record.table import READ_TIMEOUT_S, READERS, WAITING_MAX, too_many, took_too_long, unreadable
from agent_gateway.stores.operation import numbered

CONNECT_TIMEOUT_S = 2.0
#: A connection that nobody needed for so long is closed (s).
IDLE_S = 60.0
_UNREADABLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class ServerReader:
    """A `Reader`. Connects when first asked."""

    def __init__(self, dsn: str, *, timeout_s: float = READ_TIMEOUT_S) -> None:
        self._dsn = dsn
        self._timeout_s = timeout_s
        self._pool: asyncpg.Pool[Any] | None = None
        self._waiting = 0

    async def rows(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self._waiting >= READERS + WAITING_MAX:
            raise too_many()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s + CONNECT_TIMEOUT_S):
                pool = self._pool or await self._open()
                async with pool.acquire() as connection:
                    return [tuple(row) for row in await connection.fetch(numbered(statement), *values)]
        except (asyncpg.UndefinedTableError, asyncpg.CharacterNotInRepertoireError):
            return []  # nothing was recorded yet; or it is asked for a text with a NUL, which no row holds
        except (asyncpg.QueryCanceledError, TimeoutError):
            raise took_too_long() from None
        except _UNREADABLE as error:
            raise unreadable(error) from error
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def _open(self) -> asyncpg.Pool[Any]:
        pool: asyncpg.Pool[Any] = await asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=READERS,
            max_inactive_connection_lifetime=IDLE_S,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=self._timeout_s,
            server_settings={
                "application_name": "agent-gateway",
                "statement_timeout": f"{self._timeout_s * 1000:.0f}",
                "default_transaction_read_only": "on",
                # Which days and which index a question needs is seen in its values only.
                "plan_cache_mode": "force_custom_plan",
                # Compiling takes longer than what it would save.
                "jit": "off",
            },
        )
        if self._pool is not None:  # another was quicker
            pool.terminate()
            return self._pool
        self._pool = pool
        return pool
