"""The WebSocket of chat completions (docs/websocket.md): who is let in, and what the others are told."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable

from msgspec.structs import replace

from agent_gateway.admission.refusals import Refusals
from agent_gateway.core.errors import Forbidden, GatewayError, HeadersTooLarge, InternalError, NotFound
from agent_gateway.edge.access import looked_up
from agent_gateway.edge.addresses import source_of
from agent_gateway.edge.cors import is_allowed
from agent_gateway.edge.hosts import check_host, same_origin
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.request import Head, new_exchange, read_head
from agent_gateway.edge.response import error_response, pairs
from agent_gateway.edge.websocket_session import Receive, Scope, Send, Session
from agent_gateway.pipeline import Live, Runtime

PATH = "/v1/chat/completions"
#: What the server selects of the subprotocols that are offered.
SUBPROTOCOL = "agent-gateway"
#: A subprotocol that begins so is no protocol but a key: browsers cannot set headers. The second is what OpenAI has for it.
KEY_SUBPROTOCOLS = ("agent-gateway.key.", "openai-insecure-api-key.")

_log = logging.getLogger("agent_gateway.edge")


async def serve(
    scope: Scope,
    receive: Receive,
    send: Send,
    live: Live,
    limits: Limits,
    refusals: Refusals,
    start: Callable[[], Awaitable[None]],
) -> None:
    """One socket from its handshake to its end; `start` has the app started, where nobody did before."""
    await receive()  # nothing but `websocket.connect` comes first
    head = _head(scope)
    try:
        await start()
        await _let_in(scope, head, live.runtime, limits, refusals)
    except GatewayError as error:
        refusals.count(error, lambda: source_of(scope, live.runtime.settings.server), key_shown=head.secret is not None)
        await _turn_away(scope, send, error)
    except Exception:
        _log.exception("a WebSocket handshake failed by a fault of the gateway")
        await _turn_away(scope, send, InternalError("The gateway failed to handle the request."))
    else:
        offered: Iterable[str] = scope.get("subprotocols", ())
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if SUBPROTOCOL in offered else None})
        await Session(scope, receive, send, head, live, limits, refusals).run()


def _head(scope: Scope) -> Head:
    """What holds for all requests of the socket."""
    head = read_head(dict(scope["headers"]))
    return head if head.secret is not None else replace(head, secret=_offered_key(scope.get("subprotocols", ())))


async def _let_in(scope: Scope, head: Head, runtime: Runtime, limits: Limits, refusals: Refusals) -> None:
    """Raises `GatewayError` for what HTTP refuses, and for a page of another origin without a key: no browser asks before it opens a
    WebSocket, so being on this machine would be all that such a page needs.
    """
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > limits.head_max_bytes:
        raise HeadersTooLarge(f"The request's headers are over {limits.head_max_bytes} bytes.")
    host = headers.get(b"host")
    check_host(runtime.settings.server, host)
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    if path.rstrip("/") != PATH:
        raise NotFound(f"There is no WebSocket at {path[:200]!r}; it is at {PATH}.")
    exchange = new_exchange(head, runtime.clock)
    waiting = runtime.gate.authenticate(exchange, head.secret)
    if waiting is not None:
        await looked_up(waiting, refusals, lambda: source_of(scope, runtime.settings.server))
    origin = headers.get(b"origin")
    if exchange.key is None and origin is not None and not same_origin(origin, host) and not is_allowed(runtime.settings.server, origin):
        raise Forbidden("A page of another origin needs a key of this gateway to open a WebSocket.")


def _offered_key(subprotocols: Iterable[str]) -> bytes | None:
    for offered in subprotocols:
        for prefix in KEY_SUBPROTOCOLS:
            if offered.startswith(prefix):
                return offered.removeprefix(prefix).encode()
    return None


async def _turn_away(scope: Scope, send: Send, error: GatewayError) -> None:
    """As HTTP would; servers that cannot say it answer 403 to a close before the accept."""
    with contextlib.suppress(OSError):
        if "websocket.http.response" in scope.get("extensions", {}):
            status, head, body = error_response(error)
            headers = [*pairs(head), (b"content-length", b"%d" % len(body))]
            await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": body})
        else:
            await send({"type": "websocket.close", "code": 1008})
