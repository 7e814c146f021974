"""The books of records: every request that ended is written, dropped, waiting or — never — missing."""

from __future__ import annotations

import pytest

from agent_gateway.core.settings import Monitoring
from agent_gateway.record import recorder as module
from agent_gateway.record.completeness import Books, Completeness, Tally
from agent_gateway.record.metrics import Metrics
from agent_gateway.record.recorder import Recorder
from tests.record.exchanges import exchange


class Sink:
    """Takes what it is given; what became of it is set by the test."""

    name = "database"
    written = adopted = dropped = 0

    def start(self) -> None: ...

    def keep(self, retention_days: float) -> None: ...

    def write(self, records: object) -> None: ...

    async def erase(self, user: str) -> int:
        return 0

    async def close(self, timeout_s: float) -> None: ...


def opened(sink: Sink) -> Recorder:
    recorder = Recorder(Metrics(), [sink])
    recorder.configure(Monitoring(), ["chat"])
    return recorder


def answered(recorder: Recorder, count: int) -> None:
    for _ in range(count):
        one = exchange()
        recorder.begin(one)
        recorder.submit(one)


def balance(recorder: Recorder) -> Completeness:
    return recorder.metrics.completeness()["database"]


def test_what_waits_is_neither_kept_nor_lost() -> None:
    sink = Sink()
    recorder = opened(sink)
    assert balance(recorder) == Completeness(1.0, 0, 0, 0, 0, 0)
    answered(recorder, 10)
    assert balance(recorder) == Completeness(1.0, 0, 0, 0, 10, 0), "in the recorder"
    recorder.fold()
    assert balance(recorder) == Completeness(1.0, 0, 0, 0, 10, 0), "in the sink"
    sink.written = 6
    assert balance(recorder) == Completeness(1.0, 6, 0, 0, 4, 0)
    sink.dropped = 2
    assert balance(recorder) == Completeness(0.75, 6, 0, 2, 2, 0)
    recorder.begin(exchange())
    assert balance(recorder) == Completeness(0.75, 6, 0, 2, 2, 0), "a request under way has no record yet"


def test_what_the_recorder_itself_loses_is_lost_to_every_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Sink()
    recorder = opened(sink)
    monkeypatch.setattr(module, "QUEUE_MAX_EXCHANGES", 3)
    answered(recorder, 4)
    recorder.fold()
    monkeypatch.setattr(module, "make_record", lambda *_: 1 / 0)
    answered(recorder, 1)
    recorder.fold()
    sink.written = 3
    assert balance(recorder) == Completeness(0.6, 3, 0, 2, 0, 0)


def test_a_request_that_vanishes_is_missing() -> None:
    sink = Sink()
    recorder = opened(sink)
    answered(recorder, 3)
    recorder.begin(one := exchange())
    recorder.metrics.leave(one.call.model)  # and is never submitted
    recorder.fold()
    sink.written = 3
    assert balance(recorder) == Completeness(0.75, 3, 0, 0, 0, 1)
    text = recorder.scrape()[0].decode()
    assert 'agent_gateway_records_total{outcome="missing",sink="database"} 1.0' in text
    assert 'agent_gateway_records_complete_ratio{sink="database"} 0.75' in text
    assert 'agent_gateway_records_waiting{sink="database"} 0.0' in text


def test_what_an_earlier_process_left_makes_up_for_nothing() -> None:
    sink = Sink()
    recorder = opened(sink)
    answered(recorder, 4)
    recorder.fold()
    sink.written, sink.adopted, sink.dropped = 102, 100, 1
    assert balance(recorder) == Completeness(2 / 3, 2, 100, 1, 1, 0)
    assert 'agent_gateway_records_total{outcome="adopted",sink="database"} 100.0' in recorder.scrape()[0].decode()


def test_what_is_not_to_be_recorded_is_not_missed() -> None:
    sink = Sink()
    recorder = opened(sink)
    answered(recorder, 2)
    recorder.configure(Monitoring(mode="off"), ["chat"])
    answered(recorder, 5)
    recorder.configure(Monitoring(mode="minimal"), ["chat"])
    answered(recorder, 1)
    recorder.fold()
    sink.written = 3
    assert balance(recorder) == Completeness(1.0, 3, 0, 0, 0, 0)


def test_a_sink_answers_for_what_came_since_it_is_there() -> None:
    books, tally, late = Books(), Tally(ended=100, handed=90, dropped=10), Sink()
    books.open(late, tally)
    tally.ended, tally.handed, tally.dropped = 120, 105, 13
    late.written = 15
    assert books.balance(tally) == {"database": Completeness(15 / 20, 15, 0, 3, 0, 2)}
    books.close(late)
    assert books.balance(tally) == {}
