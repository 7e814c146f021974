"""The complete ASGI app: every path of the gateway. Runs under uvicorn, mounts in any ASGI framework."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from agent_gateway.core.errors import (
    BadRequest,
    ClientLeft,
    GatewayError,
    HeadersTooLarge,
    InternalError,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    TooLarge,
    UnsupportedMedia,
)
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.answering import Answering
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.request import Headers, body_length, new_exchange, read_head, read_into
from agent_gateway.edge.response import JSON, HeadLines, error_response, pairs
from agent_gateway.pipeline import Live, refuse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Scope, Receive, Send, Headers], Awaitable[None]]

_log = logging.getLogger("agent_gateway.edge")


class App:
    """`app(scope, receive, send)`. `ready` is asked by `/health/ready`; `started`/`stopped` are run by the ASGI lifespan.

    `admin_views`: path → what it shows, as JSON, to an admin.
    """

    def __init__(
        self,
        live: Live,
        limits: Limits,
        *,
        ready: Callable[[], str | None],
        started: Callable[[], Awaitable[None]],
        stopped: Callable[[], Awaitable[None]],
        admin_views: Mapping[str, Callable[[], Any]],
    ) -> None:
        self._live = live
        self._limits = limits
        self._ready = ready
        self._started = started
        self._stopped = stopped
        self._admin_views = admin_views
        self._routes: dict[str, dict[str, Handler]] = {
            "/v1/chat/completions": {"POST": self._chat},
            "/v1/models": {"GET": self._models},
            "/health/live": {"GET": self._health_live},
            "/health/ready": {"GET": self._health_ready},
            "/metrics": {"GET": self._metrics},
            **{path: {"GET": self._admin_view} for path in admin_views},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await self._lifespan(receive, send)
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        try:
            if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > self._limits.head_max_bytes:
                raise HeadersTooLarge(f"The request's headers are over {self._limits.head_max_bytes} bytes.")
            handler = self._handler(scope["method"], scope["path"].removeprefix(scope.get("root_path", "")))
            await handler(scope, receive, send, headers)
        except GatewayError as error:
            await _whole(send, *error_response(error), head_only=scope["method"] == "HEAD")
        except Exception:
            _log.exception("%s %s failed by a fault of the gateway", scope["method"], scope["path"])
            await _whole(send, *error_response(InternalError("The gateway failed to handle the request.")))

    def _handler(self, method: str, path: str) -> Handler:
        by_method = self._routes.get(path) or self._routes.get(path.rstrip("/"))
        if by_method is None and path.startswith("/v1/models/"):
            by_method = {"GET": self._model}
        if by_method is None:
            raise NotFound(f"There is nothing at {path[:200]!r}. The model endpoint is POST /v1/chat/completions.")
        handler = by_method.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join(by_method)
            raise MethodNotAllowed(f"{path} does not take {method}; it takes {allowed}.", param=allowed)
        return handler

    # --- the model routes ---

    async def _chat(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        runtime = self._live.runtime
        head = read_head(headers)
        exchange = new_exchange(head, runtime.clock)
        outlet = _Outlet(send)
        try:
            waiting = runtime.gate.authenticate(exchange, head.secret)
            if waiting is not None:
                await waiting
            read_into(exchange, head, await self._body(receive, headers))
        except GatewayError as error:
            refuse(exchange, error, runtime)
            if not isinstance(error, ClientLeft):
                await outlet.whole(*error_response(error, exchange))
            return
        loop = asyncio.get_running_loop()
        work = loop.create_task(Answering(exchange, runtime, outlet, head.accept_encoding, loop).run())
        leaving = loop.create_task(_watch_for_leaving(receive, exchange, work))
        try:
            await work
        except asyncio.CancelledError:
            if not exchange.client_left:  # the server stops; the client is told so as the work ends
                work.cancel()
                await asyncio.wait([work])
        finally:
            leaving.cancel()

    async def _body(self, receive: Receive, headers: Headers) -> bytes:
        limit = self._limits.body_max_bytes
        length = body_length(headers)
        if length is not None and length > limit:
            raise TooLarge(f"The request's body has {length} bytes; the limit is {limit}.")
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                body = await _received(receive, limit)
        except TimeoutError:
            raise RequestTimeout("The request was not sent in time.") from None
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding == b"identity":
            return body
        if encoding != b"gzip":
            raise UnsupportedMedia(f"content-encoding: {encoding[:32].decode('latin-1')!r} is not supported; send gzip or none.")
        return _gunzipped(body, limit)

    # --- models ---

    async def _models(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        names = await self._visible_models(headers)
        await _json(send, {"object": "list", "data": [_model_object(name) for name in names]})

    async def _model(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        name = scope["path"].split("/v1/models/", 1)[1]
        if name not in await self._visible_models(headers):
            raise NotFound(f"The model {name[:200]!r} does not exist, or your key may not use it.")
        await _json(send, _model_object(name))

    async def _visible_models(self, headers: Headers) -> list[str]:
        return self._live.runtime.gate.visible_models(await self._asking(headers))

    async def _asking(self, headers: Headers) -> Exchange:
        """Who asks for something that is no model's answer. Raises `Unauthenticated` or `StoreDown`."""
        runtime = self._live.runtime
        head = read_head(headers)
        asking = new_exchange(head, runtime.clock)
        waiting = runtime.gate.authenticate(asking, head.secret)
        if waiting is not None:
            await waiting
        return asking

    # --- health and metrics ---

    async def _health_live(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        await _json(send, {"status": "live"})

    async def _health_ready(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        why_not = self._ready()
        if why_not is None:
            await _json(send, {"status": "ready"})
        else:
            await _json(send, {"status": "not ready", "reason": why_not}, status=503)

    async def _metrics(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        body, content_type = self._live.runtime.recorder.scrape()
        await _whole(send, 200, f"content-type: {content_type}\r\n".encode(), body)

    # --- admin ---

    async def _admin_view(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        self._live.runtime.gate.admit_admin(await self._asking(headers))
        await _json(send, self._admin_views[scope["path"].rstrip("/")]())

    # --- lifespan ---

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._started()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stopped()
        await send({"type": "lifespan.shutdown.complete"})


class _Outlet:
    """The outlet of `Answering` over ASGI; one call at a time, since heartbeats come from beside."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._turn = asyncio.Lock()

    async def whole(self, status: int, head: HeadLines, body: bytes) -> None:
        async with self._turn:
            await _whole(self._send, status, head, body)

    async def begin(self, head: HeadLines) -> None:
        async with self._turn:
            await self._send({"type": "http.response.start", "status": 200, "headers": pairs(head)})

    async def write(self, data: bytes) -> None:
        async with self._turn:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        async with self._turn:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


async def _watch_for_leaving(receive: Receive, exchange: Exchange, work: asyncio.Task[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if not work.done():
        exchange.client_left = True
        work.cancel()


async def _received(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft("The client closed the connection.")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLarge(f"The request's body is over the limit of {limit} bytes.")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _gunzipped(body: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(31)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise BadRequest("The request's body is not valid gzip, though content-encoding says so.") from None
    if len(plain) > limit:
        raise TooLarge(f"The request's body is over the limit of {limit} bytes once unpacked.")
    if not unpacker.eof:
        raise BadRequest("The request's gzip body is cut short.")
    return plain


def _model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "agent-gateway"}


async def _json(send: Send, value: Any, status: int = 200) -> None:
    await _whole(send, status, JSON, msgspec.json.encode(value))


async def _whole(send: Send, status: int, head: HeadLines, body: bytes, *, head_only: bool = False) -> None:
    headers = [*pairs(head), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head_only else body, "more_body": False})
