"""Servers that stop, hang and come back, and gateways that are killed: what was promised holds, nothing hangs."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
import pytest_asyncio

from agent_gateway.core.errors import StoreDown
from agent_gateway.stores.backends import postgres
from agent_gateway.stores.base import Key, Owner, Store, StoredTurn, open_store
from agent_gateway.stores.revision import HEAD
from agent_gateway.stores.sql import SqlStore
from tests.kit.servers import Postgres, Redis, own, shared
from tests.stores.stores import fresh_url, opened

OWNER = Owner("key", "user")
#: "Within seconds": the longest that a call may take, and some for a busy machine.
SECONDS = 15.0
NOW = float(int(time.time()))

#: Appends for ever and says each version that it was promised.
WRITER = """
import asyncio, sys
from agent_gateway.stores.base import Owner, StoredTurn, open_store
async def write(url, now):
    store, version = open_store(url), 0
    while True:
        turns = [StoredTurn("openai_chat", b"%d" % (2 * version + index), 1) for index in range(2)]
        version = await store.append(Owner("key", "user"), "s", turns, expected_version=version, now=now, ttl_s=1000)
        print(version, flush=True)
asyncio.run(write(sys.argv[1], float(sys.argv[2])))
"""


@pytest.fixture(params=[Postgres, Redis], ids=["postgres", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Postgres | Redis]:
    server: Postgres | Redis = own(request.param)
    server.start()
    yield server
    server.remove()


@pytest_asyncio.fixture
async def store(server: Postgres | Redis) -> AsyncIterator[Store]:
    store = open_store(server.url())
    yield store
    await store.close()


async def append(store: Store, version: int) -> int:
    turn = StoredTurn("openai_chat", b"%d" % version, 1)
    return await store.append(OWNER, "s", [turn], expected_version=version, now=NOW, ttl_s=1000)


async def test_a_server_that_stops_in_mid_traffic_is_down_at_once_and_works_when_it_is_back(
    server: Postgres | Redis, store: Store
) -> None:
    await append(store, 0)
    refusals: list[float] = []
    stopping = asyncio.Event()

    async def traffic() -> None:
        while not stopping.is_set() or not refusals:
            started = time.monotonic()
            try:
                await store.fetch(OWNER, "s", NOW)
            except StoreDown:
                refusals.append(time.monotonic() - started)

    clients = [asyncio.create_task(traffic()) for _ in range(20)]
    await asyncio.to_thread(server.stop)
    stopping.set()
    await asyncio.gather(*clients)
    assert max(refusals) < SECONDS
    with pytest.raises(StoreDown) as down:
        await append(store, 1)
    assert str(server.port) not in down.value.message
    await asyncio.to_thread(server.start)
    there = await store.fetch(OWNER, "s", NOW)
    version = 0 if there is None else there.info.version  # this Redis keeps nothing on its disk
    assert version == (1 if isinstance(server, Postgres) else 0)
    assert await append(store, version) == version + 1


async def test_a_server_that_hangs_is_down_within_seconds_and_works_when_it_goes_on(
    server: Postgres | Redis, store: Store
) -> None:
    await append(store, 0)
    server.freeze()
    try:
        started = time.monotonic()
        calls = [store.fetch(OWNER, "s", NOW) for _ in range(20)]
        answers = await asyncio.gather(*calls, append(store, 1), return_exceptions=True)
        assert time.monotonic() - started < SECONDS
        assert {type(answer) for answer in answers} == {StoreDown}
    finally:
        server.thaw()
    found = await store.fetch(OWNER, "s", NOW)
    assert found is not None
    assert await append(store, found.info.version) == found.info.version + 1


async def test_a_call_that_is_cancelled_while_postgres_hangs_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose loop is to end with it ends, though its transaction cannot be rolled back."""
    server = own(Postgres)
    server.start()
    async with opened(server.url(), 1) as (first,):
        await append(first, 0)
    monkeypatch.setattr(postgres, "STATEMENT_TIMEOUT_S", 1.0)
    store = open_store(server.url())
    assert await store.fetch(OWNER, "s", NOW) is not None
    other = await asyncpg.connect(server.url())
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE spend")
            spending = asyncio.create_task(store.add_spend({("key:a", 0.0): 1.0}))

            async def waits() -> bool:
                return bool(await other.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))

            async with asyncio.timeout(SECONDS):
                while not await waits():
                    if spending.done():  # it gave up before it was seen
                        assert isinstance(spending.exception(), StoreDown)
                        spending = asyncio.create_task(store.add_spend({("key:a", 0.0): 1.0}))
                    await asyncio.sleep(0.01)
            server.freeze()
            spending.cancel()
            await asyncio.wait([spending], timeout=SECONDS)
            server.thaw()
        assert spending.cancelled()
    finally:
        server.thaw()
        await other.close()
        await store.close()
        server.remove()


