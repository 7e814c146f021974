"""Records in PostgreSQL, on a real server: a partition a day, shared by gateways, away and back again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import Overloaded, StoreDown
from agent_gateway.record import figures
from agent_gateway.record.archive import Archive, Wanted
from agent_gateway.record.figures import COLUMNS, DAY_MS, KEY
from agent_gateway.record.records_server import AHEAD_MS, VERSION
from agent_gateway.record.row import Record
from agent_gateway.record.server_reader import ServerReader
from agent_gateway.record.sinks import database as module
from agent_gateway.record.sinks.database import DatabaseSink
from tests.kit.eventually import eventually
from tests.kit.servers import Postgres, own
from tests.record.exchanges import WALL, records
from tests.record.kept import CLOCK, SECRET, START_MS, ids, put, said
from tests.stores.stores import fresh_url

Open = Callable[..., DatabaseSink]
COUNTED = "SELECT coalesce(sum(requests), 0)::bigint FROM figures WHERE kind = 'hour'"

FIGURES = f"SELECT {', '.join(COLUMNS)} FROM figures ORDER BY {', '.join(KEY)}"


@pytest.fixture
async def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return await fresh_url("postgres", request.config, tmp_path)


@pytest.fixture
async def launch(url: str) -> AsyncIterator[Open]:
    """A gateway's sink; closed in the end."""
    sinks: list[DatabaseSink] = []

    def start(url: str = url, clock: Clock = CLOCK) -> DatabaseSink:
        sinks.append(DatabaseSink.for_url(url, clock))
        return sinks[-1]

    yield start
    for sink in sinks:
        await sink.close(10)


async def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def kept(url: str) -> list[Record]:
    return [Record._make(row) for row in await rows(url, "SELECT * FROM records ORDER BY started_ms, id")]


