"""Performs a reply against a clock: waits until bytes are due, and gives all that are due together."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from agent_gateway.core.clock import Clock
from agent_gateway.simulator.simulator import Reply
from agent_gateway.simulator.telling import Frame

Sleep = Callable[[float], Awaitable[object]]

#: Timers of an event loop cannot be set for ever (s).
_LONGEST_SLEEP_S = 3600.0
#: Half of what an event loop's timers can tell apart; what is due that soon is not waited for again (s).
_TOGETHER_S = 0.0005


class ConnectionDropped(Exception):
    """The simulated provider broke the connection."""


class DeadlinePassed(Exception):
    """What was waited for is not due before `until`."""


class Player:
    """One performance; it begins when it is made. `until` is a monotonic time; a wait past it raises `DeadlinePassed`."""

    __slots__ = ("_clock", "_frames", "_next", "_reply", "_sleep", "_start")

    def __init__(self, reply: Reply, clock: Clock, sleep: Sleep = asyncio.sleep) -> None:
        self._reply = reply
        self._clock = clock
        self._sleep = sleep
        self._start = clock.monotonic()
        self._frames = iter(reply.frames)
        self._next = next(self._frames, None)

    async def open(self, until: float = math.inf) -> None:
        """Returns when status and headers are due."""
        await self._wait(self._reply.opens_at_s, until)

    async def next(self, until: float = math.inf) -> bytes:
        """What is due; `b""` at the clean end. Raises `ConnectionDropped` where the reply is cut."""
        if self._next is None:
            return await self._end(until)
        await self._wait(self._next.at_s, until)
        due_s = max(self._clock.monotonic() - self._start, self._next.at_s) + _TOGETHER_S
        data = bytearray()
        frame: Frame | None = self._next
        while frame and (frame.at_s <= due_s or not data):
            data += frame.data
            frame = next(self._frames, None)
        self._next = frame
        return bytes(data) or await self.next(until)

    def close(self) -> None:
        """Nothing more is written; `next` is then at its end."""
        self._next = None
        self._frames = iter(())

    async def _end(self, until: float) -> bytes:
        match self._reply.ending:
            case "complete":
                return b""
            case "cut":
                raise ConnectionDropped
            case "silence":
                await self._wait(math.inf, until)
                raise AssertionError("for ever is over")

    async def _wait(self, at_s: float, until: float) -> None:
        due = self._start + at_s
        end = min(due, until)
        while (left := end - self._clock.monotonic()) > 0:
            await self._sleep(min(left, _LONGEST_SLEEP_S))
        if due > until:
            raise DeadlinePassed
