"""Records in ClickHouse, by its wire format: every column as it was, once whatever answers get lost, a user's erased."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from agent_gateway.core.errors import StoreDown
from agent_gateway.record import shipping
from agent_gateway.record.base import Tools
from agent_gateway.record.row import Record, packed
from agent_gateway.record.sinks import clickhouse as module
from agent_gateway.record.sinks.clickhouse import TYPES, ClickHouseSettings, ClickHouseSink
from tests.kit.clickhouse import ClickHouse
from tests.kit.eventually import eventually
from tests.kit.ports import free_port
from tests.record.exchanges import records


@pytest.fixture
def clickhouse() -> Iterator[ClickHouse]:
    with ClickHouse() as clickhouse:
        yield clickhouse


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(ClickHouseSink, "linger_s", 0.01)


def sink_to(url: str, **settings: Any) -> ClickHouseSink:
    return ClickHouseSink(ClickHouseSettings(url=url, **settings), Tools())


async def test_every_column_is_there_as_it_was(clickhouse: ClickHouse) -> None:
    rows = records(300)
    rows[0] = rows[0]._replace(model="modèle", user_id=None, cost_usd=0.1, quality=None, request=packed(b"x" * 100_000), answer=b"\xff")
    rows[1] = rows[1]._replace(error_code="timeout", deployment=None, client_request_id="half \ud800")
    sink = sink_to(clickhouse.url, user="gw", password="s3cret", table="calls", retention_days=400)
    sink.write(rows)
    await sink.close(10)
    assert (sink.written, sink.dropped) == (300, 0)
    assert [row["id"] for row in clickhouse.rows] == [row.id for row in rows]
    plain = rows[2]._asdict()
    for name in ("attempts", "request", "answer"):
        plain[name] = plain[name].decode()
    assert clickhouse.rows[2] == plain
    first, second = clickhouse.rows[:2]
    assert (first["model"], first["user_id"], first["cost_usd"], first["quality"]) == ("modèle", None, 0.1, None)
    assert (first["request"], first["answer"]) == ("x" * 100_000, "\ufffd")
    assert (second["error_code"], second["deployment"], second["client_request_id"]) == ("timeout", None, "half ?")
    assert clickhouse.users == {"gw:s3cret"}
    (created,) = [statement for statement in clickhouse.statements if statement.startswith("CREATE")]
    assert created.startswith("CREATE TABLE IF NOT EXISTS `default`.`calls` (id String, started_ms Int64, model LowCardinality(String)")
    assert "INTERVAL 400 DAY" in created
    assert "s3cret" not in repr(sink._settings)


def test_the_table_has_the_columns_of_a_record() -> None:
    assert tuple(TYPES) == Record._fields
    assert {"Nullable(Int64)", "Nullable(Float64)", "Nullable(String)", "LowCardinality(Nullable(String))"} <= set(TYPES.values())


async def test_a_batch_whose_answer_was_lost_is_in_the_table_once(clickhouse: ClickHouse) -> None:
    sink = sink_to(clickhouse.url)
    sink.write(records(2))
    await eventually(lambda: sink.written == 2, "the first batch")
    clickhouse.answers = [None] * 3  # the client's own second and third try included
    sink.write(records(3))
    await sink.close(10)
    assert len([statement for statement in clickhouse.statements if statement.startswith("INSERT")]) > 2
    assert (len(clickhouse.rows), sink.written, sink.dropped) == (5, 5, 0)


async def test_a_busy_server_is_waited_for(clickhouse: ClickHouse, caplog: pytest.LogCaptureFixture) -> None:
    clickhouse.answers = [503, 500, 500]
    sink = sink_to(clickhouse.url)
    sink.write(records(3))
    await eventually(lambda: sink.written == 3, "the batch")
    await sink.close(10)
    assert len(clickhouse.rows) == 3
    assert "The sink clickhouse takes no records at the moment" in caplog.text


async def test_a_user_is_erased_after_what_was_written_before(clickhouse: ClickHouse) -> None:
    sink = sink_to(clickhouse.url)
    sink.write([*records(3, user_id="ann"), *records(2)])
    assert await sink.erase("ann") == 3
    assert [(row["user_id"], row["request"], row["attempts"]) for row in clickhouse.rows[:3]] == [(None, None, None)] * 3
    assert clickhouse.rows[0]["cost_usd"] == clickhouse.rows[3]["cost_usd"]
    assert clickhouse.rows[3]["user_id"] == "user-7"
    await sink.close(10)


async def test_a_user_cannot_be_erased_while_it_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ERASE_TIMEOUT_S", 0.5)
    sink = sink_to(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreDown, match="Ask again"):
        await sink.erase("ann")
    sink.write(records(1))
    erasing = asyncio.ensure_future(sink.erase("ann"))
    await asyncio.sleep(0)
    await sink.close(0.1)
    with pytest.raises(StoreDown):
        await erasing
    await eventually(lambda: sink.dropped == 1, "the loss")  # its thread may take longer than it is waited for
    assert sink.written == 0


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"url": "clickhouse:8123"}, "url: is not an address"),
        ({"url": "http://u:p@clickhouse:8123"}, "url: holds a user"),
        ({"table": "a`b"}, "table: holds a `"),
        ({"database": "a\\b"}, "database: holds a `"),
    ],
)
def test_what_cannot_be_is_told_at_the_start(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        ClickHouseSettings(**settings)


def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install '.\[clickhouse\]'"):
        ClickHouseSettings()
