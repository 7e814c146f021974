"""The list of models, as each protocol's clients expect it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agent_gateway.core.call import Dialect

#: When a name came to be is not known; protocols that must say it get the beginning of Unix time.
_UNKNOWN_TIME = "1970-01-01T00:00:00Z"


def model_list(names: Sequence[str], dialect: Dialect) -> dict[str, Any]:
    models = [_MODEL.get(dialect, _openai)(name) for name in names]
    match dialect:
        case "anthropic":
            return {"data": models, "has_more": False, "first_id": names[0] if names else None, "last_id": names[-1] if names else None}
        case "gemini":
            return {"models": models}
        case _:
            return {"object": "list", "data": models}


def model_object(name: str, dialect: Dialect) -> dict[str, Any]:
    return _MODEL.get(dialect, _openai)(name)


def _openai(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "agent-gateway"}


def _anthropic(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": _UNKNOWN_TIME}


def _gemini(name: str) -> dict[str, Any]:
    methods = ["generateContent", "streamGenerateContent"]
    return {"name": f"models/{name}", "displayName": name, "version": "", "supportedGenerationMethods": methods}


_MODEL: dict[Dialect, Callable[[str], dict[str, Any]]] = {"anthropic": _anthropic, "gemini": _gemini}
