"""The order of the stages, and nothing else: read this to know what happens to a request."""

from __future__ import annotations

from asyncio import Task
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent_gateway.admission.gate import Gate
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.event import Event, Failure
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import Settings
from agent_gateway.protocols.transcript import COMPACT_BYTES, compact
from agent_gateway.record.recorder import Recorder
from agent_gateway.routing.planner import Planner
from agent_gateway.session.live_streams import LiveStreams
from agent_gateway.session.memory import Memory
from agent_gateway.session.responses import Responses
from agent_gateway.session.stage import Kept, attach
from agent_gateway.upstream.loop import AttemptLoop

if TYPE_CHECKING:
    from agent_gateway.cache.exact import Exact
    from agent_gateway.guard.stage import Guards


@dataclass(frozen=True, slots=True)
class Runtime:
    """The configuration compiled to objects. A request sees exactly one; a reload makes another beside it."""

    settings: Settings
    gate: Gate
    planner: Planner
    upstream: AttemptLoop
    recorder: Recorder
    memory: Memory
    responses: Responses
    streams: LiveStreams
    #: None: no model has any.
    guards: Guards | None
    cache: Exact | None
    clock: Clock


@dataclass(slots=True)
class Live:
    """Where the edges look up the runtime of a request that begins now."""

    runtime: Runtime
    #: Answers that outlive their clients' connections; a server that drains waits for them as for those.
    tasks: set[Task[None]] = field(default_factory=set)


async def run(exchange: Exchange, runtime: Runtime) -> AsyncGenerator[Event, None]:
    """A request from admission to its record. Raises `GatewayError` before the first event, yields `Failure` after it."""
    error: GatewayError | None = None
    answer: AsyncGenerator[Event, None] | None = None
    kept: Kept | None = None
    runtime.recorder.begin(exchange)
    try:
        route = runtime.gate.admit(exchange)
        if (waiting := runtime.gate.reserve(exchange, route)) is not None:
            await waiting
        if exchange.session is not None or exchange.call.keeping is not None:
            kept = await attach(exchange, runtime.memory, runtime.responses, runtime.settings)
        guarded = None if runtime.guards is None else await runtime.guards.check(exchange, route)
        if runtime.cache is None:
            answer = runtime.upstream.answer(exchange, runtime.planner.plan(exchange, route))
        else:
            answer = runtime.cache.answer(exchange, route, runtime.planner.plan, runtime.upstream.answer)
        if guarded is not None:
            answer = guarded.watch(answer)
        if kept is not None:
            answer = kept.keep(answer)
        async for event in answer:
            if type(event) is Failure:
                error = event.error
            elif exchange.answer_bytes - exchange.compacted_bytes > COMPACT_BYTES:
                compact(exchange)
            yield event
    except BaseException as raised:
        error = exchange.why(raised)
        if answer is not None:
            await answer.aclose()
        raise
    finally:
        exchange.end(error, runtime.clock.monotonic())
        if kept is not None:
            kept.end()
        runtime.recorder.submit(exchange)


def refuse(exchange: Exchange, error: BaseException, runtime: Runtime) -> None:
    """The record of a request that never reached the first stage: it could not be read, or had no right to be."""
    runtime.recorder.begin(exchange)
    exchange.end(exchange.why(error), runtime.clock.monotonic())
    runtime.recorder.submit(exchange)
