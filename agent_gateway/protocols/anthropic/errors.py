"""Anthropic's errors: written for clients, and read where a provider tells one inside an answer."""

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
from agent_gateway.wire import anthropic as wire
from agent_gateway.wire.sse import data_frame

_json = msgspec.json.Encoder()

#: By status. Source: "Errors" of Anthropic's API reference; other 4xx are `invalid_request_error`, other 5xx `api_error`.
_TYPES: dict[int, wire.ErrorType] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
#: Types that find fault with the request itself, and the status that Anthropic gives them.
_REFUSALS = {"invalid_request_error": 400, "request_too_large": 413}
#: What a type says; any other is the provider's fault.
_KINDS: dict[str, type[ProviderError]] = {
    "rate_limit_error": ProviderRateLimited,
    "authentication_error": ProviderKeyRefused,
    "permission_error": ProviderKeyRefused,
    "billing_error": ProviderKeyRefused,
    "not_found_error": ProviderModelMissing,
    **dict.fromkeys(_REFUSALS, ProviderRefusedRequest),
}


def write_error(error: GatewayError, request_id: str) -> bytes:
    return _json.encode(wire.ErrorBody(wire.Error(_type_of(error), error.message), request_id))


def write_stream_error(error: GatewayError, request_id: str, fallback_model: str | None) -> bytes:
    told = wire.StreamError(_type_of(error), error.message, error.code, error.retry_after_s, fallback_model)
    return b"event: error\n" + data_frame(_json.encode(wire.StreamErrorBody(told, request_id)))


def error_inside(told: wire.ErrorDetail | None, body: bytes) -> ProviderError:
    """The failure that a 200 carried, as a body or as an event; `body` is its JSON."""
    told = told or wire.ErrorDetail()
    kind = _KINDS.get(told.type or "", ProviderFault)
    return failure_inside(kind, f"{told.type}: {told.message}", body, status=_REFUSALS.get(told.type or "", 400))


def _type_of(error: GatewayError) -> wire.ErrorType:
    status = error.shown_status
    return _TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
