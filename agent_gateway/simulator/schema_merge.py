"""JSON schemas joined: a value valid for the result is valid for both."""

from __future__ import annotations

from typing import Any

_LARGER = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
_SMALLER = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
#: Keywords that narrow what a type allows.
BOUNDS = (
    _LARGER
    | _SMALLER
    | {"multipleOf", "pattern", "properties", "required", "additionalProperties", "items", "prefixItems", "uniqueItems"}
)
_NOTES = {
    "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly",
    "$defs", "definitions", "$schema", "$id", "$comment",
}  # fmt: skip


class UnsupportedSchema(ValueError):
    """No value can be made; says why."""


def merged(schema: dict[str, Any], other: Any) -> dict[str, Any]:
    if other is True:
        return schema
    if not isinstance(other, dict):
        raise UnsupportedSchema("a part of the schema allows no value")
    if schema.keys() & other.keys() & {"items", "prefixItems"} and "prefixItems" in {**schema, **other}:
        raise UnsupportedSchema("two different kinds of array at once are beyond the simulator")
    result = {**other, **schema}
    for name in (schema.keys() & other.keys()) - _NOTES:
        if name == "enum" or not same(schema[name], other[name]):
            result[name] = _joined(name, schema[name], other[name])
    if "properties" in result:
        result["properties"] = _properties(schema, other)
    return result


def same(one: Any, other: Any) -> bool:
    """As JSON has it: 1 is 1.0 but not true."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _joined(name: str, one: Any, other: Any) -> Any:
    if name in _LARGER:
        return max(one, other)
    if name in _SMALLER:
        return min(one, other)
    match name:
        case "properties":
            return {}  # they depend on `additionalProperties` too
        case "items" | "additionalProperties":
            return _both(one, other)
        case "required":
            return [*other, *one]
        case "enum":
            return [value for value in one if any(same(value, allowed) for allowed in other)]
        case "type":
            return _kinds(one, other)
        case _:
            raise UnsupportedSchema(f"two different {name!r} at once are beyond the simulator")


def _properties(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A property that only one side names is, for the other, an additional one."""
    mine, theirs = one.get("properties", {}), other.get("properties", {})
    my_rest, their_rest = one.get("additionalProperties", True), other.get("additionalProperties", True)
    return {name: _both(mine.get(name, my_rest), theirs.get(name, their_rest)) for name in {**theirs, **mine}}


def _both(one: Any, other: Any) -> Any:
    if one is False or other is False:
        return False
    return other if one is True else merged(one, other)


def _kinds(one: Any, other: Any) -> list[Any]:
    ones, others = (kinds if isinstance(kinds, list) else [kinds] for kinds in (one, other))
    kinds = [kind for kind in ones if kind in others]
    if "integer" in ones + others and "number" in ones + others and "integer" not in kinds:
        kinds.append("integer")
    if not kinds:
        raise UnsupportedSchema(f"a value cannot be both {one} and {other}")
    return kinds
