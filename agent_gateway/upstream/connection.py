"""One HTTP/1.1 connection to a provider: writes a request, parses its reply, is used again.

Promise: a reply that was cut or malformed never ends as if it were complete, and no wait outlives its deadline.
"""

from __future__ import annotations

import asyncio
import ssl
from math import inf
from time import monotonic
from typing import Protocol, cast

import httptools

from agent_gateway.core.errors import ConnectionCut, GatewayError, MalformedReply
from agent_gateway.core.writes import Writes
from agent_gateway.upstream.reply import ReadTimeout, Reply, Taker

#: Bytes of a body held for a consumer who does not take them; above it the socket is not read.
HELD_MAX_BYTES = 256 * 1024
#: A request body up to this size is written at once; a larger one in slices, each after the provider has taken the one before.
ONE_WRITE_MAX_BYTES = 64 * 1024
WRITE_SLICE_BYTES = 256 * 1024
#: Lines in a reply's header section.
HEADERS_MAX = 256
#: The event loop counts whole milliseconds: a timer may come up to one early (s).
TIMER_GRAIN_S = 0.001

_CUT = "The provider's connection ended before its reply was complete."
_MALFORMED = "The provider's reply is not valid HTTP."


class Keeper(Protocol):
    """Who owns a connection between its replies."""

    def freed(self, connection: Connection) -> None:
        """Its reply is complete and it can take another request."""

    def ended(self, connection: Connection) -> None:
        """It is closed. Not told when `request` raises `ConnectionCut` with nothing `heard`: the caller may replace it."""


class _Refused(Exception):
    """Raised to the parser by our own checks."""


