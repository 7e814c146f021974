"""A value that is valid for a JSON schema (draft 2020-12): what the simulated model calls tools with and answers in JSON mode.

Promise: the value is valid, or `UnsupportedSchema` says why none was made. (A `oneOf`'s branches are taken to be exclusive.)
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from agent_gateway.simulator.pattern import UnsupportedPattern, matching_text
from agent_gateway.simulator.schema_merge import BOUNDS, UnsupportedSchema, merged, same
from agent_gateway.simulator.script import Schema

#: Below this depth what may be left out is left out, so that recursive schemas end.
_RICH_DEPTH = 4
_DEPTH_MAX = 40
#: Bound on the sizes that a schema may demand.
_SIZE_MAX = 1000
_TRIES = 50
_HUNDREDTH = Fraction(1, 100)

_WORDS = (
    "amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "harbor", "island", "juniper", "kernel", "lagoon",
    "meadow", "nectar", "orchid", "pebble", "quartz", "river", "summit", "timber", "umbra", "valley", "willow", "zephyr",
)  # fmt: skip
#: Keywords that restrict a value in ways not made for here.
_BEYOND = {
    "not", "if", "contains", "dependentRequired", "dependentSchemas", "patternProperties", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties", "$dynamicRef",
}  # fmt: skip
_SHAPES: dict[str, type] = {
    "properties": dict, "required": list, "allOf": list, "anyOf": list, "oneOf": list, "enum": list, "prefixItems": list,
}  # fmt: skip
_DAY = datetime(2025, 1, 1, tzinfo=UTC)
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_FORMATS: dict[str, Callable[[random.Random], str]] = {
    "date-time": lambda chance: _moment(chance).isoformat().replace("+00:00", "Z"),
    "date": lambda chance: _moment(chance).date().isoformat(),
    "time": lambda chance: _moment(chance).time().isoformat() + "Z",
    "duration": lambda chance: f"PT{chance.randint(1, 59)}M",
    "email": lambda chance: f"{chance.choice(_WORDS)}@example.com",
    "hostname": lambda chance: f"{chance.choice(_WORDS)}.example.com",
    "uri": lambda chance: f"https://example.com/{chance.choice(_WORDS)}",
    "uuid": lambda chance: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
    "ipv4": lambda chance: f"192.0.2.{chance.randint(1, 254)}",
    "ipv6": lambda chance: f"2001:db8::{chance.randint(1, 0xFFFF):x}",
}


def valid_value(schema: Schema, chance: random.Random) -> Any:
    return _Maker(schema, chance).value(schema, 0)


class _Maker:
    def __init__(self, root: Schema, chance: random.Random) -> None:
        self._root = root
        self._chance = chance

    def value(self, schema: Any, depth: int) -> Any:
        if depth > _DEPTH_MAX:
            raise UnsupportedSchema("the schema has no end: it requires itself")
        if schema is True:
            return self._chance.choice(_WORDS)
        if not isinstance(schema, dict):
            raise UnsupportedSchema("a schema must be an object" if schema is not False else "the schema allows no value")
        schema = self._resolved(schema, depth)
        if "enum" in schema or "const" in schema:
            return self._listed(schema)
        kind = self._kind(schema, depth)
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer":
                return self._integer(schema)
            case "number":
                return self._number(schema)
            case "boolean":
                return self._chance.random() < 0.5
            case "null":
                return None
            case _:
                raise UnsupportedSchema(f"{kind!r} is not a type of JSON schema")

    # --- what kind of value ---

    def _resolved(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """The schema with its `$ref`, `allOf` and one branch of its `anyOf` or `oneOf` merged into it."""
        for steps in range(_DEPTH_MAX):
            _check_shapes(schema)
            if beyond := sorted(_BEYOND & schema.keys()):
                raise UnsupportedSchema(f"{beyond[0]!r} is beyond the simulator")
            if "$ref" in schema:
                target = self._target(schema["$ref"])
                schema = merged({name: part for name, part in schema.items() if name != "$ref"}, target)
            elif "allOf" in schema:
                parts = schema["allOf"]
                schema = {name: part for name, part in schema.items() if name != "allOf"}
                for part in parts:
                    schema = merged(schema, self._resolved(part, depth) if isinstance(part, dict) else part)
            elif branches := schema.get("anyOf") or schema.get("oneOf"):
                key = "anyOf" if schema.get("anyOf") else "oneOf"
                branch = self._chance.choice(branches) if depth + steps < _RICH_DEPTH else min(branches, key=_simplicity)
                schema = merged({name: part for name, part in schema.items() if name != key}, branch)
            else:
                return schema
        raise UnsupportedSchema("the schema refers to itself without end")

    def _target(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise UnsupportedSchema(f"$ref {reference!r} is not within the schema")
        target: Any = self._root
        for name in reference[1:].split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or name not in target:
                raise UnsupportedSchema(f"$ref {reference!r} leads nowhere")
            target = target[name]
        return target

    def _kind(self, schema: dict[str, Any], depth: int) -> str:
        kinds = schema.get("type")
        if isinstance(kinds, list) and kinds:
            return str("null" if depth >= _RICH_DEPTH and "null" in kinds else self._chance.choice(kinds))
        if kinds is not None:
            return str(kinds)
        if schema.keys() & {"properties", "required", "additionalProperties", "minProperties"}:
            return "object"
        if schema.keys() & {"items", "prefixItems", "minItems"}:
            return "array"
        if schema.keys() & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}:
            return "number"
        return "string"

    def _listed(self, schema: dict[str, Any]) -> Any:
        """One of the values that the schema itself names."""
        if beyond := sorted(BOUNDS & schema.keys()):
            raise UnsupportedSchema(f"{beyond[0]!r} beside 'enum' or 'const' is beyond the simulator")
        options = schema.get("enum", [schema.get("const")])
        if "const" in schema:
            options = [value for value in options if same(value, schema["const"])]
        kinds = schema.get("type", list(_JSON_TYPES))
        types = [one for kind in ([kinds] if isinstance(kinds, str) else kinds) for one in _JSON_TYPES.get(kind, ())]
        options = [value for value in options if type(value) in types]
        if not options:
            raise UnsupportedSchema("an enum or const has no member of its type")
        return self._chance.choice(options)

    # --- the value ---

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        other = schema.get("additionalProperties", True)
        names = list(dict.fromkeys(schema.get("required", [])))
        fewest, most = _size(schema, "minProperties", 0), _size(schema, "maxProperties", _SIZE_MAX)
        if max(len(names), fewest) > most:
            raise UnsupportedSchema(f"{max(len(names), fewest)} properties are required but at most {most} are allowed")
        optional = [name for name, part in properties.items() if name not in names and part is not False]
        if depth < _RICH_DEPTH:
            names += [name for name in optional if self._chance.random() < 0.75]
        names += [name for name in optional if name not in names][: max(0, fewest - len(names))]
        names += [f"{_WORDS[number % len(_WORDS)]}_{number}" for number in range(fewest - len(names))]
        order = {name: position for position, name in enumerate(properties)}
        value: dict[str, Any] = {}
        for name in sorted(names[:most], key=lambda name: order.get(name, len(order))):
            part = properties.get(name, other)
            if part is False:
                raise UnsupportedSchema(f"property {name!r} is needed but not allowed")
            value[name] = self.value(part, depth + 1)
        return value

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        items = schema.get("items", True)
        fewest = _size(schema, "minItems", 0)
        most = min(_size(schema, "maxItems", fewest + 3), len(first) if items is False else _SIZE_MAX)
        if most < fewest:
            raise UnsupportedSchema("an array must hold more items than it may")
        wanted = fewest if depth >= _RICH_DEPTH else self._chance.randint(max(fewest, 1), max(fewest + 3, len(first)))
        value: list[Any] = []
        for index in range(min(wanted, most)):
            part = first[index] if index < len(first) else items
            item = self.value(part, depth + 1)
            if schema.get("uniqueItems"):
                tries = 0
                while any(same(item, other) for other in value) and tries < _TRIES:
                    item = self.value(part, depth + 1)
                    tries += 1
                if tries == _TRIES:
                    break
            value.append(item)
        if len(value) < fewest:
            raise UnsupportedSchema("an array must hold more different items than were found")
        return value

    def _string(self, schema: dict[str, Any]) -> str:
        fewest = _size(schema, "minLength", 0)
        most = _size(schema, "maxLength", _SIZE_MAX)
        if fewest > most:
            raise UnsupportedSchema(f"a text must have at least {fewest} and at most {most} characters")
        if "pattern" in schema:
            try:
                texts = [matching_text(str(schema["pattern"]), self._chance) for _ in range(_TRIES)]
            except UnsupportedPattern as error:
                raise UnsupportedSchema(str(error)) from None
            fitting = [text for text in texts if fewest <= len(text) <= most]
            if not fitting:
                raise UnsupportedSchema(f"no text of {fewest} to {most} characters was found for {schema['pattern']!r}")
            return fitting[0]
        if make := _FORMATS.get(str(schema.get("format"))):
            text = make(self._chance)
            if not fewest <= len(text) <= most:
                raise UnsupportedSchema(f"a {schema['format']} does not have {fewest} to {most} characters")
            return text
        text = self._chance.choice(_WORDS)
        while len(text) < fewest:
            text += " " + self._chance.choice(_WORDS)
        return text[:most]

    def _integer(self, schema: dict[str, Any]) -> int:
        # The whole multiples of p/q in lowest terms are the multiples of p.
        return int(self._multiple(Fraction(_step(schema, 1).numerator), schema))

    def _number(self, schema: dict[str, Any]) -> float | int:
        low, high = _bounds(schema)
        step = _step(schema, 1) if "multipleOf" in schema else min(_HUNDREDTH, (high - low) / 2) or high or _HUNDREDTH
        number = self._multiple(abs(step), schema)
        return int(number) if number.denominator == 1 else float(number)

    def _multiple(self, step: Fraction, schema: dict[str, Any]) -> Fraction:
        low, high = _bounds(schema)
        first, last = math.ceil(low / step), math.floor(high / step)
        first += "exclusiveMinimum" in schema and first * step <= _exact(schema["exclusiveMinimum"])
        last -= "exclusiveMaximum" in schema and last * step >= _exact(schema["exclusiveMaximum"])
        if first > last:
            raise UnsupportedSchema("a number's bounds leave no room")
        return self._chance.randint(first, last) * step


def _check_shapes(schema: dict[str, Any]) -> None:
    for name, shape in _SHAPES.items():
        if not isinstance(schema.get(name, shape()), shape):
            raise UnsupportedSchema(f"{name!r} must be {'an object' if shape is dict else 'an array'}")
    if not all(isinstance(name, str) for name in schema.get("required", ())):
        raise UnsupportedSchema("'required' must be an array of names")
    kinds = schema.get("type", "object")
    if not all(isinstance(kind, str) for kind in (kinds if isinstance(kinds, list) else [kinds])):
        raise UnsupportedSchema("'type' must be a name, or an array of names")


def _bounds(schema: dict[str, Any]) -> tuple[Fraction, Fraction]:
    """Where only one is given, the other is a hundred steps (at least a hundred) away."""
    lows = [_exact(schema[name]) for name in ("minimum", "exclusiveMinimum") if name in schema]
    highs = [_exact(schema[name]) for name in ("maximum", "exclusiveMaximum") if name in schema]
    span = max(Fraction(100), _step(schema, 1) * 100)
    low = max(lows) if lows else min(Fraction(0), min(highs) - span) if highs else Fraction(0)
    return low, min(highs) if highs else low + span


def _step(schema: dict[str, Any], default: int) -> Fraction:
    step = _exact(schema.get("multipleOf", default))
    if step <= 0:
        raise UnsupportedSchema(f"multipleOf {schema['multipleOf']!r} is not above 0")
    return step


def _exact(number: Any) -> Fraction:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise UnsupportedSchema(f"{number!r} bounds a number but is none")
    return Fraction(str(number))


def _size(schema: dict[str, Any], name: str, default: int) -> int:
    size = schema.get(name, default)
    if not isinstance(size, int) or size < 0 or (size > _SIZE_MAX and name.startswith("min")):
        raise UnsupportedSchema(f"{name} {size!r} is not a whole number from 0 to {_SIZE_MAX}")
    return size


def _simplicity(schema: Any) -> tuple[bool, int]:
    """Sorts first what cannot recurse."""
    text = str(schema)
    return "$ref" in text, len(text)


def _moment(chance: random.Random) -> datetime:
    return _DAY + timedelta(seconds=chance.randrange(365 * 86400))
