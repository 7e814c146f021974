"""Writes to sockets, made together at the end of the event loop's turn.

Going to the kernel and back between two requests' Python leaves the processor's caches and branch predictions cold: made in one row,
the same writes take a quarter off a request's CPU (docs/decisions/0005).
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

#: A write over this does not wait for the others of the loop's turn: whether the client takes that much shows at once (bytes).
DIRECT_BYTES = 32 * 1024


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
        if len(data) > DIRECT_BYTES:
            self.flush()
            transport.write(data)
            return
        waiting = self._waiting
        if not waiting:
            self._loop.call_soon(self.flush)
        elif waiting[-1][0] is transport:  # a head and its body, a last chunk and the end
            data = waiting.pop()[1] + data
        waiting.append((transport, data))
        if len(data) > DIRECT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Everything written so far is the transports' now; what was meant for a closed one is dropped, as it would have been."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            if not transport.is_closing():
                transport.write(data)


class GatheringTransport:
    """A transport whose small writes are made with the others of the loop's turn, for a protocol that knows nothing of `Writes`."""

    def __init__(self, transport: asyncio.Transport, writes: Writes) -> None:
        self._transport = transport
        self._writes = writes
        # What has nothing to do with the order of writes; `abort` means to lose them.
        self.is_closing = transport.is_closing
        self.abort = transport.abort
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def ungathered(self) -> asyncio.Transport:
        """The transport itself, for a protocol that has to see at once whether its client takes what it writes."""
        self._writes.flush()
        return self._transport

    def write(self, data: bytes) -> None:
        if data:
            self._writes.write(self._transport, data)

    def __getattr__(self, name: str) -> Any:
        """Anything else that is done to the transport is done after what was written before it."""
        self._writes.flush()
        return getattr(self._transport, name)


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Writes] = WeakKeyDictionary()
