"""Where a call may begin now: at the first candidate with room, or, in its turn, at the first that comes to have some.

Promise: who cannot be served in time is told so at once; waiting is no attempt, and who stops waiting leaves nothing behind.
"""

from __future__ import annotations

import asyncio

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import Overloaded
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.plan import Candidate
from agent_gateway.health.line import Place
from agent_gateway.health.registry import DeploymentHealth, Health

#: Why a fallback answers: the model's own deployments were full.
FULL = "full"
#: A client is told to come back after this long where nothing is known (s), and never later than that.
RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0

_Known = tuple[Candidate, DeploymentHealth]


async def with_room(queue: list[Candidate], exchange: Exchange, health: Health, clock: Clock) -> Candidate:
    """Taken out of `queue`, where the best comes first and is full. The slot is free until the next `await`.

    What is ejected or cooling down is only looked at where that is all there is. Raises `Overloaded`.
    """
    now = clock.monotonic()
    known = [(candidate, health.of(candidate.deployment.id)) for candidate in queue]
    usable = [(candidate, at) for candidate, at in known if at.available(now)] or known
    for _, at in usable:
        at.concurrency.forget_unused(now)
    chosen = next((candidate for candidate, at in usable if not at.full), None)
    if chosen is None:
        chosen = await _in_turn(usable, exchange, clock, now)
    if chosen.fallback and not queue[0].fallback and exchange.reason is None:
        exchange.reason = FULL
    queue.remove(chosen)
    return chosen


async def _in_turn(wanted: list[_Known], exchange: Exchange, clock: Clock, since: float) -> Candidate:
    place = Place(batch=exchange.edge == "batch", returns=bool(exchange.attempts))
    wait_s = _expected_wait_s(wanted, place, since)
    if since + wait_s > exchange.deadline:
        raise _shed("No deployment will have room for the request before its time is up.", "deadline", wait_s)
    joined = [(candidate, at) for candidate, at in wanted if at.line.join(place, at.concurrency.queue_max)]
    if not joined:
        raise _shed("No deployment has room, and too many requests wait for one already.", "queue", wait_s)
    served: DeploymentHealth | None = None
    try:
        async with asyncio.timeout(exchange.deadline - since):
            candidate, served = await _served(place, joined, clock)
        return candidate
    except TimeoutError:
        raise _shed("No deployment had room for the request before its time was up.", "deadline", wait_s) from None
    finally:
        now = clock.monotonic()
        exchange.queued_s += now - since
        for _, at in joined:
            at.line.leave(place, served=at is served)
            at.serve(now)  # to whom the call came that this one has no use for


async def _served(place: Place, joined: list[_Known], clock: Clock) -> _Known:
    while True:
        await place.called()
        if place.displaced:
            raise _shed("Requests that go first wait for the room that this one waited for.", "displaced", RETRY_MAX_S)
        now = clock.monotonic()
        for candidate, at in joined:
            if at.has_room(now):
                return candidate, at
            at.serve(now)  # a timer may have called too early


def _expected_wait_s(wanted: list[_Known], place: Place, now: float) -> float:
    """Lines that are served side by side: their paces add up."""
    waits = [at.expected_wait_s(place, now) for _, at in wanted]
    return 1 / sum(1 / wait_s for wait_s in waits) if all(waits) else 0.0


def _shed(message: str, reason: str, wait_s: float) -> Overloaded:
    return Overloaded(message, param=reason, retry_after_s=min(max(wait_s, RETRY_MIN_S), RETRY_MAX_S))
