"""Records in SQLite, on a real disk with real troubles: locked, damaged, deleted, read-only, full of poison."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import Overloaded, StoreDown
from agent_gateway.record import records_file
from agent_gateway.record.changes import Feedback
from agent_gateway.record.figures import DAY_MS
from agent_gateway.record.records_file import RecordsFile
from agent_gateway.record.row import COMPRESS_MIN_BYTES, Record, unpacked
from agent_gateway.record.sinks import database as module
from agent_gateway.record.sinks.database import DatabaseSink
from tests.kit.eventually import eventually
from tests.record.exchanges import WALL, records

Open = Callable[..., DatabaseSink]
#: The records are of WALL; to this clock they are new.
CLOCK = Clock(wall=lambda: WALL + 60)


@pytest_asyncio.fixture
async def launch() -> AsyncIterator[Open]:
    """A sink that is closed in the end."""
    sinks: list[DatabaseSink] = []

    def start(path: Path | None, clock: Clock = CLOCK) -> DatabaseSink:
        sink = DatabaseSink(path, clock=clock)
        sinks.append(sink)
        sink.start()
        return sink

    yield start
    for sink in sinks:
        await sink.close(10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gateway.records.db"


def rows(path: Path) -> list[Record]:
    if not path.is_file():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return [Record._make(row) for row in connection.execute("SELECT * FROM records ORDER BY rowid")]


def spills(path: Path) -> list[Path]:
    return sorted(path.parent.glob("gateway.records.spill-*"))


def opened(sink: DatabaseSink) -> sqlite3.Connection:
    assert isinstance(sink.table, RecordsFile)
    return sink.table.reader()


def written(sink: DatabaseSink, how_many: int) -> Callable[[], bool]:
    return lambda: sink.written == how_many


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def stand_in_the_way(path: Path) -> None:
    """A folder where the file should be: SQLite cannot open it, root or not."""
    path.mkdir(parents=True)


def path_is_free(path: Path) -> None:
    path.rmdir()


def damage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


async def test_records_come_back_as_they_went_in(launch: Open, path: Path) -> None:
    sink = launch(path)
    batch = records(70) + records(1, answer=None, deployment=None, cost_usd=None) + records(10, stream=1)
    sink.write(batch)
    await eventually(written(sink, 81), "all rows")
    assert rows(path) == batch
    assert sink.dropped == 0


async def test_the_tables_columns_are_those_of_a_record(launch: Open, path: Path) -> None:
    sink = launch(path)
    sink.write(records(1))
    await eventually(written(sink, 1), "the row")
    with closing(opened(sink)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(records)")]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM records")
    assert tuple(columns) == Record._fields


async def test_a_request_is_never_there_twice(launch: Open, path: Path) -> None:
    sink = launch(path)
    batch = records(5)
    sink.write(batch)
    sink.write(batch)
    sink.write(last := records(1))
    await eventually(written(sink, 6), "six rows")
    await sink.close(10)
    assert rows(path) == batch + last
    assert (sink.written, sink.dropped) == (6, 0)


async def test_large_bodies_are_packed(launch: Open, path: Path) -> None:
    sink = launch(path)
    body = b'{"messages": ["' + b"again and " * COMPRESS_MIN_BYTES + b'"]}'
    sink.write(records(1, request=body))
    await eventually(written(sink, 1), "the row")
    [row] = rows(path)
    assert row.request is not None
    assert len(row.request) < len(body) / 10
    assert unpacked(row.request) == body


async def test_while_the_database_is_locked_records_wait_in_a_file(launch: Open, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = launch(path)
    sink.write(records(1))
    await eventually(written(sink, 1), "the first row")
    with locked(path):
        for _ in range(3):
            sink.write(records(10))
        await eventually(lambda: sum(file.stat().st_size for file in spills(path)) > 30 * 300, "a spill file with all rows")
        assert sink.written == 1
    await eventually(written(sink, 31), "the rows that waited")
    await eventually(lambda: spills(path) == [], "an end of the spill file")
    assert len({row.id for row in rows(path)}) == 31
    told = [entry.message for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert len(told) == 2
    assert "locked" in told[0]
    assert "again" in told[1]


async def test_what_waits_at_the_end_is_loaded_by_the_next_start(launch: Open, path: Path) -> None:
    sink = launch(path)
    sink.write(first := records(1))
    await eventually(written(sink, 1), "the first row")
    with locked(path):
        sink.write(second := records(3))
        await sink.close(10)
    assert (sink.written, sink.dropped) == (1, 0)
    assert len(spills(path)) == 1
    again = launch(path)
    await eventually(written(again, 3), "the rows that waited")
    await eventually(lambda: not spills(path), "no spill file")
    assert rows(path) == first + second


async def test_what_was_loaded_before_a_crash_is_not_loaded_twice(launch: Open, path: Path) -> None:
    sink = launch(path)
    batch = records(3)
    sink.write(batch[:1])
    await eventually(written(sink, 1), "the first row")
    with locked(path):
        sink.write(batch)
        await sink.close(10)
    again = launch(path)
    await eventually(written(again, 2), "the rows that are new")
    assert rows(path) == batch


async def test_several_processes_write_one_file(launch: Open, path: Path) -> None:
    sinks = [launch(path) for _ in range(3)]
    for _ in range(20):
        for sink in sinks:
            sink.write(records(7))
    await eventually(lambda: sum(sink.written for sink in sinks) == 420, "all rows")
    assert len({row.id for row in rows(path)}) == 420
    assert [sink.dropped for sink in sinks] == [0, 0, 0]


async def test_a_damaged_file_is_set_aside(launch: Open, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    damage(path)
    sink = launch(path)
    sink.write(batch := records(3))
    await eventually(written(sink, 3), "the rows in a new file")
    assert rows(path) == batch
    [aside] = path.parent.glob("*.corrupt-*")
    assert aside.read_bytes().startswith(b"this is no database")
    assert any(str(aside) in entry.message for entry in caplog.records)


async def test_a_file_of_a_later_version_is_left_alone(launch: Open, path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE records (of_the_future)")
        connection.execute(f"PRAGMA user_version = {records_file.VERSION + 1}")
    sink = launch(path)
    sink.write(records(2))
    await eventually(lambda: spills(path), "a spill file")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (0,)


async def test_a_path_that_cannot_be_opened_is_tried_again(launch: Open, path: Path) -> None:
    stand_in_the_way(path)
    sink = launch(path)
    sink.write(batch := records(4))
    await eventually(lambda: spills(path), "a spill file")
    path_is_free(path)
    await eventually(written(sink, 4), "the rows that waited")
    assert rows(path) == batch


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_folder_that_cannot_be_written_is_tried_again(launch: Open, path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o500)
    try:
        sink = launch(path)
        sink.write(batch := records(4))
        await eventually(lambda: sink._held, "rows in memory")
    finally:
        path.parent.chmod(0o700)
    await eventually(written(sink, 4), "the rows that waited")
    assert rows(path) == batch


async def test_a_folder_deleted_under_it_is_made_again(launch: Open, path: Path) -> None:
    sink = launch(path)
    sink.write(records(1))
    await eventually(written(sink, 1), "the first row")
    shutil.rmtree(path.parent)
    sink.write(after := records(2))
    await eventually(written(sink, 3), "the rows after it")
    assert rows(path) == after


async def test_without_database_and_spill_file_records_are_held_and_then_dropped(
    launch: Open, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "HELD_MAX_ROWS", 3)
    path.parent.write_text("a file where the folder should be")
    sink = launch(path)
    sink.write(batch := records(5))
    await eventually(lambda: sink.dropped == 2, "the rows for which there is no room")
    path.parent.unlink()
    await eventually(written(sink, 3), "the rows that were held")
    assert rows(path) == batch[:3]
    assert sum("dropped" in entry.message for entry in caplog.records) == 1


async def test_what_is_still_held_at_the_end_is_counted_as_dropped(launch: Open, path: Path) -> None:
    path.parent.write_text("a file where the folder should be")
    sink = launch(path)
    sink.write(records(5))
    await sink.close(10)
    assert (sink.written, sink.dropped) == (0, 5)


async def test_a_full_spill_file_drops_and_counts(launch: Open, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_the_way(path)
    sink = launch(path)
    monkeypatch.setattr(sink._spill, "_max_bytes", 10_000)
    sink.write(records(5))
    await eventually(lambda: spills(path), "a spill file")
    sink.write(records(100))
    await eventually(lambda: sink.dropped == 100, "the rows for which there is no room")
    path_is_free(path)
    await eventually(written(sink, 5), "the rows that waited")


@pytest.mark.parametrize("down", [False, True], ids=["database up", "database down"])
async def test_a_value_no_database_can_hold_costs_its_own_row_only(launch: Open, path: Path, down: bool) -> None:
    if down:
        stand_in_the_way(path)
    sink = launch(path)
    batch = records(10) + records(1, input_tokens=10**30) + records(1, model="\ud800") + records(10)
    sink.write(batch)
    await eventually(lambda: sink.dropped == 2, "the two rows dropped")
    if down:
        await eventually(lambda: spills(path), "a spill file")
        path_is_free(path)
    await eventually(written(sink, 20), "the others")
    assert [row.id for row in rows(path)] == [record.id for record in batch[:10] + batch[12:]]


async def test_old_records_are_deleted(launch: Open, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_ROWS", 10)
    first = launch(path)
    old, new = records(35), records(5, started_ms=int(WALL * 1000) + 20 * DAY_MS)
    first.write(new[:2] + old + new[2:])
    await eventually(written(first, 40), "all rows")
    await first.close(10)
    later = launch(path, Clock(wall=lambda: WALL + 31 * 86_400))
    await eventually(lambda: len(rows(path)) == 5, "the new rows only")
    assert rows(path) == new
    later.keep(1)
    later._sweep_at = 0.0
    later.write(records(1, started_ms=int(WALL * 1000) + 31 * DAY_MS))
    await eventually(lambda: len(rows(path)) == 1, "nothing older than a day")


async def test_what_comes_faster_than_it_is_written_is_bounded(launch: Open, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_MAX_ROWS", 100)
    sink = DatabaseSink(path)
    monkeypatch.setattr(sink, "start", lambda: None)
    for _ in range(15):
        sink.write(records(10))
    assert sink.dropped == 50
    monkeypatch.setattr(module, "WAITING_MAX_BYTES", 0)
    sink.write(records(1))
    assert sink.dropped == 51


async def test_nothing_is_written_after_the_end(launch: Open, path: Path) -> None:
    sink = launch(path)
    await sink.close(10)
    sink.write(records(2))
    assert (sink.written, sink.dropped) == (0, 2)


async def test_a_bug_costs_one_batch(launch: Open, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    sink = launch(path)
    await eventually(path.exists, "the database")
    with monkeypatch.context() as patched:
        patched.setattr(module, "_pack", lambda record: 1 // 0)
        sink.write(records(3))
        await eventually(lambda: sink.dropped == 3, "the lost batch")
    sink.write(records(2))
    await eventually(written(sink, 2), "the next batch")
    assert "ZeroDivisionError" in caplog.text


async def test_a_bug_in_what_is_done_without_being_asked_costs_no_spinning(
    launch: Open, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(RecordsFile, "sweep", lambda *_: 1 // 0)
    sink = launch(path)
    await eventually(lambda: "ZeroDivisionError" in caplog.text, "the bug")
    sink.write(records(1))
    await eventually(written(sink, 1), "a record, all the same")
    await sink.close(10)
    assert caplog.text.count("ZeroDivisionError") == 1


async def test_in_memory_the_last_records_are_kept(launch: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_file, "MEMORY_ROWS", 20)
    sink = launch(None)
    batch = records(30)
    for place in range(0, 30, 5):
        sink.write(batch[place : place + 5])
    await eventually(written(sink, 30), "all rows")
    with closing(opened(sink)) as connection:
        kept = [row[0] for row in connection.execute("SELECT id FROM records ORDER BY rowid")]
    assert kept == [record.id for record in batch[10:]]


async def test_the_event_loop_gives_batches_of_bounded_size(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = DatabaseSink(path)
    monkeypatch.setattr(sink, "start", lambda: None)
    monkeypatch.setattr(module, "BATCH_BYTES", 1000)
    sink.write(records(20, request=b"{" * 300, answer=None))
    sizes: Counter[int] = Counter()
    while not sink._queue.empty():
        item = sink._queue.get()
        assert isinstance(item, tuple)
        sizes[len(item[0])] += 1
    assert sizes == {3: 6, 2: 1}


async def test_an_errand_that_fails_costs_no_record(launch: Open, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It comes right behind a batch, and so is done together with it."""
    sink = launch(path)
    sink.write(records(3))
    errand = module._Errand("It is not done", lambda: 1 // 0)
    with pytest.raises(StoreDown, match="It is not done"):
        await sink._run_errand(errand, 5)
    await eventually(lambda: sink.written == 3, "the rows")
    assert (len(rows(path)), sink.dropped) == (3, 0)
    assert "ZeroDivisionError" in caplog.text


async def test_feedback_that_waits_is_bounded(launch: Open, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCORES_MAX", 3)
    sink = launch(path)
    sink.write(batch := records(5))
    told = [sink.score(Feedback(record.id, "key-1", 5, None, 0)) for record in batch]
    kept = await asyncio.gather(*told, return_exceptions=True)
    assert kept[:3] == [True] * 3
    assert [type(each) for each in kept[3:]] == [Overloaded] * 2
    assert await sink.score(Feedback(batch[4].id, "key-1", 5, None, 0)), "later there is room again"
