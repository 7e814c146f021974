"""Values for JSON schemas: always valid, or refused with the reason."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from agent_gateway.simulator.schema import valid_value
from agent_gateway.simulator.schema_merge import UnsupportedSchema, merged

NODE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
    "required": ["name", "children"],
}
TREE = {"$defs": {"node": NODE}, "$ref": "#/$defs/node"}
LINKED = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["value", "next"],
    "additionalProperties": False,
}
FORMATS = ("date-time", "date", "time", "duration", "email", "hostname", "uri", "uuid", "ipv4", "ipv6", "unknown")
PATTERNS = (
    r"^[A-Z]{2}\d{4}$", r"^(cat|dog)s?$", r"\w+@\w+\.(com|org)", r"^\+?[0-9 \-]{5,9}$", r"^[^a-z\d]+$",
    r"^#(?:[0-9a-f]{3}){1,2}$", r"^.{3,}$", r"^a*b+?c??$", r"^\S+\s\D$", r"^[\w.-]+$", r"^(a|(b|c)d){2}$", "^$",
)  # fmt: skip
SOME = {
    "type": "object",
    "properties": {"a": True, "b": True, "c": True},
    "minProperties": 2,
    "maxProperties": 2,
    "required": ["c"],
}
OTHERS = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "boolean"}}
LOW = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 2}}, "required": ["a"]}
HIGH = {"properties": {"a": {"type": "integer", "maximum": 4}, "b": {"type": "string"}}, "required": ["b"]}
KIND = {"type": "object", "properties": {"kind": {"const": "x"}}, "required": ["kind"]}

SCHEMAS: list[Any] = [
    True,
    {},
    {"type": "string", "minLength": 30, "maxLength": 32},
    {"type": "string", "maxLength": 0},
    {"type": "string", "enum": ["a", "b"]},
    {"enum": [1, "a", None], "type": ["integer", "null"]},
    {"const": {"x": [1]}},
    {"type": ["string", "null"]},
    {"type": "integer", "minimum": 3, "maximum": 3},
    {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    {"type": "integer", "minimum": 1e6},
    {"type": "integer", "maximum": -5},
    {"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 20},
    {"type": "integer", "multipleOf": 0.5, "minimum": 1, "maximum": 4},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    {"type": "number", "multipleOf": 0.25, "minimum": 0.3, "maximum": 0.9},
    {"type": "number", "minimum": 0.1, "maximum": 0.1},
    {"type": "number", "maximum": 2.5},
    {"minimum": 5},
    {"type": "boolean"},
    {"type": "null"},
    {"type": "array", "items": {"type": "integer"}, "minItems": 6, "maxItems": 7},
    {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 3},
    {"type": "array", "maxItems": 0},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2},
    {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "boolean"}, "minItems": 3},
    {"type": "object", "required": ["free"]},
    {"type": "object", "minProperties": 3},
    SOME,
    {**OTHERS, "required": ["z"], "minProperties": 4},
    {"allOf": [LOW, HIGH]},
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    {**KIND, "oneOf": [{"properties": {"v": {"type": "string"}}, "required": ["v"]}]},
    {"allOf": [{"type": "number"}, {"type": "integer"}]},
    *[{"type": "string", "format": name} for name in FORMATS],
    *[{"type": "string", "pattern": pattern} for pattern in PATTERNS],
    {"type": "string", "pattern": "^a+$", "minLength": 2, "maxLength": 3},
    TREE,
    LINKED,
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_values_are_valid(schema: Any) -> None:
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    for seed in range(60):
        validator.validate(valid_value(schema, random.Random(seed)))


names = st.sampled_from(["a", "b", "c"])
bounds = st.integers(-20, 20)
leaves: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("integer")}, optional={"minimum": bounds, "maximum": bounds, "multipleOf": st.integers(1, 5)}
    ),
    st.fixed_dictionaries({"type": st.just("number")}, optional={"exclusiveMinimum": bounds, "maximum": bounds}),
    st.fixed_dictionaries({"type": st.just("string")}, optional={"minLength": st.integers(0, 9), "maxLength": st.integers(0, 9)}),
    st.fixed_dictionaries({"type": st.sampled_from(["boolean", "null"])}),
    st.fixed_dictionaries({"enum": st.lists(st.integers() | st.booleans() | st.text(max_size=3), min_size=1, max_size=4)}),
)
schemas: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(names, inner, max_size=3)},
            optional={
                "required": st.lists(names, unique=True, max_size=3),
                "additionalProperties": st.booleans() | inner,
                "minProperties": st.integers(0, 5),
                "maxProperties": st.integers(0, 5),
            },
        ),
        st.fixed_dictionaries(
            {"type": st.just("array")},
            optional={
                "items": inner | st.booleans(),
                "prefixItems": st.lists(inner, min_size=1, max_size=3),
                "minItems": st.integers(0, 4),
                "maxItems": st.integers(0, 4),
                "uniqueItems": st.booleans(),
            },
        ),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)}),
    ),
    max_leaves=8,
)


@given(schemas, st.integers(0, 3))
def test_any_schema_gives_a_valid_value_or_is_refused(schema: Any, seed: int) -> None:
    try:
        value = valid_value(schema, random.Random(seed))
    except UnsupportedSchema as error:
        said = str(error)
    else:
        said = "made"
        Draft202012Validator(schema).validate(value)
    assert said


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (False, "no value"),
        (7, "must be an object"),
        ({"properties": None}, "'properties' must be an object"),
        ({"allOf": [{"properties": [1]}]}, "'properties' must be an object"),
        ({"anyOf": {"type": "string"}}, "'anyOf' must be an array"),
        ({"enum": "a"}, "'enum' must be an array"),
        ({"required": [["a"]]}, "'required' must be an array of names"),
        ({"type": [5]}, "'type' must be a name"),
        ({"type": "strnig"}, "'strnig' is not a type"),
        ({"$ref": "#/$defs/nope"}, "leads nowhere"),
        ({"$ref": "https://example.com/x"}, "not within"),
        ({"$ref": "#"}, "without end"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "no end"),
        ({"not": {"type": "string"}}, "'not' is beyond"),
        ({"type": "integer", "minimum": 4, "maximum": 3}, "no room"),
        ({"type": "integer", "multipleOf": 0}, "not above 0"),
        ({"type": "integer", "minimum": "3"}, "'3'"),
        ({"type": "string", "minLength": 5, "maxLength": 3}, "at least 5 and at most 3"),
        ({"type": "string", "pattern": "(?=x)"}, "group"),
        ({"type": "string", "pattern": r"\bx"}, r"\\b"),
        ({"type": "string", "pattern": "[a"}, "too early"),
        ({"type": "string", "pattern": "^a{9}$", "maxLength": 3}, "0 to 3 characters"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "more items"),
        ({"type": "array", "items": {"const": 1}, "minItems": 2, "uniqueItems": True}, "different items"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "'a' is needed but not allowed"),
        ({"type": "array", "minItems": 10**9}, "whole number"),
        ({"enum": [1], "type": "string"}, "no member of its type"),
        ({"enum": [1, 2], "const": 3}, "no member"),
        ({"enum": [1], "maximum": 0}, "'maximum' beside 'enum'"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "cannot be both"),
    ],
)
def test_why_a_schema_is_refused(schema: Any, said: str) -> None:
    with pytest.raises(UnsupportedSchema) as caught:
        valid_value(schema, random.Random(1))
    assert said in str(caught.value)


def test_joined_schemas_keep_both_sides() -> None:
    assert merged({"minimum": 1, "title": "x"}, {"minimum": 3, "title": "y"}) == {"minimum": 3, "title": "x"}
    assert merged({"items": True}, {"items": {"type": "null"}}) == {"items": {"type": "null"}}
    closed = {"properties": {"a": True}, "additionalProperties": False}
    assert merged({"properties": {"b": True}}, closed)["properties"] == {"a": True, "b": False}
    with pytest.raises(UnsupportedSchema, match="two different 'pattern'"):
        merged({"pattern": "a"}, {"pattern": "b"})
