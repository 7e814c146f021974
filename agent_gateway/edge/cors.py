"""Pages of other origins that may use the gateway from a browser (`server.cors_origins`), and what browsers want to hear of it."""

from __future__ import annotations

from collections.abc import Iterable

from agent_gateway.core.settings import Server
from agent_gateway.edge.hosts import ANY, same_origin
from agent_gateway.edge.request import Headers
from agent_gateway.edge.response import HeadLines

#: How long a browser remembers what a preflight said (s).
PREFLIGHT_MAX_AGE_S = 600
#: What a page may read of an answer's head, beside what it always may.
EXPOSED = (
    "x-request-id",
    "x-gateway-status",
    "x-gateway-model",
    "x-gateway-attempts",
    "x-gateway-reason",
    "x-gateway-cost-usd",
    "x-gateway-quality",
    "x-gateway-guard",
    "x-gateway-overhead-ms",
    "x-session-id",
    "retry-after",
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
    *(f"anthropic-ratelimit-{of}-{what}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
)
_EXPOSED_LINE = f"access-control-expose-headers: {', '.join(EXPOSED)}\r\n".encode()
#: These change nothing, so that a page which is not let in may cause them: it cannot read the answer.
_SAFE = ("GET", "HEAD", "OPTIONS")


def is_allowed(server: Server, origin: bytes) -> bool:
    """Whether a page of `origin`, as the header says it, may use the gateway."""
    return ANY in server.cors_origins or origin.decode("latin-1") in server.cors_origins


def is_foreign(server: Server, method: str, headers: Headers) -> bool:
    """Whether a page that is not let in asks for something to be done. Browsers do not ask before they send what a form could send,
    so that on a gateway that needs no key, being on this machine would be all that such a page needs.
    """
    origin = headers.get(b"origin")
    if origin is None or method in _SAFE:
        return False
    return not same_origin(origin, headers.get(b"host")) and not is_allowed(server, origin)


def answer_lines(server: Server, headers: Headers) -> HeadLines:
    """What goes on every answer to a page that may read it."""
    origin = headers.get(b"origin")
    if origin is None or not is_allowed(server, origin):
        return b""
    if ANY in server.cors_origins:  # never with credentials
        return b"access-control-allow-origin: *\r\n" + _EXPOSED_LINE
    return b"access-control-allow-origin: %b\r\naccess-control-allow-credentials: true\r\nvary: origin\r\n%b" % (origin, _EXPOSED_LINE)


def is_preflight(server: Server, method: str, headers: Headers) -> bool:
    return method == "OPTIONS" and b"access-control-request-method" in headers and bool(answer_lines(server, headers))


def preflight_lines(methods: Iterable[str], headers: Headers) -> HeadLines:
    """A page may send any headers: which of them count for something, the gateway decides when they come."""
    asked = headers.get(b"access-control-request-headers", b"")
    allowed = b"access-control-allow-headers: %b\r\n" % asked if asked else b""
    lines = (", ".join(methods).encode(), allowed, PREFLIGHT_MAX_AGE_S)
    return b"access-control-allow-methods: %b\r\n%baccess-control-max-age: %d\r\n" % lines
