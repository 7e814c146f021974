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
_DETAIL = "type.googleapis.com/google.rpc."


def write_error(error: GatewayError) -> bytes:
    status = error.shown_status
    details = [wire.ErrorDetail(type=f"{_DETAIL}ErrorInfo", reason=error.code.upper(), domain="agent-gateway")]
    if error.param is not None:
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
    detail = f"{told.status or told.code}: {told.message}"[:500]
    reasons = {item.reason for item in told.details or ()}
    name = told.status or _status_name(told.code or 500)
    if name in ("UNAUTHENTICATED", "PERMISSION_DENIED") or "API_KEY_INVALID" in reasons:
        said = "The model provider refused the gateway's credentials; its operator has to act."
        return ProviderKeyRefused(said, detail=detail)
    match name:
        case "RESOURCE_EXHAUSTED":
            wait_s = _retry_after_s(told)
            return ProviderRateLimited("The model provider's rate limit is reached.", retry_after_s=wait_s, detail=detail)
        case "NOT_FOUND":
            said = "The model provider does not have the configured model; the gateway's operator has to act."
            return ProviderModelMissing(said, detail=detail)
        case "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE":
            said = "The model provider refused the request."
            return ProviderRefusedRequest(said, status=400, body=body, content_type="application/json", detail=detail)
        case _:
            return ProviderFault("The model provider reported an error inside its answer.", detail=detail)


def _status_name(status: int) -> str:
    return _STATUSES.get(status) or ("INVALID_ARGUMENT" if 400 <= status < 500 else "INTERNAL")


def _retry_after_s(told: wire.Error) -> float | None:
    delay = next((item.retry_delay for item in told.details or () if item.retry_delay), None)
    try:
        return max(float(delay.removesuffix("s")), 0.0) if delay else None
    except ValueError:
        return None
