"""Request bodies decoded, and what is wrong with one told in plain words that name the field: for the codecs of all protocols."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from agent_gateway.core.errors import BadRequest

_MISSING = re.compile(r"Object missing required field `(.+)`")
_UNKNOWN_VALUE = re.compile(r"Invalid enum value (.+)")
#: Of a field's path: names, and places in square brackets.
_STEPS = re.compile(r"[^.\[\]]+|\[[^\]]*\]")
_TYPES = re.compile(r"`([^`]+)`")
#: msgspec's names of types, for people who do not write Python.
_PLAIN_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true | false",
    "array": "an array",
    "object": "an object",
}
#: Given a number, what matters is that it is none of the others.
_GIVEN_WORDS = {**_PLAIN_WORDS, "int": "a number", "float": "a number with a fraction"}
_Read = TypeVar("_Read")


def decode(decoder: msgspec.json.Decoder[_Read], body: bytes) -> _Read:
    """Raises `BadRequest` whose `param` is the field's path."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _bad_field(str(error), decoder.type) from None
    except msgspec.DecodeError as error:
        if not body.strip():
            raise BadRequest("The request body is empty. Send a JSON object.") from None
        raise BadRequest(f"The request body is not valid JSON: {error}. Send a JSON object.") from None
    except UnicodeDecodeError:
        raise BadRequest("The request body is not valid UTF-8.") from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.") from None


def _bad_field(said: str, wanted: Any) -> BadRequest:
    """From msgspec's "Expected `str`, got `int` - at `$.model`" to plain words that name the field."""
    what, _, where = said.partition(" - at `$")
    field = where.rstrip("`").lstrip(".")
    if missing := _MISSING.match(what):
        name = f"{field}.{missing[1]}" if field else missing[1]
        return BadRequest(f"{name}: this field is required.", param=name)
    if not field:
        return BadRequest("The request body has to be a JSON object.")
    if unknown := _UNKNOWN_VALUE.match(what):
        values = _values_at(inspect.type_info(wanted), _STEPS.findall(field))
        return BadRequest(f"{field}: {unknown[1]} is not one of {', '.join(values)}.", param=field)
    expected, _, given = what.partition(", got ")
    text = _in_plain_words(expected, _PLAIN_WORDS) + (f", got {_in_plain_words(given, _GIVEN_WORDS)}" if given else "")
    return BadRequest(f"{field}: {text[0].lower()}{text[1:]}.", param=field)


def _values_at(wanted: inspect.Type, steps: list[str]) -> list[str]:
    """What is taken at the end of a path of names and places."""
    match wanted:
        case inspect.LiteralType(values=values) if not steps:
            return [str(value) for value in values]
        case inspect.UnionType(types=types):
            return [value for each in types for value in _values_at(each, steps)]
        case inspect.CollectionType(item_type=item) | inspect.DictType(value_type=item) if steps:
            return _values_at(item, steps[1:])
        case inspect.StructType(fields=fields) if steps:
            return [value for each in fields if each.encode_name == steps[0] for value in _values_at(each.type, steps[1:])]
        case _:
            return []


def _in_plain_words(said: str, words: dict[str, str]) -> str:
    def plain(match: re.Match[str]) -> str:
        *others, last = " | ".join(words.get(name, name) for name in match[1].split(" | ")).split(" | ")
        return f"{', '.join(others)} or {last}" if others else last

    return _TYPES.sub(plain, said).replace(" of length >= 1", " that is not empty").replace(" >= ", " of at least ")


def check_utf8(body: bytes) -> None:
    """What is skipped when the head is decoded is not looked at there, and would be the provider's to stumble over."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request body is not valid UTF-8 (at byte {error.start}).") from None
