"""The plain case, served by an asyncio protocol of our own: HTTP/1.1 POST with a content-length to a model's path.

Any other connection (chunked body, Expect, Upgrade, HTTP/1.0, compression, a browser's, admin, anything odd) is handed to uvicorn's
protocol with the bytes read so far, and stays there. Promise: no answer differs from the ASGI app's.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from agent_gateway.admission.refusals import Refusals
from agent_gateway.core.call import Dialect
from agent_gateway.core.errors import BadRequest, GatewayError, HeadersTooLarge, RequestTimeout, TooLarge
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.writes import Writes
from agent_gateway.edge.access import looked_up
from agent_gateway.edge.addresses import client_address
from agent_gateway.edge.answering import Answering
from agent_gateway.edge.background import outliving
from agent_gateway.edge.bodies import BodyHold
from agent_gateway.edge.closing import close
from agent_gateway.edge.hosts import check_host
from agent_gateway.edge.limits import Limits, too_many_connections
from agent_gateway.edge.request import Head, check_media, new_exchange, read_head, read_into
from agent_gateway.edge.response import STATUS_LINES, HeadLines, error_response
from agent_gateway.edge.routes import dialect_of
from agent_gateway.edge.slow_lane import SlowLane
from agent_gateway.pipeline import Live, Runtime, refuse

_log = logging.getLogger("agent_gateway.edge")

#: Headers that make a request odd; only browsers send an origin, and they want more headers on the answer.
_ODD = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"content-encoding", b"origin"})
_LENGTH_LINE = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_DIGITS_MAX = 15
_UNKNOWN = (b"", b"")
_LAST_CHUNK = b"0\r\n\r\n"
_CLOSE = b"connection: close\r\n"


class FastLane(asyncio.Protocol):
    """One client connection. Reads a request, has it answered in a task, reads the next; pipelined ones wait in the buffer."""

    __slots__ = (
        "_app_state",
        "_buffer",
        "_buffered",
        "_closing",
        "_config",
        "_date_line",
        "_dated",
        "_dialect",
        "_exchange",
        "_head",
        "_head_end",
        "_headers",
        "_hold",
        "_idle_since",
        "_idle_timer",
        "_keep_alive",
        "_known_head",
        "_last_is_told",
        "_limits",
        "_live",
        "_loop",
        "_needed",
        "_odd",
        "_parts",
        "_paused_reading",
        "_refusals",
        "_state",
        "_task",
        "_timer",
        "_transport",
        "_unsent",
        "_url",
        "_writable",
        "_writes",
    )

    def __init__(
        self,
        live: Live,
        limits: Limits,
        refusals: Refusals,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        **_: Any,
    ) -> None:
        # Of the server.
        self._live = live
        self._limits = limits
        self._refusals = refusals
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._loop = asyncio.get_running_loop()
        self._writes = Writes.of(self._loop)
        # Of the connection.
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._known_head = _UNKNOWN
        self._head = Head()
        self._dialect: Dialect = "openai_chat"
        self._buffer = b""
        self._parts: list[bytes] = []
        self._buffered = 0
        self._needed = 0
        #: Of a body that comes in parts, until its exchange has it.
        self._hold: BodyHold | None = None
        #: Of a head or a body that is being sent.
        self._timer: asyncio.TimerHandle | None = None
        #: Of the pauses between requests: left to run from one to the next, looks at `_idle_since` when its time has come.
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._writable: asyncio.Future[None] | None = None
        self._paused_reading = False
        self._closing = False
        self._dated: list[tuple[bytes, bytes]] = []
        self._date_line = b""
        # Of the request.
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._odd = False
        self._head_end = 0
        self._keep_alive = True
        #: The client knows that no more is answered here.
        self._last_is_told = False
        self._unsent = b""
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # uvicorn asks no more of a connection than `shutdown`.
        self._state.connections.add(self)  # type: ignore[arg-type]
        if len(self._state.connections) > self._limits.connections_max:
            self._keep_alive = False
            self.whole(*error_response(too_many_connections(self._limits)))
            self._close()
            return
        self._timer = self._loop.call_later(self._limits.head_timeout_s, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._needed:  # in a body
            assert self._hold is not None
            try:
                self._hold.grow(len(data))
            except GatewayError as error:
                self._refuse(error)
                return
            self._parts.append(data)
            self._buffered += len(data)
            if self._buffered >= self._needed:
                self._body_is_complete(b"".join(self._parts))
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self._task is None:
            self._read_head()
        elif len(self._buffer) > self._limits.head_max_bytes and not self._paused_reading:
            self._paused_reading = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._state.connections.discard(self)
        self._stop_timers()
        if self._hold is not None:
            self._hold.release()
        if self._task is not None:
            if self._exchange is not None:
                self._exchange.client_left = True
            self._task.cancel()
        self.resume_writing()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    def shutdown(self) -> None:
        """The server drains: an idle connection closes now, a busy one after its answer."""
        if self._task is None and not self._needed:
            self._close()
        else:
            self._keep_alive = False
            self._last_is_told = True

    def retire(self) -> None:
        """The next answer whose head is not out yet says that it is the last."""
        self._keep_alive = False

    @property
    def is_idle(self) -> bool:
        return self._task is None and not self._needed and not self._buffer

    # --- reading ---

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _ODD or name in self._headers:
            self._odd = True
        self._headers[name] = value

    def _read_head(self) -> None:
        """Acts on the buffer once a head is complete in it."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n")
        if end < 0 or end > self._limits.head_max_bytes:
            if len(buffer) > self._limits.head_max_bytes:
                self._refuse(HeadersTooLarge(f"The request's headers are over {self._limits.head_max_bytes} bytes."))
            elif self._timer is None and buffer:
                self._timer = self._loop.call_later(self._limits.head_timeout_s, self._too_slow)
            return
        self._stop_timer()
        self._head_end = end + 4
        if not buffer.startswith(b"POST "):
            self._hand_over()
            return
        length = self._length_after_known_head(buffer[: self._head_end])
        if length is None:
            length = self._parse_head(buffer[: self._head_end])
        if length is not None:
            self._read_body(length)

    def _length_after_known_head(self, head: bytes) -> int | None:
        """A client's heads on one connection differ in nothing but the body's length: such a head is not parsed again.

        The content-length of a head that is the same as the one before it, byte for byte, around the digits; else None.
        """
        before, after = self._known_head
        if before and head.startswith(before) and head.endswith(after):
            digits = head[len(before) : len(head) - len(after)]
            if digits.isdigit() and len(digits) <= _DIGITS_MAX:
                return int(digits)
        return None

    def _parse_head(self, head: bytes) -> int | None:
        """The content-length of a plain request's head; None when it was refused or handed over instead."""
        self._url = b""
        self._headers = {}
        self._odd = False
        self._known_head = _UNKNOWN
        parser = httptools.HttpRequestParser(self)  # not kept: most connections need it once
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._odd = True
        except httptools.HttpParserError:
            self._refuse(BadRequest("The request is not valid HTTP/1.1."))
            return None
        length = self._headers.get(b"content-length")
        dialect = dialect_of(self._url)
        if self._odd or length is None or dialect is None or parser.get_http_version() != "1.1":
            self._hand_over()
            return None
        self._dialect = dialect
        try:
            check_host(self._live.runtime.settings.server, self._headers.get(b"host"))
            check_media(self._headers)
        except GatewayError as error:
            self._refuse(error)
            return None
        # A connection that drains stays so.
        self._keep_alive = self._keep_alive and parser.should_keep_alive()
        self._head = read_head(self._headers)
        line = _LENGTH_LINE.search(head)
        if line is not None:
            self._known_head = (head[: line.start(1)], head[line.end(1) :])
        return int(length)

    def _read_body(self, length: int) -> None:
        needed = self._head_end + length
        if len(self._buffer) >= needed:
            self._needed = needed
            self._body_is_complete(self._buffer)
            return
        try:
            # Nobody without a key makes us hold a body.
            self._live.runtime.gate.check_shown(self._head.secret)
            if length > self._limits.body_max_bytes:
                raise TooLarge(f"The request's body has {length} bytes; the limit is {self._limits.body_max_bytes}.")
            self._hold = self._limits.bodies.hold(len(self._buffer) - self._head_end)
        except GatewayError as error:
            self._refuse(error)
            return
        self._needed = needed
        self._parts = [self._buffer]
        self._buffered = len(self._buffer)
        self._timer = self._loop.call_later(self._limits.body_timeout_s, self._too_slow)

    def _body_is_complete(self, data: bytes) -> None:
        self._stop_timer()
        needed = self._needed
        body = data[self._head_end : needed]
        self._buffer = data[needed:] if len(data) > needed else b""
        self._parts = []
        self._needed = 0
        self._start(self._answer(self._head, body))

    def _hand_over(self) -> None:
        """This connection is uvicorn's from here on."""
        self._stop_timers()
        self._state.connections.discard(self)
        protocol = SlowLane(self._limits, config=self._config, server_state=self._state, app_state=self._app_state, _loop=self._loop)
        self._writes.flush()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if not self._keep_alive:
            protocol.retire()
        protocol.data_received(self._buffer)
        self._buffer = b""
        self._closing = True

    # --- answering ---

    def _start(self, work: Any) -> None:
        task = self._task = self._loop.create_task(work)
        self._state.tasks.add(task)

    async def _answer(self, head: Head, body: bytes) -> None:
        complete = False
        runtime = self._live.runtime
        exchange = self._exchange = new_exchange(head, runtime.clock, self._dialect)
        answering = Answering(exchange, runtime, self, head.accept_encoding, self._loop, self._limits)
        try:
            try:
                exchange.hold = self._hold or self._limits.bodies.hold(len(body))
                self._hold = None
                waiting = runtime.gate.authenticate(exchange, head.secret)
                if waiting is not None:
                    await self._looked_up(waiting, exchange, runtime)
                read_into(exchange, head, body, self._url.decode("latin-1"))
                if head.resumable or exchange.call.in_background:
                    answering = outliving(exchange, head, self._live, runtime, self, self._limits) or answering
            except GatewayError as error:
                await answering.refuse(error)
            else:
                exchange.tap = answering.pass_on
                await answering.run()
            complete = True
        except Exception:
            _log.exception("a connection failed by a fault of the gateway")
            if exchange.hold is not None:
                exchange.hold.release()
        finally:
            self._done(complete)

    async def _looked_up(self, waiting: Awaitable[None], exchange: Exchange, runtime: Runtime) -> None:
        """Waits for the store to tell the key; who leaves meanwhile is recorded like any other."""
        try:
            await looked_up(waiting, self._refusals, self._source)
        except asyncio.CancelledError as error:
            refuse(exchange, error, runtime)
            raise

    def _done(self, complete: bool) -> None:
        """The request's task ends here: whatever waits behind it comes next."""
        assert self._task is not None
        self._state.tasks.discard(self._task)
        self._state.total_requests += 1
        self._task = None
        self._exchange = None
        if not complete or self._last_is_told:
            self._close()
        elif not self._closing:
            if self._paused_reading:
                self._paused_reading = False
                self._transport.resume_reading()
            if self._buffer:
                if not self._transport.is_closing():  # or what begins now would be cancelled before it could end anything
                    self._read_head()
            else:
                self._idle_since = self._loop.time()
                if self._idle_timer is None:
                    self._idle_timer = self._loop.call_later(self._limits.keep_alive_s, self._check_idle)

    # --- the outlet of `Answering` ---

    def whole(self, status: int, head: HeadLines, body: bytes) -> Awaitable[None] | None:
        close = b"" if self._keep_alive else self._told_last()
        lines = (STATUS_LINES[status], self._server_head(), head, close, len(body), body)
        return self._send(b"%b%b%b%bcontent-length: %d\r\n\r\n%b" % lines)

    def begin(self, head: HeadLines) -> Awaitable[None] | None:
        close = b"" if self._keep_alive else self._told_last()
        # It goes out with the first chunk, in one segment.
        self._unsent = b"%b%b%b%btransfer-encoding: chunked\r\n\r\n" % (STATUS_LINES[200], self._server_head(), head, close)
        return None

    def _told_last(self) -> HeadLines:
        self._last_is_told = True
        return _CLOSE

    def _server_head(self) -> HeadLines:
        """The date, which uvicorn renews every second."""
        pairs = self._state.default_headers
        if pairs is not self._dated:
            self._dated = pairs
            self._date_line = b"".join([b"%b: %b\r\n" % pair for pair in pairs])
        return self._date_line

    def write(self, data: bytes) -> Awaitable[None] | None:
        if self._unsent:
            data = b"%b%x\r\n%b\r\n" % (self._unsent, len(data), data)
            self._unsent = b""
            return self._send(data)
        return self._send(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> Awaitable[None] | None:
        return self._send(_LAST_CHUNK)

    def _send(self, data: bytes) -> Awaitable[None] | None:
        self._writes.write(self._transport, data)
        return self._writable

    def unsent(self) -> int:
        self._writes.flush()
        return self._transport.get_write_buffer_size()

    def give_up(self) -> None:
        """What is to be done comes with `connection_lost`."""
        self._transport.abort()

    def refused(self, error: GatewayError) -> None:
        self._refusals.count(error, self._source, key_shown=self._head.secret is not None)

    def _source(self) -> str:
        peer = self._transport.get_extra_info("peername")
        trusted = self._live.runtime.settings.server.trusted_proxies
        return client_address(peer, self._headers.get(b"x-forwarded-for", b""), trusted)

    # --- the ends ---

    def _refuse(self, error: GatewayError) -> None:
        """A request that is refused before its body was read: answered, recorded, and the connection closed."""
        runtime = self._live.runtime
        exchange = new_exchange(read_head(self._headers), runtime.clock, self._dialect)
        refuse(exchange, error, runtime)
        self.refused(error)
        self._keep_alive = False
        self.whole(*error_response(error, exchange))
        self._linger()

    def _too_slow(self) -> None:
        """A head or a body that does not come. A connection on which nothing was sent is closed without a word."""
        self._timer = None
        if self._buffer or self._needed:
            self._refuse(RequestTimeout("The request was not sent in time."))
        else:
            self._close()

    def _check_idle(self) -> None:
        idle_s = self._loop.time() - self._idle_since
        if self._task is None and not self._needed and not self._buffer and idle_s >= self._limits.keep_alive_s - 0.01:
            self._close()
        else:
            self._idle_timer = self._loop.call_later(max(self._limits.keep_alive_s - idle_s, 1.0), self._check_idle)

    def _linger(self) -> None:
        """Closes our side and reads on for a moment: a close with unread bytes would reset the answer away."""
        self._closing = True
        self._stop_timer()
        self._writes.flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._timer = self._loop.call_later(self._limits.linger_s, self._close)

    def _close(self) -> None:
        self._closing = True
        self._stop_timers()
        self._writes.flush()
        close(self._transport, self._loop, self._limits)

    def _stop_timers(self) -> None:
        self._stop_timer()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def fast_lane(live: Live, limits: Limits, refusals: Refusals) -> Callable[..., FastLane]:
    """What uvicorn's server is given as its `http` class."""

    def connect(**of_the_server: Any) -> FastLane:
        return FastLane(live, limits, refusals, **of_the_server)

    return connect
