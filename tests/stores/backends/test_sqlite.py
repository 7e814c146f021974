"""The SQLite store: shared by processes, down and back again, migrated, and replaced under its feet."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from agent_gateway.core.errors import StoreDown
from agent_gateway.stores.backends import sqlite as module
from agent_gateway.stores.backends.sqlite import SqliteStore
from agent_gateway.stores.base import Key, Owner, StoredTurn

DAMAGED = b"no database" * 500
KEY = Key("one", "one", created_at=1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gateway.db"


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    await store.close()


def stand_in_the_way(path: Path) -> None:
    """A folder where the file should be: SQLite cannot open it, root or not."""
    path.mkdir(parents=True)


def path_is_free(path: Path) -> None:
    path.rmdir()


def damage(path: Path) -> None:
    path.write_bytes(DAMAGED)


def content(path: Path) -> bytes:
    return path.read_bytes()


async def test_nothing_is_opened_before_it_is_needed(store: SqliteStore, path: Path) -> None:
    assert not list(path.parent.glob(path.name))
    await store.keys_version()
    assert list(path.parent.glob(path.name))


async def test_what_a_user_said_is_in_no_file_once_it_is_deleted(store: SqliteStore, path: Path) -> None:
    said = b"the words of ann"

    def files_with_it() -> list[Path]:
        return [file for file in path.parent.iterdir() if said in file.read_bytes()]

    turn = StoredTurn("openai_chat", b'{"content":"%b"}' % said)
    await store.append(Owner("key", "ann"), "s1", [turn], expected_version=0, now=1.0, ttl_s=60.0)
    assert files_with_it()
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM turns").fetchone()
        with pytest.raises(StoreDown, match="cannot be used") as busy:  # not all is gone, and that is said
            await store.delete_user("ann")
        assert "being read" in str(busy.value.detail)
    await store.delete_user("ann")
    assert not files_with_it()


async def test_what_another_process_changes_is_seen(store: SqliteStore, path: Path) -> None:
    before = await store.keys_version()
    other = SqliteStore(path)
    await other.create_key(KEY, b"hash")
    created = await store.keys_version()
    assert created != before
    assert await store.find_keys([b"hash"]) == {b"hash": KEY}
    await other.revoke_key("one", 2.0)
    assert await store.keys_version() not in (before, created)
    await other.close()


async def test_a_change_by_hand_is_seen_and_one_elsewhere_in_the_file_is_not(store: SqliteStore, path: Path) -> None:
    await store.create_key(KEY, b"hash")
    before = await store.keys_version()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE other (number)")
        database.execute("INSERT INTO other VALUES (1)")
        assert await store.keys_version() == before
        database.execute("DELETE FROM keys")
    assert await store.keys_version() != before


async def test_no_secret_is_in_the_file(store: SqliteStore, path: Path) -> None:
    await store.create_key(KEY, b"the hash")
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT id, secret_hash FROM keys").fetchall() == [("one", b"the hash")]


async def test_a_locked_database_is_down_and_comes_back(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.05)
    await store.keys_version()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreDown) as down:
            await store.create_key(KEY, b"hash")
        assert str(path) not in down.value.message
        assert "locked" in (down.value.detail or "")
        assert await listed(store) == []
        database.execute("ROLLBACK")
    await store.create_key(KEY, b"hash")
    assert await listed(store) == [KEY]


async def test_a_path_that_cannot_be_opened_is_down_and_comes_back(store: SqliteStore, path: Path) -> None:
    stand_in_the_way(path)
    with pytest.raises(StoreDown):
        await store.list_keys(limit=10)
    path_is_free(path)
    assert await listed(store) == []


async def test_a_damaged_file_is_down_and_left_alone(store: SqliteStore, path: Path) -> None:
    path.parent.mkdir()
    damage(path)
    with pytest.raises(StoreDown):
        await store.list_keys(limit=10)
    assert content(path) == DAMAGED


async def test_a_replaced_file_is_opened_anew(store: SqliteStore, path: Path) -> None:
    await store.create_key(KEY, b"hash")
    before = await store.keys_version()
    for file in path.parent.iterdir():
        file.unlink()
    other = SqliteStore(path)
    await other.create_key(new := Key("two", "two", created_at=2.0), b"hash 2")
    await other.close()
    assert await store.keys_version() != before
    assert await listed(store) == [new]


async def test_readers_do_not_wait_for_writers(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 30.0)
    await store.create_key(KEY, b"hash")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(store.create_key(Key("two", "two"), b"hash 2"))
        assert await listed(store) == [KEY]
        assert not writing.done()
        database.execute("ROLLBACK")
    await writing


async def test_a_file_of_the_time_before_alembic_is_taken_over(path: Path) -> None:
    """By several gateways at once: one of them migrates it."""
    make_old_file(path)
    stores = [SqliteStore(path) for _ in range(4)]
    for keys in await asyncio.gather(*(listed(store) for store in stores)):
        assert keys == [KEY]
    before = await stores[0].keys_version()
    await stores[1].create_key(Key("two", "two"), b"hash 2")
    assert await stores[0].keys_version() == before + 1
    assert await stores[0].append(Owner(), "s", [], expected_version=0, now=1.0, ttl_s=1.0) == 1
    for store in stores:
        await store.close()
    assert schema_of(path) == schema_of(await new_file(path.with_name("new.db")))


async def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old_file(path)
    before = schema_of(path)
    with monkeypatch.context() as patched:
        patched.setattr(module, "script", lambda *_: "CREATE TABLE later (number);\nno SQL;\n")
        failing = SqliteStore(path)
        with pytest.raises(StoreDown):
            await failing.list_keys(limit=10)
        await failing.close()
    assert schema_of(path) == before
    again = SqliteStore(path)
    assert await listed(again) == [KEY]
    await again.close()


@pytest.mark.parametrize(
    "statements",
    [["PRAGMA user_version = 2"], ["CREATE TABLE alembic_version (version_num)", "INSERT INTO alembic_version VALUES ('0999')"]],
)
async def test_a_file_of_a_later_version_is_refused(store: SqliteStore, path: Path, statements: list[str]) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)
    before = schema_of(path)
    with pytest.raises(StoreDown) as down:
        await store.list_keys(limit=10)
    assert "a later version" in (down.value.detail or "")
    assert schema_of(path) == before


def make_old_file(path: Path) -> None:
    """As the gateway made it before Alembic, with `KEY` in it."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(OLD_SCHEMA)
        database.execute("INSERT INTO keys (id, secret_hash, name, created_at) VALUES ('one', ?, 'one', 1.0)", (b"hash",))


