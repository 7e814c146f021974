"""What is told piece by piece, by the admin API or out of a file, on its way to the client.

Promise: it ends soon after the right to hear it does, and with the client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from agent_gateway.core.errors import ClientLeft, GatewayError
from agent_gateway.core.streamed import Streamed
from agent_gateway.edge.ask import Ask, Outlet
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.pieces import beating, taken
from agent_gateway.protocols.base import error_body

#: Where nothing is to be told for so long, a comment shows that the stream lives (s).
HEARTBEAT_S = 15.0
#: So often it is looked whether who listens still may (s).
CHECK_EVERY_S = 5.0
_HEARTBEAT = b":\n\n"

_log = logging.getLogger("agent_gateway.edge")


class Telling:
    """Cancelling `run` closes the stream. `check` raises where the client may not hear more of it."""

    def __init__(self, ask: Ask, outlet: Outlet, stream: Streamed, limits: Limits, check: Callable[[], Awaitable[None]]) -> None:
        self._ask = ask
        self._outlet = outlet
        self._stream = stream
        self._limits = limits
        self._check = check
        #: The one whose client this is.
        self._exchange = stream.exchange or ask.exchange

    async def run(self) -> None:
        stream, ask = self._stream, self._ask
        lines = {"content-type": stream.media, "cache-control": "no-store", **stream.head}
        head = "".join([f"{name}: {value}\r\n" for name, value in lines.items()]) + ask.id_line
        async with aclosing(stream.pieces):
            await self._taken(self._outlet.begin(head.encode("latin-1", "replace")))
            try:
                if ask.method != "HEAD":
                    await self._pass_on()
            except ClientLeft:
                return
            except GatewayError as error:
                if stream.media != "text/event-stream":  # all that is left to say is that it is not whole
                    _log.warning("%s broke off on its way to the client: %s", ask.path, error.message)
                    self._outlet.give_up()
                    return
                await self._taken(self._outlet.write(b"event: error\ndata: %b\n\n" % error_body(error, ask.exchange.id, "openai_chat")))
            await self._taken(self._outlet.end())

    async def _pass_on(self) -> None:
        loop = asyncio.get_running_loop()
        checked_at = loop.time()
        async with aclosing(beating(self._stream.pieces, HEARTBEAT_S)) as pieces:
            async for piece in pieces:
                if loop.time() - checked_at >= CHECK_EVERY_S:
                    await self._check_right()
                    checked_at = loop.time()
                if piece is not None:
                    await self._taken(self._outlet.write(piece))
                elif self._stream.media == "text/event-stream":
                    await self._taken(self._outlet.write(_HEARTBEAT))

    async def _check_right(self) -> None:
        try:
            await self._check()
        except GatewayError:
            self._exchange.client_left = True  # who may not hear it is as good as gone
            raise

    async def _taken(self, writing: Coroutine[Any, Any, None]) -> None:
        await taken(writing, self._exchange, self._outlet, self._limits)