async def partitions(url: str) -> list[str]:
    told = await rows(url, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'records'::regclass ORDER BY 1")
    return [str(name) for (name,) in told]


def spills(folder: Path) -> list[Path]:
    return sorted(folder.glob("agent-gateway.records.spill-*"))


async def test_records_come_back_as_they_went_in(launch: Open, url: str) -> None:
    batch = [*records(70), *records(1, answer=None, deployment=None, cost_usd=None), *records(3, stream=1, per_token_ms=1.5)]
    await put(launch(), batch)
    assert await kept(url) == batch


async def test_each_day_has_a_partition_and_the_next_one_is_there_before_it_begins(launch: Open, url: str) -> None:
    midnight = START_MS // DAY_MS * DAY_MS + DAY_MS
    sink = launch()
    await put(sink, records(1, started_ms=midnight - 2 * AHEAD_MS))
    assert await partitions(url) == ["records_20251009"]
    await put(sink, records(1, started_ms=midnight - AHEAD_MS))
    assert await partitions(url) == ["records_20251009", "records_20251010"]
    await put(sink, records(1, started_ms=midnight + 30 * DAY_MS))
    assert (await partitions(url))[2:] == ["records_20251109"]
    assert len(await kept(url)) == 3


async def test_days_that_are_over_go_whole_and_figures_stay_longer(launch: Open, url: str) -> None:
    first = launch()
    await put(first, [*records(2), *records(1, started_ms=START_MS + DAY_MS), *records(1, started_ms=START_MS + 40 * DAY_MS)])
    later = launch(clock=Clock(wall=lambda: WALL + 40 * 86_400))
    later.start()
    await later.close(10)
    assert await partitions(url) == ["records_20251118"]
    assert await rows(url, COUNTED) == [(4,)]
    year = launch(clock=Clock(wall=lambda: WALL + 405 * 86_400))
    year.start()
    await year.close(10)
    assert await rows(url, COUNTED) == [(1,)]


async def test_a_request_is_there_once_whatever_gateway_writes_it(launch: Open, url: str) -> None:
    batch = records(50)
    sinks = [launch() for _ in range(3)]
    for sink in sinks:
        sink.write(batch)
        sink.write(batch[:10] + records(1))
    await eventually(lambda: sum(sink.written for sink in sinks) == 53, "all rows, each once")
    for sink in sinks:
        await sink.close(10)
    assert len(await kept(url)) == 53
    assert await rows(url, COUNTED) == [(53,)]
    assert sum(sink.dropped for sink in sinks) == 0


async def test_many_gateways_add_to_the_same_figures(launch: Open, url: str) -> None:
    sinks = [launch() for _ in range(4)]
    for number in range(30):
        for sink in sinks:
            sink.write([record._replace(model=f"m{(number + place) % 7}") for place, record in enumerate(records(7))])
    await eventually(lambda: sum(sink.written for sink in sinks) == 840, "all rows")
    assert await rows(url, COUNTED) == [(840,)]
    told = await rows(url, FIGURES)
    for statement in ("DELETE FROM figures", *figures.whole("records")):
        await rows(url, statement)
    again = await rows(url, FIGURES)
    assert len(told) == 2 * (7 + 1 + 1)
    assert [row == pytest.approx(other) for row, other in zip(told, again, strict=True)] == [True] * len(told)


async def test_a_name_with_a_nul_costs_no_record(launch: Open, url: str) -> None:
    sink = launch()
    await put(sink, [*records(2), *records(1, user_id="a\0b")])
    assert [record.user_id for record in await kept(url)] == ["user-7", "user-7", "a\ufffdb"]
    await put(sink, records(1, model="m\0"))
    assert sink.dropped == 0
    assert await rows(url, COUNTED + " AND model = 'm\ufffd'") == [(1,)]


async def test_a_value_no_database_can_hold_costs_its_own_row_only(launch: Open, url: str) -> None:
    sink = launch()
    sink.write([*records(5), *records(1, input_tokens=10**30), *records(1, model="\ud800"), *records(5)])
    await eventually(lambda: (sink.written, sink.dropped) == (10, 2), "the others")
    assert await rows(url, COUNTED) == [(10,)]


async def test_a_user_is_erased_by_any_gateway(launch: Open, url: str) -> None:
    await put(launch(), [said("ann"), said("bob")])
    assert await launch().erase("ann") == 1
    told = repr(await kept(url))
    assert told.count("'bob'") == 1
    assert "ann" not in told


async def test_while_the_server_is_away_records_wait_in_a_file(
    url: str, tmp_path: Path, launch: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_MAX_S", 0.2)
    server = own(Postgres)
    server.start()
    try:
        sink = launch(server.url())
        archive = Archive(sink.table.open_reader())
        await put(sink, before := records(2))
        await asyncio.to_thread(server.stop)
        sink.write(during := records(30))
        await eventually(lambda: spills(tmp_path), "a spill file")
        with pytest.raises(StoreDown):
            await archive.page(Wanted(), 5)
        with pytest.raises(StoreDown, match="not all erased"):
            await sink.erase("user-7")
        await asyncio.to_thread(server.start)
        await eventually(lambda: sink.written == 32, "the rows that waited")
        await eventually(lambda: not spills(tmp_path), "an end of the spill file")
        assert len(await ids(archive, Wanted())) == 32
        assert {record.id for record in await kept(server.url())} == {record.id for record in before + during}
        assert await rows(server.url(), COUNTED) == [(32,)]
        await archive.close()
        await sink.close(10)
    finally:
        server.remove()


async def test_what_waits_at_the_end_is_loaded_by_the_next_start(launch: Open, url: str, tmp_path: Path) -> None:
    away = launch("postgresql://gateway@127.0.0.1:1/none")
    away.write(batch := records(3))
    await away.close(10)
    assert (away.written, len(spills(tmp_path))) == (0, 1)
    sink = launch()
    sink.start()
    await eventually(lambda: sink.written == 3, "the rows that waited")
    assert await kept(url) == batch


async def test_tables_of_a_later_version_are_left_alone(launch: Open, url: str, tmp_path: Path) -> None:
    await rows(url, "CREATE TABLE records_schema (version INTEGER)")
    await rows(url, f"INSERT INTO records_schema VALUES ({VERSION + 1})")
    sink = launch()
    sink.write(records(2))
    await eventually(lambda: spills(tmp_path), "a spill file")
    assert await rows(url, "SELECT version FROM records_schema") == [(VERSION + 1,)]


async def test_a_question_that_takes_too_long_is_given_up(url: str) -> None:
    reader = ServerReader(url, timeout_s=0.05)
    with pytest.raises(Overloaded, match="took too long"):
        await reader.rows("SELECT pg_sleep(?)", [5.0])
    await reader.close()


async def test_a_reader_changes_nothing(launch: Open, url: str) -> None:
    await put(launch(), records(1))
    reader = ServerReader(url)
    with pytest.raises(StoreDown):
        await reader.rows("DELETE FROM records", [])
    await reader.close()
    assert SECRET not in repr(await kept(url))