async def test_a_server_that_is_not_there_yet_is_down(server: Postgres | Redis, store: Store) -> None:
    await asyncio.to_thread(server.stop)
    with pytest.raises(StoreDown):
        await store.list_keys(limit=10)
    await asyncio.to_thread(server.start)
    assert list((await store.list_keys(limit=10)).keys) == []


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_what_was_promised_is_there_after_the_gateway_is_killed(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A turn of two is there whole or not at all."""
    url = await fresh_url(kind, request.config, tmp_path)
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, url, str(NOW), stdout=asyncio.subprocess.PIPE)
    assert writer.stdout is not None
    heard = b"".join([await writer.stdout.readline() for _ in range(50)])
    writer.kill()
    heard += await writer.stdout.read()
    await writer.wait()
    promised = int(heard[: heard.rindex(b"\n")].split()[-1])
    async with opened(url, 1) as (store,):
        found = await store.fetch(OWNER, "s", NOW)
        assert found is not None
        assert promised <= found.info.version <= promised + 1
        assert [int(turn.body) for turn in found.turns] == list(range(2 * found.info.version))
        assert await append(store, found.info.version) == found.info.version + 1


async def test_what_was_promised_is_there_after_postgres_crashed() -> None:
    server = own(Postgres)
    server.start()
    try:
        async with opened(server.url(), 1) as (store,):
            assert [await append(store, version) for version in range(20)] == list(range(1, 21))
            await asyncio.to_thread(server.stop, signal.SIGQUIT)
            await asyncio.to_thread(server.start)
            found = await store.fetch(OWNER, "s", NOW)
            assert found is not None
            assert [int(turn.body) for turn in found.turns] == list(range(20))
    finally:
        server.remove()


async def test_gateways_that_start_at_once_make_the_tables_once(request: pytest.FixtureRequest) -> None:
    server = shared(Postgres, request.config)
    url = await empty_database(server, "started_at_once")
    async with opened(url, 4) as stores:
        keys = [(store, Key(f"k{number}", "k"), b"%d" % number) for number, store in enumerate(stores)]
        await asyncio.gather(*(store.create_key(key, secret_hash) for store, key, secret_hash in keys))
        assert len((await stores[0].list_keys(limit=10)).keys) == 4


async def test_a_later_schema_is_refused_and_left_alone(request: pytest.FixtureRequest) -> None:
    url = await empty_database(shared(Postgres, request.config), "of_a_later_version")
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('9999')")
    async with opened(url, 1) as (store,):
        for _ in range(2):
            with pytest.raises(StoreDown) as down:
                await store.list_keys(limit=10)
            assert f"schema 9999; this one knows {HEAD}" in (down.value.detail or "")
        assert isinstance(store, SqlStore)
        assert await store.database.revision() == "9999"
    assert await connection.fetchval("SELECT to_regclass('keys')") is None
    await connection.close()


async def empty_database(server: Postgres, name: str) -> str:
    administrator = await asyncpg.connect(server.url())
    await administrator.execute(f"CREATE DATABASE {name}")
    await administrator.close()
    return server.url(name)
