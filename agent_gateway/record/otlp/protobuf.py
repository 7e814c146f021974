"""As much of protobuf's wire format as OTLP/HTTP needs: fields are written as bytes, and a small answer is read.

A library that does this takes longer to import than the gateway takes to start. The tests hold what is written here to OpenTelemetry's
own classes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

_fixed64 = struct.Struct("<Q").pack
_fixed32 = struct.Struct("<I").pack
_double = struct.Struct("<d").pack

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SMALL = [bytes((number,)) for number in range(128)]


class Malformed(ValueError):
    """Bytes that are no message."""


def varint(number: int) -> bytes:
    """A negative one as its two's complement in 64 bits, as `int64` has it."""
    if 0 <= number < 128:
        return _SMALL[number]
    number &= 0xFFFFFFFFFFFFFFFF
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)


def integer(field: int, number: int) -> bytes:
    return varint(field << 3 | _VARINT) + varint(number)


def fixed64(field: int, number: int) -> bytes:
    return varint(field << 3 | _FIXED64) + _fixed64(number)


def fixed32(field: int, number: int) -> bytes:
    return varint(field << 3 | _FIXED32) + _fixed32(number)


def double(field: int, number: float) -> bytes:
    return varint(field << 3 | _FIXED64) + _double(number)


def data(field: int, value: bytes) -> bytes:
    """Bytes, a text in UTF-8, or a message."""
    return varint(field << 3 | _LENGTH) + varint(len(value)) + value


def text(field: int, value: str) -> bytes:
    return data(field, value.encode("utf-8", "replace"))


def packed_fixed64(field: int, numbers: Sequence[int]) -> bytes:
    return data(field, struct.pack(f"<{len(numbers)}Q", *numbers))


def packed_double(field: int, numbers: Sequence[float]) -> bytes:
    return data(field, struct.pack(f"<{len(numbers)}d", *numbers))


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values, in order. Raises `Malformed`."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        match key & 7:
            case 0:
                number, place = _read_varint(message, place)
                yield key >> 3, number
                continue
            case 1:
                size = 8
            case 2:
                size, place = _read_varint(message, place)
            case 5:
                size = 4
            case other:
                raise Malformed(f"a field of the unknown wire type {other}")
        if place + size > len(message):
            raise Malformed("a field goes beyond the end")
        yield key >> 3, message[place : place + size]
        place += size


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
        shift += 7
    raise Malformed("a number without an end")
