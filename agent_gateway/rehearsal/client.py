"""A client of a rehearsed gateway: it takes all of the answer, or leaves before."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress

from agent_gateway.core.errors import GatewayError
from agent_gateway.core.exchange import Exchange
from agent_gateway.pipeline import Runtime, run


async def ask(exchange: Exchange, runtime: Runtime, *, leaves_after_s: float | None) -> None:
    """In a task of its own. Whatever becomes of it, the recorder has it."""
    leaving = None
    if leaves_after_s is not None:
        task = asyncio.current_task()
        assert task is not None
        leaving = asyncio.get_running_loop().call_later(leaves_after_s, _leave, exchange, task)
    try:
        with suppress(GatewayError, asyncio.CancelledError):
            async with aclosing(run(exchange, runtime)) as events:
                async for _ in events:
                    pass
    finally:
        if leaving is not None:
            leaving.cancel()


def _leave(exchange: Exchange, task: asyncio.Task[None]) -> None:
    exchange.client_left = True
    task.cancel()
