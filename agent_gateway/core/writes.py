"""Writes to sockets, made together at the end of the event loop's turn.

Going to the kernel and back between two requests' Python leaves the processor's caches and branch predictions cold: made in one row,
the same writes take a quarter off a request's CPU (docs/decisions/0005).
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary


class Writes:
    """One a loop. What is written to one transport keeps its order; `flush` before anything else is done to a transport."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[asyncio.WriteTransport, bytes]] = []

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Writes:
        writes = _of_loops.get(loop)
        if writes is None:
            writes = _of_loops[loop] = cls(loop)
        return writes

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append((transport, data))

    def flush(self) -> None:
        """Everything written so far is the transports' now; what was meant for a closed one is dropped, as it would have been."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            if not transport.is_closing():
                transport.write(data)


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Writes] = WeakKeyDictionary()
