"""The sink that keeps records in the gateway's database: one thread writes them in batches; while that is down they wait in a spill file.

Promise: what was written longer than 0.2 s ago survives the death of the process, and is in the table exactly once in the end.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import Overloaded, StoreDown
from agent_gateway.record.changes import Feedback, erasure, scoring
from agent_gateway.record.figures import DAY_MS, KEPT_MS
from agent_gateway.record.records_file import RecordsFile
from agent_gateway.record.row import NAME_MAX_CHARS, Record, packed
from agent_gateway.record.spill import Spill, SpillFull, orphans
from agent_gateway.record.table import RecordTable
from agent_gateway.stores.base import is_postgres, records_path

#: Rows of one transaction, and bytes of their bodies.
BATCH_ROWS = 512
BATCH_BYTES = 8 * 1024 * 1024
#: Rows, and bytes of their bodies, that wait for the thread; more are dropped.
WAITING_MAX_ROWS = 50_000
WAITING_MAX_BYTES = 64 * 1024 * 1024
#: Rows kept in memory while neither the database nor the spill file can be written; more are dropped.
HELD_MAX_ROWS = 50_000
HELD_MAX_BYTES = 64 * 1024 * 1024
#: Wait before the next try of a database that is down (s), doubled up to the second.
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 5.0
#: Old records are looked for this often (s) and deleted so many at a time.
SWEEP_EVERY_S = 60.0
SWEEP_ROWS = 500
#: Records of a user that are erased in one transaction, and how long the whole may take (s).
ERASE_ROWS = 200
ERASE_TIMEOUT_S = 60.0
#: Of a request's feedback (s), and how many may wait: clients send it, and the thread has records to write.
SCORE_TIMEOUT_S = 5.0
SCORES_MAX = 100

_log = logging.getLogger("agent_gateway.record")


@dataclass(slots=True)
class _Errand:
    """Something to be done with the records that there are, for somebody who waits for it."""

    #: What is the case where it is not done.
    failed: str
    #: One part of it, so that records need not wait for long; None: there is more to do.
    work: Callable[[], Any]
    begun: bool = False
    done: Future[Any] = field(default_factory=Future)

    def end(self, result: Any) -> None:
        if self.done.set_running_or_notify_cancel():
            self.done.set_result(result)

    def fail(self, why: str) -> None:
        if self.done.set_running_or_notify_cancel():
            self.done.set_exception(self.refusal(why))

    def refusal(self, why: str) -> StoreDown:
        return StoreDown(f"{self.failed}: the records cannot be written at the moment. Ask again.", detail=why)


class DatabaseSink:
    """`path`: of the records' file, or of those that wait beside another `table`; None: in memory.

    The first half belongs to the event loop, the second to the thread.
    """

    name = "database"

    def __init__(
        self, path: Path | None, *, table: RecordTable | None = None, retention_days: float = 30.0, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._clock = clock
        self._path = path
        self._table: RecordTable = table or RecordsFile(path)
        self._down, self._unwritable = self._table.down, self._table.unwritable
        self._retention_days = retention_days
        self._queue: SimpleQueue[tuple[list[Record], int] | _Errand | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        #: That wait to be kept.
        self._scores = 0
        # The loop counts what it gives, the thread what it has done: each number has one writer.
        self._given_rows = self._given_bytes = self._refused = 0
        self._done_rows = self._done_bytes = 0
        self._written = self._adopted = self._lost = 0

        # The thread's own.
        self._spill = Spill(_spill_prefix(path)) if path else None
        self._held: list[Record] = []
        self._held_bytes = 0
        self._errands: deque[_Errand] = deque()
        self._failures = 0
        self._retry_at = 0.0
        self._load_orphans = path is not None
        self._sweep_at = clock.monotonic()

    @classmethod
    def for_url(cls, url: str, clock: Clock = SYSTEM_CLOCK) -> DatabaseSink:
        """In the database where that is PostgreSQL, else in a file beside it."""
        table: RecordTable | None = None
        if is_postgres(url):
            from agent_gateway.record.records_server import RecordsServer

            table = RecordsServer(url)
        return cls(records_path(url), table=table, clock=clock)

    # --- on the event loop

    @property
    def written(self) -> int:
        return self._written

    @property
    def adopted(self) -> int:
        return self._adopted

    @property
    def dropped(self) -> int:
        return self._refused + self._lost

    @property
    def table(self) -> RecordTable:
        return self._table

    def keep(self, retention_days: float) -> None:
        self._retention_days = retention_days

    def start(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="records", daemon=True)
            self._thread.start()

    def write(self, records: Sequence[Record]) -> None:
        batch: list[Record] = []
        batch_bytes = 0
        for record in records:
            size = _body_bytes(record)
            if batch and batch_bytes + size > BATCH_BYTES:
                self._give(batch, batch_bytes)
                batch, batch_bytes = [], 0
            batch.append(record)
            batch_bytes += size
        if batch:
            self._give(batch, batch_bytes)

    async def erase(self, user: str) -> int:
        count = 0

        def part() -> int | None:
            nonlocal count
            erased = self._table.change(erasure(user[:NAME_MAX_CHARS], ERASE_ROWS))
            count += erased
            if erased == ERASE_ROWS:
                return None
            self._table.finish_erasing()
            return count

        await self._run_errand(_Errand("The user's records are not all erased", part), ERASE_TIMEOUT_S)
        return count

    async def score(self, feedback: Feedback) -> bool:
        """False: its key has made no such request. Raises `StoreDown` and `Overloaded`."""
        if self._scores >= SCORES_MAX:
            raise Overloaded("Too much feedback is being kept at once. Send it again.", retry_after_s=1)
        errand = _Errand("The feedback is not kept", lambda: self._table.change(scoring(feedback, self._table.row_lock)))
        self._scores += 1
        try:
            return bool(await self._run_errand(errand, SCORE_TIMEOUT_S))
        finally:
            self._scores -= 1

    async def _run_errand(self, errand: _Errand, timeout_s: float) -> Any:
        """With all records that were written before."""
        if self._closed:
            raise errand.refusal("the gateway stops")
        self.start()
        self._queue.put(errand)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(errand.done)
        except TimeoutError:
            raise errand.refusal(f"not done in {timeout_s:g} s") from None

    def _give(self, batch: list[Record], batch_bytes: int) -> None:
        rows = self._given_rows - self._done_rows + len(batch)
        if self._closed or rows > WAITING_MAX_ROWS or self._given_bytes - self._done_bytes + batch_bytes > WAITING_MAX_BYTES:
            self._refused += len(batch)
            return
        self.start()
        self._given_rows += len(batch)
        self._given_bytes += batch_bytes
        self._queue.put((batch, batch_bytes))

    async def close(self, timeout_s: float) -> None:
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, timeout_s)

    # --- in the thread

    def _run(self) -> None:
        closing = False
        while not closing:
            batch, batch_bytes, closing = self._take()
            try:
                self._work(batch, closing)
            except Exception:  # the thread must live: a bug costs one batch, not every later one
                _log.exception("A batch of records failed.")
                self._lose(len(batch), "of a failure in the gateway")
                # What is done without being asked would fail again, as fast as it can.
                self._retry_at = self._sweep_at = self._clock.monotonic() + RETRY_MAX_S
            self._done_rows += len(batch)
            self._done_bytes += batch_bytes
        self._finish()

    def _do(self, errand: _Errand) -> bool:
        """A part of it. True: it is done, cannot be done now, or is not waited for any more."""
        if errand.done.cancelled():
            return True
        try:
            if not errand.begun:
                self._bring_in()
                errand.begun = True
            result = errand.work()
        except Exception as error:  # whatever it was, somebody waits for it
            if not isinstance(error, self._down):
                _log.exception("Something to be done with the records failed.")
            errand.fail(str(error) or repr(error))
            return True
        if result is not None:
            errand.end(result)
        return result is not None

    def _bring_in(self) -> None:
        """What waits beside the database. Raises `OSError` where that cannot be."""
        self._retry_at, self._load_orphans = 0.0, self._spill is not None
        self._load_back()
        if self._held or self._load_orphans or (self._spill is not None and self._spill.holds_any):
            raise OSError("records wait beside their database, which cannot be written")

    def _work(self, batch: list[Record], closing: bool) -> None:
        if batch:
            self._store([_pack(record) for record in batch])
        if closing:
            self._retry_at = 0.0
        if self._errands:
            errand = self._errands.popleft()
            if not self._do(errand):
                self._errands.append(errand)
        if self._is_due(self._retry_at):
            self._load_back()
        self._sweep()

    def _take(self) -> tuple[list[Record], int, bool]:
        """What has come, up to a batch; empty when it is time to try something again. And whether it is the last."""
        batch: list[Record] = []
        batch_bytes = 0
        try:
            item = self._queue.get(timeout=self._wait_s())
            while item is not None:
                if isinstance(item, _Errand):
                    self._errands.append(item)  # after what came before it
                    return batch, batch_bytes, False
                batch += item[0]
                batch_bytes += item[1]
                if len(batch) >= BATCH_ROWS or batch_bytes >= BATCH_BYTES:
                    return batch, batch_bytes, False
                item = self._queue.get_nowait()
        except Empty:
            return batch, batch_bytes, False
        return batch, batch_bytes, True

    def _wait_s(self) -> float:
        """Until there is something to do, should no record come."""
        if self._errands:
            return 0.0
        waiting = bool(self._held) or (self._spill is not None and self._spill.holds_any)
        if self._failures and not waiting and not self._load_orphans:
            return RETRY_MAX_S
        at = self._retry_at if waiting or self._load_orphans else self._sweep_at
        return max(at - self._clock.monotonic(), 0.0)

    def _is_due(self, at: float) -> bool:
        return self._clock.monotonic() >= at

    def _store(self, batch: list[Record]) -> None:
        if self._failures and not self._is_due(self._retry_at):
            self._put_by(batch)
        elif unwritten := self._insert(batch):
            self._put_by(unwritten)

    def _insert(self, batch: list[Record]) -> list[Record]:
        """Returns what was not written because the database is down."""
        try:
            self._written += self._table.insert(batch)
        except self._unwritable:
            if len(batch) > 1:
                unwritten: list[Record] = []
                for record in batch:
                    unwritten += [record] if unwritten else self._insert([record])
                return unwritten
            self._lose(1, "one holds a value that no database can hold")
            return []
        except self._down as error:
            self._went_down(error)
            return batch
        if self._failures:
            self._failures, self._retry_at = 0, 0.0
            self._load_orphans = self._spill is not None
            _log.warning("The records' database can be written again.")
        return []

    def _went_down(self, error: Exception) -> None:
        try:
            aside = self._table.set_aside_if_corrupt(error)
        except OSError:
            aside = None
        if not self._failures:
            _log.warning("Records wait beside their database, which cannot be written: %s", error)
        if aside is not None:
            _log.error("The records' database was damaged and is now %s; a new one is begun.", aside)
        self._failures += 1
        wait_s = 0.0 if aside else min(RETRY_FIRST_S * 2 ** min(self._failures - 1, 16), RETRY_MAX_S)
        self._retry_at = self._clock.monotonic() + wait_s

    def _put_by(self, batch: list[Record]) -> None:
        """Into the spill file; into memory, as far as there is room, when that fails too."""
        waiting, self._held, self._held_bytes = self._held + batch, [], 0
        try:
            if self._spill is None:
                raise OSError("there is no file beside a database in memory")
            self._spill.append(waiting)
        except SpillFull:
            self._lose(len(waiting), "the spill file is full")
        except (OverflowError, UnicodeError):
            if len(waiting) == 1:
                self._lose(1, "one holds a value that no database can hold")
            else:
                for record in waiting:
                    self._put_by([record])
        except OSError as error:
            self._hold(waiting, error)

    def _hold(self, waiting: list[Record], error: OSError) -> None:
        for place, record in enumerate(waiting):
            size = _body_bytes(record)
            if place >= HELD_MAX_ROWS or self._held_bytes + size > HELD_MAX_BYTES:
                self._lose(len(waiting) - place, f"neither the database nor the spill file can be written ({error})")
                break
            self._held.append(record)
            self._held_bytes += size

    def _lose(self, count: int, why: str) -> None:
        if count:
            if not self._lost:
                _log.error("Records are dropped: %s. More are counted in records_total, not told.", why)
            self._lost += count

    # --- loading back

    def _load_back(self) -> None:
        """What waits in memory, in this process's spill file and in those that the dead left, until the database fails again."""
        if self._held:
            held, self._held, self._held_bytes = self._held, [], 0
            if unwritten := self._insert(held):
                self._put_by(unwritten)
                return
        if self._spill is None:
            return
        if self._spill.holds_any:
            if not self._insert_all(self._spill.batches()):
                return
            self._spill.clear()
        if self._load_orphans:
            self._load_orphans = False
            for orphan in orphans(_spill_prefix(self._path)):
                with orphan:
                    before = self._written
                    loaded = self._insert_all(orphan.batches())
                    self._adopted += self._written - before
                    if not loaded:
                        self._load_orphans = True
                        return
                    orphan.remove()

    def _insert_all(self, batches: Iterator[list[Record]]) -> bool:
        try:
            return all(not self._insert(batch) for batch in batches)
        except OSError:  # the spill file cannot be read; it stays for another time
            self._retry_at = self._clock.monotonic() + RETRY_MAX_S
            return False

    # --- retention and the end

    def _sweep(self) -> None:
        if self._failures or not self._is_due(self._sweep_at):
            return
        now = self._clock.monotonic()
        wall_ms = int(self._clock.wall() * 1000)
        try:
            more = self._table.sweep(wall_ms - int(self._retention_days * DAY_MS), wall_ms - KEPT_MS, SWEEP_ROWS)
        except self._down:
            more = False
        self._sweep_at = now if more else now + SWEEP_EVERY_S

    def _finish(self) -> None:
        self._lose(len(self._held), "the gateway stopped while neither the database nor the spill file could be written")
        self._held = []
        for errand in self._errands:
            errand.fail("the gateway stopped")
        with suppress(*self._down):
            self._table.close()
        if self._spill is not None:
            with suppress(OSError):
                self._spill.close()


def _spill_prefix(path: Path | None) -> Path:
    assert path is not None, "a database in memory has no spill file"
    return path.with_name(f"{path.stem}.spill-")


def _pack(record: Record) -> Record:
    """Here, not on the event loop: zlib works without the GIL."""
    request, answer = packed(record.request), packed(record.answer)
    if request is record.request and answer is record.answer:
        return record
    return record._replace(request=request, answer=answer)


def _body_bytes(record: Record) -> int:
    return (len(record.request) if record.request else 0) + (len(record.answer) if record.answer else 0)
