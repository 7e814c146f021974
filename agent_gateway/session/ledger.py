"""Where turns are put down: behind all others of their session, once, and given way to the next.

Promise: what another process put there meanwhile is not overwritten, and a session that was deleted meanwhile does not come back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import Conflict, GatewayError
from agent_gateway.session.turnstile import Place, Turnstile
from agent_gateway.stores.base import SessionStore, StoredTurn

#: How often a turn is added anew behind one that came between (another process's, when a lease was lost).
APPENDS_MAX = 5

_log = logging.getLogger("agent_gateway.session")


class Ledger:
    def __init__(self, store: SessionStore, turnstile: Turnstile, clock: Clock) -> None:
        #: Requests that went on without memory, and answers that were not kept, because the store was down.
        self.forgotten = 0
        self._store = store
        self._turnstile = turnstile
        self._clock = clock
        #: What is still to be done for exchanges that have ended: at most one for each of them.
        self._tasks: set[asyncio.Task[None]] = set()

    async def append(self, place: Place, turns: Sequence[StoredTurn], *, version: int, ttl_s: float, metadata: bytes | None) -> None:
        """In one transaction. `version`: of the session as it was when the turn began. Raises `StoreDown` and `Conflict`."""
        began_new = version == 0
        for _ in range(APPENDS_MAX):
            now = self._clock.wall()
            with suppress(Conflict):
                await self._store.append(*place, turns, expected_version=version, now=now, ttl_s=ttl_s, metadata=metadata)
                return
            session = await self._store.fetch(*place, now, newest=0)
            if session is None and not began_new:
                return
            version = 0 if session is None else session.info.version
        raise Conflict("The session changes too often for this turn to be kept.", retry_after_s=1)

    async def leave(self, place: Place) -> None:
        """The session's turn is another's."""
        await self._turnstile.leave(place)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Done beside, whatever becomes of the request."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self, timeout_s: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        await self._turnstile.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, GatewayError):
            self.forgotten += 1
        else:
            _log.error("the end of a session's turn failed by a fault of the gateway", exc_info=error)
