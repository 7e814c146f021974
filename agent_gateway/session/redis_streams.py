"""Streams that other processes can read too: what this one keeps, copied to Redis Streams beside the path, and followed from there.

Promise: a request never waits for Redis; a reader elsewhere learns within `LEASE_S` + `BLOCK_S` that a process is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from agent_gateway.core.call import Dialect
from agent_gateway.core.errors import StoreDown, StreamLost
from agent_gateway.session.live_streams import Bounds, MemoryStream, MemoryStreams, Stream, StreamLog, events_gone, no_such_event
from agent_gateway.stores.base import Owner
from agent_gateway.stores.redis_client import redis_client

_log = logging.getLogger("agent_gateway.session")

#: What is written within this time goes out together (s).
COPY_EVERY_S = 0.02
#: And so much of it at once (bytes).
COPY_MAX_BYTES = 4 * 1024 * 1024
#: After a failure the copying rests (s).
RETRY_S = 1.0
#: A process that is not heard of for so long is gone; it says three times in that time that it lives.
LEASE_S = 10.0
#: A reader waits for news so long before it asks whether the process lives.
BLOCK_S = 2.0
CONNECT_TIMEOUT_S = 2.0
#: One answer of Redis, beyond the time that it was asked to wait.
ANSWER_TIMEOUT_S = 3.0
#: Streams of other processes that are followed from this one at once: each holds a connection.
READERS_MAX = 200
#: Keys looked at in one round trip, when a user's streams are looked for.
SCAN_KEYS = 500
#: Entries read at once; each holds `live_streams.READ_MAX_BYTES`, or one event.
ENTRIES_AT_ONCE = 16

_PREFIX = "agent-gateway:stream:"
_batch = msgspec.msgpack.Decoder(list[bytes])


class RedisStreams:
    """`LiveStreams`: this process's own from memory, those of others from Redis. While Redis is down the own ones work on, and are
    copied once it is back.
    """

    def __init__(self, url: str, bounds: Bounds | None = None, *, lease_s: float = LEASE_S, block_s: float = BLOCK_S) -> None:
        self._memory = MemoryStreams(bounds, self)
        self._lease_s = lease_s
        self._block_s = block_s
        self._writer = _client(url, 1, ANSWER_TIMEOUT_S)
        self._reader = _client(url, READERS_MAX, block_s + ANSWER_TIMEOUT_S)
        #: Of the streams that run, or are not all copied.
        self._copies: dict[str, _Copy] = {}
        self._changed: dict[str, _Copy] = {}
        #: Ids of those that are to be deleted.
        self._dropped: set[str] = set()
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.failures = 0

    @property
    def running(self) -> int:
        return self._memory.running

    @property
    def finished(self) -> int:
        return self._memory.finished

    @property
    def kept_bytes(self) -> int:
        return self._memory.kept_bytes

    def open(self, request_id: str, owner: Owner, dialect: Dialect, ttl_s: float) -> StreamLog | None:
        stream = self._memory.open(request_id, owner, dialect, ttl_s)
        if stream is not None:
            self._copies[stream.id] = _Copy(stream)
            self.changed(stream)
            if self._task is None:
                self._task = asyncio.create_task(self._keep_copying())
        return stream

    async def find(self, request_id: str, owner: Owner) -> Stream | None:
        if self._memory.of(request_id) is not None:
            return await self._memory.find(request_id, owner)
        fields = await self._ask(self._reader.hgetall(_PREFIX + request_id))
        if not fields or Owner(fields[b"key"].decode(), fields[b"user"].decode()) != owner:
            return None
        return _RemoteStream(self, request_id, cast(Dialect, fields[b"dialect"].decode()), fields[b"head"])

    async def erase(self, user: str) -> int:
        """Here, and what other processes have copied. What they still make is not found any more, and gone soon after its end."""
        count = await self._memory.erase(user)
        position = None
        while position != 0:
            position, keys = await self._ask(self._reader.scan(position or 0, match=f"{_PREFIX}*", count=SCAN_KEYS))
            for request_id in [key.decode().removeprefix(_PREFIX) for key in keys if not key.endswith((b":events", b":alive"))]:
                if await self._ask(self._reader.hget(_PREFIX + request_id, "user")) == user.encode("utf-8", "replace"):
                    count += self._memory.of(request_id) is None and request_id not in self._dropped
                    await self._ask(self._reader.delete(*_keys(request_id)))
        return count

    async def close(self, timeout_s: float) -> None:
        if self._task is not None:
            self._closing = True
            self._work.set()
            await asyncio.wait([self._task], timeout=timeout_s)
            self._task.cancel()
        await self._memory.close(timeout_s)
        for client in (self._writer, self._reader):
            await client.aclose(close_connection_pool=True)

    # --- copying

    def changed(self, stream: MemoryStream) -> None:
        copy = self._copies.get(stream.id)
        if copy is not None:
            self._changed[stream.id] = copy
            self._work.set()

    def dropped(self, stream: MemoryStream) -> None:
        self._copies.pop(stream.id, None)
        self._changed.pop(stream.id, None)
        self._dropped.add(stream.id)
        self._work.set()

    async def _keep_copying(self) -> None:
        while self._changed or self._dropped or not self._closing:
            try:
                async with asyncio.timeout(self._lease_s / 3 if self._copies else None):
                    await self._work.wait()
            except TimeoutError:
                pass
            self._work.clear()
            try:
                await self._copy()
            except Exception as error:
                if not isinstance(error, (RedisError, OSError)):
                    _log.exception("Streams could not be copied to Redis; it is tried again.")
                self.failures += 1
                for copy in self._copies.values():  # a Redis that comes back may have forgotten all of it
                    copy.whole = False
                self._changed = dict(self._copies)
                await asyncio.sleep(RETRY_S)
            if self._changed or self._dropped or self._closing:
                self._work.set()
            await asyncio.sleep(COPY_EVERY_S)

    async def _copy(self) -> None:
        """One round trip: what is new, what is to go, and that the streams that run are still made."""
        pipeline: Any = self._writer.pipeline(transaction=True)
        done: list[_Copy] = []
        size = 0
        for copy in list(self._changed.values()):
            if size > COPY_MAX_BYTES:
                break
            size += copy.write(pipeline)
            done.append(copy)
            del self._changed[copy.stream.id]
        dropped, self._dropped = self._dropped, set()
        for request_id in dropped:
            pipeline.delete(*_keys(request_id))
        now = asyncio.get_running_loop().time()
        for copy in self._copies.values():
            if copy.whole and not copy.stream.ended and now - copy.renewed >= self._lease_s / 3:
                copy.renewed = now
                copy.renew(pipeline, self._lease_s)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await pipeline.execute()
        except BaseException:  # what of it has come there is not known
            for copy in done:
                copy.whole = copy.complete = False
            self._changed |= {copy.stream.id: copy for copy in done}
            self._dropped |= dropped
            raise
        for copy in done:
            if copy.complete:
                self._copies.pop(copy.stream.id, None)
            elif copy.sent < copy.stream.last:
                self._changed[copy.stream.id] = copy

    # --- reading

    async def _ask(self, answer: Any) -> Any:
        try:
            return await answer
        except (RedisError, OSError) as error:
            raise StoreDown(
                "Streams of other gateway processes cannot be read at the moment.",
                retry_after_s=RETRY_S,
                detail=f"Redis: {str(error) or type(error).__name__}",
            ) from error

    async def read(self, request_id: str, after: str, *, wait: bool) -> Sequence[tuple[bytes, dict[bytes, bytes]]]:
        """The stream's entries behind that one; none where none came within `BLOCK_S`."""
        block_ms = int(self._block_s * 1000) if wait else None
        events = _keys(request_id)[1]
        found = await self._ask(self._reader.xread({events: after}, count=ENTRIES_AT_ONCE, block=block_ms))
        return found[0][1] if found else ()

    async def why_silent(self, request_id: str, after: int) -> Exception | None:
        """Nothing came: None where something may yet come."""
        _, events, alive = _keys(request_id)
        if await self._ask(self._reader.exists(alive)):
            return None
        if newest := await self._ask(self._reader.xrevrange(events, count=1)):
            entry_id, fields = newest[0]
            last = _number(entry_id)
            if b"end" in fields and last < after:
                return no_such_event(after, last)
            if b"end" in fields or last > after:
                return None  # it came just now
        return StreamLost("The gateway process that made this answer is gone; the rest of the answer will not come.")

    async def head(self, request_id: str) -> bytes:
        return await self._ask(self._reader.hget(_keys(request_id)[0], "head")) or b""


