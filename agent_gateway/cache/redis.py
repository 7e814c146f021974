"""Answers in Redis or Valkey, shared by all processes that use it.

Promise: no request waits for it longer than `WAIT_MAX_S`, nor at all while it is down or slow: then there is no cache, and everything
else goes on.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from redis.exceptions import RedisError

from agent_gateway.cache.base import ANSWER_MAX_BYTES, Entry, Place
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import StoreDown
from agent_gateway.stores.promptness import ASK_AGAIN_S, WAIT_MAX_S, Promptness
from agent_gateway.stores.redis_client import redis_client

#: An answer is written, or one round trip of an erasure made, within this time (s).
WRITE_TIMEOUT_S = 2.0
#: After a failure Redis is left alone for so long (s).
RETRY_S = 0.5
CONNECTIONS_MAX = 16
#: Answers that are being written; any more are not kept.
WRITES_MAX = 256
#: What is longer is compressed (bytes), and what is longer still beside the event loop.
COMPRESS_MIN_BYTES = 1024
APART_BYTES = 64 * 1024
#: Unpacked, an entry is not longer than this (bytes): beside the answer there is its text, for records.
UNPACKED_MAX_BYTES = 4 * ANSWER_MAX_BYTES
#: The furthest that Redis is told to remember anything (s).
TTL_MAX_S = 10 * 365 * 86400.0
#: Keys looked at in one round trip, when a user's answers are looked for.
SCAN_KEYS = 500

_PREFIX = "agent-gateway:cache:"
_PLAIN, _PACKED = b"\0", b"\1"
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)
_log = logging.getLogger("agent_gateway.cache")


class RedisEntries:
    """`Entries`."""

    #: Nothing is in this process's memory.
    kept_bytes = 0

    def __init__(self, url: str, clock: Clock) -> None:
        self.failures = 0
        self._clock = clock
        self._client = redis_client(
            url, connections_max=CONNECTIONS_MAX, wait_s=WAIT_MAX_S, connect_s=WRITE_TIMEOUT_S, answer_s=WRITE_TIMEOUT_S
        )
        self._writes: set[asyncio.Task[None]] = set()
        self._promptness = Promptness(clock.monotonic)
        #: Asks Redis, which was down or slow, whether it is quick again.
        self._asking: asyncio.Task[None] | None = None

    def limit(self, bytes_max: int) -> None:
        return None

    async def find(self, place: Place) -> Entry | None:
        packed = await self._asked(partial(self._find, _name(place)), within_s=self._promptness.wait_s)
        if packed is None:
            return None
        return _unpacked(packed) if len(packed) <= APART_BYTES else await asyncio.to_thread(_unpacked, packed)

    def keep(self, place: Place, entry: Entry, ttl_s: float) -> asyncio.Task[None] | None:
        if len(self._writes) >= WRITES_MAX:
            self.failures += 1
            return None
        task = asyncio.get_running_loop().create_task(self._write(_name(place), entry, ttl_s))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return task

    async def erase(self, user: str) -> int:
        if self._writes:
            await asyncio.wait(self._writes)
        try:
            return await self._erase(f"{_PREFIX}{user}:*")
        except (RedisError, OSError) as error:
            detail = f"Redis: {str(error) or type(error).__name__}"
            raise StoreDown("The cache cannot be erased at the moment.", retry_after_s=RETRY_S, detail=detail) from error

    async def close(self, timeout_s: float) -> None:
        if self._writes:
            await asyncio.wait(self._writes, timeout=timeout_s)
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        await self._client.aclose(close_connection_pool=True)

    async def _write(self, name: str, entry: Entry, ttl_s: float) -> None:
        packed = _packed(entry) if len(entry.body) <= APART_BYTES else await asyncio.to_thread(_packed, entry)
        ttl_ms = max(int(min(ttl_s, TTL_MAX_S) * 1000), 1)
        await self._asked(partial(self._client.set, name, packed, px=ttl_ms), within_s=WRITE_TIMEOUT_S)

    async def _erase(self, pattern: str) -> int:
        count, position = 0, None
        while position != 0:
            position, names = await self._client.scan(position or 0, match=pattern, count=SCAN_KEYS)
            if names:
                count += await self._client.delete(*names)
        return count

    async def _find(self, name: str) -> Any:
        began = self._clock.monotonic()
        answer = await self._client.get(name)
        self._promptness.took(self._clock.monotonic() - began)
        return answer

    async def _asked(self, ask: Callable[[], Awaitable[Any]], *, within_s: float) -> Any:
        """None: there is no answer, or Redis cannot be asked, or only slowly."""
        if self._asking is not None:
            self.failures += 1
            return None
        answer = None
        try:
            async with asyncio.timeout(within_s):
                answer = await ask()
        except Exception as error:  # whatever the client makes of a Redis that is ill: the request goes on without it
            self.failures += 1
            self._promptness.failed()
            self._leave_alone(str(error) or type(error).__name__)
        if not self._promptness.is_quick:
            self._leave_alone("it is slow")
        return answer

    def _leave_alone(self, why: str) -> None:
        if self._asking is None:
            _log.warning("Requests go without the cache until Redis is back: %s", why)
            self._asking = asyncio.create_task(self._ask_again())

    async def _ask_again(self) -> None:
        """Until it is quick again; no request waits for that."""
        while not self._promptness.is_quick:
            began = self._clock.monotonic()
            try:
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await self._client.ping()
            except Exception:
                self._promptness.failed()
                await asyncio.sleep(RETRY_S)
            else:
                self._promptness.took(self._clock.monotonic() - began)
                await asyncio.sleep(ASK_AGAIN_S)
        self._asking = None
        _log.warning("The cache is in use again: Redis is back")


def _name(place: Place) -> str:
    return f"{_PREFIX}{place.user}:{place.request}"


def _packed(entry: Entry) -> bytes:
    data = _encoder.encode(entry)
    return _PLAIN + data if len(data) < COMPRESS_MIN_BYTES else _PACKED + zlib.compress(data, 1)


def _unpacked(packed: bytes) -> Entry | None:
    """None: it is nothing of ours, or not whole."""
    data = packed[1:]
    try:
        if packed[:1] == _PACKED:
            data = zlib.decompressobj().decompress(data, UNPACKED_MAX_BYTES)
        return _decoder.decode(data)
    except (zlib.error, msgspec.MsgspecError):
        return None
