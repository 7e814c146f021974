"""A sink that hands records on: never waited for, bounded, patient with a system that is down, exact in what it counts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from agent_gateway.record import shipping
from agent_gateway.record.row import Record
from agent_gateway.record.shipping import Refused, Shipping, Untaken
from tests.kit.eventually import eventually
from tests.record.exchanges import records


class Into(Shipping):
    """Takes what `answer` says of it: raises, or how many; all when it says nothing."""

    def __init__(self, answer: Callable[[list[Record]], int | None] = lambda records: None) -> None:
        super().__init__("into")
        self.batches: list[list[Record]] = []
        self.released = 0
        self._answer = answer

    def ship(self, records: list[Record]) -> int:
        taken = self._answer(records)
        self.batches.append(records)
        return len(records) if taken is None else taken

    def release(self) -> None:
        self.released += 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "RETRY_FIRST_S", 0.005)
    monkeypatch.setattr(shipping, "RETRY_MAX_S", 0.01)


async def test_records_arrive_in_their_order_and_once() -> None:
    sink = Into()
    rows = records(50)
    for place in range(0, 50, 5):
        sink.write(rows[place : place + 5])
    await sink.close(10)
    assert [row.id for batch in sink.batches for row in batch] == [row.id for row in rows]
    assert (sink.written, sink.dropped, sink.released) == (50, 0, 1)


async def test_a_batch_is_given_again_until_it_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    failures = iter([Untaken("busy"), OSError("gone"), Untaken("later", retry_after_s=0.01), None])

    def answer(records: list[Record]) -> None:
        if (error := next(failures, None)) is not None:
            raise error

    sink = Into(answer)
    sink.write(records(3))
    await eventually(lambda: sink.written == 3, "the batch")
    assert len(sink.batches) == 1
    sink.write(records(1))
    await sink.close(10)
    assert (sink.written, sink.dropped) == (4, 0)
    assert [message for message in caplog.messages if "into" in message] == [
        "The sink into takes no records at the moment; they wait for it: busy",
        "The sink into takes records again.",
    ]


async def test_what_is_refused_is_counted_and_the_next_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    answers: Iterator[Refused | int] = iter([Refused("status 400"), 2])

    def answer(records: list[Record]) -> int:
        said = next(answers)
        if isinstance(said, Refused):
            raise said
        return said

    sink = Into(answer)
    sink.write(records(3))
    await eventually(lambda: sink.dropped == 3, "the refusal")
    sink.write(records(3))
    await sink.close(10)
    assert (sink.written, sink.dropped) == (2, 4)
    assert sum("drops records" in message for message in caplog.messages) == 1


async def test_a_bug_costs_one_batch(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([True, False])

    def answer(records: list[Record]) -> None:
        if next(answers):
            raise RuntimeError("a bug")

    sink = Into(answer)
    sink.write(records(3))
    await eventually(lambda: sink.dropped == 3, "the loss")
    sink.write(records(2))
    await sink.close(10)
    assert (sink.written, sink.dropped) == (2, 3)
    assert "a bug" in caplog.text


async def test_what_waits_is_bounded_in_rows_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "WAITING_MAX_ROWS", 10)
    go = threading.Event()
    sink = Into(lambda records: None if go.wait(10) else 0)
    for _ in range(5):
        sink.write(records(4))
    assert sink.dropped == 12
    monkeypatch.setattr(shipping, "WAITING_MAX_BYTES", 300)
    sink.write(records(1, answer=b"x" * 1000))
    assert sink.dropped == 13
    go.set()
    await sink.close(10)
    assert (sink.written, sink.dropped) == (8, 13)


async def test_a_system_that_stays_down_is_given_up_when_the_gateway_stops() -> None:
    tries: list[int] = []

    def answer(records: list[Record]) -> None:
        tries.append(len(records))
        raise Untaken("down")

    sink = Into(answer)
    sink.write(records(3))
    await eventually(lambda: len(tries) > 2, "some tries")
    sink.write(records(4))
    await sink.close(0.1)
    await eventually(lambda: sink.released, "the end of its thread")  # which is not waited for any longer than that
    assert (sink.written, sink.dropped, sink.released) == (0, 7, 1)


async def test_what_is_done_now_and_then_is_done_without_records_and_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    ticks: list[int] = []

    class Ticking(Into):
        tick_every_s = 0.01

        def tick(self) -> None:
            ticks.append(1)
            if len(ticks) in (2, 3):
                raise OSError("down for a moment")

    sink = Ticking()
    sink.start()
    await eventually(lambda: len(ticks) > 4, "ticks")
    before = len(ticks)
    await sink.close(10)
    assert len(ticks) > before
    assert caplog.messages == ["What the sink into sends now and then is not taken: down for a moment"]
