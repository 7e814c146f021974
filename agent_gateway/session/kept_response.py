"""One response on its way to its client, and into the store before its last byte goes out.

Promise: only an answer that came to its end is kept, but for one in the background, which is found at any time, however it ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from agent_gateway.core.call import Keeping
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import GatewayError, InternalError, NotFound, ResponseCancelled, ShuttingDown, StoreDown
from agent_gateway.core.event import Chunk, Event, Failure, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.json_edit import replace_member
from agent_gateway.protocols.openai_responses.response import new_response
from agent_gateway.protocols.turns import listed, members_of, turns_of
from agent_gateway.session.conversations import Conversations
from agent_gateway.session.turnstile import Place, Turnstile
from agent_gateway.stores.base import Owner, Store, StoredResponse
from agent_gateway.wire.sse import FrameSplitter, data_frame, frame_data

#: A response that is being made.
UNDER_WAY = ("queued", "in_progress")
#: What the store calls a completed one that is the gateway's fixed reply.
DEGRADED = "degraded"
#: How often the maker of a background response looks whether another process was asked to cancel it (s).
WATCH_S = 2.0

_ENDS = ("response.completed", "response.incomplete")
#: Only in events that hold the response: inside a text quotation marks are escaped.
_HOLDS_RESPONSE = b'"response"'
_log = logging.getLogger("agent_gateway.session")


class _Told(Struct):
    id: str
    status: str | None = None
    output: Raw = Raw(b"[]")


class _ToldEvent(Struct):
    type: str = ""
    response: Raw | UnsetType = UNSET


_json = msgspec.json.Encoder()
_told = msgspec.json.Decoder(_Told)
_told_event = msgspec.json.Decoder(_ToldEvent)


class Keeper(Protocol):
    """What a response needs of those who keep it."""

    unsaved: int
    conversations: Conversations
    store: Store
    clock: Clock
    sleep: Callable[[float], Awaitable[None]]
    turnstile: Turnstile
    running: dict[Place, KeptResponse]

    def leave_soon(self, place: Place) -> None: ...


class KeptResponse:
    """`exchange.call` is, at this point, what the client itself has sent. `leave` must follow."""

    def __init__(self, keeper: Keeper, exchange: Exchange, owner: Owner, keeping: Keeping) -> None:
        assert exchange.route is not None
        self._keeper = keeper
        self._exchange = exchange
        self._call = exchange.call
        self._owner = owner
        self._keeping = keeping
        self._ttl_s = exchange.route.sessions.ttl_s
        bare = exchange.id.removeprefix("req_")
        self._head = AnswerHead(bare, int(exchange.started_wall), exchange.call.model)
        #: Of one in the background; any other is called as its provider, or the codec, calls it.
        self.id = f"resp_{bare}"
        #: The items that are new with this request; None: those of the call as they stand.
        self.new: Sequence[bytes] | None = None
        self._cancelled = False
        self._ended = False
        self._task: asyncio.Task[Any] | None = None

    def leave(self) -> None:
        """Nothing more is done in its conversation."""
        if self._keeping.conversation is not None:
            self._keeper.leave_soon(Place(self._owner, self._keeping.conversation))

    def cancel(self) -> None:
        """What is stored from here on is another's to say."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    async def keep(self, answer: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The answer's own, but for the first of a whole answer in the background: the response as it is queued."""
        events = self._in_background(answer) if self._keeping.background else self._passed(answer)
        async with aclosing(events):
            async for event in events:
                yield event

    async def _passed(self, answer: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        async with aclosing(answer):
            async for event in answer:
                match event:
                    case Whole(body=body):
                        yield Whole(await self._saved(self._named(body)))
                    case Chunk(data=data) if _HOLDS_RESPONSE in data:
                        yield Chunk(b"".join([await self._frame(frame) for frame in FrameSplitter.split(data)]))
                    case _:
                        yield event

    async def _in_background(self, answer: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        keeper, place = self._keeper, Place(self._owner, self.id)
        self._task = asyncio.current_task()
        await keeper.turnstile.enter(place, self._exchange.deadline)
        keeper.running[place] = self
        watching = asyncio.create_task(self._watch())
        try:
            begun = self._begun()
            # Before anybody knows of it: what is written after, another process may have called off meanwhile.
            await self._put("in_progress", with_status(begun, "in_progress"))
            if not self._call.stream:
                yield Whole(begun)
            async with aclosing(self._passed(answer)) as events:
                async for event in events:
                    if type(event) is Failure:
                        await self._fail(event.error)
                    yield event
        except asyncio.CancelledError:
            if self._cancelled and self._task is not None:
                self._task.uncancel()
                raise ResponseCancelled("The response was cancelled.") from None
            await self._fail(ShuttingDown("The gateway was stopped before the answer was complete."))
            raise
        except GeneratorExit:
            await self._fail(ShuttingDown("The gateway was stopped before the answer was complete."))
            raise
        except Exception as error:
            await self._fail(error if isinstance(error, GatewayError) else InternalError("The gateway failed."))
            raise
        finally:
            watching.cancel()
            del keeper.running[place]
            keeper.leave_soon(place)

    async def _watch(self) -> None:
        """For another process, or a client that has deleted it there."""
        while True:
            await self._keeper.sleep(WATCH_S)
            with suppress(StoreDown):
                if await self._is_called_off():
                    self.cancel()
                    return

    async def _is_called_off(self) -> bool:
        found = await self._keeper.store.fetch_chain(self._owner, self.id, now=self._keeper.clock.wall(), limit=1)
        return not found or found[0].status not in UNDER_WAY

    # --- what the client is told

    async def _frame(self, frame: bytes) -> bytes:
        event = frame_data(frame) if _HOLDS_RESPONSE in frame else None
        if event is None:
            return frame
        told = _told_event.decode(event)
        if told.response is UNSET:
            return frame
        body = bytes(told.response)
        named = self._named(body)
        if told.type in _ENDS:
            named = await self._saved(named)
        if named == body:
            return frame
        edited = event.replace(body, named, 1)
        at = frame.find(event)
        # Data on several lines is put on one; a lone line keeps what stands around it.
        return data_frame(edited) if at < 0 else frame[:at] + edited + frame[at + len(event) :]

    def _named(self, body: bytes) -> bytes:
        """A response with what its provider was not told."""
        keeping = self._keeping
        members: dict[str, Any] = {}
        if keeping.previous is not None:
            members["previous_response_id"] = keeping.previous
        if keeping.conversation is not None:
            members["conversation"] = {"id": keeping.conversation}
        if keeping.background:
            members |= {"id": self.id, "background": True}
        return with_members(body, members) if members else body

    def _begun(self) -> bytes:
        response = new_response(self._head, self._call)
        response.status = "queued"
        return self._named(_json.encode(response))

    # --- what is stored

    async def _saved(self, body: bytes) -> bytes:
        """The same, once it is stored; one that could not be says so: the client has paid for its answer."""
        if not self._keeping.store:
            return body
        told = _told.decode(body)
        status = DEGRADED if self._exchange.status == "degraded" else told.status or "completed"
        try:
            if self._keeping.background and (self._cancelled or await self._is_called_off()):
                return body
            if self._keeping.conversation is not None and status != DEGRADED:
                await self._append(self._keeping.conversation, told.output)
            await self._put(status, body, told.id)
        except GatewayError as error:
            self._keeper.unsaved += 1
            _log.warning("response %s was not kept: %s %s", told.id, error.message, error.detail or "")
            return with_members(body, {"store": False})
        self._ended = True
        return body

    async def _fail(self, error: GatewayError) -> None:
        """The end of one in the background; where it cannot be stored, the next reader sees that nobody makes it."""
        if self._ended or self._cancelled:
            return
        self._ended = True
        with suppress(GatewayError):
            await self._put("failed", with_status(self._begun(), "failed", {"code": error.code, "message": error.message}))

    async def _append(self, conversation: str, output: Raw) -> None:
        with suppress(NotFound):  # deleted meanwhile
            await self._keeper.conversations.append(self._owner, conversation, [*self._items(), *listed(output)], self._ttl_s)

    async def _put(self, status: str, body: bytes, response_id: str | None = None) -> None:
        response = StoredResponse(
            response_id or self.id,
            status,
            b"[%b]" % b",".join(self._items()),
            body,
            self._exchange.started_wall,
            self._keeping.previous,
            self._keeping.conversation,
        )
        await self._keeper.store.put_response(self._owner, response, now=self._keeper.clock.wall(), ttl_s=self._ttl_s)

    def _items(self) -> Sequence[bytes]:
        if self.new is None:
            turns = turns_of(self._call.dialect)
            assert turns is not None
            self.new = turns.of(self._call)
        return self.new


def with_members(body: bytes, members: Mapping[str, Any]) -> bytes:
    """Every other byte stays, where the members stand there already as simple values; those that do not come first."""
    missing = []
    for name, value in members.items():
        key, text = name.encode(), _json.encode(value)
        changed = replace_member(body, key, text)
        if changed is body and key not in (known.encode() for known in members_of(body)):
            missing.append(b'"%b":%b,' % (key, text))
        body = changed
    return body if not missing else b"{%b%b" % (b"".join(missing), body.lstrip()[1:])


def with_status(body: bytes, status: str, error: Mapping[str, str] | None = None) -> bytes:
    members: dict[str, Any] = {"status": status}
    if error is not None:
        members["error"] = error
    return with_members(body, members)
