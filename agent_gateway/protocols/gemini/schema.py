"""Gemini's schemas (an OpenAPI 3.0 subset with upper-case types) read as JSON Schema.

Promise: what is JSON Schema already stays as it is; what only Gemini's subset says is said in JSON Schema's words, or left out.
"""

from __future__ import annotations

from typing import Any

from agent_gateway.protocols.gemini.spelling import camel_name

#: int64 in the protocol, which its JSON writes as strings too.
_COUNTS = {"maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"}
#: OpenAPI's, with no meaning for what is valid.
_HINTS = {"propertyOrdering", "example"}


def json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for spelt, value in schema.items():
        name = camel_name(spelt) if "_" in spelt else spelt
        if name == "nullable" or name in _HINTS or (name == "format" and value == "enum"):
            continue
        if name in ("properties", "defs", "$defs") and isinstance(value, dict):
            inner = {key: json_schema(item) if isinstance(item, dict) else item for key, item in value.items()}
            read["$defs" if name == "defs" else name] = inner
        else:
            read["$ref" if name == "ref" else name] = _value(name, value)
    if schema.get("nullable") is True:
        return _nullable(read)
    return read


def _value(name: str, value: Any) -> Any:
    match value:
        case str() if name == "type":
            return value.lower()
        case str() if name in _COUNTS and value.isdecimal():
            return int(value)
        case list() if name == "type":
            return [item.lower() if isinstance(item, str) else item for item in value]
        case dict() if name in ("items", "additionalProperties", "not"):
            return json_schema(value)
        case list() if name in ("anyOf", "oneOf", "allOf", "prefixItems"):
            return [json_schema(item) if isinstance(item, dict) else item for item in value]
    return value


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    kind = schema.get("type")
    if isinstance(kind, str):
        schema["type"] = [kind, "null"]
    elif "anyOf" in schema:
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    return schema
