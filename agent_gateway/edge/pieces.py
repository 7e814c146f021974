"""Answers that come in pieces: a heartbeat where none comes for a while, and an end for a client that takes none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, Protocol, TypeVar

from agent_gateway.core.errors import ClientLeft
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.limits import Limits

_Piece = TypeVar("_Piece")


class GivesUp(Protocol):
    def give_up(self) -> None: ...


async def beating(pieces: AsyncGenerator[_Piece, None], every_s: float) -> AsyncGenerator[_Piece | None, None]:
    """The pieces, and None each time that none came for so long. Whoever made `pieces` closes them."""
    following: asyncio.Future[tuple[_Piece] | None] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(_next(pieces))
            await asyncio.wait([following], timeout=every_s)
            if not following.done():
                yield None
                continue
            found, following = following.result(), None
            if found is None:
                return
            yield found[0]
    finally:
        if following is not None:
            following.cancel()
            await asyncio.wait([following])


async def _next(pieces: AsyncGenerator[_Piece, None]) -> tuple[_Piece] | None:
    async for piece in pieces:
        return (piece,)
    return None


async def taken(writing: Coroutine[Any, Any, None], exchange: Exchange, outlet: GivesUp, limits: Limits) -> None:
    """By the client, who is given up when he takes nothing: raises `ClientLeft`."""
    try:
        async with asyncio.timeout(limits.write_stall_s):
            await writing
    except TimeoutError:
        exchange.client_left = True
        outlet.give_up()
        raise ClientLeft("The client takes nothing of what is written.") from None
