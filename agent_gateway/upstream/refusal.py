"""What a provider's error status means: the one place where a status and its error code become a class of error.

Promise: codes of all protocols are read by their names, prose by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from agent_gateway.core.call import Dialect
from agent_gateway.core.errors import (
    ContentFiltered,
    ContextTooLong,
    MalformedReply,
    ProviderError,
    ProviderFault,
    ProviderKeyRefused,
    ProviderModelMissing,
    ProviderRateLimited,
    ProviderRefusedRequest,
)
from agent_gateway.protocols.failure import DETAIL_MAX, INSIDE, MESSAGES, REFUSED
from agent_gateway.upstream.retry_after import retry_after_s

#: Codes that say more than the status they come with. Sources:
#: OpenAI and those that speak its API, `code` and `type`: https://developers.openai.com/api/docs/guides/error-codes,
#: Azure: https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter, Mistral's `invalid_model`, vLLM's `NotFoundError`;
#: Anthropic, `type`: https://platform.claude.com/docs/en/api/errors;
#: Gemini, `status` and `reason`: https://ai.google.dev/gemini-api/docs/troubleshooting, google/api/error_reason.proto.
_CODES: dict[type[ProviderError], frozenset[str]] = {
    ContextTooLong: frozenset({"context_length_exceeded", "string_above_max_length"}),
    ContentFiltered: frozenset({"content_filter", "content_policy_violation"}),
    ProviderKeyRefused: frozenset(
        {
            *("invalid_api_key", "authentication_error", "permission_error", "billing_error", "UNAUTHENTICATED", "PERMISSION_DENIED"),
            *("API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "API_KEY_HTTP_REFERRER_BLOCKED", "API_KEY_IP_ADDRESS_BLOCKED"),
            *("SERVICE_DISABLED", "BILLING_DISABLED", "CONSUMER_INVALID", "CONSUMER_SUSPENDED"),
        }
    ),
    ProviderRateLimited: frozenset({"rate_limit_exceeded", "insufficient_quota", "rate_limit_error", "RESOURCE_EXHAUSTED"}),
    ProviderModelMissing: frozenset(
        {"model_not_found", "not_found_error", "NOT_FOUND", "DeploymentNotFound", "invalid_model", "NotFoundError"}
    ),
}
#: What these say is said best by the status itself; of other 4xx, a code may tell more.
_BY_STATUS: dict[int, type[ProviderError]] = {
    401: ProviderKeyRefused,
    402: ProviderKeyRefused,
    403: ProviderKeyRefused,
    408: ProviderFault,
    409: ProviderFault,
    429: ProviderRateLimited,
}
#: As much of the provider's words is told to the client (characters).
_SAID_MAX = 2000


def refusal(
    status: int, headers: Mapping[bytes, bytes], body: bytes, wall: float, dialect: Dialect | None
) -> ProviderError:
    """Of a reply that is not a 2xx; `headers` in lower case, `wall` in Unix seconds. The error knows the provider's status. `dialect`:
    None where no client's call was answered.
    """
    told = _read(body)
    detail = f"HTTP {status}: {told.said}"[:DETAIL_MAX]
    kind = _class_of(status, told.codes)
    if issubclass(kind, ProviderRefusedRequest):
        content_type = headers.get(b"content-type", b"application/json").decode("latin-1")
        return _refused(kind, told, detail, status, body, content_type, dialect)
    message = MESSAGES.get(kind) or f"The model provider failed with status {status}."
    if kind is MalformedReply:
        message = f"The model provider answered with status {status}, which is not of its protocol."
    error = kind(message, detail=detail)
    if kind in (ProviderRateLimited, ProviderFault):
        error.retry_after_s = retry_after_s(headers, body, wall)
    error.provider_status = status
    return error


def refusal_under_200(body: bytes, dialect: Dialect) -> ProviderError | None:
    """Of an error that a success status carried; None where the body holds none."""
    told = _read(body)
    if not told.is_error:
        return None
    detail = told.said[:DETAIL_MAX]
    kind = _by_code(told.codes) or ProviderFault
    if issubclass(kind, ProviderRefusedRequest):
        return _refused(kind, told, detail, 400, body, "application/json", dialect)
    return kind(MESSAGES.get(kind, INSIDE), detail=detail)


class _Told(NamedTuple):
    #: The body has a member `error`.
    is_error: bool
    codes: frozenset[str]
    said: str


def _class_of(status: int, codes: frozenset[str]) -> type[ProviderError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return _by_code(codes) or ProviderRefusedRequest
    return ProviderFault if status >= 500 else MalformedReply


def _by_code(codes: frozenset[str]) -> type[ProviderError] | None:
    return next((kind for kind, known in _CODES.items() if known & codes), None)


def _refused(
    kind: type[ProviderRefusedRequest], told: _Told, detail: str, status: int, body: bytes, content_type: str, dialect: Dialect | None
) -> ProviderRefusedRequest:
    message = f"{REFUSED}: {told.said[:_SAID_MAX]}" if told.said else f"{REFUSED}."
    return kind(message, status=status, body=body, content_type=content_type, dialect=dialect, detail=detail)


def _read(body: bytes) -> _Told:
    """`{"error": {…}}` in any protocol, an array of one of it (Gemini), a bare error object, or whatever else there is."""
    try:
        said: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Told(False, frozenset(), body[:200].decode("utf-8", "replace"))
    if isinstance(said, list) and len(said) == 1:
        said = said[0]
    error = said.get("error", said) if isinstance(said, dict) else said
    is_error = isinstance(said, dict) and said.get("error") is not None
    if not isinstance(error, dict):
        return _Told(is_error, frozenset(), str(error))
    return _Told(is_error, frozenset(_codes(error)), str(error.get("message", "")))


def _codes(error: dict[str, Any]) -> list[str]:
    """`code` and `type` (OpenAI, Anthropic), `status` and the details' `reason` (Gemini)."""
    details = error.get("details")
    reasons = [item.get("reason") for item in details if isinstance(item, dict)] if isinstance(details, list) else []
    return [str(code) for code in (error.get("code"), error.get("type"), error.get("status"), *reasons) if code]
