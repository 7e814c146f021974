"""What every store promises of the audit log (`stores/base.py`)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
import pytest_asyncio

from agent_gateway.stores.base import NO_ROW, SECRET_BYTES, AuditRow, AuditStore
from tests.stores.stores import KINDS, SHARED_KINDS, fresh_store, fresh_url, opened


@pytest_asyncio.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AuditStore]:
    store = await fresh_store(request.param, request.config, tmp_path)
    yield store
    await store.close()


def chain(last: AuditRow | None) -> AuditRow:
    number, before = (1, b"") if last is None else (last.number + 1, last.hash)
    body = b'{"number": %d, "\xc3\xbc": "\\u0000"}' % number
    return AuditRow(number, body, sha256(before + body).digest())


def sign(head: AuditRow) -> bytes:
    return b"signed " + head.hash


async def append(store: AuditStore, times: int) -> list[AuditRow]:
    return [await store.append_audit(chain, sign) for _ in range(times)]


async def test_the_log_grows_row_by_row(store: AuditStore) -> None:
    assert await store.audit_head() is None
    assert list(await store.read_audit(after=0, limit=10)) == []
    rows = await append(store, 12)
    assert [row.number for row in rows] == list(range(1, 13))
    assert all(chain(before) == row for before, row in pairwise(rows))
    assert await store.audit_head() == (rows[-1], sign(rows[-1]))
    assert list(await store.read_audit(after=0, limit=100)) == rows
    assert list(await store.read_audit(after=4, limit=7)) == rows[4:11]
    assert list(await store.read_audit(after=12, limit=7)) == []


async def test_a_row_that_cannot_be_made_or_signed_is_none(store: AuditStore) -> None:
    def fail(_: object) -> AuditRow:
        raise ArithmeticError

    def fail_to_sign(_: object) -> bytes:
        raise ArithmeticError

    [row] = await append(store, 1)
    for failing in ((fail, sign), (chain, fail_to_sign)):
        with pytest.raises(ArithmeticError):
            await store.append_audit(*failing)
    assert await store.audit_head() == (row, sign(row))
    assert list(await store.read_audit(after=0, limit=10)) == [row]
    assert [each.number for each in await append(store, 1)] == [2]


@pytest.mark.parametrize("kind", SHARED_KINDS)
async def test_appends_of_several_gateways_make_one_chain(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    async with opened(await fresh_url(kind, request.config, tmp_path), 3) as stores:
        await asyncio.gather(*(append(store, 10) for store in stores))
        rows = await stores[0].read_audit(after=0, limit=100)
        assert len(rows) == 30
        last = None
        for row in rows:
            assert row == chain(last)
            last = row
        assert last is not None
        assert await stores[1].audit_head() == (last, sign(last))


async def test_a_secret_is_made_once(store: AuditStore) -> None:
    made = await store.secret("audit")
    assert len(made) == SECRET_BYTES
    assert await store.secret("audit") == made
    assert await store.secret("another") != made


@pytest.mark.parametrize("kind", SHARED_KINDS)
async def test_a_secret_is_the_same_for_all(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    async with opened(await fresh_url(kind, request.config, tmp_path), 3) as stores:
        assert len(set(await asyncio.gather(*(store.secret("audit") for store in stores)))) == 1


async def test_sqlite_refuses_to_rewrite_the_log(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    async with opened(await fresh_url("sqlite", request.config, tmp_path), 1) as (store,):
        rows = await append(store, 3)
        database = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
        for change in ("UPDATE audit SET body = x'00'", "DELETE FROM audit WHERE number = 2", "DELETE FROM audit"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(change)
        assert list(await store.read_audit(after=0, limit=10)) == rows
        # Who owns the file can take the trigger away. What is left tells that there was something.
        database.execute("DROP TRIGGER audit_deleted")
        database.execute("DELETE FROM audit")
        assert await store.audit_head() == (NO_ROW, sign(rows[-1]))
        database.execute("DELETE FROM audit_head")
        database.execute("INSERT INTO audit VALUES (7, x'00', x'01')")
        assert await store.audit_head() == (AuditRow(7, b"\0", b"\1"), b"")
        database.close()


async def test_postgresql_refuses_to_rewrite_the_log(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = await fresh_url("postgres", request.config, tmp_path)
    async with opened(url, 1) as (store,):
        rows = await append(store, 3)
        database = await asyncpg.connect(url)
        try:
            changes = ("UPDATE audit SET body = ''", "DELETE FROM audit WHERE number = 2", "DELETE FROM audit", "TRUNCATE audit")
            for change in changes:
                with pytest.raises(asyncpg.RaiseError, match="append-only"):
                    await database.execute(change)
            assert list(await store.read_audit(after=0, limit=10)) == rows
            await database.execute("ALTER TABLE audit DISABLE TRIGGER ALL; DELETE FROM audit")
            assert await store.audit_head() == (NO_ROW, sign(rows[-1]))
        finally:
            await database.close()
