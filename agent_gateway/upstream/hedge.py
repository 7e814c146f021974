"""A race of two calls for one answer: the second starts when the first is slower than usual, and the loser is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.estimate import estimate_input_tokens

#: The outcome of an attempt that another was faster than.
LOST_RACE = "lost_race"


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
    prize: Prize | None = None
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
                prize, *late = prizes
                for other_prize in late:
                    other_prize.close(LostRace())
                return prize
            if not running:
                return done.pop().result()
    finally:
        try:
            await _stop(running)
        except BaseException as error:
            if prize is not None:  # cancelled at the last moment: nobody will take it
                prize.close(error)
            raise


def bill_losers(exchange: Exchange, winner: Attempt) -> None:
    """A call that was cancelled had its prompt read, and is billed for that much."""
    for attempt in exchange.attempts:
        if attempt is not winner and attempt.outcome == "cancelled" and attempt.connected is not None:
            attempt.outcome = LOST_RACE
            if attempt.usage is None:
                attempt.usage = Usage(input=estimate_input_tokens(exchange.call), estimated=True)


async def _stop(runners: set[asyncio.Future[Prize]]) -> None:
    for runner in runners:
        runner.cancel()
        runner.add_done_callback(_discard)  # even when the wait below is cancelled
    if runners:
        await asyncio.wait(runners)


def _discard(runner: asyncio.Future[Prize]) -> None:
    if not runner.cancelled() and runner.exception() is None:
        runner.result().close(LostRace())
