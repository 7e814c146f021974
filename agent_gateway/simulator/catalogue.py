"""The list of simulated models, told as each protocol tells it; any other name is answered as well."""

from __future__ import annotations

from typing import Any

#: For `/v1/models` and its likes.
MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.5", "small", "large")
_CREATED = 1_735_689_600  # 2025-01-01
_CREATED_DATE = "2025-01-01T00:00:00Z"
_INPUT_TOKENS_MAX = 1_048_576
_OUTPUT_TOKENS_MAX = 65_536


def openai_entry(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "simulator"}


def openai_list() -> dict[str, Any]:
    return {"object": "list", "data": [openai_entry(name) for name in MODELS]}


def anthropic_entry(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": _CREATED_DATE}


def anthropic_list() -> dict[str, Any]:
    return {"data": [anthropic_entry(name) for name in MODELS], "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}


def gemini_entry(name: str) -> dict[str, Any]:
    return {
        "name": f"models/{name}",
        "baseModelId": name,
        "version": "001",
        "displayName": name,
        "inputTokenLimit": _INPUT_TOKENS_MAX,
        "outputTokenLimit": _OUTPUT_TOKENS_MAX,
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
    }


def gemini_list() -> dict[str, Any]:
    return {"models": [gemini_entry(name) for name in MODELS]}
