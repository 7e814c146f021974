"""Both spellings that Gemini's JSON takes for a field, read as one: `system_instruction` is `systemInstruction`.

Promise: what is the client's own (a schema, a function's arguments and response) stays as it came.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from agent_gateway.protocols.decoding import decode
from agent_gateway.wire import gemini as wire

_json = msgspec.json.Encoder()
_any: msgspec.json.Decoder[Any] = msgspec.json.Decoder()

_TYPES: tuple[type[Struct], ...] = (
    wire.Blob,
    wire.FileData,
    wire.Part,
    wire.FunctionDeclaration,
    wire.Tool,
    wire.FunctionCallingConfig,
    wire.ToolConfig,
    wire.ThinkingConfig,
    wire.GenerationConfig,
    wire.Request,
)
_CAMEL = {field.name: field.encode_name for kind in _TYPES for field in structs.fields(kind) if "_" in field.name}
_SNAKE_KEY = re.compile(rb'"(?:%b)"\s*:' % "|".join(sorted(_CAMEL)).encode())
#: Members whose inside is the client's own.
_OWN = {"args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"}


def camel_name(name: str) -> str:
    """Of any field: `top_p` → `topP`."""
    first, *others = name.split("_")
    return first + "".join([other.capitalize() for other in others])


def camel_body(body: bytes) -> bytes:
    """A request with all fields that are known spelt in camelCase; most come so, and are returned as they are."""
    if b"_" not in body or not _SNAKE_KEY.search(body):
        return body
    return _json.encode(_renamed(decode(_any, body)))


def _renamed(value: Any) -> Any:
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, dict):
        return value
    renamed = {}
    for name, inner in value.items():
        camel = _CAMEL.get(name, name)
        renamed[camel] = inner if camel in _OWN else _renamed(inner)
    return renamed


def spelt(members: dict[str, Raw], camel: str) -> str:
    """How `members` spells a field, if it has it."""
    return next((name for name in members if camel_name(name) == camel), camel)
