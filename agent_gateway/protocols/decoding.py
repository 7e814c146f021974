"""Request bodies decoded, and what is wrong with one told in plain words that name the field: for the codecs of all protocols."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from agent_gateway.core.errors import BadRequest

_MISSING = re.compile(r"Object missing required field `(.+)`")
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
        raise _bad_field(str(error)) from None
    except msgspec.DecodeError as error:
        if not body.strip():
            raise BadRequest("The request body is empty. Send a JSON object.") from None
        raise BadRequest(f"The request body is not valid JSON: {error}. Send a JSON object.") from None
    except UnicodeDecodeError:
        raise BadRequest("The request body is not valid UTF-8.") from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.") from None


def _bad_field(said: str) -> BadRequest:
    """From msgspec's "Expected `str`, got `int` - at `$.model`" to plain words that name the field."""
    what, _, where = said.partition(" - at `$")
    field = where.rstrip("`").lstrip(".")
    if missing := _MISSING.match(what):
        name = f"{field}.{missing[1]}" if field else missing[1]
        return BadRequest(f"{name}: this field is required.", param=name)
    if not field:
        return BadRequest("The request body has to be a JSON object.")
    expected, _, given = what.partition(", got ")
    text = _in_plain_words(expected, _PLAIN_WORDS) + (f", got {_in_plain_words(given, _GIVEN_WORDS)}" if given else "")
    return BadRequest(f"{field}: {text[0].lower()}{text[1:]}.", param=field)


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
