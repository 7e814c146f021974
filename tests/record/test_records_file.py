"""Records in an SQLite file, read back and erased: by an index, in time, whatever state the file is in, and for good."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from agent_gateway.core.errors import Overloaded, StoreDown
from agent_gateway.record import records_file
from agent_gateway.record.archive import Archive, Wanted
from agent_gateway.record.file_reader import FileReader
from agent_gateway.record.records_file import RecordsFile
from agent_gateway.record.row import Record
from agent_gateway.record.sinks.database import DatabaseSink
from tests.kit.eventually import eventually
from tests.record.exchanges import records
from tests.record.kept import CLOCK, SECRET, ids, put, said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.records.db"


@pytest.fixture
async def sink(path: Path) -> AsyncIterator[DatabaseSink]:
    sink = DatabaseSink(path, clock=CLOCK)
    yield sink
    await sink.close(10)


@pytest.fixture
async def archive(sink: DatabaseSink) -> AsyncIterator[Archive]:
    archive = Archive(sink.table.open_reader())
    yield archive
    await archive.close()


def opened(sink: DatabaseSink) -> sqlite3.Connection:
    assert isinstance(sink.table, RecordsFile)
    return sink.table.reader()


async def test_what_is_looked_for_is_found_in_an_index_past_the_bodies(sink: DatabaseSink) -> None:
    await put(sink, records(1))
    by_user = "SELECT user_id, status, input_tokens, output_tokens, cost_usd FROM records WHERE started_ms >= 1 AND user_id IS NOT NULL"
    for question, index in (
        ("SELECT * FROM records WHERE status = 'error' ORDER BY started_ms DESC, id DESC LIMIT 20", "INDEX records_started"),
        ("SELECT * FROM records WHERE user_id = 'a' ORDER BY started_ms DESC, id DESC LIMIT 20", "INDEX records_user "),
        ("SELECT * FROM records WHERE session_id = 'a' ORDER BY started_ms DESC, id DESC LIMIT 20", "INDEX records_session "),
        (by_user, "COVERING INDEX records_user"),
    ):
        with closing(opened(sink)) as connection:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {question}").fetchall()
        assert index in plan[0][3], question


async def test_a_damaged_file_is_a_store_that_is_down(archive: Archive, path: Path) -> None:
    _write(path, b"this is no database" * 1000)
    with pytest.raises(StoreDown):
        await archive.page(Wanted(), 5)


async def test_a_question_that_takes_too_long_is_given_up(sink: DatabaseSink) -> None:
    await put(sink, records(1))

    def slow() -> sqlite3.Connection:
        connection = opened(sink)
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id FROM n"
        connection.execute(f"CREATE TEMP VIEW records AS {endless}")
        return connection

    reader = FileReader(slow, timeout_s=0.05)
    with pytest.raises(Overloaded, match="took too long"):
        await reader.rows("SELECT count(*) FROM records", [])
    await reader.close()


async def test_an_older_file_is_brought_up_to_date_in_place(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in records_file._STEPS[1]:
            database.execute(statement)
        database.execute("PRAGMA user_version = 1")
        old = records(1, id="req_old")[0][: Record._fields.index("guards")]  # without what later versions have
        database.execute(f"INSERT INTO records VALUES ({', '.join('?' * len(old))})", old)
    sink = DatabaseSink(path, clock=CLOCK)
    archive = Archive(sink.table.open_reader())
    (new,) = await put(sink, records(1))
    assert set(await ids(archive, Wanted())) == {"req_old", new.id}
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (records_file.VERSION,)
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'records%'")}
    assert names == {"records_started", "records_user", "records_session"}
    await archive.close()
    await sink.close(10)


async def test_what_waits_in_a_spill_file_is_erased_too(sink: DatabaseSink, archive: Archive, path: Path) -> None:
    os.mkdir(path)  # SQLite cannot open it
    sink.write([said("ann")])
    await eventually(lambda: any("spill" in name for name in os.listdir(path.parent)), "it is put by")
    with pytest.raises(StoreDown, match="not all erased"):
        await sink.erase("ann")
    os.rmdir(path)
    assert await sink.erase("ann") == 1
    assert sink.dropped == 0
    assert len(await ids(archive, Wanted())) == 1
    found = [name for name in os.listdir(path.parent) if SECRET.encode() in (path.parent / name).read_bytes()]
    assert found == []


async def test_in_memory_too() -> None:
    sink = DatabaseSink(None, clock=CLOCK)
    archive = Archive(sink.table.open_reader())
    (row,) = await put(sink, [said("ann")])
    assert await sink.erase("ann") == 1
    record = await archive.find(row.id)
    assert record is not None
    assert record.request is None
    await archive.close()
    await sink.close(10)
    with pytest.raises(StoreDown):
        await sink.erase("ann")


async def test_what_was_erased_is_neither_in_the_file_nor_in_its_log(sink: DatabaseSink, path: Path) -> None:
    await put(sink, [said("ann") for _ in range(450)])
    assert await sink.erase("ann") == 450
    assert [name for name in os.listdir(path.parent) if SECRET.encode() in (path.parent / name).read_bytes()] == []


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
