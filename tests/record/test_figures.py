"""Hourly figures: what records add up to, worked out as they come, agrees with what adding them all up again gives."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from agent_gateway.record import figures, records_file
from agent_gateway.record.changes import Feedback, scoring
from agent_gateway.record.figures import BOUNDS_MS, COLUMNS, DURATIONS, HOUR_MS, KEY, STEPS_MS, Rollup
from agent_gateway.record.metrics import OTHER
from agent_gateway.record.records_file import RecordsFile
from agent_gateway.record.row import Record
from tests.record.exchanges import WALL, records

START_MS = int(WALL * 1000) // HOUR_MS * HOUR_MS


def mixed(count: int, seed: int = 1) -> list[Record]:
    """Of three hours, some models, keys and ends, with and without tokens; times on the buckets' bounds and beyond them."""
    draw = random.Random(seed)
    made = []
    for record in records(count):
        failed = draw.random() < 0.2
        known = None if failed else draw.randrange(1000)
        fields: dict[str, Any] = {
            "started_ms": START_MS + draw.randrange(3) * HOUR_MS + draw.choice((0, 1, HOUR_MS - 1)),
            "model": draw.choice("abc"),
            "deployment": None if failed else draw.choice(("local/a", "sim/b")),
            "pattern": draw.choice(("unary", "streaming", "batching")),
            "dialect": draw.choice(("openai_chat", "anthropic")),
            "status": "error" if failed else draw.choice(("success", "fallback", "cached")),
            "error_code": draw.choice(("provider_timeout", "model_not_found")) if failed else None,
            "key_id": draw.choice((None, "key-1", "key-2")),
            "input_tokens": known,
            "output_tokens": known,
            "cost_usd": None if known is None else known / 1e6,
            "duration_ms": draw.choice((*BOUNDS_MS, 0.0, 1e9, draw.uniform(0, 1000))),
            "ttft_ms": draw.choice((None, 2.5, 1e9)),
            "quality": draw.choice((None, 0.5, 1.0)),
        }
        made.append(record._replace(**fields))
    return made


@pytest.fixture
def table(tmp_path: Path) -> Iterator[RecordsFile]:
    table = RecordsFile(tmp_path / "gateway.records.db")
    yield table
    table.close()


def kept(table: RecordsFile) -> list[tuple[Any, ...]]:
    with closing(table.reader()) as connection:
        return connection.execute(f"SELECT {', '.join(COLUMNS)} FROM figures ORDER BY {', '.join(KEY)}").fetchall()


def counted(table: RecordsFile) -> list[int]:
    """Requests by kind of figures."""
    with closing(table.reader()) as connection:
        return [count for (count,) in connection.execute("SELECT sum(requests) FROM figures GROUP BY kind")]


def by_model(rows: list[tuple[Any, ...]]) -> list[tuple[str, int]]:
    """Of rows by the hour."""
    return [(row[COLUMNS.index("model")], row[COLUMNS.index("requests")]) for row in rows if row[0] == "hour"]


def added_up_again(table: RecordsFile) -> list[tuple[Any, ...]]:
    """By the database, of the records that it has."""
    assert table.path is not None
    with closing(sqlite3.connect(table.path)) as connection:
        connection.execute("DELETE FROM figures")
        for statement in figures.whole("records"):
            connection.execute(statement)
        connection.commit()
    return kept(table)


