"""Streams that another worker of this machine makes, read from it; without Redis they lie with the worker that makes them.

Promise: a reader gets the same events as with the worker itself, or learns within a second that it is gone, and that it stands still
within `SILENT_MAX_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct

from agent_gateway.core.call import Dialect
from agent_gateway.core.errors import EventsGone, StoreDown, StreamLost
from agent_gateway.core.siblings import NoAnswer, Siblings, Silence
from agent_gateway.session.live_streams import Bounds, MemoryStream, MemoryStreams, Stream, StreamLog, events_gone, no_such_event
from agent_gateway.stores.base import Owner

#: A worker that has no news says so after this long, well within `core.siblings.ANSWER_S`.
NEWS_S = 0.5

#: A worker that does not answer for so long is given up (s); it is asked again so soon.
SILENT_MAX_S = 5.0
ASK_AGAIN_S = 0.1

#: For one that is handed on, 24 MB at most.
ADOPT_S = 5.0

_FIND, _READ, _KEPT, _ADOPT, _ERASE = "streams.find", "streams.read", "streams.kept", "streams.adopt", "streams.erase"


class _Wanted(Struct, frozen=True, array_like=True):
    request_id: str
    key: str
    user: str


class _Found(Struct, frozen=True, array_like=True):
    dialect: Dialect
    head: bytes


class _Place(Struct, frozen=True, array_like=True):
    request_id: str
    after: int
    #: The reader has no head yet.
    is_first: bool


class _Read(Struct, frozen=True, array_like=True):
    events: list[bytes] = []
    head: bytes = b""
    #: Nothing follows.
    ended: bool = False
    #: There is no event of that number; the last one there is.
    too_far: int | None = None
    #: What is asked for is not kept any more.
    gone: bool = False


class _Handed(Struct, frozen=True, array_like=True):
    """A whole one."""

    request_id: str
    key: str
    user: str
    dialect: Dialect
    head: bytes
    left_s: float
    first: int
    events: list[bytes]


_encode = msgspec.msgpack.encode
_wanted = msgspec.msgpack.Decoder(_Wanted)
_found = msgspec.msgpack.Decoder(_Found)
_place = msgspec.msgpack.Decoder(_Place)
_read = msgspec.msgpack.Decoder(_Read)
_handed_on = msgspec.msgpack.Decoder(_Handed)


class SiblingStreams:
    """`LiveStreams`: this worker's own from memory, those of others from them."""

    def __init__(self, siblings: Siblings, bounds: Bounds | None = None) -> None:
        self._memory = MemoryStreams(bounds)
        self._siblings = siblings
        siblings.answer(_FIND, self._tell_of)
        siblings.answer(_READ, self._tell)
        siblings.answer(_KEPT, self._tell_kept)
        siblings.answer(_ADOPT, self._adopt)
        siblings.answer(_ERASE, self._erase)

    @property
    def running(self) -> int:
        return self._memory.running

    @property
    def finished(self) -> int:
        return self._memory.finished

    @property
    def kept_bytes(self) -> int:
        return self._memory.kept_bytes

    @property
    def failures(self) -> int:
        return self._memory.failures

    def open(self, request_id: str, owner: Owner, dialect: Dialect, ttl_s: float) -> StreamLog | None:
        return self._memory.open(request_id, owner, dialect, ttl_s)

    async def find(self, request_id: str, owner: Owner) -> Stream | None:
        if self._memory.of(request_id) is not None:
            return await self._memory.find(request_id, owner)
        answers = await self._siblings.gather(_FIND, _encode(_Wanted(request_id, owner.key, owner.user)))
        for told in answers:
            if told.body:
                found = _found.decode(told.body)
                return _SiblingStream(self._siblings, told.worker, request_id, found)
        if any(told.body is None for told in answers):
            raise StoreDown("Not all workers of the gateway could be asked for the stream. Ask again.", retry_after_s=1)
        return None

    async def erase(self, user: str) -> int:
        count = await self._memory.erase(user)
        for told in await self._siblings.gather(_ERASE, user.encode("utf-8", "surrogatepass")):
            if told.body is None:
                raise StoreDown("Not all workers of the gateway have erased the user's streams. Ask again.")
            count += int.from_bytes(told.body, "big")
        return count

    async def close(self, timeout_s: float) -> None:
        """What can still be read is handed on to a worker that stays, if there is one."""
        with suppress(TimeoutError, NoAnswer, StoreDown):
            async with asyncio.timeout(timeout_s):
                await self._hand_on()
        await self._memory.close(timeout_s)

    async def _hand_on(self) -> None:
        finished = self._memory.finished_ones()
        if not finished:
            return
        kept = {told.worker: int.from_bytes(told.body, "big") for told in await self._siblings.gather(_KEPT, staying=True) if told.body}
        for stream, left_s in finished:
            if not kept:
                return
            worker = min(kept, key=kept.__getitem__)  # the one with the most room
            kept[worker] += stream.bytes
            await self._siblings.ask(worker, _ADOPT, _encode(_handed(stream, left_s)), ADOPT_S)

    # --- asked by others

    async def _tell_of(self, body: bytes) -> bytes:
        wanted = _wanted.decode(body)
        stream = await self._memory.find(wanted.request_id, Owner(wanted.key, wanted.user))
        return b"" if stream is None else _encode(_Found(stream.dialect, stream.head))

    async def _tell_kept(self, _: bytes) -> bytes:
        return self.kept_bytes.to_bytes(8, "big")

    async def _erase(self, user: bytes) -> bytes:
        return (await self._memory.erase(user.decode("utf-8", "surrogatepass"))).to_bytes(8, "big")

    async def _adopt(self, body: bytes) -> bytes:
        handed = _handed_on.decode(body)
        owner = Owner(handed.key, handed.user)
        stream = MemoryStream(self._memory, handed.request_id, owner, handed.dialect, handed.left_s)
        stream.begin(handed.head)
        self._memory.adopt(stream, handed.first, handed.events)
        return b""

    async def _tell(self, body: bytes) -> bytes:
        place = _place.decode(body)
        stream = self._memory.of(place.request_id)
        if stream is None:
            return _encode(_Read(gone=True))
        if place.after > stream.last:
            return _encode(_Read(too_far=stream.last))
        try:
            events, ended = await _news(stream, place.after)
        except EventsGone:
            return _encode(_Read(gone=True))
        return _encode(_Read(list(events), stream.head if place.is_first else b"", ended))


