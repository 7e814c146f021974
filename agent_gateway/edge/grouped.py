"""The answer to `POST /v1/batch`: all results in order once the last is there, or each as an event as soon as it is."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec

from agent_gateway.core.errors import ShuttingDown
from agent_gateway.edge.batch_room import BatchAsk, Group
from agent_gateway.edge.pieces import beating
from agent_gateway.edge.response import JSON, STREAM, error_response
from agent_gateway.protocols.base import codec_of

_json = msgspec.json.Encoder()
_DONE = b"data: [DONE]\n\n"


class Grouped:
    """Cancelling `run` cancels every request of the group."""

    def __init__(self, ask: BatchAsk, group: Group) -> None:
        self._ask = ask
        self._group = group
        self._codec = codec_of("openai_chat")

    async def run(self) -> None:
        try:
            await (self._streamed() if self._group.stream else self._whole())
        except asyncio.CancelledError:
            if not self._ask.exchange.client_left:
                await self._break_off(ShuttingDown("The gateway was stopped before all requests were answered.", retry_after_s=1))
            raise

    async def _whole(self) -> None:
        placed: dict[int, Any] = {}
        async with aclosing(self._group.results()) as results:
            async for place, result in results:
                placed[place] = result
        told = {"results": [placed[place] for place in sorted(placed)], "summary": self._group.summary()}
        await self._ask.taken(self._ask.outlet.whole(200, JSON + self._ask.id_line, _json.encode(told)))

    async def _streamed(self) -> None:
        outlet, taken = self._ask.outlet, self._ask.taken
        heartbeat_s = self._ask.runtime.settings.streaming.heartbeat_s
        await taken(outlet.begin(STREAM + self._ask.id_line))
        async with aclosing(self._group.results()) as results, aclosing(beating(results, heartbeat_s)) as found:
            async for each in found:
                await taken(outlet.write(self._codec.heartbeat if each is None else _event(each[1])))
        await taken(outlet.write(_event({"summary": self._group.summary()}) + _DONE))
        await taken(outlet.end())

    async def _break_off(self, error: ShuttingDown) -> None:
        exchange, outlet = self._ask.exchange, self._ask.outlet
        if self._group.stream:
            await self._ask.taken(outlet.write(self._codec.write_stream_error(error, exchange.id, None)))
            await self._ask.taken(outlet.end())
        else:
            await self._ask.taken(outlet.whole(*error_response(error, exchange)))


def _event(value: Any) -> bytes:
    """On one line: in JSON, as a provider may write it, a line end stands between values only."""
    return b"data: %b\n\n" % _json.encode(value).replace(b"\r", b" ").replace(b"\n", b" ")
