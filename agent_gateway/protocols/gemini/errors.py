"""Gemini's errors: written for clients, and read where a provider tells one inside an answer."""

from __future__ import annotations

import msgspec

from agent_gateway.core.errors import (
    GatewayError,
    ProviderError,
    ProviderFault,
    ProviderKeyRefused,
    ProviderModelMissing,
    ProviderRateLimited,
    ProviderRefusedRequest,
)
from agent_gateway.protocols.failure import failure_inside
from agent_gateway.wire import gemini as wire

_json = msgspec.json.Encoder()

#: By HTTP status. Source: google/rpc/code.proto; other 4xx are `INVALID_ARGUMENT`, other 5xx `INTERNAL`.
_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
#: What a status says; any other is the provider's fault.
_KINDS: dict[str, type[ProviderError]] = {
    "UNAUTHENTICATED": ProviderKeyRefused,
    "PERMISSION_DENIED": ProviderKeyRefused,
    "RESOURCE_EXHAUSTED": ProviderRateLimited,
    "NOT_FOUND": ProviderModelMissing,
    "INVALID_ARGUMENT": ProviderRefusedRequest,
    "FAILED_PRECONDITION": ProviderRefusedRequest,
    "OUT_OF_RANGE": ProviderRefusedRequest,
}
_DETAIL = "type.googleapis.com/google.rpc."


def write_error(error: GatewayError) -> bytes:
    status = error.shown_status
    details = [wire.ErrorDetail(type=f"{_DETAIL}ErrorInfo", reason=error.code.upper(), domain="agent-gateway")]
    if error.param is not None and 400 <= status < 500 and status != 429:  # of limits it names the limit, and no field
        violation = wire.FieldViolation(error.param, error.message)
        details.append(wire.ErrorDetail(type=f"{_DETAIL}BadRequest", field_violations=[violation]))
    if error.retry_after_s is not None:
        details.append(wire.ErrorDetail(type=f"{_DETAIL}RetryInfo", retry_delay=f"{error.retry_after_s:g}s"))
    return _json.encode(wire.ErrorBody(wire.Error(status, error.message, _status_name(status), details)))


def stream_error(error: GatewayError, fallback_model: str | None) -> bytes:
    """The JSON of a stream's last event. SDKs look for `error` as its first member, with a number in `code`."""
    status = error.shown_status
    told = wire.StreamError(status, error.message, _status_name(status), error.retry_after_s, fallback_model)
    return _json.encode(wire.StreamErrorBody(told))


def error_inside(told: wire.Error, body: bytes) -> ProviderError:
    """The failure that a 200 carried, as a body or as an event; `body` is its JSON."""
    name = told.status or _status_name(told.code or 500)
    kind = _KINDS.get(name, ProviderFault)
    if any(item.reason == "API_KEY_INVALID" for item in told.details or ()):
        kind = ProviderKeyRefused
    wait_s = _retry_after_s(told) if kind is ProviderRateLimited else None
    return failure_inside(kind, f"{told.status or told.code}: {told.message}", body, retry_after_s=wait_s)


def _status_name(status: int) -> str:
    return _STATUSES.get(status) or ("INVALID_ARGUMENT" if 400 <= status < 500 else "INTERNAL")


def _retry_after_s(told: wire.Error) -> float | None:
    delay = next((item.retry_delay for item in told.details or () if item.retry_delay), None)
    try:
        return max(float(delay.removesuffix("s")), 0.0) if delay else None
    except ValueError:
        return None