def _handed(stream: MemoryStream, left_s: float) -> _Handed:
    owner = stream.owner
    return _Handed(stream.id, owner.key, owner.user, stream.dialect, stream.head, left_s, stream.first, list(stream.events))


async def _news(stream: MemoryStream, after: int) -> tuple[Sequence[bytes], bool]:
    """What follows, if it comes within `NEWS_S`; and whether nothing more does."""
    try:
        async with asyncio.timeout(NEWS_S):
            events = await stream.next(after)
    except TimeoutError:
        return (), False
    return events, not events


class _SiblingStream:
    """A `Stream` of another worker."""

    def __init__(self, siblings: Siblings, worker: int, request_id: str, found: _Found) -> None:
        self._siblings = siblings
        self._worker = worker
        self._id = request_id
        self.dialect: Dialect = found.dialect
        self.head = found.head

    async def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        while True:
            read = await self._read(after)
            if read.too_far is not None:
                raise no_such_event(after, read.too_far)
            if read.gone:
                raise events_gone(after)
            self.head = self.head or read.head
            if read.events:
                after += len(read.events)
                yield b"".join(read.events)
            elif read.ended:
                return

    async def _read(self, after: int) -> _Read:
        question = _encode(_Place(self._id, after, not self.head))
        loop = asyncio.get_running_loop()
        until = loop.time() + SILENT_MAX_S
        try:
            while True:
                try:
                    return _read.decode(await self._siblings.ask(self._worker, _READ, question))
                except Silence:  # it may have too much to do just now
                    if loop.time() >= until:
                        raise
                await asyncio.sleep(ASK_AGAIN_S)
        except NoAnswer as error:
            gone = "The gateway process that made this answer is gone; the rest of the answer will not come."
            raise StreamLost(gone, detail=str(error)) from error
