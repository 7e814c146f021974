"""Looking up a key that is not known yet, on behalf of whoever shows it; known ones never come here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine

from agent_gateway.admission.refusals import Refusals
from agent_gateway.core.errors import RateLimited


async def looked_up(waiting: Awaitable[None], refusals: Refusals, source: Callable[[], str]) -> None:
    """`waiting`: as `Gate.authenticate` returned it. Raises `RateLimited` where it is not even asked for, and what it raises."""
    try:
        refusals.check(source())
    except RateLimited:
        if isinstance(waiting, Coroutine):
            waiting.close()
        raise
    await waiting
