"""OpenTelemetry's attributes: any value of JSON as the bytes of an `AnyValue`, and a name's bytes made once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from agent_gateway.record.otlp.protobuf import data, double, integer, text

#: Values nested deeper than this are told as JSON's own `null` would be (a client's tool arguments could be endless).
DEPTH_MAX = 32
#: Different names kept as bytes: those of the table, and those of resources.
NAMES_MAX = 256


def any_value(value: Any, depth: int = 0) -> bytes:
    """Empty, which is OpenTelemetry's way to say nothing, for None."""
    match value:
        case str():
            return text(1, value)
        case bool():
            return integer(2, value)
        case int() if -(2**63) <= value < 2**63:
            return integer(3, value)
        case float() | int():
            return double(4, value)
        case Mapping() if depth < DEPTH_MAX:
            return data(6, b"".join([attribute(1, str(name), item, depth + 1) for name, item in value.items()]))
        case list() | tuple() if depth < DEPTH_MAX:
            return data(5, b"".join([data(1, any_value(item, depth + 1)) for item in value]))
        case bytes():
            return data(7, value)
        case _:
            return b""


def attribute(field: int, name: str, value: Any, depth: int = 0) -> bytes:
    """A `KeyValue` in a message's repeated `field`."""
    return data(field, _key(name) + data(2, any_value(value, depth)))


@lru_cache(NAMES_MAX)
def _key(name: str) -> bytes:
    return text(1, name)