class _Copy:
    """How much of a stream is in Redis. An entry is a batch of events under the number of its last one, so that copies made twice, or
    by other batches, are the same to a reader.
    """

    __slots__ = ("complete", "head", "renewed", "sent", "stream", "whole")

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        #: The last event that is there.
        self.sent = 0
        self.head = b""
        #: When it was last said that it is still made (loop time).
        self.renewed = 0.0
        #: What is there is what was sent; else it is all sent anew.
        self.whole = False
        self.complete = False

    def write(self, pipeline: Any) -> int:
        """What is not there yet; how many bytes that is."""
        stream = self.stream
        fields, events, alive = _keys(stream.id)
        if not self.whole:
            owner = stream.owner
            pipeline.delete(events)
            pipeline.hset(fields, mapping={"key": owner.key, "user": owner.user, "dialect": stream.dialect, "head": stream.head})
            self.sent, self.head, self.renewed, self.whole = 0, stream.head, 0.0, True
        elif stream.head != self.head:
            pipeline.hset(fields, "head", stream.head)
            self.head = stream.head
        size = 0
        self.sent = max(self.sent, stream.first - 1)
        while self.sent < stream.last and size <= COPY_MAX_BYTES:
            batch = stream.take(self.sent)
            self.sent += len(batch)
            data = msgspec.msgpack.encode(batch)
            size += len(data)
            # What is dropped here is dropped there.
            pipeline.xadd(events, {"events": data}, id=f"{self.sent}-0", minid=f"{stream.first}-0", approximate=False)
        if stream.ended and self.sent == stream.last:
            self.complete = True
            pipeline.xadd(events, {"end": b""}, id=f"{stream.last}-1")
            pipeline.delete(alive)
            for key in (fields, events):
                pipeline.pexpire(key, _milliseconds(stream.ttl_s))
        return size

    def renew(self, pipeline: Any, lease_s: float) -> None:
        """Says that it is still made; without that it is kept for its time to live, as one that has ended."""
        fields, events, alive = _keys(self.stream.id)
        pipeline.set(alive, b"", px=_milliseconds(lease_s))
        for key in (fields, events):
            pipeline.pexpire(key, _milliseconds(self.stream.ttl_s + lease_s))


