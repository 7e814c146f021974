"""Status lines, headers and error bodies: everything the client sees that no provider wrote."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from http import HTTPStatus
from math import ceil
from typing import Any

import msgspec

from agent_gateway.core.errors import GatewayError, MethodNotAllowed, ProviderRefusedRequest
from agent_gateway.core.exchange import Exchange
from agent_gateway.protocols.openai_chat import write_error

#: A body below this is not worth compressing (bytes), one above it would hold the event loop too long.
COMPRESS_FROM_BYTES = 1024
COMPRESS_UP_TO_BYTES = 256 * 1024

HeaderList = list[tuple[bytes, bytes]]

HEARTBEAT = b": heartbeat\n\n"
JSON = (b"content-type", b"application/json")
STREAM: HeaderList = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_ENCODER = msgspec.json.Encoder()


def status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: status_line(status) for status in range(200, 600)}


def stream_headers(exchange: Exchange) -> HeaderList:
    """Of a stream that begins now; what is not known yet is left out."""
    return [*STREAM, *_story(exchange)]


def whole_headers(exchange: Exchange, now: float) -> HeaderList:
    """Of a unary answer."""
    headers = [JSON, *_story(exchange)]
    upstream_s = 0.0
    cost_usd: float | None = None
    for attempt in exchange.attempts:
        upstream_s += (attempt.ended or now) - attempt.started
        if attempt.cost_usd is not None:
            cost_usd = (cost_usd or 0.0) + attempt.cost_usd
    if cost_usd is not None:
        headers.append((b"x-gateway-cost-usd", b"%.8f" % cost_usd))
    if exchange.quality is not None:
        headers.append((b"x-gateway-quality", b"%.2f" % exchange.quality))
    headers.append((b"x-gateway-overhead-ms", b"%.2f" % max((now - exchange.started - upstream_s) * 1000, 0.0)))
    return headers


def _story(exchange: Exchange) -> HeaderList:
    headers = [(b"x-request-id", exchange.id.encode())]
    if exchange.deployment is not None and exchange.status is not None:
        headers.append((b"x-gateway-status", exchange.status.encode()))
        headers.append((b"x-gateway-model", exchange.deployment.encode()))
        headers.append((b"x-gateway-attempts", b"%d" % len(exchange.attempts)))
        if exchange.reason:
            headers.append((b"x-gateway-reason", exchange.reason.encode("latin-1", "replace")))
    return headers


def closing_comment(exchange: Exchange) -> bytes:
    """For a stream whose headers went out with a heartbeat: what they could not say, as a comment at its end."""
    known: dict[str, Any] = {"status": exchange.status, "model": exchange.deployment, "attempts": len(exchange.attempts)}
    if exchange.reason:
        known["reason"] = exchange.reason
    return b": gateway %b\n\n" % _ENCODER.encode(known)


def error_response(error: GatewayError, exchange: Exchange | None = None) -> tuple[int, HeaderList, bytes]:
    """Status, headers and body of an error, in the OpenAI shape. A provider's refusal of the request is passed on as it stands."""
    headers: HeaderList = [JSON]
    if exchange is not None:
        headers.append((b"x-request-id", exchange.id.encode()))
        if exchange.attempts:
            headers.append((b"x-gateway-attempts", b"%d" % len(exchange.attempts)))
    headers.append((b"x-gateway-reason", error.code.encode()))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(ceil(error.retry_after_s), 1)))
    if isinstance(error, MethodNotAllowed) and error.param:
        headers.append((b"allow", error.param.encode()))
    if isinstance(error, ProviderRefusedRequest) and error.provider_status and _is_error_object(error.body):
        return error.provider_status, headers, error.body
    return error.status, headers, write_error(error)


def compressed(body: bytes, accept_encoding: bytes | None) -> bytes | None:
    """The body as gzip where the client accepts it and it pays; else None."""
    if accept_encoding is None or not COMPRESS_FROM_BYTES <= len(body) <= COMPRESS_UP_TO_BYTES or not _accepts_gzip(accept_encoding):
        return None
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def _accepts_gzip(value: bytes) -> bool:
    for part in value.lower().split(b","):
        name, _, parameters = part.strip().partition(b";")
        if name.strip() in (b"gzip", b"*"):
            return parameters.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False


def head_bytes(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """An HTTP/1.1 response head."""
    parts = [STATUS_LINES[status]]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


class _Error(msgspec.Struct):
    message: str


class _ErrorObject(msgspec.Struct):
    error: _Error


def _is_error_object(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=_ErrorObject)
    except msgspec.MsgspecError:
        return False
    return True
