"""Asking a simulated batch until it is where it should be, as clients do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.kit.eventually import PATIENCE_S

T = TypeVar("T")
_STEP_S = 0.02


async def polled(ask: Callable[[], Awaitable[T]], is_there: Callable[[T], bool]) -> T:
    """The first answer that is there."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if is_there(seen := await ask()):
                return seen
            await asyncio.sleep(_STEP_S)
