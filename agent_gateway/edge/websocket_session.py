"""An open WebSocket: many requests at once, each an exchange like any other.

Promise: what happens to one request (a refusal, a cancel, an error) is told under its name and touches no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

from agent_gateway.admission.refusals import Refusals
from agent_gateway.core.errors import Conflict, GatewayError, Overloaded, RateLimited, ShuttingDown
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.access import looked_up
from agent_gateway.edge.addresses import source_of
from agent_gateway.edge.answering import Answering
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.request import Head, new_exchange, read_into
from agent_gateway.edge.response import HeadLines
from agent_gateway.edge.slow_lane import ABORT
from agent_gateway.edge.websocket_frames import Cancel, NotAFrame, NotReadable, Request, Writer, read
from agent_gateway.pipeline import Live, Runtime, refuse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: A message to the app, beyond ASGI: the server drains.
DRAIN = "agent_gateway.drain"
#: An extension of the app's scope: how many bytes the client has not taken.
UNSENT = "agent_gateway.unsent"

#: With what a socket is closed here. What is against the WebSocket protocol, or over its size limit, the server ends by itself.
CloseCode = Literal[1001, 1007, 1009, 1011]
GOING_AWAY: CloseCode = 1001
NOT_JSON: CloseCode = 1007
TOO_BIG: CloseCode = 1009
INTERNAL: CloseCode = 1011
#: What a client is told with it.
REASONS: dict[CloseCode, str] = {
    GOING_AWAY: "The gateway stops.",
    NOT_JSON: "A message is not JSON in UTF-8.",
    TOO_BIG: "A message is over server.body_max_mb.",
    INTERNAL: "A fault of the gateway.",
}

_log = logging.getLogger("agent_gateway.edge")


class Session:
    """An open socket. One task reads, each request has one of its own; what they write waits for the client."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, head: Head, live: Live, limits: Limits, refusals: Refusals) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._head = head
        self._live = live
        self._limits = limits
        self._refusals = refusals
        self._loop = asyncio.get_running_loop()
        extensions = scope.get("extensions", {})
        self._abort: Callable[[], None] | None = extensions.get(ABORT, {}).get("abort")
        self._unsent: Callable[[], int] = extensions.get(UNSENT, {}).get("unsent", int)
        self._written_bytes = 0
        #: Names are free again when the answer is out, tasks when all is said.
        self._running: dict[str, tuple[Exchange, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        #: Nobody is there who would be told anything.
        self._left = False
        #: The end has come, and this is the code to close with; None: it is closed.
        self._over: asyncio.Future[CloseCode | None] = self._loop.create_future()

    async def run(self) -> None:
        reading = self._loop.create_task(self._read())
        try:
            code = await self._over
        except asyncio.CancelledError:  # the drain took too long: requests under way are told so
            code = GOING_AWAY
        else:
            self._left = code not in (GOING_AWAY, INTERNAL)
        reading.cancel()
        for exchange, task in self._running.values():
            exchange.client_left = exchange.client_left or self._left
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):  # the loop itself may be stopped meanwhile
            await asyncio.wait([reading, *self._tasks])
            if code is not None:
                await self._say({"type": "websocket.close", "code": code, "reason": REASONS[code]})

    # --- reading ---

    async def _read(self) -> None:
        try:
            while not self._over.done():
                message = await self._receive()
                kind = message["type"]
                if kind == "websocket.receive":
                    await self._take(message)
                elif kind == "websocket.disconnect":
                    self._end(None)
                elif kind == DRAIN:
                    self._draining = True
                    self._end_if_drained()
        except Exception:
            _log.exception("a WebSocket failed by a fault of the gateway")
            self._end(INTERNAL)

    async def _take(self, message: Message) -> None:
        text: str | None = message.get("text")
        data: bytes = message["bytes"] if text is None else text.encode()
        if len(data) > self._limits.body_max_bytes:
            self._end(TOO_BIG)
            return
        try:
            frame = read(data)
        except NotReadable:
            self._end(NOT_JSON)
        except NotAFrame as wrong:
            await self._refuse(wrong.name, wrong.error)
        else:
            match frame:
                case Request():
                    await self._begin(frame)
                case Cancel():
                    self._cancel(frame.name)

    async def _begin(self, request: Request) -> None:
        name = request.name
        if name in self._running:
            taken = f"request: {name!r} is under way; give each request a name of its own."
            await self._refuse(None, Conflict(taken, param="request"))
        elif self._draining:
            await self._refuse(name, ShuttingDown("The gateway is stopping. Open another connection.", retry_after_s=1))
        elif len(self._tasks) >= self._limits.socket_requests_max:
            full = f"{self._limits.socket_requests_max} requests are under way on this socket; more need another one."
            await self._refuse(name, RateLimited(full, retry_after_s=1))
        else:
            try:
                hold = self._limits.bodies.hold(len(request.body))
            except Overloaded as error:
                await self._refuse(name, error)
                return
            exchange, runtime = self._new_exchange(name)
            exchange.hold = hold
            task = self._loop.create_task(self._answer(name, request.body, exchange, runtime))
            self._running[name] = (exchange, task)
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._gone(task, exchange, runtime))
            await asyncio.sleep(0)  # it has begun, so that a cancel that came with it finds something to end

    def _cancel(self, name: str) -> None:
        """What is not under way is over already: the two may have crossed."""
        if name in self._running:
            exchange, task = self._running[name]
            exchange.client_left = True
            task.cancel()

    def _new_exchange(self, name: str | None) -> tuple[Exchange, Runtime]:
        runtime = self._live.runtime
        exchange = new_exchange(self._head, runtime.clock)
        exchange.edge = "websocket"
        exchange.client_request_id = name or self._head.client_request_id
        return exchange, runtime

    # --- answering ---

    async def _answer(self, name: str, body: bytes, exchange: Exchange, runtime: Runtime) -> None:
        writer = Writer(name)
        answering = self._answering(writer, exchange, runtime)
        try:
            try:
                waiting = runtime.gate.authenticate(exchange, self._head.secret)
                if waiting is not None:
                    await looked_up(waiting, self._refusals, self._source)
                read_into(exchange, self._head, body)
            except GatewayError as error:
                await answering.refuse(error)
            else:
                await answering.run()
        except asyncio.CancelledError:
            if self._left:
                raise
        finally:
            del self._running[name]
        await self.say(writer.done())

    async def _refuse(self, name: str | None, error: GatewayError) -> None:
        """A request that does not begin; one that cannot be named is not said to be done either."""
        writer = Writer(name)
        exchange, runtime = self._new_exchange(name)
        await self._answering(writer, exchange, runtime).refuse(error)
        if name is not None:
            await self.say(writer.done())

    def _answering(self, writer: Writer, exchange: Exchange, runtime: Runtime) -> Answering:
        return Answering(exchange, runtime, _Outlet(self, writer, exchange), None, self._loop, self._limits)

    def _gone(self, task: asyncio.Task[None], exchange: Exchange, runtime: Runtime) -> None:
        self._tasks.discard(task)
        if exchange.ended is None:  # cancelled before the first stage
            refuse(exchange, asyncio.CancelledError(), runtime)
        if not task.cancelled() and task.exception() is not None:
            _log.error("request %s failed by a fault of the gateway", exchange.id, exc_info=task.exception())
        self._end_if_drained()

    # --- writing ---

    async def write(self, message: bytes) -> None:
        """Waits for the client; who writes sees to it that this has an end. A client that has left is told nothing."""
        with contextlib.suppress(OSError):
            await self._send({"type": "websocket.send", "text": message.decode("utf-8", "replace")})
            self._written_bytes += len(message)

    async def say(self, message: bytes) -> None:
        await self._say({"type": "websocket.send", "text": message.decode()})

    async def _say(self, message: Message) -> None:
        """Something short; a client that does not take it in time is given up."""
        try:
            async with asyncio.timeout(self._limits.write_stall_s):
                with contextlib.suppress(OSError):
                    await self._send(message)
        except TimeoutError:
            self.give_up()

    def unsent(self) -> int:
        """What the server holds, less all that it was given: others write too, and what counts is whether it falls."""
        return self._unsent() - self._written_bytes

    def refused(self, error: GatewayError) -> None:
        self._refusals.count(error, self._source, key_shown=self._head.secret is not None)

    def _source(self) -> str:
        return source_of(self._scope, self._live.runtime.settings.server)

    # --- the ends ---

    def give_up(self) -> None:
        """The client takes nothing: ends the socket where the server lets us; elsewhere it ends as the app does."""
        if self._abort is not None:
            self._abort()
        self._end(None)

    def _end(self, code: CloseCode | None) -> None:
        if not self._over.done():
            self._over.set_result(code)

    def _end_if_drained(self) -> None:
        if self._draining and not self._tasks:
            self._end(GOING_AWAY)


class _Outlet:
    """The outlet of `Answering`: one request's share of the socket."""

    __slots__ = ("_exchange", "_session", "_writer")

    def __init__(self, session: Session, writer: Writer, exchange: Exchange) -> None:
        self._session = session
        self._writer = writer
        self._exchange = exchange

    def whole(self, status: int, head: HeadLines, body: bytes) -> Awaitable[None]:
        if status == 200:
            return self._session.write(self._writer.data(body))
        error = self._exchange.error
        return self._session.write(self._writer.error(body, status, None if error is None else error.retry_after_s))

    def begin(self, head: HeadLines) -> None:
        return None

    async def write(self, data: bytes) -> None:
        for message in self._writer.events(data):
            await self._session.write(message)

    def end(self) -> None:
        return None

    def unsent(self) -> int:
        return self._session.unsent()

    def refused(self, error: GatewayError) -> None:
        self._session.refused(error)

    def give_up(self) -> None:
        self._session.give_up()
