"""Exchanges that come to the cache, and models that answer them as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from itertools import count
from typing import Any

import msgspec

from agent_gateway.cache.base import Entries
from agent_gateway.cache.exact import Exact
from agent_gateway.cache.memory import MemoryEntries
from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.event import Chunk, Event, Whole
from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.core.plan import Candidate, Plan
from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.settings import Cache, ExactCache
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.transcript import Answer
from agent_gateway.record.cost import settle
from agent_gateway.stores.base import Key

ANN = Key("ann", "Ann")
DEPLOYMENT = Deployment(id="p/m", provider="p", model="m")
_ids = count()


def route_of(*deployments: Deployment, enabled: bool = True, ttl_s: float = 60) -> Route:
    return Route(name="m", deployments=deployments or (DEPLOYMENT,), cache=Cache(exact=ExactCache(enabled=enabled, ttl_s=ttl_s)))


def new_exchange(
    dialect: Dialect = "openai_chat",
    *,
    key: Key | None = ANN,
    user: str | None = None,
    headers: dict[str, str] | None = None,
    wait_s: float = 10,
    path: str = "",
    **body: Any,
) -> Exchange:
    """Of an admitted client."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **body}
    call = codec_of(dialect).read_call(msgspec.json.encode(asked), headers or {}, path)
    now = SYSTEM_CLOCK.monotonic()
    made = Exchange(id=f"req_{next(_ids)}", call=call, started=now, started_wall=1.0, key=key, deadline=now + wait_s)
    if user is not None:
        made.call = msgspec.structs.replace(call, user=user)
    return made


class Model:
    """What upstream does: `play` is what becomes of each call, by its number from 0."""

    def __init__(self, play: Callable[[int, Exchange], AsyncGenerator[Event, None]]) -> None:
        self.calls = 0
        self.planned = 0
        self._play = play

    def plan(self, exchange: Exchange, route: Route) -> Plan:
        self.planned += 1
        return Plan(route, (Candidate(route.deployments[0], route),))

    async def answer(self, exchange: Exchange, plan: Plan) -> AsyncGenerator[Event, None]:
        self.calls += 1
        async with aclosing(self._play(self.calls - 1, exchange)) as events:
            async for event in events:
                yield event


def succeed(exchange: Exchange, text: str = "Hello", finish_reason: str = "stop") -> None:
    """As upstream notes it."""
    now = SYSTEM_CLOCK.monotonic()
    usage = Usage(input=3, output=5)
    exchange.attempts.append(Attempt("p/m", now, ended=now, outcome="success", usage=usage, cost_usd=0.25))
    exchange.status, exchange.deployment = "success", "p/m"
    exchange.usage, exchange.finish_reason, exchange.quality = usage, finish_reason, 1.0
    exchange.transcript = Answer(text, finish_reason=finish_reason)


def saying(text: str = "Hello", *, wait: asyncio.Event | None = None, finish_reason: str = "stop") -> Callable[[int, Exchange], Any]:
    """Each call a text of its own: with its number behind it."""

    async def play(number: int, exchange: Exchange) -> AsyncGenerator[Event, None]:
        if wait is not None:
            await wait.wait()
        said = f"{text} {number}"
        if exchange.call.stream:
            for piece in said.split(" "):
                yield Chunk(b"data: %b\n\n" % piece.encode())
            succeed(exchange, said, finish_reason)
            exchange.answered = True
        else:
            succeed(exchange, said, finish_reason)
            yield Whole(said.encode())

    return play


def new_cache(entries: Entries | None = None) -> Exact:
    return Exact(entries or MemoryEntries(SYSTEM_CLOCK, bytes_max=2**20), settle, SYSTEM_CLOCK)


async def asked(cache: Exact, model: Model, exchange: Exchange, route: Route | None = None) -> bytes:
    """All that the client gets."""
    async with aclosing(cache.answer(exchange, route or route_of(), model.plan, model.answer)) as events:
        return joined([event async for event in events])


def joined(events: Sequence[Event]) -> bytes:
    assert all(isinstance(event, Chunk | Whole) for event in events)
    return b"".join(event.data if isinstance(event, Chunk) else event.body for event in events if isinstance(event, Chunk | Whole))
