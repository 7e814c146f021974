"""Answers that go on without their client: made by a task of their own into a log, and read from there by whoever asks, at once or later.

Promise: every reader, the first one too, gets the same events with the same numbers; none of them holds up the others or the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any
from urllib.parse import parse_qs

import msgspec

from agent_gateway.core.call import Call
from agent_gateway.core.errors import BadRequest, GatewayError, NotFound
from agent_gateway.core.event import Chunk, Event
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.answering import Answering, Outlet
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.request import Head, Headers
from agent_gateway.edge.response import HeadLines, stream_error
from agent_gateway.pipeline import Live, Runtime, refuse
from agent_gateway.session.identity import owner_of
from agent_gateway.session.live_streams import Stream, StreamLog

#: More digits than any stream has events.
_DIGITS_MAX = 15


def resumable(exchange: Exchange, head: Head, live: Live, runtime: Runtime, outlet: Outlet, limits: Limits) -> Answering | None:
    """For a client that asked for it; None where the stream cannot be one that is taken up again (too many of them, or nothing is to be
    kept here). Raises `BadRequest`.
    """
    call, settings = exchange.call, runtime.settings
    if not call.stream or call.framing != "sse":
        return None
    if msgspec.json.decode(call.body, type=_Wish).store is False:
        raise BadRequest("store: what is not to be stored cannot be taken up again; leave out x-gateway-resumable.", param="store")
    ttl_s = settings.models.get(call.model, settings).streaming.resume_ttl_s
    if ttl_s == 0 or settings.monitoring.mode == "minimal":
        return None
    log = runtime.streams.open(exchange.id, owner_of(exchange), call.dialect, ttl_s)
    return None if log is None else _First(exchange, live, runtime, outlet, limits, log)


async def resumed(
    exchange: Exchange, request_id: str, head: Head, seen: int, runtime: Runtime, outlet: Outlet, limits: Limits
) -> Answering:
    """For a client that comes for the events behind those it has `seen`. Raises `NotFound` or `StoreDown`."""
    exchange.call = Call(dialect=exchange.call.dialect, model="", body=b"", user=head.user)
    stream = await runtime.streams.find(request_id, owner_of(exchange))
    if stream is None:
        raise NotFound(f"There is no stream {request_id[:100]!r}, or no more.")
    exchange.id = request_id
    exchange.call = Call(dialect=stream.dialect, model="", body=b"", stream=True)
    return _Following(exchange, runtime, outlet, limits, stream, seen)


def events_seen(headers: Headers, query: bytes) -> int:
    """The number of the last event that the client has. Raises `BadRequest`."""
    header = headers.get(b"last-event-id")
    [name, text] = ["Last-Event-ID", header.decode("latin-1")] if header else ["starting_after", _query(query, "starting_after")]
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS_MAX:
        raise BadRequest(f"{name}: {text[:32]!r} is not the number of an event.", param=name)
    return int(text)


class _Following(Answering):
    """Reads a stream to its end."""

    __slots__ = ("_seen", "_stream")

    def __init__(self, exchange: Exchange, runtime: Runtime, outlet: Outlet, limits: Limits, stream: Stream, seen: int = 0) -> None:
        super().__init__(exchange, runtime, outlet, None, asyncio.get_running_loop(), limits)
        self._stream = stream
        #: The number of the last event that the client has.
        self._seen = seen

    async def _events(self) -> AsyncGenerator[Event, None]:
        async with aclosing(self._stream.follow(self._seen)) as stream:
            async for events in stream:
                yield Chunk(events)
        if not self._begun:  # nothing was missing
            yield Chunk(b"")

    def _stream_head(self) -> HeadLines:
        return self._stream.head or super()._stream_head()


class _First(_Following):
    """The client whose request it is: has the answer made, and reads it like all others."""

    __slots__ = ("_live", "_log")

    def __init__(self, exchange: Exchange, live: Live, runtime: Runtime, outlet: Outlet, limits: Limits, log: StreamLog) -> None:
        super().__init__(exchange, runtime, outlet, limits, log)
        self._live = live
        self._log = log

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._exchange.client_left = False  # the answer goes on without

    async def _events(self) -> AsyncGenerator[Event, None]:
        self._make()
        async with aclosing(super()._events()) as events:
            async for event in events:
                if not self._begun and not self._log.head and self._exchange.error is not None:
                    raise self._exchange.error  # while there is no content it is told by the status
                yield event

    def _first_beat(self) -> None:
        self._timer = self._loop.call_soon(super()._first_beat)  # admission is a turn later than elsewhere

    def _make(self) -> None:
        exchange, runtime, log = self._exchange, self._runtime, self._log
        exchange.tap = None  # all goes by the log

        making = _Making(exchange, runtime, _Writing(exchange, log), None, self._loop, self._limits)
        made_beside(making.run(), exchange, self._live, runtime, log.end)


def made_beside(work: Coroutine[Any, Any, None], exchange: Exchange, live: Live, runtime: Runtime, over: Callable[[], None]) -> None:
    """Makes an answer in a task of its own, which its client's leaving does not end. `over` is called when nothing more will come."""

    def ended(task: asyncio.Task[None]) -> None:
        live.tasks.discard(task)
        if exchange.ended is None:  # cancelled before the first stage
            refuse(exchange, asyncio.CancelledError(), runtime)
        over()

    task = asyncio.get_running_loop().create_task(work)
    live.tasks.add(task)
    task.add_done_callback(ended)


class _Making(Answering):
    """Writes for readers that come and go; whether they hear anything meanwhile is a matter of each."""

    __slots__ = ()

    def _first_beat(self) -> None:
        return None


class _Writing:
    """The outlet of what is made: the log. Nothing here waits."""

    __slots__ = ("_exchange", "_log")

    def __init__(self, exchange: Exchange, log: StreamLog) -> None:
        self._exchange = exchange
        self._log = log

    def whole(self, status: int, head: HeadLines, body: bytes) -> None:
        """It failed before there was any content: to those who come later that is the one event."""
        assert self._exchange.error is not None, "a stream has no whole answer"
        self._log.append(stream_error(self._exchange.error, self._exchange))

    def begin(self, head: HeadLines) -> None:
        self._log.begin(head)

    def write(self, data: bytes) -> None:
        self._log.append(data)

    def end(self) -> None:
        self._log.end()

    def unsent(self) -> int:
        return 0

    def refused(self, error: GatewayError) -> None:
        return None  # the client's own outlet tells it

    def give_up(self) -> None:
        return None


class _Wish(msgspec.Struct):
    store: Any = None


def _query(query: bytes, name: str) -> str:
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get(name)
    return values[-1] if values else "0"
