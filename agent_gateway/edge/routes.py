"""Which protocol a path belongs to: the one list of where models are asked."""

from __future__ import annotations

import re

from agent_gateway.core import call
from agent_gateway.core.call import Dialect

#: Where clients ask models, as URLs without their query.
MODEL_PATHS: dict[bytes, Dialect] = {path.encode(): dialect for dialect, path in call.MODEL_PATHS.items()}
#: Gemini puts the model, and what is asked of it, into the path.
_GEMINI = re.compile(rb"/v1(?:beta)?/(?:models|tunedModels)/[^?]+:(?:generateContent|streamGenerateContent)")


def dialect_of(url: bytes) -> Dialect | None:
    """`url` as it stands in the request's first line; None: models are not asked there."""
    path = url.partition(b"?")[0]
    known = MODEL_PATHS.get(path) or MODEL_PATHS.get(path.rstrip(b"/"))
    if known is not None:
        return known
    return "gemini" if _GEMINI.fullmatch(path) else None
