"""A race of two calls for one answer: the second starts when the first is slower than usual, and the loser is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.core.usage import Usage


class Closable(Protocol):
    def close(self, error: BaseException) -> None: ...


Prize = TypeVar("Prize", bound=Closable)


class LostRace(Exception):
    """Why a loser was closed."""


async def race(first: Callable[[], Awaitable[Prize]], second: Callable[[], Awaitable[Prize] | None], after_s: float) -> Prize:
    """The first prize to come. `second` is asked only after `after_s` without one, and may decline with None.

    Raises the last error when every runner failed; cancelling it cancels all of them.
    """
    running: set[asyncio.Future[Prize]] = {asyncio.ensure_future(first())}
    try:
        done, _ = await asyncio.wait(running, timeout=after_s)
        if not done:
            other = second()
            if other is not None:
                running.add(asyncio.ensure_future(other))
        while True:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            prizes = [runner.result() for runner in done if not runner.cancelled() and runner.exception() is None]
            if prizes:
                for late in prizes[1:]:
                    late.close(LostRace())
                return prizes[0]
            if not running:
                return done.pop().result()
    finally:
        await _stop(running)


def bill_losers(exchange: Exchange, winner: Attempt) -> None:
    """A call that was cancelled had its prompt read, and is billed for that much."""
    for attempt in exchange.attempts:
        if attempt is not winner and attempt.outcome == "cancelled" and attempt.connected is not None:
            attempt.outcome = "lost_race"
            attempt.usage = Usage(input=exchange.call.estimated_input_tokens, estimated=True)


async def _stop(runners: set[asyncio.Future[Prize]]) -> None:
    for runner in runners:
        runner.cancel()
    for outcome in await asyncio.gather(*runners, return_exceptions=True):
        if not isinstance(outcome, BaseException):
            outcome.close(LostRace())
