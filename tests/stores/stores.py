"""A fresh store of every kind, on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
from redis import Redis as Client

from agent_gateway.stores.base import BACKENDS, Store, open_store
from tests.kit.servers import Postgres, Redis, shared

KINDS = sorted(BACKENDS.table)
#: Those that several processes can share.
SHARED_KINDS = [kind for kind in KINDS if kind != "memory"]

_TEMPLATE = "template_of_a_migrated_database"
_numbers = count(1)


async def fresh_url(kind: str, config: pytest.Config, folder: Path) -> str:
    """Of a store that holds nothing yet."""
    match kind:
        case "memory":
            return "sqlite:///:memory:"
        case "sqlite":
            return f"sqlite:///{folder}/gateway.db"
        case "redis":
            server = shared(Redis, config)
            with Client.from_url(server.url()) as client:
                client.flushall()
            return server.url()
    return await _fresh_database(shared(Postgres, config))


async def _fresh_database(server: Postgres) -> str:
    """A copy of a database that was migrated once: making the tables anew for each test takes longer."""
    administrator = await asyncpg.connect(server.url())
    try:
        if not await administrator.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _TEMPLATE):
            await administrator.execute(f"CREATE DATABASE {_TEMPLATE}")
            store = open_store(server.url(_TEMPLATE))
            await store.keys_version()
            await store.close()
        name = f"test_{next(_numbers)}"
        await administrator.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    finally:
        await administrator.close()
    return server.url(name)


@asynccontextmanager
async def opened(url: str, number: int) -> AsyncIterator[list[Store]]:
    """So many gateways' stores on one database; closed whatever happens, or uvloop waits for their connections for ever."""
    stores = [open_store(url) for _ in range(number)]
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


async def fresh_store(kind: str, config: pytest.Config, folder: Path) -> Store:
    return open_store(await fresh_url(kind, config, folder))