async def listed(store: SqliteStore) -> list[Key]:
    return list((await store.list_keys(limit=10)).keys)


async def new_file(path: Path) -> Path:
    store = SqliteStore(path)
    await store.list_keys(limit=10)
    await store.close()
    return path


def schema_of(path: Path) -> list[tuple[str, str, list[tuple[str, str, int]]]]:
    """Tables, indexes and triggers; of tables the columns, however their SQL was written."""
    with closing(sqlite3.connect(path)) as database:
        names = "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
        rows = database.execute(names).fetchall()
        columns = "SELECT name, type, \"notnull\" FROM pragma_table_info(?)"
        return [(kind, name, database.execute(columns, (name,)).fetchall()) for kind, name in rows]


#: What `PRAGMA user_version = 1` meant.
OLD_SCHEMA = """
    CREATE TABLE keys (
        id TEXT NOT NULL PRIMARY KEY,
        secret_hash BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL,
        models TEXT,
        created_at REAL NOT NULL,
        expires_at REAL,
        revoked_at REAL
    );
    CREATE TABLE keys_version (version INTEGER NOT NULL);
    INSERT INTO keys_version VALUES (0);
    CREATE TRIGGER keys_inserted AFTER INSERT ON keys BEGIN UPDATE keys_version SET version = version + 1; END;
    CREATE TRIGGER keys_updated AFTER UPDATE ON keys BEGIN UPDATE keys_version SET version = version + 1; END;
    CREATE TRIGGER keys_deleted AFTER DELETE ON keys BEGIN UPDATE keys_version SET version = version + 1; END;
    PRAGMA user_version = 1;
"""
