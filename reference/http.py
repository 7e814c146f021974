"""docs/reference/http.md: every path, from the OpenAPI document that the gateway serves at `/openapi.json`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from reference.running import openapi

_OPENING = """# HTTP

Made from `/openapi.json` by `python -m reference`; a running gateway tells the same, for programs. What headers, statuses and errors mean is in
[operations.md](../operations.md#headers), what a protocol's bodies hold in [protocols.md](../protocols.md): fields that are not listed here are passed through.

A path asks for a key, where `auth.admin_key` is set, unless it says that it does not. Errors come in the path's own protocol, elsewhere in OpenAI's.
"""


def page() -> str:
    told = msgspec.json.decode(openapi())
    schemas = told["components"]["schemas"]
    groups: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    objects: dict[str, None] = {}
    lines = [_OPENING]
    for tag, operations in groups.items():
        lines += [f"## {tag}", ""]
        for method, path, operation in operations:
            lines += _operation(method, path, operation, schemas, objects)
    lines += ["## Objects", ""]
    for name in _growing(objects):
        lines += [f"### {name}", "", *_fields("field", _properties(schemas[name]), schemas, objects)]
    return "\n".join(lines).rstrip() + "\n"


def _growing(names: dict[str, None]) -> Iterator[str]:
    """Those, too, that come while it is gone through."""
    done = 0
    while done < len(names):
        yield list(names)[done]
        done += 1


def _operation(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any], objects: dict[str, None]) -> Iterator[str]:
    yield f"### `{method} {path}`"
    yield ""
    yield f"{operation['summary']}. {_who(operation)}".rstrip()
    yield ""
    yield from _fields("query", _queried(operation), schemas, objects)
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        title = "body" if kind == "application/json" else f"body, `{kind}`"
        yield from _fields(title, _properties(_resolved(content["schema"], schemas)), schemas, objects)
    for status, answer in operation["responses"].items():
        kinds = list(answer.get("content", {}))
        for content in answer.get("content", {}).values():
            yield from _fields(f"answer, {status}", _properties(_resolved(content["schema"], schemas)), schemas, objects)
        if kinds and kinds != ["application/json"]:
            yield from (f"Answers {' or '.join(f'`{kind}`' for kind in kinds)}.", "")


def _who(operation: dict[str, Any]) -> str:
    if operation.get("security") == []:
        return "Asks for no key."
    return str(operation.get("description", ""))


#: By name: the schema, and whether it has to be there.
_Fields = dict[str, tuple[dict[str, Any], bool]]


def _queried(operation: dict[str, Any]) -> _Fields:
    return {each["name"]: (each["schema"], each.get("required", False)) for each in operation["parameters"] if each["in"] == "query"}


def _properties(schema: dict[str, Any]) -> _Fields:
    required = schema.get("required", ())
    return {name: (each, name in required) for name, each in schema.get("properties", {}).items()}


def _fields(title: str, fields: _Fields, schemas: dict[str, Any], objects: dict[str, None]) -> Iterator[str]:
    if not fields:
        return
    yield f"| {title} | |"
    yield "|---|---|"
    for name, (schema, required) in fields.items():
        needed = "; required" if required and title.startswith(("body", "query")) else ""
        yield f"| `{name}` | {_kind(schema, schemas, objects)}{needed} |"
    yield ""


# --- a schema in words ------------------------------------------------------------------------------------------------

_KINDS = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "`true`, `false`",
    "object": "object",
    "array": "list",
    "null": "`null`",
}


def _kind(schema: dict[str, Any], schemas: dict[str, Any], objects: dict[str, None]) -> str:
    """`objects` gets the names of those that have a table of their own."""
    name = schema.get("$ref", "").rpartition("/")[2]
    schema = _resolved(schema, schemas)
    if name and schema.get("properties"):
        objects[name] = None
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return ", or ".join(dict.fromkeys(_kind(each, schemas, objects) for each in schema["anyOf"]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    kinds = schema.get("type", "anything")
    said = ", or ".join(_KINDS.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))
    if kinds == "array" and schema.get("items"):
        said = f"list of {_kind(schema['items'], schemas, objects)}"
    return said + "".join(f" {word} {schema[bound]:,}" for word, bound in (("from", "minimum"), ("to", "maximum")) if bound in schema)


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    return schema
