"""What every sink of records promises (`record/base.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from agent_gateway.core.errors import StoreDown
from agent_gateway.record.base import SINKS, Sink, Tools
from tests.kit.clickhouse import ClickHouse
from tests.kit.collector import Collector
from tests.record.exchanges import records


def made(kind: str, **settings: object) -> Sink:
    plugin = SINKS.load(kind)
    sink: Sink = plugin(plugin.Settings(**settings), Tools())
    return sink


@contextmanager
def clickhouse(folder: Path) -> Iterator[Sink]:
    with ClickHouse() as server:
        yield made("clickhouse", url=server.url)


@contextmanager
def otlp(folder: Path) -> Iterator[Sink]:
    with Collector() as collector:
        yield made("otlp", endpoint=collector.url)


MAKE: dict[str, Callable[[Path], AbstractContextManager[Sink]]] = {
    "database": lambda folder: nullcontext(SINKS.load("database")(folder / "gateway.records.db")),
    "jsonl": lambda folder: nullcontext(made("jsonl", path=str(folder / "records.jsonl"))),
    "clickhouse": clickhouse,
    "otlp": otlp,
}
#: From where a user's data can be taken back.
ERASE = {"database", "clickhouse"}


@pytest.fixture(params=sorted(SINKS.table))
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    with MAKE[request.param](tmp_path) as sink:
        yield sink


def test_it_has_a_name_for_the_metrics(sink: Sink) -> None:
    assert sink.name in SINKS.table
    assert (sink.written, sink.dropped) == (0, 0)


async def test_everything_written_is_safe_when_it_has_closed(sink: Sink) -> None:
    sink.start()
    sink.start()
    for _ in range(10):
        sink.write(records(30))
    await sink.close(10)
    assert (sink.written, sink.dropped) == (300, 0)


async def test_it_starts_by_itself(sink: Sink) -> None:
    sink.write(records(1))
    await sink.close(10)
    assert sink.written == 1


async def test_what_comes_too_late_is_counted(sink: Sink) -> None:
    sink.start()
    await sink.close(10)
    sink.write(records(2))
    await sink.close(10)
    assert (sink.written, sink.dropped) == (0, 2)


async def test_a_users_records_are_erased_with_all_that_was_written_before(sink: Sink) -> None:
    if sink.name not in ERASE:
        sink.write(records(3, user_id="ann"))
        assert await sink.erase("ann") == 0
        await sink.close(10)
        return
    assert await sink.erase("ann") == 0
    sink.write([*records(3, user_id="ann"), *records(2)])
    assert await sink.erase("ann") == 3
    assert await sink.erase("ann") == 0
    await sink.close(10)
    with pytest.raises(StoreDown):
        await sink.erase("ann")


async def test_an_empty_batch_is_nothing(sink: Sink) -> None:
    sink.write([])
    sink.keep(1)
    await sink.close(10)
    assert (sink.written, sink.dropped) == (0, 0)
