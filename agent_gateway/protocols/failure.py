"""A failure that a provider told, as an error of ours: one wording, whatever protocol it was told in and wherever.

Promise: what the provider said goes to the record, and to the client only where the request is at fault.
"""

from __future__ import annotations

from agent_gateway.core.errors import (
    ProviderError,
    ProviderKeyRefused,
    ProviderModelMissing,
    ProviderRateLimited,
    ProviderRefusedRequest,
)

MESSAGES: dict[type[ProviderError], str] = {
    ProviderKeyRefused: "The model provider refused the gateway's credentials; its operator has to act.",
    ProviderRateLimited: "The model provider's rate limit is reached.",
    ProviderModelMissing: "The model provider does not have the configured model; the gateway's operator has to act.",
}
REFUSED = "The model provider refused the request"
INSIDE = "The model provider reported an error inside its answer."
#: As much of the provider's words is kept for the record (characters).
DETAIL_MAX = 500


def failure_inside(
    kind: type[ProviderError], said: str, body: bytes, *, status: int = 400, retry_after_s: float | None = None
) -> ProviderError:
    """That a 200 carried, as a body or as an event; `body` is its JSON, and `status` what the provider gives a request it refuses."""
    detail = said[:DETAIL_MAX]
    if issubclass(kind, ProviderRefusedRequest):
        return kind(f"{REFUSED}.", status=status, body=body, content_type="application/json", detail=detail)
    return kind(MESSAGES.get(kind, INSIDE), retry_after_s=retry_after_s, detail=detail)
