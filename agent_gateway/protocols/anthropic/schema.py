"""JSON schemas made fit for Anthropic's structured output, which takes fewer keywords than JSON Schema has.

Promise: what answers to the schema that goes out has the shape the client asked for; a bound it cannot hold to is told in the description.
"""

from __future__ import annotations

from typing import Any

import msgspec

#: Kept as they are. Source: Anthropic, "Structured outputs", JSON Schema limitations.
_KEPT = frozenset({"type", "description", "title", "enum", "const", "default", "required", "$ref", "nullable"})
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_LISTS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf", "prefixItems": "prefixItems"}
_TABLES = frozenset({"properties", "$defs", "definitions"})


def fitted(schema: dict[str, Any]) -> dict[str, Any]:
    """Objects are closed; `oneOf` becomes `anyOf`; what is not taken moves into the description."""
    fit: dict[str, Any] = {}
    untold: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _TABLES and isinstance(value, dict):
            fit[name] = {key: _inner(inner) for key, inner in value.items()}
        elif name in _LISTS and isinstance(value, list):
            fit[_LISTS[name]] = [_inner(inner) for inner in value]
        elif name == "items":
            fit[name] = _inner(value)
        elif name in _KEPT or (name == "format" and value in _FORMATS) or (name == "minItems" and value in (0, 1)):
            fit[name] = value
        elif name != "additionalProperties":
            untold[name] = value
    if "properties" in schema or schema.get("type") == "object":
        fit["additionalProperties"] = False
    if untold:
        told = ", ".join([f"{name}: {msgspec.json.encode(value).decode()}" for name, value in untold.items()])
        fit["description"] = f"{fit['description']}\n\n{{{told}}}" if fit.get("description") else f"{{{told}}}"
    return fit


def _inner(schema: Any) -> Any:
    return fitted(schema) if isinstance(schema, dict) else schema
