"""An event loop in which waiting takes no time: when nobody has anything to do, its clock is at the next timer.

Promise: the same coroutines run in the same order every time, whatever the machine is doing; a day takes as long as its work.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from agent_gateway.core.clock import Clock

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class Standstill(RuntimeError):
    """Everybody waits for something that nobody is going to do."""


class _Hurry(selectors.DefaultSelector):
    """Waits for no file; the time that it was to wait has passed when it returns."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Standstill("every task waits, and no timer is set that could wake one")
        self.now += timeout
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    """Has neither sockets nor threads: both take real time."""

    def __init__(self, begins: float) -> None:
        self._hurry = _Hurry()
        self._hurry.now = begins
        super().__init__(self._hurry)

    def time(self) -> float:
        return self._hurry.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts) -> asyncio.Future[_T]:
        raise RuntimeError("nothing runs in a thread in virtual time: it would take real time")


def run_virtually(main: Callable[[Clock], Coroutine[Any, Any, _T]], *, wall: float = 0.0, monotonic: float = 0.0) -> _T:
    """What `main` returns. It is given the loop's clock; `wall` is the Unix time at which it begins (s), `monotonic` the loop's own
    time. Raises `Standstill`.
    """
    with asyncio.Runner(loop_factory=lambda: _VirtualLoop(monotonic)) as runner:
        loop = runner.get_loop()
        return runner.run(main(Clock(monotonic=loop.time, wall=lambda: wall + loop.time() - monotonic)))
