"""One HTTP request over ASGI, as far as its head says, and the way back to its client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from agent_gateway.admission.refusals import Refusals
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.access import looked_up
from agent_gateway.edge.addresses import source_of
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.request import Head, Headers
from agent_gateway.edge.response import JSON, HeadLines, pairs
from agent_gateway.edge.slow_lane import ABORT
from agent_gateway.pipeline import Runtime

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: What fits into the buffers of any server without waiting.
_AT_ONCE_BYTES = 64 * 1024


class Ask:
    """One HTTP request and its client."""

    __slots__ = (
        "_limits",
        "_refusals",
        "exchange",
        "head",
        "headers",
        "method",
        "path",
        "receive",
        "runtime",
        "scope",
        "send",
        "shows_key",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Headers,
        head: Head,
        exchange: Exchange,
        runtime: Runtime,
        limits: Limits,
        refusals: Refusals,
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.headers = headers
        self.head = head
        self.exchange = exchange
        #: In a header or, of who logs in, in the body.
        self.shows_key = head.secret is not None
        #: The one configuration that this request sees.
        self.runtime = runtime
        self.method: str = scope["method"]
        #: Below where the app is mounted.
        self.path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        self._limits = limits
        self._refusals = refusals

    @property
    def query(self) -> bytes:
        query: bytes = self.scope.get("query_string", b"")
        return query

    @property
    def id_line(self) -> str:
        return f"x-request-id: {self.exchange.id}\r\n"

    def source(self) -> str:
        return source_of(self.scope, self.runtime.settings.server)

    async def authenticated(self) -> None:
        """Raises `Unauthenticated`, `RateLimited` or `StoreDown`."""
        waiting = self.runtime.gate.authenticate(self.exchange, self.head.secret)
        if waiting is not None:
            await looked_up(waiting, self._refusals, self.source)

    async def let_in(self) -> None:
        """Where no model is asked: raises `Forbidden` too, for a key that may not be used here."""
        await self.authenticated()
        self.runtime.gate.check_endpoint(self.exchange, self.path)

    def refused(self, error: GatewayError) -> None:
        self._refusals.count(error, self.source, key_shown=self.shows_key)

    async def json(self, value: Any, status: int = 200, more: HeadLines = b"") -> None:
        """What is told here is for who asks, now."""
        head = b"%bcache-control: no-store\r\n%b%b" % (JSON, self.id_line.encode(), more)
        await self.whole(status, head, msgspec.json.encode(value))

    async def whole(self, status: int, head: HeadLines, body: bytes) -> None:
        """An answer that no exchange makes; a client that does not take it is given up."""
        try:
            async with asyncio.timeout(self._limits.write_stall_s):
                await _whole(self.send, status, head, b"" if self.method == "HEAD" else body, len(body))
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Ends the connection where the server lets us; elsewhere it ends as the request does."""
        extension = self.scope.get("extensions", {}).get(ABORT)
        if extension is not None:
            extension["abort"]()


class Outlet:
    """The outlet of `Answering` over ASGI; one call at a time, since heartbeats come from beside."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._send = ask.send
        self._turn = asyncio.Lock()
        #: The task that writes here.
        self.work: asyncio.Task[None] | None = None

    async def whole(self, status: int, head: HeadLines, body: bytes) -> None:
        async with self._turn:
            await _whole(self._send, status, head, body, len(body))

    async def begin(self, head: HeadLines) -> None:
        async with self._turn:
            await self._send({"type": "http.response.start", "status": 200, "headers": pairs(head)})

    async def write(self, data: bytes) -> None:
        async with self._turn:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        async with self._turn:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def unsent(self) -> int:
        return 0

    def refused(self, error: GatewayError) -> None:
        self._ask.refused(error)

    def give_up(self) -> None:
        if self.work is not None:
            self.work.cancel()
        self._ask.abort()


async def _whole(send: Send, status: int, head: HeadLines, body: bytes, length: int) -> None:
    """`length` is told even where no body is sent (HEAD); of 304 it would have to be that of what is not sent anew."""
    headers = pairs(head) if status == 304 else [*pairs(head), (b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if len(body) > _AT_ONCE_BYTES:  # servers wait for the client before they take more, not after: a last, empty part has them wait
        await send({"type": "http.response.body", "body": body, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body, "more_body": False})
