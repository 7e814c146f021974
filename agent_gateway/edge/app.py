"""The complete ASGI app: every path of the gateway. Runs under uvicorn, mounts in any ASGI framework."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol
from urllib.parse import parse_qsl, quote

from agent_gateway.admission.logins import Logins
from agent_gateway.admission.refusals import Refusals
from agent_gateway.core.admin import LOGIN, Admin, AdminAsk
from agent_gateway.core.call import Dialect
from agent_gateway.core.errors import (
    BadRequest,
    ClientLeft,
    Forbidden,
    GatewayError,
    HeadersTooLarge,
    InternalError,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    TooLarge,
    Unauthenticated,
    UnknownModel,
    UnsupportedMedia,
)
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.streamed import Streamed
from agent_gateway.edge import websocket
from agent_gateway.edge.answering import Answering
from agent_gateway.edge.ask import Ask, Message, Outlet, Receive, Scope, Send
from agent_gateway.edge.background import outliving
from agent_gateway.edge.batch_room import BatchAsk, BatchRoom
from agent_gateway.edge.batches import batch_answer, is_batch_path
from agent_gateway.edge.bodies import BodyHold
from agent_gateway.edge.cors import answer_lines, is_foreign, is_preflight, preflight_lines
from agent_gateway.edge.feedback import take_feedback
from agent_gateway.edge.grouped import Grouped
from agent_gateway.edge.hosts import check_host
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.login import check_csrf, cookie_line, login_token
from agent_gateway.edge.models import model_list, model_object
from agent_gateway.edge.request import (
    Headers,
    body_length,
    check_framing,
    check_media,
    new_exchange,
    read_head,
    read_into,
    read_wishes,
)
from agent_gateway.edge.response import JSON, HeadLines, accepts_gzip, error_response, pairs
from agent_gateway.edge.responses import STATE_PATHS, StateAsk, state_answer, stream_of_response
from agent_gateway.edge.resumable import events_seen, resumed
from agent_gateway.edge.routes import MODEL_PATHS, dialect_of
from agent_gateway.edge.sessions import delete_session, session_list, session_object
from agent_gateway.edge.telling import Telling
from agent_gateway.pipeline import Live, refuse
from agent_gateway.session.identity import checked_user
from agent_gateway.stores.base import Owner

Handler = Callable[[Ask], Awaitable[None]]


class Page(Protocol):
    """The dashboard's files."""

    async def __call__(self, path: str, *, packed: bool, known: bytes | None) -> tuple[int, HeadLines, bytes]:
        """Status, head and body. `packed`: the client takes gzip; `known`: what it has (`if-none-match`)."""


#: Where one model is shown.
_MODELS = ("/v1/models/", "/v1beta/models/")
#: Where one session is shown.
_SESSIONS = "/v1/sessions/"
#: Where streams are taken up again.
_STREAMS = "/v1/streams/"
#: Below it the admin API answers.
_ADMIN = "/admin/v1/"
#: There, and below it, is the web page.
_DASHBOARD = "/dashboard"
#: Of a request to the admin API.
ADMIN_BODY_MAX_BYTES = 1024 * 1024
FEEDBACK_BODY_MAX_BYTES = 64 * 1024
QUERY_FIELDS_MAX = 100

_log = logging.getLogger("agent_gateway.edge")


