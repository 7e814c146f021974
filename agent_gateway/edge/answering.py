"""One answer on its way out, over whichever edge: events become head, chunks, heartbeats and the one end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable
from typing import Protocol

from agent_gateway.core.errors import GatewayError, InternalError, ShuttingDown
from agent_gateway.core.event import Chunk, Event, Failure, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.response import (
    GZIPPED,
    NO_COMMENTS,
    HeadLines,
    closing_comment,
    compressed,
    error_response,
    stream_error,
    stream_head,
    whole_head,
)
from agent_gateway.pipeline import Runtime, refuse, run
from agent_gateway.protocols.base import codec_of

_log = logging.getLogger("agent_gateway.edge")


class Outlet(Protocol):
    """Where an answer goes. What returns None is done; what returns an awaitable must be awaited before the next call."""

    def whole(self, status: int, head: HeadLines, body: bytes) -> Awaitable[None] | None: ...

    def begin(self, head: HeadLines) -> Awaitable[None] | None:
        """The head of a stream, status 200."""

    def write(self, data: bytes) -> Awaitable[None] | None: ...

    def end(self) -> Awaitable[None] | None:
        """The clean end of a stream."""

    def unsent(self) -> int:
        """Bytes that the client's side has not taken; 0 where that is not known."""

    def refused(self, error: GatewayError) -> None:
        """Why the request comes to nothing, before it is said: refusals of access are counted by where they come from."""

    def give_up(self) -> None:
        """The client takes nothing: ends its connection at once and cancels the answer, as when it had left by itself."""


