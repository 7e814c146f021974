"""The right to work on a batch as a whole (read its file, write its results): one process's at a time, by lease.

Promise: every change is a compare-and-swap on what this process saw last; whoever was overtaken learns it at the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, Unpack

from agent_gateway.core.clock import Clock
from agent_gateway.stores.batches import BatchChanges, BatchStore, StoredBatch

LEASE_S = 15.0

_T = TypeVar("_T")


class Overtaken(Exception):
    """The batch was changed, or is gone, since this process last saw it."""


class Tenure:
    def __init__(self, store: BatchStore, clock: Clock, holder: str, batch: StoredBatch) -> None:
        self.batch = batch
        self._store = store
        self._clock = clock
        self._holder = holder

    async def begin(self) -> None:
        await self._lease(LEASE_S)

    async def renew(self) -> None:
        """Often enough between two steps of the work; writes when a third of the lease is over."""
        if self.batch.lease_until - self._clock.wall() < LEASE_S * 2 / 3:
            await self._lease(LEASE_S)

    async def during(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What comes of it, however long it takes. It is stopped where this process is overtaken meanwhile."""
        task = asyncio.get_running_loop().create_task(work)
        try:
            while not (await asyncio.wait([task], timeout=LEASE_S / 3))[0]:
                await self.renew()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        return task.result()

    async def end(self, **changes: Unpack[BatchChanges]) -> StoredBatch:
        """With what came of it."""
        given_up: BatchChanges = {"holder": None, "lease_until": 0.0, **changes}
        return await self.change(**given_up)

    async def change(self, **changes: Unpack[BatchChanges]) -> StoredBatch:
        changed = await self._store.update_batch(self.batch.id, self.batch.version, **changes)
        if changed is None:
            raise Overtaken
        self.batch = changed
        return changed

    async def _lease(self, lease_s: float) -> None:
        await self.change(holder=self._holder, lease_until=self._clock.wall() + lease_s)
