"""Records read back: the right ones, page by page, in time, whatever state the file is in; and erased for good."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, Overloaded, StoreDown
from agent_gateway.record import records_file
from agent_gateway.record.archive import LISTED, READERS, WAITING_MAX, Archive, UsageRow, Wanted
from agent_gateway.record.row import Record, make_record
from agent_gateway.record.sinks.database import DatabaseSink
from tests.kit.eventually import eventually
from tests.record.exchanges import WALL, attempt, exchange, records

CLOCK = Clock(wall=lambda: WALL + 60)
DAY_MS = 86_400_000
START_MS = int(WALL * 1000)


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
    archive = Archive(sink.reader)
    yield archive
    await archive.close()


async def put(sink: DatabaseSink, rows: list[Record]) -> list[Record]:
    before = sink.written
    sink.write(rows)
    await eventually(lambda: sink.written == before + len(rows), "all rows")
    return rows


def spread(count: int, **fields: Any) -> list[Record]:
    """One a second."""
    return [record._replace(started_ms=START_MS + number * 1000, **fields) for number, record in enumerate(records(count))]


async def ids(archive: Archive, wanted: Wanted, limit: int = 100) -> list[str]:
    return [row[LISTED.index("id")] for row in (await archive.page(wanted, limit)).rows]


# --- looked for


async def test_pages_hold_every_record_once_newest_first(sink: DatabaseSink, archive: Archive) -> None:
    rows = await put(sink, [*spread(10), *(record._replace(started_ms=START_MS) for record in records(5))])
    seen: list[str] = []
    cursor = None
    while True:
        page = await archive.page(Wanted(), 4, cursor)
        seen += [row[0] for row in page.rows]
        cursor = page.next
        if cursor is None:
            break
        assert len(page.rows) == 4
    order = sorted(enumerate(rows), key=lambda item: (item[1].started_ms, item[0]), reverse=True)
    assert seen == [record.id for _, record in order]


@pytest.mark.parametrize("cursor", ["", "1", "-", "1-", "a-b", "1-2-3", "9" * 30 + "-1", "１-１"])
async def test_a_cursor_that_was_never_given_is_refused(archive: Archive, cursor: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await archive.page(Wanted(), 4, cursor)
    assert caught.value.param == "cursor"


async def test_each_filter_holds(sink: DatabaseSink, archive: Archive) -> None:
    other: dict[str, dict[str, Any]] = {
        "model": {"model": "other"},
        "key": {"key_id": "key-2"},
        "status": {"status": "error"},
        "session": {"session_id": "s2"},
        "user": {"user_id": "bob"},
        "error": {"error_code": "timeout"},
    }
    plain = await put(sink, records(2))
    for name, fields in other.items():
        (row,) = await put(sink, records(1, **fields))
        assert await ids(archive, Wanted(**{name: next(iter(fields.values()))})) == [row.id]
    late = await put(sink, records(1, started_ms=START_MS + DAY_MS))
    assert await ids(archive, Wanted(since_ms=START_MS + DAY_MS)) == [late[0].id]
    assert late[0].id not in await ids(archive, Wanted(until_ms=START_MS + DAY_MS))
    assert await ids(archive, Wanted(model="other", user="bob")) == []
    assert {row.id for row in plain} <= set(await ids(archive, Wanted(user="user-7", status="success")))


async def test_one_record_whole(sink: DatabaseSink, archive: Archive) -> None:
    (row,) = await put(sink, records(1))
    assert await archive.find(row.id) == row
    assert await archive.find("req_none") is None


@pytest.mark.parametrize(
    ("group", "groups"),
    [("model", ["chat", "other"]), ("key", ["", "key-1"]), ("day", ["2025-10-09", "2025-10-10"]), ("user", ["user-7"])],
)
async def test_usage_adds_up_by_group(sink: DatabaseSink, archive: Archive, group: Any, groups: list[str]) -> None:
    await put(sink, [*spread(3), *records(2, model="other", key_id=None, started_ms=START_MS + DAY_MS, status="error")])
    rows, more = await archive.usage(group, START_MS, START_MS + 2 * DAY_MS, 10)
    assert [row.group for row in rows] == groups
    assert not more
    assert sum(row.requests for row in rows) == 5
    assert sum(row.errors for row in rows) == 2
    assert sum(row.input_tokens for row in rows) == 150
    first, more = await archive.usage(group, START_MS, START_MS + 2 * DAY_MS, 1)
    rest, _ = await archive.usage(group, START_MS, START_MS + 2 * DAY_MS, 10, first[-1].group)
    assert [*first, *rest] == rows
    assert more == (len(rows) > 1)


async def test_usage_of_what_knows_no_tokens_is_nought(sink: DatabaseSink, archive: Archive) -> None:
    await put(sink, records(1, input_tokens=None, output_tokens=None, cost_usd=None))
    assert await archive.usage("model", 0, 2**53, 10) == ([UsageRow("chat", 1, 0, 0, 0, 0.0)], False)


async def test_usage_is_read_off_an_index_and_never_touches_bodies(sink: DatabaseSink) -> None:
    await put(sink, records(1))
    with closing(sink.reader()) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT coalesce(user_id, ''), count(*), sum(status = 'error'), sum(input_tokens), sum(output_tokens), "
            "total(cost_usd) FROM records WHERE started_ms >= 1 AND started_ms < 2 GROUP BY 1 ORDER BY 1"
        ).fetchall()
        assert "COVERING INDEX records_usage" in plan[0][3]
        for column in ("user_id", "session_id"):
            plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT rowid FROM records WHERE {column} = 'a'").fetchall()
            assert f"records_{column}" in plan[0][3]


# --- trouble


async def test_before_the_first_record_there_is_nothing(archive: Archive) -> None:
    assert (await archive.page(Wanted(), 5)).rows == []
    assert await archive.find("req_1") is None
    assert await archive.usage("key", 0, 1, 5) == ([], False)


async def test_a_damaged_file_is_a_store_that_is_down(archive: Archive, path: Path) -> None:
    _write(path, b"this is no database" * 1000)
    with pytest.raises(StoreDown):
        await archive.page(Wanted(), 5)


async def test_a_question_that_takes_too_long_is_given_up(sink: DatabaseSink) -> None:
    await put(sink, records(1))

    def slow() -> sqlite3.Connection:
        connection = sink.reader()
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id FROM n"
        connection.execute(f"CREATE TEMP VIEW records AS {endless}")
        return connection

    archive = Archive(slow, timeout_s=0.05)
    with pytest.raises(Overloaded, match="took too long"):
        await archive._rows("SELECT count(*) FROM records", [])
    await archive.close()


async def test_too_many_questions_at_once_are_turned_away(sink: DatabaseSink, archive: Archive) -> None:
    await put(sink, records(1))
    asked = [archive.find("req_1") for _ in range(READERS + WAITING_MAX + 5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, Overloaded) for answer in answers) == 5
    assert await archive.find("req_1") is None, "and then there is room again"


async def test_an_older_file_is_brought_up_to_date_in_place(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in records_file._STEPS[1]:
            database.execute(statement)
        database.execute("PRAGMA user_version = 1")
        old = records(1, id="req_old")[0][: Record._fields.index("guards")]
        database.execute(f"INSERT INTO records VALUES ({', '.join('?' * len(old))})", old)
    sink = DatabaseSink(path, clock=CLOCK)
    archive = Archive(sink.reader)
    (new,) = await put(sink, records(1))
    assert set(await ids(archive, Wanted())) == {"req_old", new.id}
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (records_file.VERSION,)
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'records%'")}
    assert names == {"records_usage", "records_user_id", "records_session_id"}
    await archive.close()
    await sink.close(10)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


# --- erased

SECRET = "what nobody but me should know"


def said(user: str) -> Record:
    """It is in the request, the answer, and in what the provider said of it."""
    made = exchange(attempts=[attempt(outcome="error", error_detail=SECRET), attempt()])
    body = made.call.body.replace(b"Who are you", SECRET.encode())
    answer = b'{"text":"%b"}' % SECRET.encode()
    return make_record(made, "full")._replace(user_id=user, session_id=f"{user}-{SECRET}", request=body * 40, answer=answer)


async def test_a_user_is_erased_and_figures_stay(sink: DatabaseSink, archive: Archive, path: Path) -> None:
    own = await put(sink, [said("ann") for _ in range(450)])
    others = await put(sink, [said("bob"), *records(2)])
    assert await sink.erase("ann") == 450
    assert await ids(archive, Wanted(user="ann")) == []
    record = await archive.find(own[0].id)
    assert record is not None
    assert (record.user_id, record.session_id, record.client_request_id, record.request, record.answer) == (None,) * 5
    assert record.attempts is not None
    assert SECRET.encode() not in record.attempts
    assert (record.cost_usd, record.input_tokens, record.key_id) == (own[0].cost_usd, own[0].input_tokens, own[0].key_id)
    assert await archive.find(others[0].id) == others[0]
    assert await sink.erase("ann") == 0
    assert await sink.erase("bob") == 1
    found = [name for name in os.listdir(path.parent) if SECRET.encode() in (path.parent / name).read_bytes()]
    assert found == [], "not in the file, nor in its log"


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


async def test_what_was_written_just_before_is_erased(sink: DatabaseSink, archive: Archive) -> None:
    sink.write([said("ann")])
    assert await sink.erase("ann") == 1


async def test_in_memory_too() -> None:
    sink = DatabaseSink(None, clock=CLOCK)
    archive = Archive(sink.reader)
    (row,) = await put(sink, [said("ann")])
    assert await sink.erase("ann") == 1
    record = await archive.find(row.id)
    assert record is not None
    assert record.request is None
    await archive.close()
    await sink.close(10)
    with pytest.raises(StoreDown):
        await sink.erase("ann")
