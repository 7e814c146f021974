"""What a provider's connection receives, as its consumer sees it: status, headers, then the body whole or piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from agent_gateway.core.errors import ConnectionCut, GatewayError, MalformedReply

#: An unary answer over this is refused; base64 images and audio fit (bytes).
ANSWER_MAX_BYTES = 64 * 1024 * 1024

#: Is offered what has come of a body, and says until when more may be waited for; None: it has not taken it.
Taker = Callable[[bytes], float | None]


class ReadTimeout(Exception):
    """`until` has passed; the caller knows which of its timeouts it was. The reply is as it was: wait again, or close it."""


class Source(Protocol):
    """The connection, as far as a reply knows it."""

    paused: bool
    eager: bool
    taker: Taker | None

    def wait(self, until: float) -> asyncio.Future[None]:
        """Done when more has come (`eager`) or all of it; fails with `ReadTimeout` at `until`."""

    def hold_up_to(self, held_max_bytes: int) -> None: ...

    def resume(self) -> None: ...

    def abort(self, error: GatewayError | None = None) -> None: ...


class Reply:
    """A reply whose headers have come. It must be closed, or taken to its end; its connection is free as soon as all has come."""

    __slots__ = ("_source", "body", "error", "first_byte_at", "headers", "status")

    def __init__(self, source: Source) -> None:
        self.status = 0
        #: Lower-case names; repeated ones joined with `, `.
        self.headers: dict[bytes, bytes] = {}
        #: When its first byte came (monotonic s).
        self.first_byte_at = 0.0
        #: Why the body ended early, once it has.
        self.error: GatewayError | None = None
        #: What has come of it and was not taken: in one piece nearly always, and then as it came.
        self.body: bytes | bytearray = b""
        #: Set for as long as more may come.
        self._source: Source | None = source

    async def read(self, until: float, max_bytes: int = ANSWER_MAX_BYTES) -> bytes:
        """The whole body. Raises `ReadTimeout`, `ConnectionCut`, and `MalformedReply` when it is over `max_bytes`."""
        while (source := self._source) is not None and len(self.body) <= max_bytes:
            source.hold_up_to(max_bytes)
            try:
                await source.wait(until)
            except asyncio.CancelledError:
                self.close()
                raise
        if len(self.body) > max_bytes:
            self.close()
            raise MalformedReply("The provider's reply is over the size limit.", detail=f"body over {max_bytes} bytes")
        if self.error is not None:
            raise self.error
        return self._taken()

    async def next(self, until: float) -> bytes:
        """All that has come since the last call, at least one byte; `b""` exactly at the clean end.

        Raises `ReadTimeout`; and, once all that came before it has been handed out, `ConnectionCut` or `MalformedReply`.
        """
        while True:
            source = self._source
            if self.body:
                data = self._taken()
                if source is not None and source.paused:
                    source.resume()
                return data
            if source is None:
                if self.error is not None:
                    raise self.error
                return b""
            source.eager = True
            try:
                await source.wait(until)
            except asyncio.CancelledError:
                self.close()
                raise

    def pass_to(self, taker: Taker | None) -> None:
        """What comes while `next` waits is offered to `taker` first; what it takes, `next` does not return."""
        if self._source is not None:
            self._source.taker = taker

    def close(self) -> None:
        """Idempotent. If the reply is not completely received, the provider's connection is aborted at once."""
        if self._source is not None:
            self._source.abort(ConnectionCut("The provider's reply was given up.", detail="closed by the gateway"))

    def add(self, data: bytes) -> None:
        """Called by the connection: more of the body, behind what is there."""
        if type(self.body) is bytes:
            self.body = bytearray(self.body)
        self.body += data

    def end(self, error: GatewayError | None = None) -> None:
        """Called by the connection: nothing more will come."""
        self._source = None
        self.error = error

    def _taken(self) -> bytes:
        body, self.body = bytes(self.body), b""
        return body
