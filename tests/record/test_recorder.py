"""The recorder: every exchange counted once and recorded once, a little later, without holding anyone up."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import Monitoring, Settings, State
from agent_gateway.record import recorder as module
from agent_gateway.record.changes import Feedback
from agent_gateway.record.metrics import Metrics
from agent_gateway.record.recorder import Recorder
from agent_gateway.record.row import Record
from agent_gateway.record.sinks.jsonl import JsonlSettings
from tests.kit.eventually import eventually
from tests.record.exchanges import exchange


class ListSink:
    """Keeps what it is given."""

    name = "database"
    adopted = dropped = 0

    def __init__(self) -> None:
        self.rows: list[Record] = []
        self.batches: list[int] = []
        self.started = self.closed = 0
        self.retention_days = 0.0

    @property
    def written(self) -> int:
        return len(self.rows)

    def start(self) -> None:
        self.started += 1

    def keep(self, retention_days: float) -> None:
        self.retention_days = retention_days

    def write(self, records: Sequence[Record]) -> None:
        self.rows += records
        self.batches.append(len(records))

    async def erase(self, user: str) -> int:
        """What it has at this moment."""
        return sum(row.user_id == user for row in self.rows)

    async def close(self, timeout_s: float) -> None:
        self.closed += 1


def made(monitoring: Monitoring = Monitoring()) -> tuple[Recorder, ListSink]:  # noqa: B008 – frozen
    sink = ListSink()
    recorder = Recorder(Metrics(), [sink])
    recorder.configure(monitoring, ["chat"])
    return recorder, sink


def pass_through(recorder: Recorder, *exchanges: Exchange) -> None:
    for one in exchanges:
        recorder.begin(one)
        recorder.submit(one)


def told(recorder: Recorder, line: str) -> float:
    text = recorder.scrape()[0].decode()
    return sum(float(found.rsplit(" ", 1)[1]) for found in text.splitlines() if found.startswith(f"agent_gateway_{line}"))


async def test_what_ended_before_a_user_is_erased_is_erased_too() -> None:
    recorder, _ = made()
    pass_through(recorder, exchange(), exchange())
    assert await recorder.erase("user-7") == 2


async def test_a_reload_begins_and_ends_sinks_and_leaves_the_others_alone(tmp_path: Path) -> None:
    recorder, database = made()
    await recorder.start()

    def follow(*names: str) -> None:
        sinks = tuple(JsonlSettings(name=name, path=str(tmp_path / name)) for name in names)
        monitoring = Monitoring(sinks=sinks)
        recorder.configure(monitoring, ["chat"], further=recorder.further(monitoring))

    for names, count in ((("a", "b"), 3), (("b", "c"), 4), ((), 5)):
        follow(*names)
        pass_through(recorder, *(exchange() for _ in range(count)))
    await recorder.close(10)
    assert len(database.rows) == 12
    assert {name: len((tmp_path / name).read_bytes().splitlines()) for name in "abc"} == {"a": 3, "b": 7, "c": 4}


async def test_a_sink_that_is_stuck_takes_no_time_of_the_others() -> None:
    class Stuck(ListSink):
        async def close(self, timeout_s: float) -> None:
            await asyncio.sleep(3600)

    free = ListSink()
    recorder = Recorder(Metrics(), [Stuck(), free])
    closing = asyncio.ensure_future(recorder.close(5))
    await eventually(lambda: free.closed, "the other one")
    closing.cancel()


async def test_a_submitted_exchange_is_recorded_by_itself() -> None:
    recorder, sink = made()
    await recorder.start()
    exchanges = [exchange() for _ in range(300)]
    pass_through(recorder, *exchanges)
    assert sink.rows == []
    await eventually(lambda: len(sink.rows) == 300, "all rows")
    assert [row.id for row in sink.rows] == [one.id for one in exchanges]
    assert all(row.cost_usd for row in sink.rows)
    await recorder.close(1)


async def test_slices_leave_the_loop_to_others() -> None:
    recorder, sink = made()
    await recorder.start()
    pass_through(recorder, *(exchange() for _ in range(module.SLICE_EXCHANGES * 5)))
    rounds = []
    while len(sink.rows) < module.SLICE_EXCHANGES * 5:
        rounds.append(len(recorder._queue))
        await asyncio.sleep(0)
    steps = {before - after for before, after in pairwise(rounds)}
    assert max(steps) <= module.SLICE_EXCHANGES
    assert len({left for left in rounds if left}) >= 4
    await recorder.close(1)


async def test_a_loop_that_comes_round_seldom_takes_more_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under overload: what ends in one round of the loop is more than an ordinary slice."""
    monkeypatch.setattr(module, "QUEUE_MAX_EXCHANGES", 2000)
    monkeypatch.setattr(module, "BACKLOG_EXCHANGES", 100)
    monkeypatch.setattr(module, "SLICE_S", 1.0)
    recorder, sink = made()
    await recorder.start()
    for _ in range(20):
        pass_through(recorder, *(exchange() for _ in range(module.SLICE_EXCHANGES * 3)))
        recorder._slice()
    await recorder.close(5)
    assert len(sink.rows) == 20 * module.SLICE_EXCHANGES * 3


