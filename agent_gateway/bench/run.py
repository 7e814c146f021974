"""Runs a load: users who ask again when they are answered, or requests that come when they come.

Promise: in an open loop a request's time begins when it was to be sent, so what a slow answer holds up is counted, not left out
(coordinated omission); and nothing is left running.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Iterator
from time import monotonic

from agent_gateway.bench.client import Client
from agent_gateway.bench.load import Load
from agent_gateway.bench.tally import Figures, Tally
from agent_gateway.bench.workload import Workload

#: After a request that failed, a user waits so long, and after each one more twice as long: who has too much to do is not stormed (s).
PAUSE_S = 0.1
PAUSE_MAX_S = 5.0
#: How often it is told how far it has come (s).
TELL_EVERY_S = 0.25

Progress = Callable[[float, float], None]


class Run:
    """Of one load. `progress` is told the seconds that have gone, and of how many."""

    def __init__(self, load: Load, client: Client, progress: Progress = lambda _done, _of: None) -> None:
        self._load = load
        self._client = client
        self._progress = progress
        self._begun = monotonic()
        self._measured_from = self._begun + max(load.warm_up_s, load.ramp_s)
        self._ends = self._measured_from + load.duration_s
        self._tally = Tally(load, self._measured_from)
        self._workload = Workload(load, secrets.token_hex(4))
        self._under_way = 0
        self._stopping = asyncio.Event()

    async def figures(self) -> Figures:
        """All that was sent is waited for, each under its own timeout."""
        telling = asyncio.ensure_future(self._tell())
        try:
            await (self._closed() if self._load.rate is None else self._open(self._load.rate))
        finally:
            telling.cancel()
        return self._tally.figures()

    def stop(self) -> None:
        """Nothing more is sent; what was measured so far is told."""
        self._tally.stop(monotonic())
        self._stopping.set()

    # --- a closed loop

    async def _closed(self) -> None:
        count = self._load.concurrency
        async with asyncio.TaskGroup() as users:
            for number in range(count):
                users.create_task(self._user(self._load.ramp_s * number / count))

    async def _user(self, begins_s: float) -> None:
        await self._pause(begins_s)
        pause_s = PAUSE_S
        while not self._stopping.is_set() and (now := monotonic()) < self._ends:
            if await self._one(now):
                pause_s = PAUSE_S
            else:
                await self._pause(pause_s)
                pause_s = min(2 * pause_s, PAUSE_MAX_S)

    # --- an open loop

    async def _open(self, rate: float) -> None:
        """Where as many are under way as may be, the next waits, and its time runs."""
        room = asyncio.Semaphore(self._load.concurrency)

        async def one(due: float) -> None:
            try:
                await self._one(due)
            finally:
                room.release()

        async with asyncio.TaskGroup() as requests:
            for due in self._arrivals(rate):
                if due >= self._ends:
                    break
                await self._pause(due - monotonic())
                await room.acquire()
                if self._stopping.is_set() or monotonic() >= self._ends + self._load.timeout_s:
                    room.release()
                    break
                requests.create_task(one(due))

    def _arrivals(self, rate: float) -> Iterator[float]:
        each_s = self._load.requests_each / rate
        chance = random.Random(self._load.seed)
        due = self._begun
        while True:
            yield due
            due += each_s if self._load.arrivals == "even" else chance.expovariate(1 / each_s)

    # ---

    async def _one(self, due: float) -> bool:
        """Whether there was an answer."""
        workload = self._workload
        conversation = workload.conversation()
        session = None if conversation is None else conversation.id
        self._under_way += 1
        self._tally.under_way(self._under_way, monotonic())
        try:
            outcome = await self._client.ask(workload.body(), session, due, self._tally.gaps(due))
        finally:
            self._under_way -= 1
        if conversation is not None and outcome.answered:
            workload.answered(conversation)
        self._tally.add(outcome)
        return outcome.answered > 0

    async def _pause(self, seconds: float) -> None:
        """Ends early when all of it is to end. Lets the others have their turn in any case."""
        if seconds < TELL_EVERY_S:
            await asyncio.sleep(max(seconds, 0))
            return
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _tell(self) -> None:
        whole_s = self._ends - self._begun
        while True:
            self._progress(min(monotonic() - self._begun, whole_s), whole_s)
            await asyncio.sleep(TELL_EVERY_S)