class App:
    """`app(scope, receive, send)`. `ready` is asked by `/health/ready`; `started`/`stopped` are run by the ASGI lifespan.

    Mounted in another app it hears of no lifespan: then the first request has it started.

    `scrape` gives what `/metrics` tells, and its content type; `admin` answers below `/admin/v1/`, `batches` on the paths of files and
    batches, `page` on those of the dashboard; `refusals` hears of whoever is not let in.
    """

    def __init__(
        self,
        live: Live,
        limits: Limits,
        *,
        ready: Callable[[], str | None],
        started: Callable[[], Awaitable[None]],
        stopped: Callable[[], Awaitable[None]],
        scrape: Callable[[], Awaitable[tuple[bytes, str]]],
        admin: Admin,
        logins: Logins,
        page: Page,
        batches: BatchRoom,
        refusals: Refusals,
    ) -> None:
        self._live = live
        self._limits = limits
        self._ready = ready
        self._started = started
        self._stopped = stopped
        self._scrape = scrape
        self._starting: asyncio.Future[None] | None = None
        self._admin = admin
        self._logins = logins
        self._page = page
        self._batches = batches
        self.refusals = refusals
        self._routes: dict[str, dict[str, Handler]] = {
            "/v1/models": {"GET": self._models},
            "/v1beta/models": {"GET": self._models},
            "/health/live": {"GET": self._health_live},
            "/health/ready": {"GET": self._health_ready},
            "/metrics": {"GET": self._metrics},
            "/v1/sessions": {"GET": self._sessions},
            "/v1/feedback": {"POST": self._feedback},
            "/openapi.json": {"GET": self._openapi},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await self._lifespan(receive, send)
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await websocket.serve(scope, receive, send, self._live, self._limits, self.refusals, self._start)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        runtime = self._live.runtime
        headers = dict(scope["headers"])
        head = read_head(headers)
        url = _url(scope)
        asked = dialect_of(url)
        exchange = new_exchange(head, runtime.clock, asked or _style(url, headers))
        server = runtime.settings.server
        if server.cors_origins and (lines := answer_lines(server, headers)):
            send = _with_lines(send, lines)
        ask = Ask(scope, receive, send, headers, head, exchange, runtime, self._limits, self.refusals)
        try:
            if self._starting is None or not self._starting.done():
                await self._start()
            if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > self._limits.head_max_bytes:
                raise HeadersTooLarge(f"The request's headers are over {self._limits.head_max_bytes} bytes.")
            check_framing(scope["headers"], headers)
            check_host(runtime.settings.server, headers.get(b"host"))
            if is_foreign(runtime.settings.server, ask.method, headers) and head.secret is None:
                raise Forbidden("A page of another origin needs a key of this gateway, or to be in `server.cors_origins`.")
            handler = self._handler(ask, is_model_path=asked is not None)
            await handler(ask)
        except GatewayError as error:
            if ask.method == "POST" and asked is not None:
                refuse(ask.exchange, error, runtime)
            ask.refused(error)
            if not isinstance(error, ClientLeft):
                await ask.whole(*error_response(error, ask.exchange))
        except Exception:
            _log.exception("%s %s failed by a fault of the gateway", ask.method, scope["path"])
            if exchange.hold is not None:
                exchange.hold.release()
            await ask.whole(*error_response(InternalError("The gateway failed to handle the request."), ask.exchange))
        finally:
            if asked is None and exchange.hold is not None:  # a model's answer gives it back at its end
                exchange.hold.release()

    async def _start(self) -> None:
        """Once, whoever asks first."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._started())
        try:
            await asyncio.shield(self._starting)
        except Exception:
            self._starting = None
            raise

    def _handler(self, ask: Ask, *, is_model_path: bool) -> Handler:
        method, path = ask.method, ask.path
        by_method = self._methods(method, path, is_model_path=is_model_path)
        if method == "OPTIONS" and is_preflight(ask.runtime.settings.server, method, ask.headers):
            return lambda ask: ask.whole(200, preflight_lines(by_method, ask.headers) + ask.id_line.encode(), b"")
        handler = by_method.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join(by_method)
            raise MethodNotAllowed(f"{path} does not take {method}; it takes {allowed}.", param=allowed)
        return handler

    def _methods(self, method: str, path: str, *, is_model_path: bool) -> dict[str, Handler]:
        by_method = self._routes.get(path) or self._routes.get(path.rstrip("/"))
        if is_model_path:
            by_method = {"POST": self._ask_model}
        elif by_method is None and path.startswith(_MODELS) and not (method == "POST" and ":" in path):
            by_method = {"GET": self._model}
        elif by_method is None and path.startswith(_SESSIONS):
            by_method = {"GET": self._session, "DELETE": self._delete_session}
        elif by_method is None and path.startswith(_STREAMS):
            by_method = {"GET": self._stream}
        elif by_method is None and path.startswith(STATE_PATHS):
            by_method = dict.fromkeys(("GET", "POST", "DELETE"), self._state)
        elif by_method is None and is_batch_path(path):
            by_method = dict.fromkeys(("GET", "POST", "DELETE"), self._batch)
        elif by_method is None and path.startswith(_ADMIN):
            by_method = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), self._administer)
        elif by_method is None and (path == _DASHBOARD or path.startswith(f"{_DASHBOARD}/")):
            by_method = {"GET": self._dashboard}
        if by_method is None:
            places = ", ".join([known.decode() for known in MODEL_PATHS])
            raise NotFound(
                f"There is nothing at {path[:200]!r}. Models are asked at {places}, and in Gemini's protocol at "
                "/v1beta/models/MODEL:generateContent and :streamGenerateContent; the dashboard is at /dashboard."
            )
        return by_method

    # --- the model routes ---

    async def _ask_model(self, ask: Ask) -> None:
        exchange, runtime = ask.exchange, ask.runtime
        check_media(ask.headers)
        await ask.authenticated()
        read_into(exchange, ask.head, await self._body(ask), _url(ask.scope).decode("latin-1"))
        outlet = Outlet(ask)
        answering = None
        if ask.head.resumable or exchange.call.in_background:
            answering = outliving(exchange, ask.head, self._live, runtime, outlet, self._limits)
        if answering is None:
            answering = Answering(exchange, runtime, outlet, ask.head.accept_encoding, asyncio.get_running_loop(), self._limits)
        await self._answer(ask, outlet, answering)

    async def _stream(self, ask: Ask) -> None:
        """The rest of a stream whose client has lost it."""
        await ask.let_in()
        await self._resume(ask, ask.path.removeprefix(_STREAMS), events_seen(ask.headers, ask.query))

    async def _resume(self, ask: Ask, request_id: str, after: int) -> None:
        outlet = Outlet(ask)
        await self._answer(ask, outlet, await resumed(ask.exchange, request_id, ask.head, after, ask.runtime, outlet, self._limits))

    async def _state(self, ask: Ask) -> None:
        """Responses and conversations that are kept."""
        owner = await _owner(ask)
        if ask.method == "GET" and (stream := stream_of_response(ask.path, ask.query)) is not None:
            await self._resume(ask, *stream)
            return
        body = await self._body(ask) if ask.method == "POST" else b""
        runtime = ask.runtime
        asked = StateAsk(runtime.responses, owner, ask.query, body, runtime.settings.sessions.ttl_s, ask.method, ask.path)
        await ask.whole(200, JSON + ask.id_line.encode(), await state_answer(asked))

    async def _batch(self, ask: Ask) -> None:
        """Files and batches."""
        owner, outlet = await _owner(ask), Outlet(ask)
        read_wishes(ask.exchange, ask.head)
        asked = (ask.exchange, ask.runtime, self._limits, ask.headers, ask.method, ask.path, ask.query, ask.receive)
        told = await batch_answer(BatchAsk(self._batches, owner, *asked, lambda: self._body(ask), outlet))
        if isinstance(told, Streamed):
            await self._tell(ask, outlet, told, ask.let_in)
        elif isinstance(told, Grouped):
            await self._answer(ask, outlet, told)
        else:
            await ask.json(told)

    async def _answer(
        self, ask: Ask, outlet: Outlet, answering: Answering | Grouped | Telling, exchange: Exchange | None = None
    ) -> None:
        """To its end, or the client's. `exchange`: which is told that he left, where it is not the request's own."""
        exchange = exchange or ask.exchange
        loop = asyncio.get_running_loop()
        work = loop.create_task(answering.run())
        outlet.work = work
        leaving = loop.create_task(_watch_for_leaving(ask.receive, exchange, work))
        try:
            await work
        except asyncio.CancelledError:
            if not exchange.client_left:  # the server stops; the client is told so as the work ends
                work.cancel()
                await asyncio.wait([work])
        finally:
            leaving.cancel()

    async def _tell(self, ask: Ask, outlet: Outlet, told: Streamed, check: Callable[[], Awaitable[None]]) -> None:
        """`check`: of the right to hear more of it."""
        await self._answer(ask, outlet, Telling(ask, outlet, told, self._limits, check), told.exchange)

    async def _body(self, ask: Ask, limit: int | None = None) -> bytes:
        """Held by the exchange."""
        headers = ask.headers
        limit = limit or self._limits.body_max_bytes
        length = body_length(headers)
        if length is not None and length > limit:
            raise TooLarge(f"The request's body has {length} bytes; the limit is {limit}.")
        hold = ask.exchange.hold = self._limits.bodies.hold(0)
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                body = await _received(ask.receive, limit, hold)
        except TimeoutError:
            raise RequestTimeout("The request was not sent in time.") from None
        except asyncio.CancelledError:  # by a server other than ours; there is no answer whose end would give it back
            hold.release()
            raise
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding == b"identity":
            return body
        if encoding != b"gzip":
            raise UnsupportedMedia(f"content-encoding: {encoding[:32].decode('latin-1')!r} is not supported; send gzip or none.")
        plain = _gunzipped(body, limit)
        hold.grow(max(len(plain) - len(body), 0))
        return plain

    # --- models ---

    async def _models(self, ask: Ask) -> None:
        await ask.json(model_list(await _visible_models(ask), ask.exchange.call.dialect))

    async def _model(self, ask: Ask) -> None:
        name = next(ask.path.removeprefix(place) for place in _MODELS if ask.path.startswith(place))
        if name not in await _visible_models(ask):
            raise UnknownModel(f"The model {name[:200]!r} does not exist, or your key may not use it.", param="model")
        await ask.json(model_object(name, ask.exchange.call.dialect))

    # --- sessions ---

    async def _sessions(self, ask: Ask) -> None:
        owner = await _owner(ask)
        await ask.json(await session_list(ask.runtime.memory.store, owner, ask.query, ask.runtime.clock.wall()))

    async def _session(self, ask: Ask) -> None:
        owner = await _owner(ask)
        session_id = ask.path.removeprefix(_SESSIONS)
        await ask.json(await session_object(ask.runtime.memory.store, owner, session_id, ask.runtime.clock.wall()))

    async def _delete_session(self, ask: Ask) -> None:
        owner = await _owner(ask)
        session_id = ask.path.removeprefix(_SESSIONS)
        await ask.json(await delete_session(ask.runtime.memory.store, owner, session_id, ask.runtime.clock.wall()))

    async def _feedback(self, ask: Ask) -> None:
        owner = await _owner(ask)
        check_media(ask.headers)
        await ask.json(await take_feedback(owner, await self._body(ask, FEEDBACK_BODY_MAX_BYTES), ask.runtime))

    # --- health and metrics ---

    async def _health_live(self, ask: Ask) -> None:
        await ask.json({"status": "live"})

    async def _health_ready(self, ask: Ask) -> None:
        why_not = self._ready()
        if why_not is None:
            await ask.json({"status": "ready"})
        else:
            await ask.json({"status": "not ready", "reason": why_not}, status=503)

    async def _metrics(self, ask: Ask) -> None:
        body, content_type = await self._scrape()
        await ask.whole(200, f"content-type: {content_type}\r\n{ask.id_line}".encode(), body)

    # --- admin ---

    async def _administer(self, ask: Ask) -> None:
        path = ask.path.removeprefix(_ADMIN).rstrip("/")
        writes = ask.method not in ("GET", "HEAD")
        token = login_token(ask.headers) if ask.head.secret is None else None
        if path == LOGIN:
            await self._meet_login(ask, token)
        else:
            await self._admit_admin(ask, token, writes=writes)
        body = b""
        if writes:
            check_media(ask.headers)
            body = await self._body(ask, ADMIN_BODY_MAX_BYTES)
        told = await self._admin.answer(
            AdminAsk(
                request_id=ask.exchange.id,
                method="GET" if ask.method == "HEAD" else ask.method,
                path=path,
                query=_last_values(ask.query),
                body=body,
                key=ask.exchange.key,
                source=ask.source(),
                login=token,
            )
        )
        if isinstance(told, Streamed):
            await self._tell(ask, Outlet(ask), told, lambda: self._admit_admin(ask, token, writes=writes))
            return
        cookie = b""
        if told.login is not None:
            place = f"{ask.scope.get('root_path', '')}{_ADMIN.rstrip('/')}"
            cookie = cookie_line(told.login, told.login_s, place, encrypted=ask.scope.get("scheme") == "https")
        await ask.json(told.body, told.status, cookie)

    async def _admit_admin(self, ask: Ask, token: str | None, *, writes: bool) -> None:
        """By a key, or the log-in of one. Raises `Unauthenticated`, `Forbidden` or `StoreDown`."""
        if token is None or ask.runtime.settings.auth.admin_key is None:
            await ask.let_in()
        else:
            login = await self._logins.find(token)
            if writes:
                check_csrf(ask.headers, login)
            ask.exchange.key = login.key
            ask.runtime.gate.check_endpoint(ask.exchange, ask.path)
        ask.runtime.gate.admit_admin(ask.exchange, writes=writes)

    async def _meet_login(self, ask: Ask, token: str | None) -> None:
        """Whoever comes may try to log in, but not as often as he likes, and only who is logged in can log out."""
        if ask.method == "POST":
            ask.shows_key = True
            self.refusals.check(ask.source())
        elif ask.method == "DELETE" and token is not None:
            with suppress(Unauthenticated):
                check_csrf(ask.headers, await self._logins.find(token))

    async def _dashboard(self, ask: Ask) -> None:
        """The page knows nothing by itself, and is shown to everybody."""
        packed = accepts_gzip(ask.head.accept_encoding or b"")
        status, head, body = await self._page(ask.path.removeprefix(_DASHBOARD), packed=packed, known=ask.headers.get(b"if-none-match"))
        await ask.whole(status, head + ask.id_line.encode(), body)

    async def _openapi(self, ask: Ask) -> None:
        """Says nothing that the documents do not say, and to everybody."""
        await ask.whole(200, JSON + ask.id_line.encode(), self._admin.openapi())

    # --- lifespan ---

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        except asyncio.CancelledError:  # by a second Ctrl-C, after which nobody is waited for
            return
        await self._stopped()
        await send({"type": "lifespan.shutdown.complete"})


async def _watch_for_leaving(receive: Receive, exchange: Exchange, work: asyncio.Task[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if not work.done() and not exchange.client_left:
        exchange.client_left = True
        work.cancel()


async def _received(receive: Receive, limit: int, hold: BodyHold) -> bytes:
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
        hold.grow(len(part))
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


def _url(scope: Scope) -> bytes:
    """The request's URL below where the app is mounted, as it came: with its query, percent-encoded."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    path = path.removeprefix(scope.get("root_path", "").encode())
    query: bytes = scope.get("query_string", b"")
    return b"%b?%b" % (path, query) if query else path


def _style(url: bytes, headers: Headers) -> Dialect:
    """Whose client this is, where the path does not tell."""
    if url.startswith(b"/v1beta/") or b"x-goog-api-key" in headers:
        return "gemini"
    return "anthropic" if b"anthropic-version" in headers else "openai_chat"


def _last_values(query: bytes) -> dict[str, str]:
    """Of names given twice the last. Raises `BadRequest`."""
    try:
        return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX))
    except ValueError:
        raise BadRequest(f"The query has more than {QUERY_FIELDS_MAX} fields.") from None


def _with_lines(send: Send, lines: HeadLines) -> Send:
    more = pairs(lines)

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *more]
        await send(message)

    return sending


async def _owner(ask: Ask) -> Owner:
    """Whose sessions are asked for: the key's, and the user's where one is named."""
    await ask.let_in()
    return Owner("" if ask.exchange.key is None else ask.exchange.key.id, checked_user(ask.head.user or ""))


async def _visible_models(ask: Ask) -> list[str]:
    await ask.let_in()
    return ask.runtime.gate.visible_models(ask.exchange)
