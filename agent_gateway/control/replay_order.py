"""What the gateway and the process that makes a replay say to each other: one order, then lines of JSON until it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct


class Draft(Struct, frozen=True):
    name: str
    yaml: str


class Order(Struct, frozen=True):
    """Times are Unix seconds."""

    #: The running configuration: its file, what stands there, and the command's options.
    source: str | None
    written: Mapping[str, Any]
    options: Mapping[str, Any]
    configurations: Sequence[Draft]
    since: float
    until: float
    seed: int
    runs: int


class Refused(Struct, frozen=True, tag=True):
    """By configuration, in their order: what is wrong with it."""

    errors: list[list[str]]


class Begun(Struct, frozen=True, tag=True):
    """By configuration: as it can be shown, secrets masked."""

    yaml: list[str]


class Progress(Struct, frozen=True, tag=True):
    #: 0–1.
    share: float


class Done(Struct, frozen=True, tag=True):
    """By configuration: what `agent-gateway replay --json` prints."""

    results: list[dict[str, Any]]


class Failed(Struct, frozen=True, tag=True):
    code: str
    message: str


Said = Refused | Begun | Progress | Done | Failed

order = msgspec.msgpack.Decoder(Order)
said: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)


def packed(made: Order) -> bytes:
    """With its length before it. What only YAML knows (dates) goes as text."""
    body = msgspec.msgpack.encode(made, enc_hook=str)
    return len(body).to_bytes(4, "big") + body
