"""Limits that several processes share, in Redis or in their machine's file: one exchange at a time, for all who wait.

Promise: nobody waits longer than `WAIT_MAX_S`, nor for a place that is slow. While it cannot be asked each process counts for itself;
what a process held that is gone comes back after its lease.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path

import msgspec

from agent_gateway.admission.cluster_file import Answer, exchange
from agent_gateway.admission.lease import SPARE_S, Lease
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import StoreDown
from agent_gateway.stores.meeting import Script
from agent_gateway.stores.meeting_place import Place, open_meeting
from agent_gateway.stores.promptness import ASK_AGAIN_S, WAIT_MAX_S, Promptness

#: One exchange. It is longer, for it is the process that may be busy, and then the answer is there already.
ANSWER_TIMEOUT_S = 1.0
#: The first one, and after a failure.
CONNECT_TIMEOUT_S = 2.0
#: After a failure the place is left alone for so long.
RETRY_S = 0.5
#: A timer that is so late tells that this process had too much to do (s).
STANDSTILL_S = 0.01
#: What no request waits for is said together with what comes within this time (s).
PAUSE_S = 0.01
#: Requests, and leases without a request, in one exchange.
WISHES_AT_ONCE = 200
LEASES_AT_ONCE = 500
#: Requests that wait; any more are counted by this process alone.
WISHES_MAX = 10_000

_PREFIX = b"agent-gateway:limit:"
_SCRIPT: Script[Answer] = Script(Path(__file__).with_suffix(".lua"), exchange, Answer)
_log = logging.getLogger("agent_gateway.admission")


class Refused(msgspec.Struct, frozen=True):
    """By this limit, for so long at least."""

    lease: Lease
    wait_s: float


class _Wish:
    """What a request needs of the cluster: all of it or nothing."""

    __slots__ = ("future", "granted", "needs")

    def __init__(self, needs: Sequence[tuple[Lease, float]], granted: Callable[[], None], future: asyncio.Future[Refused | None]) -> None:
        self.needs = needs
        self.granted = granted
        self.future = future


class Cluster:
    """One a process; outlives every reload."""

    def __init__(self, place: Place, clock: Clock, lease_s: float) -> None:
        self._clock = clock
        self._lease_s = lease_s
        self._meeting = open_meeting(place, _SCRIPT)
        self._promptness = Promptness(clock.monotonic)
        self._process = secrets.token_hex(8)
        self._wishes: deque[_Wish] = deque()
        self._changed: set[Lease] = set()
        #: With something in hand: looked after until they have nothing.
        self._active: set[Lease] = set()
        self._look_at = 0.0
        self._look_s = min(SPARE_S, lease_s / 3)
        #: There is something to say; there is somebody who waits for it.
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._told = False
        self._closing = False
        self._connected = False
        #: A request has waited for the exchange under way as long as it may; until that ends nobody else does.
        self._late = False
        #: Those that the exchange under way answers.
        self._asked: Sequence[_Wish] = ()

    @property
    def up(self) -> bool:
        """The place can be asked, and answers quickly."""
        return self._connected and not self._late and self._promptness.is_quick

    async def start(self) -> None:
        """With a first exchange, if the place is quick; else it comes later."""
        with suppress(StoreDown, TimeoutError):
            await self._exchange(CONNECT_TIMEOUT_S / 4)
            self._connected = True
        self._task = asyncio.create_task(self._run())

    async def close(self, timeout_s: float) -> None:
        """What it holds is given back."""
        if self._task is not None:
            self._closing = True
            self._work.set()
            self._urgent.set()
            await asyncio.wait([self._task], timeout=timeout_s)
            self._task.cancel()
        self._end_all()
        await self._meeting.close()

    def key(self, account: bytes, limit: str) -> bytes:
        return b"%b%b:%b" % (_PREFIX, account, limit.encode())

    def changed(self, lease: Lease, *, at_once: bool = False) -> None:
        self._active.add(lease)
        self._changed.add(lease)
        self._work.set()
        if at_once:
            self._urgent.set()

    async def ask(self, needs: Sequence[tuple[Lease, float]], granted: Callable[[], None]) -> Refused | None:
        """None without a call of `granted`: the place cannot be asked. It is called at the very moment, so that what was granted has an
        owner even where the one who waits is cancelled; who was cancelled before is not granted anything.
        """
        if not self.up or len(self._wishes) >= WISHES_MAX:
            return None
        wish = _Wish(needs, granted, asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        self._urgent.set()
        self._work.set()
        try:
            await self._wait(wish.future)
        finally:
            wish.future.cancel()  # unless it is done
        if wish.future.cancelled():
            self._late = True
            self._end_all()
            return None
        return wish.future.result()

    async def _wait(self, future: asyncio.Future[Refused | None]) -> None:
        """As long as is worth it, and where this process was itself too busy to hear of an answer once more, `WAIT_MAX_S` at most."""
        loop = asyncio.get_running_loop()
        wait_s = self._promptness.wait_s
        until = loop.time() + WAIT_MAX_S
        while not future.done() and (due := min(loop.time() + wait_s, until)) > loop.time():
            await asyncio.wait([future], timeout=due - loop.time())
            if loop.time() - due < STANDSTILL_S:
                return

    # --- exchanges

    async def _run(self) -> None:
        while not self._closing:
            await self._rest()
            try:
                if not self._connected:
                    self._changed |= self._active
                    await self._exchange(CONNECT_TIMEOUT_S)
                    self._heal()
                elif self._wishes or self._changed or not self._promptness.is_quick:
                    began = self._clock.monotonic()
                    await self._exchange(ANSWER_TIMEOUT_S)
                    self._promptness.took(self._clock.monotonic() - began)
            except Exception as error:  # whatever it is: requests must not wait for it
                self._fail(error)
        if self._connected:
            for lease in self._active:
                lease.drawn_at = -inf
            self._changed |= self._active
            with suppress(StoreDown, TimeoutError):
                await self._exchange(CONNECT_TIMEOUT_S)

    async def _rest(self) -> None:
        """Until there is something to say."""
        if not self._connected:
            await asyncio.sleep(RETRY_S)
        elif not self._work.is_set() and not self._closing:
            look_s = self._look_s if self._active else None
            with suppress(TimeoutError):
                async with asyncio.timeout(look_s if self._promptness.is_quick else ASK_AGAIN_S):
                    await self._work.wait()
        if self._connected and not self._wishes and not self._closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await self._urgent.wait()
        self._work.clear()
        self._urgent.clear()
        now = self._clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + self._look_s
            self._look_after_all(now)

    def _look_after_all(self, now: float) -> None:
        for lease in list(self._active):
            if not lease.in_use:
                self._active.discard(lease)
                continue
            if (lease.spare and not lease.keep(now)) or now - lease.said_at >= self._lease_s / 3:
                self._changed.add(lease)

    async def _exchange(self, timeout_s: float) -> None:
        """One round trip for what waits; the rest has its turn after it."""
        now = self._clock.monotonic()
        wishes = [self._wishes.popleft() for _ in range(min(len(self._wishes), WISHES_AT_ONCE))]
        self._asked = wishes = [wish for wish in wishes if not wish.future.done()]
        changed = [self._changed.pop() for _ in range(min(len(self._changed), LEASES_AT_ONCE))]
        leases = dict.fromkeys([*changed, *(lease for wish in wishes for lease, _ in wish.needs)])
        places = {lease: place for place, lease in enumerate(leases, 1)}
        if self._wishes or self._changed:
            self._work.set()
        said = [lease.speak(now) for lease in leases]
        wished = [[value for lease, amount in wish.needs for value in (places[lease], amount)] for wish in wishes]
        names, message = [lease.name for lease in leases], (self._process, self._lease_s * 1000, said, wished)
        try:
            self._hear(list(leases), wishes, await self._meeting.exchange(names, message, within_s=timeout_s))
        except BaseException:
            self._changed.update(leases)
            self._end(wishes, None)
            raise
        finally:
            self._late = False

    def _hear(self, leases: Sequence[Lease], wishes: Sequence[_Wish], answer: Answer) -> None:
        now = self._clock.monotonic()
        answers, outcomes = answer
        for lease, (topped_up, state) in zip(leases, answers, strict=True):
            lease.hear(topped_up, state, now)
            if lease.in_use:
                self._active.add(lease)
        for wish, (place, wait_ms) in zip(wishes, outcomes, strict=True):
            self._settle(wish, None if place == 0 else Refused(leases[place - 1], wait_ms / 1000), now)

    def _settle(self, wish: _Wish, refused: Refused | None, now: float) -> None:
        if refused is not None:
            amount = next(amount for lease, amount in wish.needs if lease is refused.lease)
            refused.lease.refuse(amount, refused.wait_s, now)
        elif wish.future.done():  # its client has left: what it was granted goes back
            for lease, amount in wish.needs:
                lease.give_back(amount)
            return
        else:
            for lease, _ in wish.needs:
                lease.grant(now)
                self._active.add(lease)
            wish.granted()
        self._end([wish], refused)

    # --- failures

    def _fail(self, error: Exception) -> None:
        if self._connected or not self._told:
            self._told = True
            why = error.detail if isinstance(error, StoreDown) else str(error) or type(error).__name__
            _log.warning("Limits are counted by each process for itself until %s is back: %s", self._meeting.place, why)
        self._connected = False
        self._promptness.failed()
        for lease in self._active:
            lease.lose()
        self._end_all()

    def _heal(self) -> None:
        if self._told:
            self._told = False
            _log.warning("Limits are shared by %s again", self._meeting.place)
        self._connected = True

    def _end_all(self) -> None:
        """Nobody waits any longer."""
        wishes = [*self._asked, *self._wishes]
        self._wishes.clear()
        self._end(wishes, None)

    @staticmethod
    def _end(wishes: Sequence[_Wish], refused: Refused | None) -> None:
        for wish in wishes:
            if not wish.future.done():
                wish.future.set_result(refused)
