"""A simulated provider's reply in the terms of the seat: an answer that is performed against a clock instead of read from a network."""

from __future__ import annotations

from agent_gateway.core.errors import ConnectionCut, ProviderError
from agent_gateway.simulator.player import ConnectionDropped, DeadlinePassed, Player
from agent_gateway.upstream.reply import Taker
from agent_gateway.upstream.transport import ReadTimeout

_CUT = "The model provider's connection was lost before its answer was complete."


class PlayedAnswer:
    """An `Answer`. `broken`: why a reply that is cut breaks off, where it is not simply the connection."""

    __slots__ = ("_broken", "_player", "close")

    def __init__(self, player: Player, broken: ProviderError | None = None) -> None:
        self._player = player
        self._broken = broken
        self.close = player.close

    async def open(self, until: float) -> None:
        try:
            await self._player.open(until)
        except DeadlinePassed:
            raise ReadTimeout from None

    async def read(self, until: float) -> bytes:
        parts: list[bytes] = []
        while part := await self.next(until):
            parts.append(part)
        return b"".join(parts)

    async def next(self, until: float) -> bytes:
        try:
            return await self._player.next(until)
        except DeadlinePassed:
            raise ReadTimeout from None
        except ConnectionDropped:
            raise self._broken or ConnectionCut(_CUT, detail="simulated") from None

    def pass_to(self, taker: Taker | None) -> None:
        """There is no connection that could pass anything: it is `next` that makes what comes."""
