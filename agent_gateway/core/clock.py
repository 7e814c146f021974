"""Time, randomness and ids, passed in so that tests need no sleep."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic` orders events of this process (s); `wall` is Unix time (s)."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


SYSTEM_CLOCK = Clock()

_random = random.SystemRandom()
_prefix = _random.getrandbits(32)
_counter = _random.getrandbits(32)


def new_request_id(wall: float) -> str:
    """`req_` + 12 hex digits of milliseconds + 8 of this process + 8 that count up: sorts by time, unique across processes."""
    global _counter
    _counter = (_counter + 1) & 0xFFFFFFFF
    return f"req_{int(wall * 1000) << 64 | _prefix << 32 | _counter:028x}"


def reseed_ids() -> None:
    """Called in a forked worker, whose ids would otherwise repeat its parent's."""
    global _prefix, _counter
    _prefix = _random.getrandbits(32)
    _counter = _random.getrandbits(32)
