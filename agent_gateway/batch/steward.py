"""Takes batches from one status to the next: reads new ones in, closes those that are done, cancelled or out of time, sweeps old ones.

Promise: each batch is in one process's hands at a time, and in another's when that one is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from agent_gateway.batch.closing import close_batch
from agent_gateway.batch.figures import BatchFigures
from agent_gateway.batch.intake import take_in
from agent_gateway.batch.native.driver import BATCHES_MAX, Driver
from agent_gateway.batch.native.plan import next_at
from agent_gateway.batch.native.planner import Planner
from agent_gateway.batch.tenure import Overtaken, Tenure
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import GatewayError
from agent_gateway.stores.batches import BatchStore, StoredBatch

#: Batches that one process reads in or closes at once, and those whose parts at providers it sees to.
JOBS_MAX = 2
DRIVES_MAX = 2
#: Parts are seen to for so long after the window's end (s); then the batch is closed without them.
DRIVE_GRACE_S = 300.0
#: Ended batches are kept so long (s); a file that was begun and not completed in this time was left behind.
BATCH_TTL_S = 30 * 86_400.0
UPLOAD_S = 3_600.0
#: Old ones are swept so often, so many of each kind (s).
SWEEP_EVERY_S = 60.0
SWEPT_AT_ONCE = 20

_log = logging.getLogger("agent_gateway.batch")


class Steward:
    def __init__(
        self,
        store: BatchStore,
        clock: Clock,
        holder: str,
        figures: BatchFigures,
        planner: Planner,
        driver: Driver,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when a batch has taken a step, and there may be more to do."""
        self._store = store
        self._clock = clock
        self._holder = holder
        self._figures = figures
        self._planner = planner
        self._driver = driver
        self._changed = changed
        self._jobs: dict[str, asyncio.Task[None]] = {}
        #: Of those, the ones that see to parts at providers.
        self._drives: set[str] = set()
        self._swept_at = clock.monotonic()

    async def look(self) -> list[StoredBatch]:
        """Begins what is to be done; the batches whose items are to be run. Raises `StoreDown`."""
        await self._sweep()
        now = self._clock.wall()
        open_ones = await self._store.open_batches(limit=BATCHES_MAX)
        for batch in open_ones:
            if batch.id not in self._jobs and batch.lease_until <= now and self._is_due(batch, now) and self._is_free(batch, now):
                if _has_parts(batch, now):
                    self._drives.add(batch.id)
                self._jobs[batch.id] = asyncio.get_running_loop().create_task(self._tend(batch))
        return [batch for batch in open_ones if batch.status == "in_progress"]

    def _is_due(self, batch: StoredBatch, now: float) -> bool:
        """What is at providers comes first: closing waits for it."""
        if _has_parts(batch, now):
            return next_at(batch) <= now or self._planner.has_stranded(batch)
        return batch.status != "in_progress" or batch.unfinished == 0 or batch.expires_at <= now

    def _is_free(self, batch: StoredBatch, now: float) -> bool:
        drives = len(self._drives)
        return drives < DRIVES_MAX if _has_parts(batch, now) else len(self._jobs) - drives < JOBS_MAX

    async def close(self) -> None:
        """What is under way is left for another, who begins it anew."""
        jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        if jobs:
            await asyncio.wait(jobs)

    async def _tend(self, batch: StoredBatch) -> None:
        tenure = Tenure(self._store, self._clock, self._holder, batch)
        try:
            await tenure.begin()
            if batch.status == "validating":
                await take_in(self._store, tenure, self._clock, self._planner)
            elif batch.id in self._drives:
                await self._driver.drive(tenure)
            else:
                await close_batch(self._store, tenure, self._clock, self._figures)
        except Overtaken:
            await self._let_go(batch.id)
        except GatewayError as error:
            _log.warning("the batch %s is taken up again later: %s", batch.id, error.detail or error.message)
        except Exception:
            _log.exception("the batch %s is taken up again later, after a fault of the gateway", batch.id)
        finally:
            del self._jobs[batch.id]
            self._drives.discard(batch.id)
            self._changed()

    async def _let_go(self, batch_id: str) -> None:
        """Of a batch that was cancelled in these hands, so that it need not wait for the end of the lease."""
        try:
            batch = await self._store.find_batch(None, batch_id)
            if batch is not None and batch.holder == self._holder:
                await self._store.update_batch(batch_id, batch.version, holder=None, lease_until=0.0)
        except GatewayError as error:
            _log.warning("the batch %s is taken up again later: %s", batch_id, error.detail or error.message)

    async def _sweep(self) -> None:
        if self._clock.monotonic() - self._swept_at < SWEEP_EVERY_S:
            return
        self._swept_at = self._clock.monotonic()
        now = self._clock.wall()
        await self._store.sweep_files(now, abandoned_before=now - UPLOAD_S, limit=SWEPT_AT_ONCE)
        await self._store.sweep_batches(ended_before=now - BATCH_TTL_S, limit=SWEPT_AT_ONCE)


def _has_parts(batch: StoredBatch, now: float) -> bool:
    return batch.plan is not None and now < batch.expires_at + DRIVE_GRACE_S
