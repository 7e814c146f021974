"""One turn of a session at a time: in this process by a queue, among processes by a lease in the store.

Promise: a process that dies holds nobody up for longer than `LEASE_S`; who waits does so under its own deadline.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import Conflict, GatewayError
from agent_gateway.stores.base import Owner, SessionStore

#: How long a lease holds that nobody renews, and how often it is renewed (s).
LEASE_S = 10.0
RENEW_S = LEASE_S / 3
#: While another process has the session, the store is asked again after so long, ever longer (s).
POLL_S = 0.02
POLL_MAX_S = 0.5
#: Turns of one session that may wait in this process.
WAITING_MAX = 100


class Place(NamedTuple):
    """One session of one owner."""

    owner: Owner
    session: str


class _Queue:
    __slots__ = ("lock", "turns")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        #: The one under way, and those that wait.
        self.turns = 0


class Turnstile:
    def __init__(self, store: SessionStore, clock: Clock, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._store = store
        self._clock = clock
        self._sleep = sleep
        #: Names this process among all.
        self._holder = secrets.token_hex(8)
        self._queues: dict[Place, _Queue] = {}
        #: Whose lease this process has.
        self._held: set[Place] = set()
        self._renewing: asyncio.Task[None] | None = None
        #: Of turns that were not waited for.
        self._leaving: set[asyncio.Task[None]] = set()

    async def enter(self, place: Place, until: float) -> None:
        """Returns when it is the caller's turn, who must `leave` then. `until` is monotonic. Raises `Conflict` and `StoreDown`."""
        queue = self._queues.setdefault(place, _Queue())
        if queue.turns > WAITING_MAX:
            raise Conflict(f"{WAITING_MAX} turns of this session are waiting already. Wait for their answers.", retry_after_s=1)
        queue.turns += 1
        has_turn = False
        try:
            async with asyncio.timeout(until - self._clock.monotonic()):
                has_turn = await queue.lock.acquire()
                await self._take_lease(place)
        except BaseException as error:
            if has_turn and not isinstance(error, GatewayError):
                self._give_up(place)
            else:
                if has_turn:
                    queue.lock.release()
                self._count_out(place, queue)
            if isinstance(error, TimeoutError):
                raise Conflict("Another turn of this session is still under way.", retry_after_s=1) from None
            raise

    async def leave(self, place: Place) -> None:
        """Never raises what the store says: a lease that cannot be given back ends by itself."""
        queue = self._queues[place]
        self._held.discard(place)
        try:
            with suppress(GatewayError):
                await self._store.release(place.owner, place.session, self._holder)
        finally:
            queue.lock.release()
            self._count_out(place, queue)

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _give_up(self, place: Place) -> None:
        """Beside: the store may give the lease when nobody waits for it any more, and others would wait until it ends."""
        task = asyncio.get_running_loop().create_task(self.leave(place))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _count_out(self, place: Place, queue: _Queue) -> None:
        queue.turns -= 1
        if not queue.turns:
            del self._queues[place]

    async def _take_lease(self, place: Place) -> None:
        wait_s = POLL_S
        while not await self._acquire(place):
            await self._sleep(wait_s)
            wait_s = min(wait_s * 2, POLL_MAX_S)
        self._held.add(place)
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())

    async def _acquire(self, place: Place) -> bool:
        return await self._store.acquire(place.owner, place.session, self._holder, now=self._clock.wall(), lease_s=LEASE_S)

    async def _renew(self) -> None:
        """As long as anything is held."""
        while self._held:
            await self._sleep(RENEW_S)
            for place in list(self._held):
                with suppress(GatewayError):
                    await self._acquire(place)
                    if place not in self._held:  # given back meanwhile, perhaps before this was written
                        await self._store.release(place.owner, place.session, self._holder)
