"""Streams that can be taken up again: every event of an answer is numbered and kept while it is made, and for a while after.

Promise: a reader gets each event once, in order and byte for byte, or an error that says why not; who writes never waits for one who reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from sys import getsizeof
from typing import Protocol

from agent_gateway.core.call import Dialect
from agent_gateway.core.errors import BadRequest, EventsGone
from agent_gateway.stores.base import Owner
from agent_gateway.wire.sse import FrameSplitter, frame_data

#: Handed to a reader at once (bytes), as long as it is more than one event.
READ_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of what one process keeps."""

    #: Of one stream: over it its oldest events go. It holds the largest event that there is (`wire.sse.FRAME_MAX_BYTES`) and more.
    stream_bytes: int = 24 * 1024 * 1024
    total_bytes: int = 128 * 1024 * 1024
    streams: int = 1_000


class Stream(Protocol):
    """An answer, for those who read it."""

    #: In whose protocol it is told.
    dialect: Dialect
    #: The response's header lines; empty until there is content.
    head: bytes

    def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        """The events behind that number, as they come, to the end of the answer; several at once where there are several.

        Raises `BadRequest` (no such event), `EventsGone`, `StreamLost`, `StoreDown`.
        """


class StreamLog(Stream, Protocol):
    """An answer, for the one who makes it. Nothing here waits."""

    def begin(self, head: bytes) -> None: ...

    def append(self, frames: bytes) -> None:
        """Whole SSE frames. Those without data (comments, heartbeats) are no events and are not kept."""

    def end(self) -> None:
        """Complete or not: nothing follows. It can be read for its time to live from now on."""


class LiveStreams(Protocol):
    """All streams that can be read here. `running`, `finished`, `kept_bytes` and `failures` are for metrics."""

    @property
    def running(self) -> int: ...

    @property
    def finished(self) -> int: ...

    @property
    def kept_bytes(self) -> int: ...

    @property
    def failures(self) -> int:
        """How often what is kept could not be shared with others."""

    def open(self, request_id: str, owner: Owner, dialect: Dialect, ttl_s: float) -> StreamLog | None:
        """None: there are too many, all of them running."""

    async def find(self, request_id: str, owner: Owner) -> Stream | None:
        """None: there is none, or it is another owner's. Raises `StoreDown`."""

    async def erase(self, user: str) -> int:
        """Forgets the user's streams, whatever key they were made with; those that run keep nothing beyond their end. How many there were.

        Raises `StoreDown`.
        """

    async def close(self, timeout_s: float) -> None:
        """What was written is where others can read it, or the time is over."""


class Mirror(Protocol):
    """Who wants to know what happens to the streams of a process; told on the path, so that it must not dally."""

    def changed(self, stream: MemoryStream) -> None: ...

    def dropped(self, stream: MemoryStream) -> None:
        """Its time is over, or another needs the room."""


class MemoryStream:
    """A `StreamLog`: the newest events of one answer."""

    __slots__ = ("_news", "_streams", "bytes", "dialect", "ended", "events", "first", "head", "id", "last", "owner", "timer", "ttl_s")

    def __init__(self, streams: MemoryStreams, request_id: str, owner: Owner, dialect: Dialect, ttl_s: float) -> None:
        self._streams = streams
        self.id = request_id
        self.owner = owner
        self.dialect: Dialect = dialect
        self.ttl_s = ttl_s
        self.head = b""
        self.ended = False
        #: Ends its life, once it has ended.
        self.timer: asyncio.TimerHandle | None = None
        #: Those kept: events `first` … `last`.
        self.events: list[bytes] = []
        self.first = 1
        self.last = 0
        self.bytes = 0
        self._news = asyncio.Event()

    # --- writing

    def begin(self, head: bytes) -> None:
        self.head = head

    def append(self, frames: bytes) -> None:
        before = self.bytes
        for frame in FrameSplitter.split(frames):
            if frame_data(frame) is not None:
                self.last += 1
                event = numbered(frame, self.last)
                self.events.append(event)
                self.bytes += getsizeof(event)
        if self.bytes != before:
            self._streams.grown(self, self.bytes - before)
            self._tell()

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self._streams.ended(self)
            self._tell()

    def fill(self, first: int, events: Sequence[bytes]) -> None:
        """With events that are numbered already."""
        self.events = list(events)
        self.first, self.last = first, first + len(events) - 1
        self.bytes = sum(map(getsizeof, events))

    def shrink(self, to_bytes: int) -> int:
        """Forgets its oldest events; how many bytes that was. The newest stays while the answer goes on, or nobody could follow it."""
        before, count = self.bytes, 0
        most = len(self.events) if self.ended else len(self.events) - 1
        while self.bytes > to_bytes and count < most:
            self.bytes -= getsizeof(self.events[count])
            count += 1
        del self.events[:count]
        self.first += count
        return before - self.bytes

    # --- reading

    async def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        if after > self.last:
            raise no_such_event(after, self.last)
        while events := await self.next(after):
            after += len(events)
            yield b"".join(events)

    async def next(self, after: int) -> Sequence[bytes]:
        """The events behind that number, once there are any; none: nothing follows. Raises `EventsGone`."""
        while after >= self.last:
            if self.ended:
                return ()
            await self._news.wait()
        return self.take(after)

    def take(self, after: int) -> Sequence[bytes]:
        """At least one event behind that number, which is before the last. Raises `EventsGone`."""
        start = after + 1 - self.first
        if start < 0:
            raise events_gone(after)
        end, size = start + 1, len(self.events[start])
        while end < len(self.events) and size + len(self.events[end]) <= READ_MAX_BYTES:
            size += len(self.events[end])
            end += 1
        return self.events[start:end]

    def _tell(self) -> None:
        """Wakes all who wait."""
        self._news.set()
        self._news.clear()


