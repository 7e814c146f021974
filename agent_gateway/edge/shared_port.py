"""A port that several processes listen on by one socket: who has the fewest connections takes the next.

The kernel wakes all of them and lets the first have it, which is mostly the same one: without this a worker of four has most of the
clients' connections, and with them most of the requests. Promise: no connection waits longer than `PATIENCE_S` for a worker that does not
take it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import mmap
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ssl import SSLContext

#: So long the others have to take a connection that is theirs by number (s), and so many one takes at once that they have left.
PATIENCE_S = 0.01
LEFT_MAX = 8
#: With no file left to open, nothing is taken for this long (s).
REST_S = 1.0

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ENTRY_BYTES = 4

_log = logging.getLogger("agent_gateway.edge")


class Tally:
    """How many connections each process has, in a file that they all have in memory; 0: there is no process, else one more than it has."""

    def __init__(self, file: int, entries: int) -> None:
        self._memory = mmap.mmap(file, entries * _ENTRY_BYTES)
        self._counts = memoryview(self._memory).cast("I")

    @classmethod
    def made(cls, file: int, entries: int) -> Tally:
        """In an empty file."""
        os.pwrite(file, bytes(entries * _ENTRY_BYTES), 0)  # where the disk is full it is said here, and not by a SIGBUS later on
        return cls(file, entries)

    def tell(self, entry: int, connections: int) -> None:
        self._counts[entry] = connections + 1

    def clear(self, entry: int) -> None:
        self._counts[entry] = 0

    def has_fewest(self, entry: int) -> bool:
        """Nobody has fewer."""
        mine = self._counts[entry]
        return all(count >= mine or not count for count in self._counts)


@dataclass(frozen=True, slots=True)
class Share:
    """Of one process. `turn` is waited for before it takes its first connection: who is there before the others would have them all."""

    tally: Tally
    entry: int
    turn: Callable[[], Awaitable[None]]


class SharedPort:
    """Takes connections of listening sockets, as an `asyncio.Server` does. `connections` counts those that there are."""

    def __init__(
        self,
        listening: Sequence[socket.socket],
        share: Share,
        connect: Callable[[], asyncio.Protocol],
        connections: Callable[[], int],
        tls: SSLContext | None,
    ) -> None:
        self.sockets = tuple(listening)
        self._tally = share.tally
        self._entry = share.entry
        self._connect = connect
        self._connections = connections
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        #: Taken, and not among the connections yet.
        self._making: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self) -> None:
        self.count()
        for listening in self.sockets:
            listening.setblocking(False)
            self._listen(listening)

    def count(self) -> None:
        """To be called often: connections end, too."""
        if not self._closed:
            self._tally.tell(self._entry, self._connections() + len(self._making))

    def close(self) -> None:
        """Those that were taken already are made."""
        if not self._closed:
            self._closed = True
            self._tally.clear(self._entry)
            for listening in self.sockets:
                self._loop.remove_reader(listening)

    async def wait_closed(self) -> None:
        if self._making:
            await asyncio.wait(self._making)

    def _listen(self, listening: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(listening, self._look, listening)

    def _look(self, listening: socket.socket) -> None:
        self.count()
        while self._tally.has_fewest(self._entry):
            if not self._take(listening):
                return
        self._loop.remove_reader(listening)
        self._loop.call_later(PATIENCE_S, self._take_what_is_left, listening)

    def _take_what_is_left(self, listening: socket.socket) -> None:
        if self._closed:
            return
        self._listen(listening)
        for _ in range(LEFT_MAX):
            if not self._take(listening):
                return

    def _take(self, listening: socket.socket) -> bool:
        """False: there is none."""
        try:
            connection, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            _log.error("no connection can be taken at the moment: %s", error)
            self._loop.remove_reader(listening)
            self._loop.call_later(REST_S, self._listen, listening)
            return False
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._make(connection))
        self._making.add(task)
        task.add_done_callback(self._making.discard)
        self.count()
        return True

    async def _make(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._connect, connection, ssl=self._tls)
        except OSError:  # it is gone already, or there was no TLS with it
            connection.close()
