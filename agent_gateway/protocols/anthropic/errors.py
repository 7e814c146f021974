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


def write_error(error: GatewayError, request_id: str) -> bytes:
    return _json.encode(wire.ErrorBody(wire.Error(_type_of(error), error.message), request_id))


def write_stream_error(error: GatewayError, request_id: str, fallback_model: str | None) -> bytes:
    told = wire.StreamError(_type_of(error), error.message, error.code, error.retry_after_s, fallback_model)
    return b"event: error\n" + data_frame(_json.encode(wire.StreamErrorBody(told, request_id)))


def error_inside(told: wire.ErrorDetail | None, body: bytes) -> ProviderError:
    """The failure that a 200 carried, as a body or as an event; `body` is its JSON."""
    told = told or wire.ErrorDetail()
    detail = f"{told.type}: {told.message}"[:500]
    match told.type:
        case "rate_limit_error":
            return ProviderRateLimited("The model provider's rate limit is reached.", detail=detail)
        case "authentication_error" | "permission_error" | "billing_error":
            said = "The model provider refused the gateway's credentials; its operator has to act."
            return ProviderKeyRefused(said, detail=detail)
        case "not_found_error":
            said = "The model provider does not have the configured model; the gateway's operator has to act."
            return ProviderModelMissing(said, detail=detail)
        case "invalid_request_error" | "request_too_large":
            said = "The model provider refused the request."
            return ProviderRefusedRequest(said, status=_REFUSALS[told.type], body=body, content_type="application/json", detail=detail)
        case _:
            return ProviderFault("The model provider reported an error inside its answer.", detail=detail)


def _type_of(error: GatewayError) -> wire.ErrorType:
    status = error.shown_status
    return _TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
