"""Answers that outlive their clients' connections: responses in the background, and streams that can be taken up again.

Promise: whoever asks for one is told at once whether it is made; what becomes of it does not depend on them any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from agent_gateway.core.errors import BadRequest, GatewayError
from agent_gateway.core.event import Event
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.answering import Answering, Outlet
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.request import Head
from agent_gateway.edge.resumable import made_beside, resumable
from agent_gateway.pipeline import Live, Runtime, run

_log = logging.getLogger("agent_gateway.edge")


def outliving(exchange: Exchange, head: Head, live: Live, runtime: Runtime, outlet: Outlet, limits: Limits) -> Answering | None:
    """None: the answer is an ordinary one. Raises `BadRequest`."""
    call = exchange.call
    if not call.in_background:
        return resumable(exchange, head, live, runtime, outlet, limits) if head.resumable else None
    if not call.stream:
        return _Queued(exchange, live, runtime, outlet, limits)
    answering = resumable(exchange, head, live, runtime, outlet, limits)
    if answering is None:
        raise BadRequest("background: a stream in the background is not to be had here or now. Leave out stream.", param="stream")
    return answering


class _Queued(Answering):
    """Answers with the first event there is, the response as it was queued; the others are made without the client."""

    __slots__ = ("_live",)

    def __init__(self, exchange: Exchange, live: Live, runtime: Runtime, outlet: Outlet, limits: Limits) -> None:
        super().__init__(exchange, runtime, outlet, None, asyncio.get_running_loop(), limits)
        self._live = live

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._exchange.client_left = False  # the answer goes on without

    async def _events(self) -> AsyncGenerator[Event, None]:
        exchange, runtime = self._exchange, self._runtime
        first: asyncio.Future[Event] = self._loop.create_future()

        def over() -> None:
            if not first.done():
                first.set_exception(exchange.error or exchange.why(asyncio.CancelledError()))
                first.exception()  # the client may have left, and nobody wait for it

        made_beside(_made(exchange, runtime, first), exchange, self._live, runtime, over)
        yield await asyncio.shield(first)


async def _made(exchange: Exchange, runtime: Runtime, first: asyncio.Future[Event]) -> None:
    """What fails is in the record, and in the response that is fetched."""
    try:
        async with aclosing(run(exchange, runtime)) as events:
            async for event in events:
                if not first.done():
                    first.set_result(event)
    except GatewayError:
        return
    except Exception:
        _log.exception("request %s failed by a fault of the gateway", exchange.id)
