"""Sessions and responses whose time is over are deleted, a few at a time.

Promise: no batch holds up a request for longer than one small transaction; a store that is down is swept when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import GatewayError
from agent_gateway.stores.base import SessionStore

#: Between two sweeps, and at least between two batches of one (s).
SWEEP_EVERY_S = 15.0
BATCH_PAUSE_S = 0.01
#: After a batch nothing is swept for so many times as long as it took: requests have nine tenths of the store's time for themselves.
PAUSE_FACTOR = 9
#: Of each kind, in one transaction: with forty turns each, a millisecond in which SQLite takes no other write.
BATCH_MAX = 10

_log = logging.getLogger("agent_gateway.session")


class Sweeper:
    def __init__(self, store: SessionStore, clock: Clock, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        #: Sessions when they were last counted, and those swept since the start.
        self.active = 0
        self.expired = 0
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def sweep(self) -> None:
        """All that has expired by now. Raises `StoreDown`."""
        now = self._clock.wall()
        while True:
            began = self._clock.monotonic()
            swept = await self._store.sweep(now, BATCH_MAX)
            self.expired += swept.sessions
            if max(swept.sessions, swept.responses) < BATCH_MAX:
                break
            await self._sleep(max(BATCH_PAUSE_S, PAUSE_FACTOR * (self._clock.monotonic() - began)))
        self.active = await self._store.count_sessions(now)

    async def _run(self) -> None:
        while True:
            await self._sleep(SWEEP_EVERY_S)
            try:
                await self.sweep()
            except GatewayError as error:
                _log.warning("expired sessions were not swept: %s", error.detail or error.message)
            except Exception:
                _log.exception("expired sessions were not swept, by a fault of the gateway")
