"""What a provider's error status means: the one place where a status and its error code become a class of error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

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
from agent_gateway.upstream.retry_after import retry_after_s


def refusal(status: int, headers: Mapping[bytes, bytes], body: bytes, wall: float) -> ProviderError:
    """Of a reply that is not a 2xx; `headers` in lower case, `wall` in Unix seconds. The error knows the provider's status.

    Codes: https://platform.openai.com/docs/guides/error-codes, and the `code` and `type` fields of the error object.
    """
    error = _classed(status, headers, body, wall)
    error.provider_status = status
    return error


def _classed(status: int, headers: Mapping[bytes, bytes], body: bytes, wall: float) -> ProviderError:
    codes, said = _read_error(body)
    detail = f"HTTP {status}: {said}"[:500]
    if status == 429:
        return ProviderRateLimited(
            "The model provider's rate limit is reached.", retry_after_s=retry_after_s(headers, body, wall), detail=detail
        )
    if status in (401, 403):
        return ProviderKeyRefused("The model provider refused the gateway's credentials; its operator has to act.", detail=detail)
    if status in (408, 409) or status >= 500:
        return ProviderFault(
            f"The model provider failed with status {status}.", retry_after_s=retry_after_s(headers, body, wall), detail=detail
        )
    if status == 404 and "model_not_found" in codes:
        said_to_client = "The model provider does not have the configured model; the gateway's operator has to act."
        return ProviderModelMissing(said_to_client, detail=detail)
    if 400 <= status < 500:
        content_type = headers.get(b"content-type", b"application/json").decode("latin-1")
        kind: type[ProviderRefusedRequest] = ProviderRefusedRequest
        if codes & {"context_length_exceeded", "string_above_max_length"}:
            kind = ContextTooLong
        elif codes & {"content_filter", "content_policy_violation"}:
            kind = ContentFiltered
        return kind("The model provider refused the request.", status=status, body=body, content_type=content_type, detail=detail)
    return MalformedReply(f"The model provider answered with status {status}, which is not of its protocol.", detail=detail)


def _read_error(body: bytes) -> tuple[set[str], str]:
    """Codes and types that an error body names, and what it says."""
    try:
        error: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return set(), body[:200].decode("utf-8", "replace")
    if isinstance(error, dict):
        error = error.get("error", error)
    if not isinstance(error, dict):
        return set(), str(error)
    return {str(error[name]) for name in ("code", "type") if error.get(name)}, str(error.get("message", ""))
