"""What is known of all workers together: their metrics as those of one gateway, and the one watch over them.

Promise: what was told once is never taken back: counters of workers that are gone, killed ones too, stay in the sums.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from agent_gateway.control.oversight import OwnOversight
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.clock import Clock
from agent_gateway.core.siblings import NoAnswer, Refusal
from agent_gateway.record.alerting.watch import BUDGET_SPENT, Watch
from agent_gateway.record.alerting.webhook import Post
from agent_gateway.record.family import Family
from agent_gateway.record.metrics import collect_alerts
from agent_gateway.record.whole import Whole, packed, unpacked
from agent_gateway.workers import messages
from agent_gateway.workers.process import WorkerProcess

#: What is told live is not older than this (s).
LIVE_S = 0.5
#: What is waiting to be told to webhooks has this long at the end (s).
CLOSE_TIMEOUT_S = 10.0


class Overview:
    """`workers` gives those that there are; `ends` how many have ended, by how."""

    def __init__(
        self,
        workers: Callable[[], Sequence[WorkerProcess]],
        ends: Mapping[str, int],
        post: Post,
        clock: Clock,
        configuration: Configuration,
    ) -> None:
        self._workers = workers
        self._clock = clock
        self._ends = ends
        self._whole = Whole()
        self._heard: set[int] = set()
        self._unheard = 0
        self._refreshed_at = -LIVE_S
        self.watch = Watch(self, self._budgets, post, clock, self.refresh)
        self.oversight = OwnOversight(self.watch, clock)
        self.configure(configuration)

    def configure(self, configuration: Configuration) -> None:
        self.watch.configure(configuration.settings.alerts, {name: route.fallback for name, route in configuration.routes.items()})

    def start(self) -> None:
        self.watch.start()

    async def close(self) -> None:
        await self.watch.close(CLOSE_TIMEOUT_S)

    async def refresh(self) -> None:
        """Has every worker tell its metrics; who does not in time is left out, but for what it has told before."""
        workers = [worker for worker in self._workers() if worker.ready_at is not None]
        heard = await asyncio.gather(*map(self._hear, workers))
        self._heard = {number for number in heard if number is not None}
        self._refreshed_at = self._clock.monotonic()

    async def look(self) -> None:
        """As `refresh`, unless that was just now: who is told live asks once a second."""
        if self._clock.monotonic() - self._refreshed_at > LIVE_S:
            await self.refresh()

    async def _hear(self, worker: WorkerProcess) -> int | None:
        try:
            told = await worker.ask(messages.FIGURES)
        except NoAnswer as error:
            if worker.status is None:
                self._unheard += 1
                if not isinstance(error, Refusal):
                    worker.miss(self._clock.monotonic())
            return None
        worker.silent_since = None
        self.keep(worker.number, told)
        return worker.number

    def keep(self, number: int, told: bytes) -> None:
        if any(worker.number == number for worker in self._workers()):  # or its sums were taken over already
            self._whole.keep(number, unpacked(told))

    def end(self, number: int) -> None:
        """It is none of `workers` any more."""
        self._whole.end(number)

    def families(self) -> Iterable[Family]:
        """As of the last `refresh`."""
        yield from [family for family in self._whole.families(self._heard) if family.name != BUDGET_SPENT]
        yield from self._of_workers()

    async def whole(self) -> bytes:
        await self.refresh()
        return packed([*self.families(), *collect_alerts(self.watch)])

    def _budgets(self) -> Mapping[str, float]:
        spent = next((family for family in self._whole.families(self._heard) if family.name == BUDGET_SPENT), None)
        return {} if spent is None else {account: share for (account,), share in spent.values.items()}

    def _of_workers(self) -> Iterable[Family]:
        states = {"starting": 0, "serving": 0, "leaving": 0}
        for worker in self._workers():
            states["leaving" if worker.leaving else "serving" if worker.serves else "starting"] += 1
        yield Family("gauge", "workers", "Processes of the gateway.", ("state",), {(state,): count for state, count in states.items()})
        sources = {worker.source for worker in self._workers() if worker.serves}
        yield Family("gauge", "worker_configurations", "Different ones that workers serve by.", (), {(): len(sources)})
        ends = {(how,): count for how, count in self._ends.items()}
        yield Family("counter", "worker_ends", "Workers that have ended: replaced by another, or by themselves.", ("how",), ends)
        yield Family("counter", "workers_unheard", "Answers of workers that were not waited for any longer.", (), {(): self._unheard})