async def test_nothing_is_scheduled_while_nothing_waits() -> None:
    recorder, sink = made()
    await recorder.start()
    assert recorder._timer is None
    pass_through(recorder, exchange())
    await eventually(lambda: len(sink.rows) == 1, "the row")
    assert recorder._timer is None
    await recorder.close(1)


async def test_a_scrape_sees_every_request_that_has_ended() -> None:
    recorder, sink = made()
    await recorder.start()
    exchanges = [exchange() for _ in range(100)]
    running = exchange()
    recorder.begin(running)
    pass_through(recorder, *exchanges)
    assert told(recorder, "requests_total") == 100
    assert told(recorder, "edge_requests_total") == 101
    assert told(recorder, 'in_flight{model="chat"}') == 1
    assert len(sink.rows) == 100
    recorder.submit(running)
    assert told(recorder, "requests_total") == 101
    await recorder.close(1)


async def test_closing_works_in_what_waits() -> None:
    recorder, sink = made()
    await recorder.start()
    pass_through(recorder, *(exchange() for _ in range(500)))
    await recorder.close(5)
    assert len(sink.rows) == 500
    assert sink.closed == 1


async def test_an_exchange_submitted_after_the_end_is_still_counted() -> None:
    recorder, _ = made()
    await recorder.start()
    await recorder.close(1)
    pass_through(recorder, exchange())
    assert told(recorder, "requests_total") == 1


async def test_a_start_late_misses_nothing() -> None:
    recorder, sink = made()
    pass_through(recorder, exchange())
    await recorder.start()
    await eventually(lambda: len(sink.rows) == 1, "the row")
    await recorder.close(1)


async def test_minimal_rows_hold_no_content() -> None:
    recorder, sink = made(Monitoring(mode="minimal"))
    pass_through(recorder, exchange())
    recorder.fold()
    assert (sink.rows[0].request, sink.rows[0].answer, sink.rows[0].user_id) == (None, None, None)


async def test_off_means_metrics_only_until_a_reload() -> None:
    recorder, sink = made(Monitoring(mode="off", retention_days=3))
    await recorder.start()
    assert sink.started == 0
    pass_through(recorder, exchange())
    assert told(recorder, "requests_total") == 1
    assert sink.rows == []
    pass_through(recorder, exchange())
    recorder.configure(Monitoring(mode="full", retention_days=7), ["chat"])
    assert sink.rows == []
    assert (sink.started, sink.retention_days) == (1, 7)
    pass_through(recorder, exchange())
    recorder.fold()
    assert len(sink.rows) == 1
    await recorder.close(1)