class Answering:
    """Runs one exchange and writes what comes. Cancelling `run` cancels everything behind it."""

    __slots__ = (
        "_accept_encoding",
        "_beating",
        "_begun",
        "_exchange",
        "_heard_nothing_in_headers",
        "_last_write",
        "_limits",
        "_loop",
        "_outlet",
        "_runtime",
        "_stall_timer",
        "_timer",
        "_unsent",
        "_waiting_since",
    )

    def __init__(
        self,
        exchange: Exchange,
        runtime: Runtime,
        outlet: Outlet,
        accept_encoding: bytes | None,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
    ) -> None:
        self._exchange = exchange
        self._runtime = runtime
        self._outlet = outlet
        self._accept_encoding = accept_encoding if runtime.settings.server.compression else None
        self._begun = False
        #: The head went out with a heartbeat, before anything was known.
        self._heard_nothing_in_headers = False
        self._loop = loop
        self._limits = limits
        self._last_write = 0.0
        #: The client is waited for since then (loop time), and had this much to take; None: it is not waited for.
        self._waiting_since: float | None = None
        self._unsent = 0
        self._stall_timer: asyncio.TimerHandle | None = None
        self._beating: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None

    async def run(self) -> None:
        exchange = self._exchange
        if exchange.call.stream and exchange.edge != "websocket":  # a socket has pings
            # Not yet: by the time the loop turns, admission has found the route that says how often.
            self._timer = self._loop.call_soon(self._first_beat)
        events = self._events()
        try:
            async for event in events:
                if type(event) is Chunk and self._begun:
                    self._last_write = self._loop.time()
                    waiting = self._outlet.write(event.data)
                else:
                    waiting = self._event(event)
                if waiting is not None:
                    await self._settled(waiting)
        except asyncio.CancelledError:
            await events.aclose()
            if not exchange.client_left:
                await self._fail(ShuttingDown("The gateway was stopped before the answer was complete.", retry_after_s=1))
            raise
        except Exception as error:
            await events.aclose()
            await self._fail(error)
        else:
            if self._begun:
                await self._close_stream()
        finally:
            exchange.tap = None
            self._stop_beating()
            if self._stall_timer is not None:
                self._stall_timer.cancel()

    def pass_on(self, frames: bytes) -> bool:
        """`Exchange.tap`, where the outlet's `write` has written when it returns. Only called between two events of a begun stream."""
        self._last_write = self._loop.time()
        return self._outlet.write(frames) is None

    async def refuse(self, error: GatewayError) -> None:
        """The answer to a request that never reached the first stage."""
        refuse(self._exchange, error, self._runtime)
        try:
            await self._fail(error)
        finally:
            if self._stall_timer is not None:
                self._stall_timer.cancel()

    def _events(self) -> AsyncGenerator[Event, None]:
        return run(self._exchange, self._runtime)

    def _stream_head(self) -> HeadLines:
        return stream_head(self._exchange)

    def _event(self, event: Event) -> Awaitable[None] | None:
        match event:
            case Chunk():
                return self._chunk(event.data)
            case Whole():
                return self._whole(event.body)
            case Failure():
                return self._chunk(stream_error(event.error, self._exchange))

    def _chunk(self, data: bytes) -> Awaitable[None] | None:
        self._last_write = self._loop.time()
        if self._begun:
            return self._outlet.write(data)
        self._begun = True
        self._exchange.http_status = 200
        waiting = self._outlet.begin(self._stream_head())
        if waiting is None:
            return self._outlet.write(data)
        return self._after(waiting, data)

    async def _after(self, waiting: Awaitable[None], data: bytes) -> None:
        await waiting
        writing = self._outlet.write(data)
        if writing is not None:
            await writing

    def _whole(self, body: bytes) -> Awaitable[None] | None:
        head = whole_head(self._exchange, self._runtime.clock.monotonic())
        packed = compressed(body, self._accept_encoding)
        if packed is None:
            return self._outlet.whole(200, head, body)
        return self._outlet.whole(200, head + GZIPPED, packed)

    async def _fail(self, error: Exception) -> None:
        """Before the head an HTTP error, after it the stream's last event."""
        if not isinstance(error, GatewayError):
            _log.error("request %s failed by a fault of the gateway", self._exchange.id, exc_info=error)
            error = InternalError("The gateway failed to handle the request.")
        if self._begun:
            await self._settled(self._outlet.write(stream_error(error, self._exchange)))
            await self._close_stream()
        else:
            self._stop_beating()
            self._outlet.refused(error)
            await self._settled(self._outlet.whole(*error_response(error, self._exchange)))

    async def _close_stream(self) -> None:
        """The clean end, whatever came before it."""
        self._stop_beating()
        exchange = self._exchange
        if self._heard_nothing_in_headers and exchange.status is not None and exchange.call.dialect not in NO_COMMENTS:
            await self._settled(self._outlet.write(closing_comment(exchange)))
        await self._settled(self._outlet.end())

    async def _settled(self, waiting: Awaitable[None] | None) -> None:
        """Waits for the client, but not for ever."""
        if waiting is None:
            return
        self._waiting_since = self._loop.time()
        if self._stall_timer is None:
            self._watch_client(self._waiting_since)
        try:
            await waiting
        finally:
            self._waiting_since = None

    def _watch_client(self, since: float) -> None:
        """One timer for many waits: it outlives the wait that it was set for, and looks how the latest one stands."""
        now = self._loop.time()
        exchange = self._exchange
        left_s = since + self._limits.write_stall_s - now
        if exchange.deadline:
            at_least_s = (self._waiting_since or now) + self._limits.last_write_s - now
            left_s = min(left_s, max(exchange.deadline - self._runtime.clock.monotonic(), at_least_s))
        if left_s > 0:
            self._unsent = self._outlet.unsent()
            self._stall_timer = self._loop.call_later(left_s, self._check_client)
        else:
            exchange.client_left = True
            self._outlet.give_up()

    def _check_client(self) -> None:
        self._stall_timer = None
        since = self._waiting_since
        if since is not None:
            # What was taken meanwhile starts the wait anew; the deadline stays.
            self._watch_client(self._loop.time() if self._outlet.unsent() < self._unsent else since)

    def _heartbeat_s(self) -> float:
        route = self._exchange.route
        return (route or self._runtime.settings).streaming.heartbeat_s

    def _stop_beating(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _first_beat(self) -> None:
        self._last_write = self._loop.time()
        self._timer = self._loop.call_later(self._heartbeat_s(), self._beat)

    def _beat(self) -> None:
        """A comment when nothing was written for a while, so that no proxy on the way takes the stream for dead."""
        quiet_s = self._loop.time() - self._last_write
        every_s = self._heartbeat_s()
        if quiet_s < every_s * 0.99:
            self._timer = self._loop.call_later(every_s - quiet_s, self._beat)
            return
        call = self._exchange.call
        if call.framing != "sse":
            return  # nothing can stand between the elements of a JSON array
        if not self._begun:
            self._heard_nothing_in_headers = True
        waiting = self._chunk(codec_of(call.dialect).heartbeat)
        if waiting is not None:
            self._beating = asyncio.ensure_future(waiting)
        self._timer = self._loop.call_later(every_s, self._beat)