class MemoryStreams:
    """The streams of this process. Over the bounds, those that ended first go first; then a running one loses its oldest events."""

    def __init__(self, bounds: Bounds | None = None, mirror: Mirror | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._mirror = mirror
        self._streams: dict[str, MemoryStream] = {}
        #: In the order in which they ended.
        self._ended: dict[str, MemoryStream] = {}
        self.kept_bytes = 0
        self.failures = 0

    @property
    def running(self) -> int:
        return len(self._streams) - len(self._ended)

    @property
    def finished(self) -> int:
        return len(self._ended)

    def open(self, request_id: str, owner: Owner, dialect: Dialect, ttl_s: float) -> MemoryStream | None:
        if len(self._streams) >= self._bounds.streams and not self._drop_oldest():
            return None
        stream = self._streams[request_id] = MemoryStream(self, request_id, owner, dialect, ttl_s)
        return stream

    def of(self, request_id: str) -> MemoryStream | None:
        return self._streams.get(request_id)

    def finished_ones(self) -> list[tuple[MemoryStream, float]]:
        """Those that can still be read, the newest first, and how much longer (s)."""
        now = asyncio.get_running_loop().time()
        return [(stream, stream.timer.when() - now) for stream in reversed(self._ended.values()) if stream.timer is not None]

    def adopt(self, stream: MemoryStream, first: int, events: Sequence[bytes]) -> None:
        """One that has ended elsewhere; `first`: the number of the first of its events."""
        if stream.id in self._streams or (len(self._streams) >= self._bounds.streams and not self._drop_oldest()):
            return
        self._streams[stream.id] = stream
        stream.fill(first, events)
        stream.end()
        self.grown(stream, stream.bytes)

    async def find(self, request_id: str, owner: Owner) -> MemoryStream | None:
        stream = self._streams.get(request_id)
        return stream if stream is not None and stream.owner == owner else None

    async def erase(self, user: str) -> int:
        streams = [stream for stream in self._streams.values() if stream.owner.user == user]
        for stream in streams:
            if stream.ended:
                self._forget(stream)
            else:
                stream.ttl_s = 0.0
                self.kept_bytes -= stream.shrink(0)
                if self._mirror is not None:
                    self._mirror.changed(stream)
        return len(streams)

    async def close(self, timeout_s: float) -> None:
        self._mirror = None
        for stream in list(self._streams.values()):
            self._forget(stream)

    # --- what streams tell of themselves

    def grown(self, stream: MemoryStream, by_bytes: int) -> None:
        self.kept_bytes += by_bytes
        if stream.bytes > self._bounds.stream_bytes:
            self.kept_bytes -= stream.shrink(self._bounds.stream_bytes)
        while self.kept_bytes > self._bounds.total_bytes and self._drop_oldest():
            pass
        if self.kept_bytes > self._bounds.total_bytes:
            self.kept_bytes -= stream.shrink(stream.bytes // 2)
        if self._mirror is not None:
            self._mirror.changed(stream)

    def ended(self, stream: MemoryStream) -> None:
        self._ended[stream.id] = stream
        stream.timer = asyncio.get_running_loop().call_later(stream.ttl_s, self._forget, stream)
        if self._mirror is not None:
            self._mirror.changed(stream)

    def _drop_oldest(self) -> bool:
        """False: none has ended."""
        oldest = next(iter(self._ended.values()), None)
        if oldest is None:
            return False
        self._forget(oldest)
        return True

    def _forget(self, stream: MemoryStream) -> None:
        if stream.timer is not None:
            stream.timer.cancel()
        self._streams.pop(stream.id, None)
        self._ended.pop(stream.id, None)
        self.kept_bytes -= stream.shrink(0)
        if self._mirror is not None:
            self._mirror.dropped(stream)


def numbered(frame: bytes, number: int) -> bytes:
    """The event with its number as its last line, where it rules over an id that a provider gave it."""
    end = b"\r\n" if frame.endswith(b"\r\n") else frame[-1:]
    return b"%bid: %d%b%b" % (frame[: -len(end)], number, end, end)


def no_such_event(after: int, last: int) -> BadRequest:
    return BadRequest(f"There is no event {after}: the last one is {last}.", param="starting_after")


def events_gone(after: int) -> EventsGone:
    return EventsGone(f"The events after {after} are not all kept any more; what is kept of an answer is bounded.")