def assert_alike(some: list[tuple[Any, ...]], others: list[tuple[Any, ...]]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one == pytest.approx(other)


def test_figures_are_what_the_records_add_up_to(table: RecordsFile) -> None:
    batch = mixed(600)
    for place in range(0, 600, 150):
        assert table.insert(batch[place : place + 150]) == 150
    told = kept(table)
    assert counted(table) == [600] * len(STEPS_MS)
    assert_alike(told, added_up_again(table))


def test_a_record_that_is_there_already_adds_nothing(table: RecordsFile) -> None:
    batch = mixed(40)
    assert table.insert(batch[:20]) == 20
    assert table.insert(batch) == 20
    assert table.insert(batch) == 0
    assert table.insert([batch[0]] * 3 + mixed(2, seed=2) * 2) == 2
    assert_alike(kept(table), added_up_again(table))
    assert counted(table) == [42] * len(STEPS_MS)


def test_a_batch_that_fails_adds_nothing(table: RecordsFile) -> None:
    with pytest.raises(table.unwritable):
        table.insert([*mixed(5), *records(1, input_tokens=10**30)])
    assert kept(table) == []


def test_an_older_file_gets_its_figures(tmp_path: Path) -> None:
    table = RecordsFile(tmp_path / "gateway.records.db")
    columns = Record._fields[: Record._fields.index("edge")]
    with closing(sqlite3.connect(tmp_path / "gateway.records.db", isolation_level=None)) as connection:
        for version in (1, 2):
            for statement in records_file._STEPS[version]:
                connection.execute(statement)
        connection.execute("PRAGMA user_version = 2")
        batch = mixed(100)
        connection.executemany(f"INSERT INTO records VALUES ({', '.join('?' * len(columns))})", [row[: len(columns)] for row in batch])
    table.insert(mixed(1, seed=2))
    assert counted(table) == [101] * len(STEPS_MS)
    assert_alike(kept(table), added_up_again(table))
    table.close()


def test_names_that_anybody_makes_up_are_one() -> None:
    rows = Rollup().of(records(50, error_code="model_not_found", model="x") + records(3, error_code="invalid_api_key", model="y"))
    assert by_model(rows) == [(OTHER, 3), (OTHER, 50)]


def test_models_are_told_apart_up_to_a_bound_in_each_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MODELS_MAX", 3)
    rollup = Rollup()
    made = [record._replace(model=f"m{number}", started_ms=START_MS) for number, record in enumerate(records(6))]
    assert by_model(rollup.of(made)) == [("m0", 1), ("m1", 1), ("m2", 1), (OTHER, 3)]
    assert by_model(rollup.of(made[4:])) == [(OTHER, 2)]
    assert by_model(rollup.of([made[4]._replace(started_ms=START_MS + HOUR_MS)])) == [("m4", 1)], "a new hour"


def test_every_time_is_in_one_bucket() -> None:
    row, *others = Rollup().of([record._replace(started_ms=START_MS) for record in records(5)])
    assert len(others) == len(STEPS_MS) - 1
    buckets = row[COLUMNS.index(DURATIONS[0]) :][: len(DURATIONS)]
    assert sum(buckets) == 5
    assert buckets[BOUNDS_MS.index(1000.0)] == 5, "half a second, and a little more"


@pytest.mark.parametrize(
    ("times", "share", "expected"),
    [
        ([], 0.5, None),
        ([1500.0] * 10, 0.5, 1500.0),
        ([1500.0] * 10, 1.0, 2000.0),
        ([1e9], 0.95, 600_000.0),
        ([0.4] * 95 + [4000.0] * 5, 0.95, 1.0),
        ([0.4] * 94 + [4000.0] * 6, 0.95, 3333.333),
    ],
)
def test_a_quantile_is_told_within_its_bucket(times: list[float], share: float, expected: float | None) -> None:
    counts = figures._buckets(sorted(times))
    found = figures.quantile_ms(counts, share)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-4))


def test_a_score_is_added_in_the_order_in_which_records_are() -> None:
    """Two transactions that lock the same rows in different orders would wait for each other for ever."""
    adding = [row[0] for row in Rollup().of(records(1))]
    operation = scoring(Feedback("req_1", "key-1", 5, None, 0))
    text, values = next(operation)
    asked = []
    answers: dict[str, list[Sequence[Any]]] = {
        "SELECT started_ms": [(0, None, "chat", "", "unary", "openai_chat", "success", "", "key-1")],
        "UPDATE figures": [(1,)],
    }
    with suppress(StopIteration):
        while True:
            asked += [values[2]] if text.startswith("UPDATE figures") else []
            text, values = operation.send(next((rows for begin, rows in answers.items() if text.startswith(begin)), []))
    assert asked == adding