class _RemoteStream:
    """A `Stream` that another process makes, or made."""

    def __init__(self, streams: RedisStreams, request_id: str, dialect: Dialect, head: bytes) -> None:
        self._streams = streams
        self._id = request_id
        self.dialect: Dialect = dialect
        self.head = head

    async def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        position = f"{after}-0"
        wait = False  # first what is there, or why there is nothing
        while True:
            entries = await self._streams.read(self._id, position, wait=wait)
            wait = True
            if not entries and (reason := await self._streams.why_silent(self._id, after)) is not None:
                raise reason
            if entries and not self.head:
                self.head = await self._streams.head(self._id)
            for entry_id, fields in entries:
                if b"end" in fields:
                    return
                events, last = _batch.decode(fields[b"events"]), _number(entry_id)
                known = after - (last - len(events))
                if known < 0:
                    raise events_gone(after)
                yield b"".join(events[known:])
                after, position = last, f"{last}-0"


def _client(url: str, connections: int, answer_timeout_s: float) -> Redis:
    return redis_client(url, connections_max=connections, wait_s=ANSWER_TIMEOUT_S, connect_s=CONNECT_TIMEOUT_S, answer_s=answer_timeout_s)


def _keys(request_id: str) -> tuple[str, str, str]:
    """Of what is known of it, its events, and the sign that it is still made."""
    key = _PREFIX + request_id
    return key, f"{key}:events", f"{key}:alive"


def _number(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