@pytest.mark.parametrize("bound", ["QUEUE_MAX_EXCHANGES", "QUEUE_MAX_BYTES"])
async def test_the_queue_is_bounded_and_what_it_drops_is_counted(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, sink = made()
    size = module._body_bytes(exchange())
    monkeypatch.setattr(module, bound, 10 if bound == "QUEUE_MAX_EXCHANGES" else 10 * size)
    pass_through(recorder, *(exchange() for _ in range(25)))
    assert told(recorder, "requests_total") == 25
    assert len(sink.rows) == 10
    assert told(recorder, 'records_total{outcome="dropped"') == 15
    assert told(recorder, 'records_total{outcome="written"') == 10
    pass_through(recorder, exchange())
    recorder.fold()
    assert len(sink.rows) == 11


async def test_the_bytes_that_wait_are_counted_back_to_zero() -> None:
    recorder, _ = made()
    await recorder.start()
    pass_through(recorder, *(exchange(stream=True, usage=None) for _ in range(200)))
    assert recorder._queue_bytes > 0
    while recorder._queue:
        recorder._work_in(recorder._queue.popleft())
    assert recorder._queue_bytes == 0
    await recorder.close(1)


async def test_a_bug_costs_one_record(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    recorder, sink = made()
    broken = [exchange(session=7), exchange(session=7)]
    pass_through(recorder, exchange(), *broken, exchange())
    recorder.fold()
    assert len(sink.rows) == 2
    assert told(recorder, "requests_total") == 4
    assert told(recorder, 'records_total{outcome="dropped"') == 2
    assert len(caplog.records) == 1


async def test_records_stand_beside_the_configured_database(tmp_path: Path) -> None:
    settings = Settings(state=State(database=f"sqlite:///{tmp_path}/gateway.db"))
    recorder = Recorder.for_settings(settings)
    recorder.configure(settings.monitoring, ["chat"])
    await recorder.start()
    pass_through(recorder, one := exchange(started_wall=time.time()))
    await recorder.close(10)
    with closing(sqlite3.connect(tmp_path / "gateway.records.db")) as database:
        assert database.execute("SELECT id FROM records").fetchall() == [(one.id,)]
    assert told(recorder, 'records_total{outcome="written",sink="database"}') == 1


PROGRAM = """
import asyncio, sys, time
from pathlib import Path
from agent_gateway.core.settings import Monitoring
from agent_gateway.record.metrics import Metrics
from agent_gateway.record.recorder import Recorder
from agent_gateway.record.sinks.database import DatabaseSink
from tests.record.exchanges import exchange

async def main():
    recorder = Recorder(Metrics(), [DatabaseSink(Path(sys.argv[1]))])
    recorder.configure(Monitoring(), ["chat"])
    await recorder.start()
    while True:
        one = exchange(started_wall=time.time())
        recorder.begin(one)
        recorder.submit(one)
        print(time.monotonic(), one.id, flush=True)
        await asyncio.sleep(0.001)

asyncio.run(main())
"""


#: Between two of its requests (s), which come every millisecond where nobody else wants the machine.
STEP_MAX_S = 0.02


async def test_a_killed_process_loses_no_record_but_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "gateway.records.db"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, str(path), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    submitted: list[tuple[float, str]] = []
    # The promise is 0.2 s; on a busy machine the threads of a process may wait their turn for longer. The time in which all of it stands
    # still is none that it had: of what lies between two requests no more counts than a step.
    ran_s, last = 0.0, None
    while ran_s < 1.5:
        told, request_id = (await process.stdout.readline()).decode().split()
        ran_s += 0.0 if last is None else min(float(told) - last, STEP_MAX_S)
        last = float(told)
        submitted.append((ran_s, request_id))
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    with closing(sqlite3.connect(path)) as database:
        recorded = {row[0] for row in database.execute("SELECT id FROM records")}
    safe = [request_id for at, request_id in submitted if at < ran_s - 1.0]
    assert safe
    assert set(safe) <= recorded


async def test_a_score_waits_for_what_has_ended_and_holds_nobody_up() -> None:
    sink, seen = ListSink(), []

    async def keep(feedback: Feedback) -> bool:
        seen.append(sink.written)
        return True

    recorder = Recorder(Metrics(), [sink], keep_score=keep)
    for _ in range(20 * module.SLICE_EXCHANGES):
        recorder.submit(exchange())
    scoring = asyncio.create_task(recorder.score(Feedback("req_1", "key-1", 5, None, 0)))
    rounds = 0
    while not scoring.done():
        rounds += 1
        await asyncio.sleep(0)
    assert await scoring
    assert seen == [20 * module.SLICE_EXCHANGES]
    assert rounds >= 20
    await recorder.close(1)
