"""Time, randomness and ids, passed in so that tests need no sleep."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import overload


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic` orders events of this process (s); `wall` is Unix time (s)."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


SYSTEM_CLOCK = Clock()
#: The year 9999; later ones cannot be written.
_LAST = 253_402_300_799.0

_random = random.SystemRandom()
_process = f"{_random.getrandbits(32):08x}"
_counter = _random.getrandbits(31)
_millisecond = 0
_stamp = ""


@overload
def told(at: float) -> str: ...


@overload
def told(at: None) -> None: ...


def told(at: float | None) -> str | None:
    """Of Unix seconds."""
    if at is None:
        return None
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_request_id(wall: float) -> str:
    """`req_` + 12 hex digits of milliseconds + 8 of this process + 8 that count up: sorts by time, unique across processes."""
    global _counter, _millisecond, _stamp
    millisecond = int(wall * 1000)
    if millisecond != _millisecond:
        _millisecond = millisecond
        _stamp = f"req_{millisecond:012x}{_process}"
    _counter = (_counter + 1) & 0xFFFFFFFF
    return f"{_stamp}{_counter:08x}"
