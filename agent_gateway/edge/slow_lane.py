"""uvicorn's HTTP protocol with the bounds it lacks: headers must be complete in time and in size, and a refusal is JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agent_gateway.core.errors import BadRequest, GatewayError, HeadersTooLarge, RequestTimeout
from agent_gateway.core.writes import GatheringTransport, Writes
from agent_gateway.edge.closing import close
from agent_gateway.edge.limits import Limits, too_many_connections
from agent_gateway.edge.response import STATUS_LINES, error_response

#: An ASGI extension: how an app that runs on this protocol aborts the connection.
ABORT = "agent_gateway.abort"


class SlowLane(HttpToolsProtocol):
    """Serves what the fast lane hands over, or every connection where the fast lane is off."""

    def __init__(self, limits: Limits, **of_the_server: Any) -> None:
        super().__init__(**of_the_server)
        self._limits = limits
        self._in_head = True
        #: A message has begun whose head is not complete.
        self._begun = False
        #: What came of a head, or between two pieces of a body (a chunk's extensions, trailers), in reads of its own.
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        #: Of a body that still comes after its request was answered.
        self._rest_timer: asyncio.TimerHandle | None = None
        #: Requests whose answers are not out yet.
        self._due = 0
        #: The server goes while others serve.
        self._retiring = False
        #: What is said once the answers that are due before it are out; nothing more is read.
        self._refusal: GatewayError | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writes = Writes.of(asyncio.get_running_loop())
        super().connection_made(cast(asyncio.Transport, GatheringTransport(cast(asyncio.Transport, transport), writes)))
        self._expect_head()
        if len(self.connections) > self._limits.connections_max:
            self._refuse(too_many_connections(self._limits))
        else:
            self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        self._body_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self._refusal is not None:
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > self._limits.head_max_bytes:
            self._refuse(HeadersTooLarge(f"The request's headers are over {self._limits.head_max_bytes} bytes."))
        else:
            self._watch_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # So that an answer can end a connection that cannot be written to: see `edge.app`.
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}
        if not self._in_head:
            self._expect_head()
        self._begun = True

    def on_headers_complete(self) -> None:
        self._head_is_here()
        self._head_bytes = 0
        if len(self.pipeline) >= self._limits.pipelined_max or self.parser.get_http_version() not in ("1.0", "1.1"):
            raise _NotTaken
        before = self.cycle
        super().on_headers_complete()
        self._due += self.cycle is not before
        if self._retiring and self.cycle is not before:
            self.cycle.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """What comes as a trailer is no header: whoever is on the way has not looked at it."""
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._body_is_here()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._due -= 1
        super().on_response_complete()
        if self.transport.is_closing():
            self._close()
        elif self._due:
            return
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif not self._in_head and self.cycle.more_body:
            self._rest_timer = self.loop.call_later(self._limits.body_timeout_s, self._close)
        else:
            self._watch_head()

    def handle_websocket_upgrade(self) -> None:
        if self._due:
            self._refuse(BadRequest("A WebSocket cannot be opened on a connection where an answer is still due."))
        else:
            self.transport = cast(GatheringTransport, self.transport).ungathered()
            super().handle_websocket_upgrade()

    def _should_upgrade(self) -> bool:
        """Elsewhere the header means nothing, as it means nothing where the server has no such protocol."""
        return self.scope["method"] == "GET" and super()._should_upgrade()

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._close()

    def retire(self) -> None:
        """The next answer whose head is not out yet says that it is the last."""
        if not self._retiring:
            self._retiring = True
            if self._due and not self.cycle.response_started:
                self.cycle.keep_alive = False

    @property
    def is_idle(self) -> bool:
        return not self._due and not (self._in_head and (self._begun or self._head_bytes))

    def timeout_keep_alive_handler(self) -> None:
        """A client that has not even taken the last answer is not waited for at the end."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        self._close()

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest("The request is not valid HTTP/1.1."))

    def _expect_head(self) -> None:
        self._in_head = True
        self._begun = False
        self._head_bytes = 0

    def _watch_head(self) -> None:
        """Its time runs only while no answer does: that may take as long as it takes. A head that came in one piece needs no timer."""
        if self._in_head and self._head_timer is None and not self._due:
            self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._too_slow)

    def _head_is_here(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _body_is_here(self) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._begun or self._head_bytes:
            self._refuse(RequestTimeout("The request was not sent in time."))
        else:
            self._close()

    def _close(self) -> None:
        close(self.transport, self.loop, self._limits)

    def _refuse(self, error: GatewayError) -> None:
        self._head_is_here()
        if self.pipeline and self.cycle.more_body:  # what is wrong is in the body of a request that waits: it never begins
            self.pipeline.popleft()
            self._due -= 1
            self._refusal = error
            return
        if self._due and not self.cycle.more_body:  # what is wrong comes after the request that is being answered
            self._refusal = error
            return
        if self._due and self.cycle.response_started:
            self._close()
            return
        status, head, body = error_response(error)
        lines = (STATUS_LINES[status], head, len(body), body)
        self.transport.write(b"%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % lines)
        self._close()


class _NotTaken(Exception):
    """To the parser, whose fault it becomes: the answers that are due are given, then the connection ends."""


def slow_lane(limits: Limits) -> Callable[..., SlowLane]:
    """What uvicorn's server is given as its `http` class where the fast lane is off."""

    def connect(**of_the_server: Any) -> SlowLane:
        return SlowLane(limits, **of_the_server)

    return connect
