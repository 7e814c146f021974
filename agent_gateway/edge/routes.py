"""Which protocol a path belongs to: the one list of where models are asked."""

from __future__ import annotations

import re

from agent_gateway.core.call import Dialect

#: Where clients ask models, as URLs without their query.
MODEL_PATHS: dict[bytes, Dialect] = {
    b"/v1/chat/completions": "openai_chat",
    b"/v1/completions": "openai_completions",
    b"/v1/embeddings": "openai_embeddings",
    b"/v1/responses": "openai_responses",
    b"/v1/messages": "anthropic",
    b"/v1/messages/count_tokens": "anthropic_count",
}
#: Gemini puts the model, and what is asked of it, into the path.
_GEMINI = re.compile(rb"/v1(?:beta)?/(?:models|tunedModels)/[^?]+:(?:generateContent|streamGenerateContent)")


def dialect_of(url: bytes) -> Dialect | None:
    """`url` as it stands in the request's first line; None: models are not asked there."""
    path = url.partition(b"?")[0]
    known = MODEL_PATHS.get(path) or MODEL_PATHS.get(path.rstrip(b"/"))
    if known is not None:
        return known
    return "gemini" if _GEMINI.fullmatch(path) else None