class Connection(asyncio.Protocol):
    """Its parser and its timer serve one reply after the other."""

    __slots__ = (
        "_bodiless",
        "_ended",
        "_header_max_bytes",
        "_headers",
        "_held_max_bytes",
        "_interim",
        "_loop",
        "_parser",
        "_refusal",
        "_repeats",
        "_reply",
        "_reusable",
        "_silent_bytes",
        "_stray",
        "_timer",
        "_timer_at",
        "_transport",
        "_tunnelling",
        "_until",
        "_waiter",
        "_write_paused",
        "_writes",
        "_writing",
        "closed",
        "eager",
        "heard",
        "keeper",
        "paused",
        "taker",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, header_max_bytes: int) -> None:
        # For life. The keeper comes when the connection is ready for requests.
        self.keeper: Keeper | None = None
        self.closed = False
        self._loop = loop
        self._writes = Writes.of(loop)
        self._header_max_bytes = header_max_bytes
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

        # Waiting: at most one waiter; and one timer that is left to run from wait to wait, moved only when it would come late.
        self._waiter: asyncio.Future[None] | None = None
        self._until = inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

        # The socket.
        self.paused = False
        self._write_paused = False

        # One reply; set anew by `_begin`.
        self.heard = False  # at least one byte of it has come
        self.eager = False  # wake the waiter for every piece of the body, not only at its end
        self.taker: Taker | None = None  # is offered such a piece before
        self._reply: Reply | None = None
        self._stray = False  # body has come to a reply that has none
        self._headers: dict[bytes, bytes] = {}
        self._held_max_bytes = HELD_MAX_BYTES
        self._silent_bytes = 0  # received since the last byte of body
        self._repeats = 0
        self._refusal: str | None = None
        self._bodiless = False
        self._tunnelling = False
        self._writing = False
        self._interim = False
        self._ended = False
        self._reusable = False

    # --- for the pool -------------------------------------------------------------------------------------------------

    async def request(self, head: bytes, body: bytes, until: float) -> Reply:
        """Sends a request and returns when its final headers have come. After any exception the connection is closed.

        Raises `ReadTimeout`, `ConnectionCut`, `MalformedReply`.
        """
        transport = self._transport
        assert transport is not None
        assert not self.closed
        reply = self._begin(bodiless=head.startswith(b"HEAD "))
        try:
            if len(body) <= ONE_WRITE_MAX_BYTES:
                self._writes.write(transport, head + body)
            else:
                await self._write_slices(reply, transport, head, body, until)
            while not reply.status:
                if reply.error is not None:
                    raise reply.error
                await self.wait(until)
        except BaseException as error:
            if reply.status:
                reply.close()  # not `abort`: if the reply is complete, the connection may already be someone else's
            else:
                self.abort()
                if self.keeper is not None and (self.heard or not isinstance(error, ConnectionCut)):
                    self.keeper.ended(self)
            raise
        return reply

    def abort(self, error: GatewayError | None = None) -> None:
        """Closes at once, without a TLS farewell; the reply under way ends with `error`. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self.taker = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.end(error or ConnectionCut(_CUT))
        self._wake()
        if self._transport is not None:
            self._transport.abort()
        del self._parser  # it holds this object's methods: without this, a closed connection waits for the garbage collector
        if self.keeper is not None and (reply is None or reply.status):
            self.keeper.ended(self)

    # --- for the dialer -----------------------------------------------------------------------------------------------

    async def tunnel(self, connect_head: bytes, until: float) -> int:
        """Sends a CONNECT and returns the proxy's status; below 300 the connection leads to the origin. Raises like `request`."""
        self._tunnelling = True
        reply = await self.request(connect_head, b"", until)
        if reply.status >= 300:
            self.abort()
        elif self._stray:
            self.abort()
            raise MalformedReply(_MALFORMED, detail="bytes follow the proxy's reply to CONNECT")
        else:
            self._tunnelling = False
            self._parser = httptools.HttpResponseParser(self)
        return reply.status

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """TLS over what is connected so far. After any exception (`OSError`, of which `ssl.SSLError` is one) it is closed."""
        transport = self._transport
        assert transport is not None
        try:
            if self.closed:
                raise ConnectionResetError("closed before the TLS handshake")
            secured = await self._loop.start_tls(transport, self, context, server_hostname=host)
            if secured is None or self.closed:
                raise ConnectionResetError("closed during the TLS handshake")
        except BaseException:
            transport.abort()
            self.abort()
            raise
        self._transport = secured

    # --- for the reply ------------------------------------------------------------------------------------------------

    def wait(self, until: float) -> asyncio.Future[None]:
        """Done when something has happened that the waiter may care for; fails with `ReadTimeout` at `until` (monotonic)."""
        assert self._waiter is None, "a reply has one consumer"
        self._until = until
        if until < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(until, self._on_timer)
            self._timer_at = until
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def hold_up_to(self, held_max_bytes: int) -> None:
        """For a consumer who takes the body whole."""
        self._held_max_bytes = held_max_bytes
        if self.paused and self._reply is not None and len(self._reply.body) <= held_max_bytes:
            self.resume()

    def resume(self) -> None:
        self.paused = False
        assert self._transport is not None
        self._transport.resume_reading()

    # --- asyncio's side -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:
            self.abort()  # nothing was asked for: whatever it is, it would be taken for the answer to the next request
            return
        if not self.heard:
            self.heard = True
            reply.first_byte_at = monotonic()
        self._silent_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._reusable = False
            if not self._ended:
                self.abort(MalformedReply(_MALFORMED, detail=self._refusal or str(error) or "unasked upgrade"))
                return
        if self._ended:
            self._finish(reply)
            return
        if self._silent_bytes > self._header_max_bytes:
            self.abort(MalformedReply(_MALFORMED, detail=f"over {self._header_max_bytes} bytes that are not body"))
            return
        held = len(reply.body)
        if held > self._held_max_bytes:
            self._hold_back()
        elif held and self.eager and (self.taker is None or not self._is_taken(reply, self.taker)):
            self._wake()

    def eof_received(self) -> None:
        self._lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(exc)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake()

    # --- the parser's side --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._ended:
            self._refuse("bytes follow the reply")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        value = value.rstrip()  # the parser strips in front only
        headers = self._headers
        if name in headers:
            self._repeats += 1
            if self._repeats > HEADERS_MAX:
                self._refuse(f"over {HEADERS_MAX} header lines")
            value = headers[name] + b", " + value
        headers[name] = value

    def on_headers_complete(self) -> None:
        reply = self._reply
        assert reply is not None
        status = self._parser.get_status_code()
        headers = self._headers
        if self._silent_bytes > self._header_max_bytes or len(headers) + self._repeats > HEADERS_MAX:
            self._check_header_bounds()
        self._headers = {}  # what else comes is the trailers', which nobody asked for
        if status < 200:
            if status < 100 or status == 101:
                self._refuse(f"unexpected status {status}")
            self._interim = True
            return
        coding = headers.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            self._refuse("a transfer encoding that was not asked for")
        reply.headers = headers
        reply.status = status
        if self._bodiless:
            self._ended = True
        self._wake()

    def on_body(self, data: bytes) -> None:
        self._silent_bytes = 0
        reply = self._reply
        if self._ended or reply is None:
            self._stray = True
        elif reply.body:
            reply.add(data)
        else:
            reply.body = data

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            return
        self._ended = True
        self._reusable = self._parser.should_keep_alive()

    # ------------------------------------------------------------------------------------------------------------------

    def _begin(self, *, bodiless: bool) -> Reply:
        """Everything that belongs to one reply starts anew."""
        self._headers = {}
        self._held_max_bytes = HELD_MAX_BYTES
        self._silent_bytes = self._repeats = 0
        self._bodiless = bodiless or self._tunnelling
        self.eager = self.heard = self._stray = self._interim = self._ended = self._reusable = False
        self._reply = reply = Reply(self)
        return reply

    async def _write_slices(self, reply: Reply, transport: asyncio.Transport, head: bytes, body: bytes, until: float) -> None:
        """Returns early when the reply makes the rest pointless; the connection is then not used again."""
        self._writing = True
        transport.write(head)
        rest = memoryview(body)
        while rest:
            if reply.error is not None or reply.status >= 300:
                return
            if self._write_paused:
                await self.wait(until)
                continue
            transport.write(rest[:WRITE_SLICE_BYTES])
            rest = rest[WRITE_SLICE_BYTES:]
        self._writing = False

    def _finish(self, reply: Reply) -> None:
        """All of the reply is here."""
        self._reply = self.taker = None
        reply.end()
        self._wake()
        if self._tunnelling:
            return
        assert self._transport is not None
        if self.paused:
            self.resume()
        if self._reusable and self.keeper is not None and not self._writing and not self._transport.get_write_buffer_size():
            self.keeper.freed(self)
        else:
            self.abort()

    def _lost(self, error: Exception | None) -> None:
        if self.closed:
            return
        reply = self._reply
        if reply is not None and reply.status and error is None and not _is_delimited(reply):
            self._reply = None
            reply.end()
        self.abort(ConnectionCut(_CUT, detail=str(error) if error else "end of file"))

    def _is_taken(self, reply: Reply, taker: Taker) -> bool:
        """Only while someone waits: what comes else has to wait behind what is being dealt with."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return False
        until = taker(bytes(reply.body))
        if until is None:
            return False
        reply.body = b""
        self._until = until  # the timer that runs looks at it when its time has come
        return True

    def _hold_back(self) -> None:
        if not self.paused:
            self.paused = True
            assert self._transport is not None
            self._transport.pause_reading()
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = inf
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        left = self._until - monotonic()
        if left > 0:
            self._timer_at = self._loop.time() + left + TIMER_GRAIN_S
            self._timer = self._loop.call_at(self._timer_at, self._on_timer)
            return
        self._waiter = None
        waiter.set_exception(ReadTimeout())

    def _check_header_bounds(self) -> None:
        """Exact, for the rare reply that may be over: body bytes may have come with the headers."""
        headers = self._headers
        if len(headers) + self._repeats > HEADERS_MAX:
            self._refuse(f"over {HEADERS_MAX} header lines")
        if sum(len(name) + len(value) + 4 for name, value in headers.items()) > self._header_max_bytes:
            self._refuse(f"headers over {self._header_max_bytes} bytes")

    def _refuse(self, why: str) -> None:
        self._refusal = why
        raise _Refused


def _is_delimited(reply: Reply) -> bool:
    """Whether the body says where it ends; if not, it ends with the connection. (Over TLS a cut looks the same.)"""
    return b"content-length" in reply.headers or b"transfer-encoding" in reply.headers
