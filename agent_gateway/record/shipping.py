"""A sink that hands records on to another system: a bounded queue, and a thread that empties it, waits out failures and tries again.

Promise: the event loop never waits for it; a record is taken once, or counted as dropped.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.record.row import Record, body_bytes

#: Rows handed on at once, and bytes of their bodies.
BATCH_ROWS = 512
BATCH_BYTES = 8 * 1024 * 1024
#: Rows, and bytes of their bodies, that wait; more are dropped.
WAITING_MAX_ROWS = 50_000
WAITING_MAX_BYTES = 64 * 1024 * 1024
#: Wait before the next try (s), doubled up to the second; a system that names a wait of its own is given it, up to the third.
RETRY_FIRST_S = 0.25
RETRY_MAX_S = 15.0
RETRY_ASKED_MAX_S = 300.0
#: Records worked on in a row by a thread.
GENTLY_EVERY = 8

T = TypeVar("T")

_log = logging.getLogger("agent_gateway.record")


class Untaken(Exception):
    """The batch was not taken and may be given again. `retry_after_s`: not before."""

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Refused(Exception):
    """The batch will never be taken."""


def gently(records: Iterable[T]) -> Iterator[T]:
    """One after the other, with the GIL let go of now and then: else the event loop gets it back after 5 ms only, each time."""
    for number, record in enumerate(records, 1):
        yield record
        if number % GENTLY_EVERY == 0:
            time.sleep(0)


@dataclass(slots=True)
class _Question:
    work: Callable[[], Any]
    answer: Future[Any] = field(default_factory=Future)

    def put(self) -> None:
        if not self.answer.set_running_or_notify_cancel():  # nobody waits for it any more
            return
        try:
            self.answer.set_result(self.work())
        except Exception as error:
            self.answer.set_exception(error)


class Shipping(ABC):
    """The first half belongs to the event loop, the second to the thread."""

    #: After the first record the thread waits so long for more (s), for a batch that is worth sending.
    linger_s = 0.0
    #: A queue in memory leaves nothing behind.
    adopted = 0
    #: `tick` is called this often (s), records or not. None: never.
    tick_every_s: float | None = None

    def __init__(self, name: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self.name = name
        self._clock = clock
        self._queue: SimpleQueue[tuple[list[Record], int] | _Question | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._close_at = float("inf")
        # The loop counts what it gives, the thread what it has done: each number has one writer.
        self._given_rows = self._given_bytes = self._refused = 0
        self._done_rows = self._done_bytes = 0
        self._written = self._lost = 0

        # The thread's own.
        self._question: _Question | None = None
        self._tick_at = clock.monotonic() + (self.tick_every_s or 0.0)
        self._down = self._ticks_fail = False
        self._told_of_loss = False

    # --- what each kind does, in the thread

    @abstractmethod
    def ship(self, records: list[Record]) -> int:
        """Hands them on; how many were taken, the others never will be. Raises `Untaken`, `Refused` or `OSError` (as `Untaken`).

        After `Untaken` it is called with the same list again, and goes on where it was.
        """

    def tick(self) -> None:  # noqa: B027 – most have nothing to do
        """What is to be done now and then. Raises as `ship`; it is then called again at its time."""

    def release(self) -> None:  # noqa: B027 – as above
        """The last call: lets go of what is open."""

    # --- on the event loop

    @property
    def written(self) -> int:
        return self._written

    @property
    def dropped(self) -> int:
        return self._refused + self._lost

    def keep(self, retention_days: float) -> None:  # noqa: B027
        """How long another system keeps them is its own affair."""

    def start(self) -> None:
        if self._thread is None and not self._closing.is_set():
            self._thread = threading.Thread(target=self._run, name=f"sink {self.name}", daemon=True)
            self._thread.start()

    def write(self, records: Sequence[Record]) -> None:
        if not records:
            return
        batch = list(records)
        size = sum(map(body_bytes, batch))
        rows = self._given_rows - self._done_rows + len(batch)
        if self._closing.is_set() or rows > WAITING_MAX_ROWS or self._given_bytes - self._done_bytes + size > WAITING_MAX_BYTES:
            self._refused += len(batch)
            return
        self.start()
        self._given_rows += len(batch)
        self._given_bytes += size
        self._queue.put((batch, size))

    async def erase(self, user: str) -> int:
        """What was handed on is not ours to take back."""
        return 0

    async def ask(self, work: Callable[[], T]) -> T:
        """Its answer, worked out in the thread after all that was written before. Raises what it raises, and `Untaken` at the end."""
        if self._closing.is_set():
            raise Untaken("the gateway stops")
        self.start()
        question: _Question = _Question(work)
        self._queue.put(question)
        answer: T = await asyncio.wrap_future(question.answer)
        return answer

    async def close(self, timeout_s: float) -> None:
        if self._closing.is_set():
            return
        self._close_at = self._clock.monotonic() + timeout_s
        self._closing.set()
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, timeout_s)
        else:
            self.release()

    # --- in the thread

    def _run(self) -> None:
        over = False
        while not over:
            batch, size, over = self._take()
            if batch:
                try:
                    self._deliver(batch)
                except Exception:  # the thread must live: a bug costs one batch, not every later one
                    _log.exception("The sink %s failed with a batch of records.", self.name)
                    self._lose(len(batch), "of a failure in the gateway")
                self._done_rows += len(batch)
                self._done_bytes += size
            if self._question is not None:
                self._question.put()
                self._question = None
            if self.tick_every_s is not None and (over or self._clock.monotonic() >= self._tick_at):
                self._tick(self.tick_every_s)
        self.release()
        while not self._queue.empty():
            if isinstance(late := self._queue.get(), _Question):
                late.answer.set_exception(Untaken("the gateway stops"))

    def _take(self) -> tuple[list[Record], int, bool]:
        """What waits, up to one batch, and whether the end was reached; empty when it is time to tick."""
        batch: list[Record] = []
        size = 0
        until = None if self.tick_every_s is None else self._tick_at
        while len(batch) < BATCH_ROWS and size < BATCH_BYTES:
            try:
                wait_s = None if until is None else max(until - self._clock.monotonic(), 0.0)
                item = self._queue.get(timeout=0.0 if self._closing.is_set() else wait_s)
            except Empty:
                break
            if item is None:
                return batch, size, True
            if isinstance(item, _Question):
                self._question = item  # after what came before it
                break
            if not batch:
                until = self._clock.monotonic() + self.linger_s
            batch += item[0]
            size += item[1]
        return batch, size, False

    def _deliver(self, batch: list[Record]) -> None:
        """Until it is taken, refused, or the time to close is over."""
        failures, taken = 0, None
        while taken is None:
            try:
                taken = self.ship(batch)
            except Refused as error:
                self._lose(len(batch), str(error))
                return
            except (Untaken, OSError) as error:
                self._went_down(error)
                if not self._pause(failures, getattr(error, "retry_after_s", 0.0)):
                    self._lose(len(batch), "the gateway stopped before they were taken")
                    return
                failures += 1
        self._written += taken
        self._lose(len(batch) - taken, "some were refused")
        if self._down:
            self._down = False
            _log.warning("The sink %s takes records again.", self.name)

    def _tick(self, every_s: float) -> None:
        self._tick_at = self._clock.monotonic() + every_s
        try:
            self.tick()
            self._ticks_fail = False
        except Exception as error:  # as above
            if not self._ticks_fail:
                self._ticks_fail = True
                known = isinstance(error, Refused | Untaken | OSError)
                _log.warning("What the sink %s sends now and then is not taken: %s", self.name, error, exc_info=not known)

    def _pause(self, failures: int, asked_s: float) -> bool:
        """Before the next try; False: there is no time for one."""
        if self._closing.is_set():
            wait_s = max(RETRY_FIRST_S, asked_s)
            if self._clock.monotonic() + wait_s >= self._close_at:
                return False
            time.sleep(wait_s)
        else:
            wait_s = min(RETRY_FIRST_S * 2 ** min(failures, 16), RETRY_MAX_S)
            self._closing.wait(max(wait_s, min(asked_s, RETRY_ASKED_MAX_S)))
        return True

    def _went_down(self, error: Exception) -> None:
        if not self._down:
            self._down = True
            _log.warning("The sink %s takes no records at the moment; they wait for it: %s", self.name, error)

    def _lose(self, count: int, why: str) -> None:
        if count:
            if not self._told_of_loss:
                self._told_of_loss = True
                _log.error("The sink %s drops records: %s. More are counted in records_total, not told.", self.name, why)
            self._lost += count
