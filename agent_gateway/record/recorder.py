"""The last stage: every ended request becomes figures, and a row for each sink, a little while later and never in anyone's way.

Promise: `submit` returns at once and never fails; each exchange is counted once and recorded once, or counted as dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import Monitoring, Settings
from agent_gateway.record.archive import Archive
from agent_gateway.record.base import DATABASE, SINKS, Address, Sink, SinkSettings, Tools
from agent_gateway.record.changes import Feedback
from agent_gateway.record.cost import settle
from agent_gateway.record.metrics import Metrics
from agent_gateway.record.newest import Newest
from agent_gateway.record.row import Mode, Record, make_record

#: From the first exchange of a batch to its rows being handed on (s): a quarter of the 0.2 s after which a record must be safe.
FLUSH_S = 0.05
#: The event loop is held up by this much at most (s), or by so many exchanges.
SLICE_S = 0.001
SLICE_EXCHANGES = 64
#: Longer, in proportion, where more wait than these: a loop that has a lot to do comes round seldom, and the queue is bounded.
BACKLOG_EXCHANGES = 1024
#: Rows handed to the sinks at once.
BATCH_ROWS = 256
#: Exchanges, and bytes of their bodies, that wait to be worked in; the row of any more is dropped.
QUEUE_MAX_EXCHANGES = 20_000
QUEUE_MAX_BYTES = 64 * 1024 * 1024
#: For a sink that a reload took away, to hand on what it has (s).
CLOSE_TIMEOUT_S = 10.0

#: Sinks of `monitoring.sinks`, each with what it was made of.
Further = Sequence[tuple[SinkSettings, Sink]]
NO_PROVIDERS: Mapping[str, Address] = {}

_log = logging.getLogger("agent_gateway.record")


class Recorder:
    """One a process, over all reloads; belongs to the event loop."""

    def __init__(
        self,
        metrics: Metrics,
        sinks: Sequence[Sink] = (),
        clock: Clock = SYSTEM_CLOCK,
        *,
        archive: Archive | None = None,
        keep_score: Callable[[Feedback], Awaitable[bool]] | None = None,
    ) -> None:
        self.metrics = metrics
        #: What the records are read back from; None: they are not kept here.
        self.archive = archive
        self._keep_score = keep_score
        self._fixed = self._sinks = tuple(sinks)
        self._clock = clock
        for sink in sinks:
            metrics.watch(sink)

        # Of the configuration.
        self._mode: Mode = "full"
        self._further: Further = ()
        #: One dictionary throughout: sinks hold it.
        self._providers: dict[str, Address] = {}
        #: Of sinks that a reload took away.
        self._ends: set[asyncio.Task[None]] = set()

        # Of the process.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None
        self._failed = self._crowded = False

        # Of the moment.
        self._queue: deque[Exchange] = deque()
        self._queue_bytes = 0
        self._rows: list[Record] = []
        #: Rows are also put here, where somebody wants to see them at once.
        self.newest: Newest | None = None
        metrics.watch_recorder(lambda: len(self._queue) + len(self._rows))

    @classmethod
    def for_settings(cls, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Recorder:
        """With records in the configured database, or beside it."""
        sink = SINKS.load(DATABASE).for_url(settings.state.database, clock)
        return cls(Metrics(), [sink], clock, archive=Archive(sink.table.open_reader()), keep_score=sink.score)

    def further(self, monitoring: Monitoring) -> Further:
        """The sinks of `monitoring.sinks`, for `configure`: those there are, where their settings did not change, else new ones."""
        there = list(self._further)
        return tuple(next((pair for pair in there if pair[0] == made), None) or (made, self._made(made)) for made in monitoring.sinks)

    def _made(self, settings: SinkSettings) -> Sink:
        sink: Sink = SINKS.load(settings.kind)(settings, Tools(self._clock, self._providers))
        return sink

    def configure(
        self,
        monitoring: Monitoring,
        models: Collection[str],
        deployments: Collection[str] = (),
        further: Further = (),
        providers: Mapping[str, Address] = NO_PROVIDERS,
    ) -> None:
        """At every reload. `models` are the names of routes; they and the ids of deployments become labels of metrics."""
        self.fold()
        self._mode = monitoring.mode
        self.metrics.configure(models, deployments)
        self._providers.clear()
        self._providers.update(providers)
        self._exchange(further)
        for sink in self._sinks:
            sink.keep(monitoring.retention_days)
        if self._loop is not None:
            self._start_sinks()

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._start_sinks()
        if self._queue:
            self._arm()

    def begin(self, exchange: Exchange) -> None:
        """Under way from here to `submit`."""
        self.metrics.enter(exchange.call.model)

    def submit(self, exchange: Exchange) -> None:
        """Called once, when the exchange has ended; it is the recorder's from then on."""
        self.metrics.leave(exchange.call.model)
        size = _body_bytes(exchange)
        if len(self._queue) >= QUEUE_MAX_EXCHANGES or self._queue_bytes + size > QUEUE_MAX_BYTES:
            self._count(exchange)
            if self._mode == "off":
                self.metrics.count_exempt()
            else:
                self.metrics.count_dropped(1)
                self._tell_of_crowd()
            return
        self._queue.append(exchange)
        self._queue_bytes += size
        if self._timer is None:
            self._arm()

    def fold(self) -> None:
        """Works in everything submitted so far, now."""
        while self._queue:
            self._work_in(self._queue.popleft())
        self._queue_bytes = 0
        self._hand_on()

    async def erase(self, user: str) -> int:
        """What a user said and was told, in every record so far. How many there were; raises `StoreDown`."""
        await self._catch_up()
        return max([await sink.erase(user) for sink in self._sinks], default=0)

    async def score(self, feedback: Feedback) -> bool:
        """Keeps what was thought of an answer; False: of no request that is known here. Raises `StoreDown`."""
        if self._keep_score is None:
            return False
        await self._catch_up()
        if self._mode == "minimal":
            feedback = replace(feedback, comment=None)
        is_kept = await self._keep_score(feedback)
        if is_kept:
            self.metrics.observe_score(feedback.score)
        return is_kept

    def scrape(self) -> tuple[bytes, str]:
        """Metrics that see every request that has ended, and their content type."""
        self.fold()
        return self.metrics.render()

    async def close(self, timeout_s: float) -> None:
        """Everything submitted is in the sinks, and the sinks are closed, when it returns or `timeout_s` is over."""
        until = self._clock.monotonic() + timeout_s
        while self._queue and self._clock.monotonic() < until:
            self._slice()
            await asyncio.sleep(0)
        self.fold()
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.archive is not None:
            await self.archive.close()
        # At once: one that is stuck must not take the others' time.
        await asyncio.gather(*(sink.close(max(until - self._clock.monotonic(), 0.0)) for sink in self._sinks), *self._ends)

    def _exchange(self, further: Further) -> None:
        """Those that are gone are closed behind the back of those that serve."""
        before, after = [sink for _, sink in self._further], [sink for _, sink in further]
        self._further, self._sinks = further, (*self._fixed, *after)
        for sink in after:
            if sink not in before:
                self.metrics.watch(sink)
        for sink in before:
            if sink not in after:
                self.metrics.unwatch(sink)
                if self._loop is not None:
                    end = self._loop.create_task(sink.close(CLOSE_TIMEOUT_S))
                    self._ends.add(end)
                    end.add_done_callback(self._ends.discard)

    def _start_sinks(self) -> None:
        if self._mode != "off":
            for sink in self._sinks:
                sink.start()

    # --- in slices

    def _arm(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._timer = self._loop.call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        """One slice, and the next one in the loop's next round, until nothing waits."""
        self._slice()
        if self._queue and self._loop is not None:
            self._timer = self._loop.call_soon(self._flush)
        else:
            self._timer = None

    async def _catch_up(self) -> None:
        """As `fold`, for whoever may wait: clients can ask for it, and it holds nobody up."""
        left = len(self._queue)
        while self._queue and left > 0:
            before = len(self._queue)
            self._slice()
            left -= before - len(self._queue)
            await asyncio.sleep(0)
        self._hand_on()

    def _slice(self) -> None:
        queue, monotonic = self._queue, self._clock.monotonic
        share = max(len(queue) // BACKLOG_EXCHANGES, 1)
        until = monotonic() + SLICE_S * share
        left = SLICE_EXCHANGES * share
        while queue and left:
            left -= 1
            self._work_in(queue.popleft())
            if monotonic() > until:
                break
        if not queue:
            self._queue_bytes = 0
        if not queue or len(self._rows) >= BATCH_ROWS:
            self._hand_on()

    def _work_in(self, exchange: Exchange) -> None:
        self._queue_bytes -= _body_bytes(exchange)
        self._count(exchange)
        if self._mode == "off" or not self._sinks:
            self.metrics.count_exempt()
            return
        try:
            self._rows.append(make_record(exchange, self._mode))
        except Exception:  # a bug: it costs this record, not those after it
            self.metrics.count_dropped(1)
            self._tell_once()

    def _count(self, exchange: Exchange) -> None:
        try:
            try:
                settle(exchange)
            finally:  # or what was set aside would never come back
                if exchange.reservation is not None:
                    exchange.reservation.settle(exchange.usage.total if exchange.usage else 0, exchange.cost_usd or 0.0)
            self.metrics.observe(exchange)
        except Exception:  # as above
            self._tell_once()

    def _hand_on(self) -> None:
        if self._rows:
            rows, self._rows = self._rows, []
            if self.newest is not None:
                self.newest.extend(rows)
            self.metrics.count_handed(len(rows))
            for sink in self._sinks:
                sink.write(rows)

    def _tell_of_crowd(self) -> None:
        if not self._crowded:
            self._crowded = True
            _log.error("Records are dropped: requests end faster than they can be recorded. More are counted in records_total, not told.")

    def _tell_once(self) -> None:
        if not self._failed:
            self._failed = True
            _log.exception("A request could not be recorded. Others like it are counted in records_total, not told.")


def _body_bytes(exchange: Exchange) -> int:
    return len(exchange.call.body) + exchange.answer_bytes - exchange.compacted_bytes
