"""What a database URL means."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_gateway.stores.base import (
    UnknownStore,
    create_privately,
    database_path,
    is_in_memory,
    open_store,
    records_path,
)


@pytest.mark.parametrize(
    ("url", "path", "records"),
    [
        ("sqlite:///agent-gateway.db", "agent-gateway.db", "agent-gateway.records.db"),
        ("sqlite:////var/lib/gateway.sqlite", "/var/lib/gateway.sqlite", "/var/lib/gateway.records.sqlite"),
        ("sqlite:///data/plain", "data/plain", "data/plain.records.db"),
        ("sqlite:///with space.v2.db", "with space.v2.db", "with space.v2.records.db"),
    ],
)
def test_paths(url: str, path: str, records: str) -> None:
    assert database_path(url) == Path(path)
    assert records_path(url) == Path(records)


def test_in_memory_there_is_no_path() -> None:
    assert database_path("sqlite:///:memory:") is None
    assert records_path("sqlite:///:memory:") is None
    assert is_in_memory("sqlite:///:memory:")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "redis", "rediss", "valkey"])
def test_beside_a_server_records_go_to_the_working_folder(scheme: str) -> None:
    url = f"{scheme}://user:secret@host/db"
    assert database_path(url) is None
    assert not is_in_memory(url)
    assert records_path(url) == Path("agent-gateway.records.db")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("sqlite:///:memory:", "MemoryStore"),
        ("sqlite:///a.db", "SqliteStore"),
        ("postgres://host/db", "PostgresStore"),
        ("postgresql+psycopg://host/db", "PostgresStore"),
        ("rediss://host", "RedisStore"),
        ("valkey://host", "RedisStore"),
    ],
)
async def test_a_url_means_a_backend_and_nothing_is_opened_yet(url: str, kind: str) -> None:
    store = open_store(url)
    assert type(store).__name__ == kind
    await store.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://user:secret@host/db", "'mysql' is no kind"),
        ("agent-gateway.db", "is no kind"),
        ("sqlite://agent-gateway.db", "a path must follow"),
        ("sqlite:///", "a path must follow"),
        ("", "is no kind"),
    ],
)
def test_other_urls_are_refused_without_their_secrets(url: str, said: str) -> None:
    with pytest.raises(UnknownStore, match=said) as refused:
        open_store(url)
    assert "secret" not in str(refused.value)
    assert "sqlite:///" in str(refused.value)


def test_a_new_database_is_its_owners_alone_and_an_old_one_stays_as_it_is(tmp_path: Path) -> None:
    fresh, old = tmp_path / "folder" / "fresh.db", tmp_path / "old.db"
    old.write_bytes(b"kept")
    old.chmod(0o640)
    for path in (fresh, old):
        create_privately(path)
    assert (fresh.stat().st_mode & 0o777, old.stat().st_mode & 0o777) == (0o600, 0o640)
    assert old.read_bytes() == b"kept"
