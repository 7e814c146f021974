"""Simulated embeddings: a hashed bag of words, so that equal texts have equal vectors, and texts that share words near ones."""

from __future__ import annotations

import base64
import math
import re
import struct
from collections import Counter
from hashlib import blake2b
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from agent_gateway.core.call import Call
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.decoding import decode
from agent_gateway.simulator.tokens import pieces_of_text

#: As `text-embedding-3-small` has them, and `text-embedding-3-large`.
_DIMENSIONS = 1536
_DIMENSIONS_MAX = 3072
#: Components that a word moves, and how much the whole text moves beside it: the same words in another order are another vector.
_PLACES = 8
_TEXT_WEIGHT = 0.1

_WORD = re.compile(r"\w+")


class _Request(Struct):
    """Lists of numbers are tokens of OpenAI's vocabularies; here each counts as a word."""

    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1, max_length=2048)]
    dimensions: Annotated[int, Meta(ge=1, le=_DIMENSIONS_MAX)] | None = None
    encoding_format: Literal["float", "base64"] | None = None


_request = msgspec.json.Decoder(_Request)
_json = msgspec.json.Encoder()


def answer(call: Call) -> tuple[bytes, Usage]:
    """The body of the answer, and what it took. Raises `BadRequest`."""
    asked = decode(_request, call.body)
    texts = _texts(asked.input)
    dimensions = asked.dimensions or _DIMENSIONS
    vectors = [_encoded(vector(text, dimensions), asked.encoding_format) for text in texts]
    data = [{"object": "embedding", "index": index, "embedding": told} for index, told in enumerate(vectors)]
    tokens = sum([max(1, len(pieces_of_text(text))) for text in texts])
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _json.encode({"object": "list", "data": data, "model": call.model, "usage": usage}), Usage(input=tokens)


def vector(text: str, dimensions: int) -> list[float]:
    """Of length 1."""
    components = [0.0] * dimensions
    for word, count in Counter(_WORD.findall(text.lower())).items():
        _move(components, word, math.sqrt(count))
    _move(components, f"\x00{text}", _TEXT_WEIGHT)
    length = math.hypot(*components)
    if not length:  # in a few dimensions, everything may cancel out
        components[0] = length = 1.0
    return [component / length for component in components]


def _move(components: list[float], seed: str, weight: float) -> None:
    places = struct.unpack(f"<{_PLACES}Q", blake2b(seed.encode("utf-8", "surrogatepass"), digest_size=8 * _PLACES).digest())
    for place in places:
        components[(place >> 1) % len(components)] += weight if place & 1 else -weight


def _texts(given: str | list[str | int | list[int]]) -> list[str]:
    if isinstance(given, str):
        return [given]
    tokens = [one for one in given if isinstance(one, int)]
    if len(tokens) == len(given):
        return [_words(tokens)]
    return [one if isinstance(one, str) else _words(one if isinstance(one, list) else [one]) for one in given]


def _words(tokens: list[int]) -> str:
    return " ".join([str(token) for token in tokens])


def _encoded(components: list[float], encoding: Literal["float", "base64"] | None) -> list[float] | str:
    """Base64 is of little-endian 32-bit floats, as the SDKs read it."""
    if encoding != "base64":
        return components
    return base64.b64encode(struct.pack(f"<{len(components)}f", *components)).decode()
