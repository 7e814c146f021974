"""Schemas fitted to what Anthropic's structured output takes; its own SDK does the same to those it is given."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
from anthropic import transform_schema
from hypothesis import given

from agent_gateway.protocols.anthropic.schema import fitted
from tests.protocols.conversations import some_schema


class Place(pydantic.BaseModel):
    name: str = pydantic.Field(description="as on a map")
    kind: str | None = None


class Trip(pydantic.BaseModel):
    places: list[Place]
    end: Place
    when: str


@given(some_schema())
def test_a_schema_that_fits_stays_as_it_is(schema: dict[str, Any]) -> None:
    assert fitted(schema) == schema == transform_schema(schema)


def test_nested_objects_and_definitions_are_closed() -> None:
    fit = fitted(Trip.model_json_schema())
    assert fit["additionalProperties"] is False
    assert fit["$defs"]["Place"]["additionalProperties"] is False
    assert fit["properties"]["places"]["items"] == {"$ref": "#/$defs/Place"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 1, "maximum": 10, "description": "A number"},
        {"type": "string", "format": "date-time"},
        {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1},
        {"type": "array", "items": {"type": "integer"}, "minItems": 4},
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": True},
        {"oneOf": [{"type": "string"}, {"type": "object", "properties": {}}]},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {}}}},
    ],
)
def test_the_sdk_fits_it_the_same_way(schema: dict[str, Any]) -> None:
    assert fitted(schema) == transform_schema(schema)


def test_what_is_not_taken_is_told_in_the_description() -> None:
    schema = {"type": "string", "format": "color", "pattern": "^#", "description": "Of the roof."}
    assert fitted(schema) == {"type": "string", "description": 'Of the roof.\n\n{format: "color", pattern: "^#"}'}


def test_the_given_schema_is_left_alone() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "object"}}}
    fitted(schema)
    assert schema == {"type": "object", "properties": {"a": {"type": "object"}}}
