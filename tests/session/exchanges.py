"""Exchanges of a session, without a gateway around them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from itertools import count
from typing import Any

import msgspec

from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.event import Event, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.settings import Sessions
from agent_gateway.protocols.base import codec_of
from agent_gateway.session.memory import Memory
from agent_gateway.stores.base import Key, Owner

_ids = count()
ANN = Key("ann", "Ann")


def new_exchange(
    *turns: Any,
    session: str = "s",
    key: Key | None = ANN,
    policy: Sessions | None = None,
    window: int | None = None,
    clock: Clock | None = None,
    wait_s: float = 10,
    **body: Any,
) -> Exchange:
    """A chat request of an admitted client."""
    clock = clock or Clock()
    call = codec_of("openai_chat").read_call(msgspec.json.encode({"model": "m", "messages": turns, **body}), {}, "")
    deployment = Deployment(id="p/m", provider="p", model="m", context_window=window)
    now = clock.monotonic()
    return Exchange(
        id=f"req_{next(_ids)}",
        call=call,
        started=now,
        started_wall=clock.wall(),
        key=key,
        session=session,
        route=Route(name="m", deployments=(deployment,), sessions=policy or Sessions()),
        deadline=now + wait_s,
        deployment="p/m",
        status="success",
    )


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def model(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def whole(text: str) -> Whole:
    return Whole(msgspec.json.encode({"choices": [{"index": 0, "message": model(text)}]}))


def chunk(text: str) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode({"choices": [{"index": 0, "delta": {"content": text}}]})


async def events(*told: Event | BaseException) -> AsyncGenerator[Event, None]:
    for event in told:
        if isinstance(event, BaseException):
            raise event
        yield event


def sent(exchange: Exchange) -> list[Any]:
    """The messages that the deployment gets."""
    assert exchange.route is not None
    call = exchange.fit(exchange.route.deployments[0]) if exchange.fit is not None else exchange.call
    messages: list[Any] = msgspec.json.decode(call.body)["messages"]
    return messages


async def turn(memory: Memory, text: str, answer: str | Sequence[Event | BaseException] = "ok", **options: Any) -> list[Any]:
    """One turn of a session from end to end; what was sent."""
    exchange = new_exchange(user(text), **options)
    attached = await memory.attach(exchange)
    assert attached is not None
    messages = sent(exchange)
    try:
        told = [whole(answer)] if isinstance(answer, str) else answer
        async for _ in attached.keep(events(*told)):
            pass
    finally:
        memory.end(exchange, attached)
    return messages


async def turns_of_session(memory: Memory, session: str = "s", key: Key = ANN, user: str = "") -> list[tuple[Dialect | str, Any, bool]]:
    """Protocol, body and whether it is partial."""
    found = await memory.store.fetch(Owner(key.id, user), session, Clock().wall())
    return [] if found is None else [(kept.dialect, msgspec.json.decode(kept.body), kept.partial) for kept in found.turns]
