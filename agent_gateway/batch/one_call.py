"""One request of many, through the pipeline: read, run and billed, whatever becomes of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from contextlib import aclosing

from agent_gateway.core.errors import GatewayError
from agent_gateway.core.event import Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.pipeline import Runtime, refuse, run
from agent_gateway.record.cost import settle

_log = logging.getLogger("agent_gateway.batch")


async def answered(exchange: Exchange, reading: Awaitable[None], runtime: Runtime) -> tuple[bytes, GatewayError | None]:
    """The answer's body, or the error. `reading` puts the call into the exchange; what it refuses is recorded too. Settles the exchange."""
    body = b""
    error: GatewayError | None = None
    try:
        body = await _answer(exchange, reading, runtime)
    except GatewayError as raised:
        error = raised
    except Exception as raised:
        error = exchange.why(raised)
        _log.exception("request %s failed by a fault of the gateway", exchange.id)
    settle(exchange)
    return body, error


async def _answer(exchange: Exchange, reading: Awaitable[None], runtime: Runtime) -> bytes:
    try:
        await reading
    except GatewayError as error:
        refuse(exchange, error, runtime)
        raise
    return await whole_answer(exchange, runtime)


async def whole_answer(exchange: Exchange, runtime: Runtime) -> bytes:
    """Of a call that does not stream. Raises `GatewayError`."""
    async with aclosing(run(exchange, runtime)) as events:
        bodies = [event.body async for event in events if isinstance(event, Whole)]
    return bodies[0]
