"""Waiting for what another process will do: asked often, failed late, never slept for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Long enough for a busy machine; a test that passes does not wait for it.
PATIENCE_S = 10.0
_STEP_S = 0.02


async def eventually(look: Callable[[], T | None], expected: str, within_s: float = PATIENCE_S) -> T:
    """The first true value of `look()`; an `AssertionError` that says what was expected when it does not come."""
    until = time.monotonic() + within_s
    while not (seen := look()):
        assert time.monotonic() < until, f"not within {within_s} s: {expected} (last seen: {seen!r})"
        await asyncio.sleep(_STEP_S)
    return seen
