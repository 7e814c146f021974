"""uvicorn's HTTP protocol with the bounds it lacks: headers must be complete in time and in size, and a refusal is JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agent_gateway.core.errors import BadRequest, GatewayError, HeadersTooLarge, RequestTimeout
from agent_gateway.core.writes import GatheringTransport, Writes
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.response import STATUS_LINES, error_response

#: An ASGI extension: how an app that runs on this protocol aborts the connection.
ABORT = "agent_gateway.abort"


class SlowLane(HttpToolsProtocol):
    """Serves what the fast lane hands over, or every connection where the fast lane is off."""

    def __init__(self, limits: Limits, **of_the_server: Any) -> None:
        super().__init__(**of_the_server)
        self._limits = limits
        self._in_head = True
        #: A message has begun whose head is not complete; its bytes as far as they came in reads of their own.
        self._begun = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        #: What is said once the answers that are due before it are out; nothing more is read.
        self._refusal: GatewayError | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writes = Writes.of(asyncio.get_running_loop())
        super().connection_made(cast(asyncio.Transport, GatheringTransport(cast(asyncio.Transport, transport), writes)))
        self._expect_head()
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self._refusal is not None:
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self._limits.head_max_bytes:
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
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._answering() or self.transport.is_closing():
            return
        if self._refusal is not None:
            self._refuse(self._refusal)
        else:
            self._watch_head()

    def handle_websocket_upgrade(self) -> None:
        if self._answering():
            self._refuse(BadRequest("A WebSocket cannot be opened on a connection where an answer is still due."))
        else:
            self.transport = cast(GatheringTransport, self.transport).ungathered()
            super().handle_websocket_upgrade()

    def _should_upgrade(self) -> bool:
        """Elsewhere the header means nothing, as it means nothing where the server has no such protocol."""
        return self.scope["method"] == "GET" and super()._should_upgrade()

    def timeout_keep_alive_handler(self) -> None:
        """A client that has not even taken the last answer is not waited for at the end."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest("The request is not valid HTTP/1.1."))

    def _expect_head(self) -> None:
        self._in_head = True
        self._begun = False
        self._head_bytes = 0

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]  # None at first

    def _watch_head(self) -> None:
        """Its time runs only while no answer does: that may take as long as it takes. A head that came in one piece needs no timer."""
        if self._in_head and self._head_timer is None and not self._answering():
            self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._too_slow)

    def _head_is_here(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._begun or self._head_bytes:
            self._refuse(RequestTimeout("The request was not sent in time."))
        else:
            self.transport.close()

    def _refuse(self, error: GatewayError) -> None:
        self._head_is_here()
        if self._answering() and not self.cycle.more_body:  # what is wrong comes after the request that is being answered
            self._refusal = error
            return
        if self._answering() and self.cycle.response_started:
            self.transport.close()
            return
        status, head, body = error_response(error)
        lines = (STATUS_LINES[status], head, len(body), body)
        self.transport.write(b"%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % lines)
        self.transport.close()


def slow_lane(limits: Limits) -> Callable[..., SlowLane]:
    """What uvicorn's server is given as its `http` class where the fast lane is off."""

    def connect(**of_the_server: Any) -> SlowLane:
        return SlowLane(limits, **of_the_server)

    return connect
