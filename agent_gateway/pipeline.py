"""The order of the stages, and nothing else: read this to know what happens to a request."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from agent_gateway.admission.gate import Gate
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import ClientLeft, GatewayError, InternalError, ShuttingDown
from agent_gateway.core.event import Event, Failure
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import Settings
from agent_gateway.protocols.transcript import COMPACT_BYTES, compact
from agent_gateway.record.recorder import Recorder
from agent_gateway.routing.planner import Planner
from agent_gateway.upstream.loop import AttemptLoop


@dataclass(frozen=True, slots=True)
class Runtime:
    """The configuration compiled to objects. A request sees exactly one; a reload makes another beside it."""

    settings: Settings
    gate: Gate
    planner: Planner
    upstream: AttemptLoop
    recorder: Recorder
    clock: Clock


@dataclass(slots=True)
class Live:
    """Where the edges look up the runtime of a request that begins now."""

    runtime: Runtime


async def run(exchange: Exchange, runtime: Runtime) -> AsyncGenerator[Event, None]:
    """A request from admission to its record. Raises `GatewayError` before the first event, yields `Failure` after it."""
    error: GatewayError | None = None
    answer: AsyncGenerator[Event, None] | None = None
    runtime.recorder.begin(exchange)
    try:
        route = runtime.gate.admit(exchange)
        plan = runtime.planner.plan(exchange, route)
        answer = runtime.upstream.answer(exchange, plan)
        async for event in answer:
            if type(event) is Failure:
                error = event.error
            elif exchange.answer_bytes - exchange.compacted_bytes > COMPACT_BYTES:
                compact(exchange)
            yield event
    except BaseException as raised:
        error = _as_gateway_error(raised, exchange)
        if answer is not None:
            await answer.aclose()
        raise
    finally:
        exchange.end(error, runtime.clock.monotonic())
        runtime.recorder.submit(exchange)


def refuse(exchange: Exchange, error: GatewayError, runtime: Runtime) -> None:
    """The record of a request that never reached the first stage: it could not be read, or had no right to be."""
    runtime.recorder.begin(exchange)
    exchange.end(error, runtime.clock.monotonic())
    runtime.recorder.submit(exchange)


def cancelled(exchange: Exchange) -> GatewayError:
    """Why the work on a request was cancelled."""
    if exchange.client_left:
        return ClientLeft("The client closed the connection.")
    return ShuttingDown("The gateway was stopped before the answer was complete.")


def _as_gateway_error(error: BaseException, exchange: Exchange) -> GatewayError:
    match error:
        case GatewayError():
            return error
        case CancelledError() | GeneratorExit():
            return cancelled(exchange)
        case _:
            return InternalError("The gateway failed.", detail=repr(error))
