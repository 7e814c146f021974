"""Status lines, headers and error bodies: everything the client sees that no provider wrote."""

from __future__ import annotations

import zlib
from http import HTTPStatus
from math import ceil
from typing import Any

import msgspec

from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import SYSTEM_CLOCK, new_request_id
from agent_gateway.core.errors import BudgetSpent, GatewayError, MethodNotAllowed, RateLimited
from agent_gateway.core.exchange import Exchange
from agent_gateway.protocols.base import codec_of, error_body
from agent_gateway.wire.sse import frame_data

#: A body below this is not worth compressing (bytes), one above it would hold the event loop too long.
COMPRESS_FROM_BYTES = 1024
COMPRESS_UP_TO_BYTES = 256 * 1024

#: Header lines, each with its CRLF, as they stand in a response head: cheaper to make than pairs, which only ASGI asks for.
HeadLines = bytes

#: Whose SDKs take a comment in a stream for content.
NO_COMMENTS: frozenset[Dialect] = frozenset({"gemini"})
JSON: HeadLines = b"content-type: application/json\r\n"
STREAM: HeadLines = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
GZIPPED: HeadLines = b"content-encoding: gzip\r\nvary: accept-encoding\r\n"
_DONE = {"block": "blocked", "mask": "masked", "flag": "flagged", "failed": "failed"}
_ENCODER = msgspec.json.Encoder()


def status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: status_line(status) for status in range(200, 600)}


def pairs(head: HeadLines) -> list[tuple[bytes, bytes]]:
    """The header lines as ASGI wants them."""
    return [(name, value) for name, _, value in [line.partition(b": ") for line in head[:-2].split(b"\r\n")]]


def stream_head(exchange: Exchange) -> HeadLines:
    """Of a stream that begins now; what is not known yet is left out."""
    return (STREAM if exchange.call.framing == "sse" else JSON) + _story(exchange)


def whole_head(exchange: Exchange, now: float) -> HeadLines:
    """Of a unary answer."""
    upstream_s = 0.0
    cost_usd = None if exchange.attempts else exchange.cost_usd
    for attempt in exchange.attempts:
        upstream_s += (attempt.ended or now) - attempt.started
        if attempt.cost_usd is not None:
            cost_usd = (cost_usd or 0.0) + attempt.cost_usd
    overhead_ms = (now - exchange.started - upstream_s - exchange.queued_s) * 1000
    return b"%b%b%b%bx-gateway-overhead-ms: %.2f\r\n" % (
        JSON,
        _story(exchange),
        b"" if cost_usd is None else b"x-gateway-cost-usd: %.8f\r\n" % cost_usd,
        b"" if exchange.quality is None else b"x-gateway-quality: %.2f\r\n" % exchange.quality,
        overhead_ms if overhead_ms > 0 else 0.0,
    )


def _story(exchange: Exchange) -> HeadLines:
    more = f"x-session-id: {exchange.session}\r\n" if exchange.session is not None else ""
    if exchange.reservation is not None:
        more += exchange.reservation.lines(exchange.call.dialect)
    if exchange.guards:
        more += f"x-gateway-guard: {guards_told(exchange)}\r\n"
    if exchange.status is None:
        return f"x-request-id: {exchange.id}\r\n{more}".encode()
    model = f"x-gateway-model: {exchange.deployment}\r\n" if exchange.deployment else ""
    reason = f"x-gateway-reason: {exchange.reason}\r\n" if exchange.reason else ""
    return (
        f"x-request-id: {exchange.id}\r\nx-gateway-status: {exchange.status}\r\n{model}"
        f"x-gateway-attempts: {len(exchange.attempts)}\r\n{reason}{more}"
    ).encode("latin-1", "replace")


def guards_told(exchange: Exchange) -> str:
    """What guards did, by what they did: `flagged=injection,topics; masked=pii`."""
    done: dict[str, list[str]] = {}
    for check, action in exchange.guards:
        done.setdefault(_DONE[action], []).append(check)
    return "; ".join([f"{action}={','.join(done[action])}" for action in sorted(done)])


def closing_comment(exchange: Exchange) -> bytes:
    """For a stream whose headers went out with a heartbeat: what they could not say, as a comment at its end."""
    known: dict[str, Any] = {"status": exchange.status, "model": exchange.deployment, "attempts": len(exchange.attempts)}
    if exchange.reason:
        known["reason"] = exchange.reason
    return b": gateway %b\n\n" % _ENCODER.encode(known)


def stream_error(error: GatewayError, exchange: Exchange) -> bytes:
    """The last event of a stream that failed; it names which model a client may ask instead."""
    other_model = next(iter(exchange.route.fallbacks), None) if exchange.route else None
    frame = codec_of(exchange.call.dialect).write_stream_error(error, exchange.id, other_model)
    if exchange.call.framing == "sse":
        return frame
    return b",\r\n%b]" % (frame_data(frame) or b"")  # the array's last element: before its first, an error is told by its status


def error_response(error: GatewayError, exchange: Exchange | None = None) -> tuple[int, HeadLines, bytes]:
    """Status, head and body of an error, in the client's protocol."""
    request_id = exchange.id if exchange is not None else new_request_id(SYSTEM_CLOCK.wall())
    lines = ["content-type: application/json", f"x-request-id: {request_id}"]
    if exchange is not None and exchange.attempts:
        lines.append(f"x-gateway-attempts: {len(exchange.attempts)}")
    lines.append(f"x-gateway-reason: {error.code}")
    if error.retry_after_s is not None or (error.status == 429 and not isinstance(error, BudgetSpent)):
        lines.append(f"retry-after: {max(ceil(error.retry_after_s or 0), 1)}")
    if isinstance(error, RateLimited) and error.limit_lines:
        lines.append(error.limit_lines[:-2])
    if isinstance(error, MethodNotAllowed) and error.param:
        lines.append(f"allow: {error.param}")
    head = "\r\n".join([*lines, ""]).encode("latin-1", "replace")
    dialect = exchange.call.dialect if exchange is not None else "openai_chat"
    return error.shown_status, head, error_body(error, request_id, dialect)


def compressed(body: bytes, accept_encoding: bytes | None) -> bytes | None:
    """The body as gzip where the client accepts it and it pays; else None."""
    if accept_encoding is None or not COMPRESS_FROM_BYTES <= len(body) <= COMPRESS_UP_TO_BYTES or not accepts_gzip(accept_encoding):
        return None
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def accepts_gzip(value: bytes) -> bool:
    for part in value.lower().split(b","):
        name, _, parameters = part.strip().partition(b";")
        if name.strip() in (b"gzip", b"*"):
            return parameters.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False
