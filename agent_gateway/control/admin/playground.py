"""`/admin/v1/playground`: one call through the whole pipeline, told as it is answered, and at the end what became of it.

Promise: it is admitted, routed, billed and recorded as anybody's, under a key of its own; who closes the connection ends it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from agent_gateway.admission.keys import PLAYGROUND
from agent_gateway.control.admin_route import Asked, NoQuery, Route
from agent_gateway.control.audit import AuditLog
from agent_gateway.core.call import Call
from agent_gateway.core.errors import GatewayError, InternalError
from agent_gateway.core.event import Chunk, Failure
from agent_gateway.core.exchange import Exchange, Status
from agent_gateway.core.streamed import Streamed
from agent_gateway.core.usage import Usage
from agent_gateway.pipeline import Runtime, run
from agent_gateway.protocols.base import codec_of, error_body
from agent_gateway.protocols.turns import members_of
from agent_gateway.record.cost import settle
from agent_gateway.record.row import AttemptRecord, attempt_record
from agent_gateway.session.identity import session_in
from agent_gateway.wire.sse import data_frame

_json = msgspec.json.Encoder()
_log = logging.getLogger("agent_gateway.control")


class PlaygroundCall(Struct, frozen=True):
    """As `POST /v1/chat/completions` takes it, which may have further fields. The answer is a stream, whatever `stream` says."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Any], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: float | None = None


class Summary(Struct, frozen=True, kw_only=True):
    """The last event."""

    #: Of the record, which is there a moment later.
    request_id: str
    #: The one that answered; None: none did.
    deployment: str | None
    status: Status
    #: Why it is not `success`.
    reason: str | None
    ttft_s: float | None
    duration_s: float
    cost_usd: float | None
    usage: Usage | None
    attempts: Sequence[AttemptRecord]


class PlaygroundRoutes:
    """`runtime` gives the one that holds now."""

    def __init__(self, runtime: Callable[[], Runtime], audit: AuditLog) -> None:
        self._runtime = runtime
        self._audit = audit

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="POST",
                path="playground",
                summary="Asks a model, through the whole pipeline; the answer is told as it comes, and at its end what it took and cost",
                role="admin",
                body=PlaygroundCall,
                answer=str,
                media="text/event-stream",
                handler=self._ask,
            ),
        )

    async def _ask(self, asked: Asked[NoQuery, PlaygroundCall]) -> Streamed:
        """What is wrong with the request is refused here; whatever happens later is an event."""
        runtime, body = self._runtime(), asked.ask.body
        exchange = Exchange(
            id=asked.ask.request_id,
            call=_streamed(body),
            started=runtime.clock.monotonic(),
            started_wall=runtime.clock.wall(),
            key=PLAYGROUND,
            session=session_in(body),
        )
        runtime.gate.admit(exchange)
        await self._audit.append("playground.ask", exchange.call.model, asked.by)
        return Streamed(_told(exchange, runtime), exchange=exchange)


def _streamed(body: bytes) -> Call:
    members = members_of(body)
    members["stream"] = Raw(b"true")
    return codec_of("openai_chat").read_call(_json.encode(members), {}, "")


async def _told(exchange: Exchange, runtime: Runtime) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(run(exchange, runtime)) as events:
            async for event in events:
                match event:
                    case Chunk():
                        yield event.data
                    case Failure():
                        yield _failure(event.error, exchange)
    except GatewayError as error:
        yield _failure(error, exchange)
    except Exception:
        _log.exception("request %s failed by a fault of the gateway", exchange.id)
        yield _failure(InternalError("The gateway failed to handle the request."), exchange)
    settle(exchange)
    yield b"event: summary\n%b" % data_frame(_json.encode(_summary(exchange)))


def _failure(error: GatewayError, exchange: Exchange) -> bytes:
    return b"event: error\n%b" % data_frame(error_body(error, exchange.id, exchange.call.dialect))


def _summary(exchange: Exchange) -> Summary:
    started = exchange.started
    assert exchange.ended is not None, "it has"
    assert exchange.status is not None, "nor is it unknown how"
    return Summary(
        request_id=exchange.id,
        deployment=exchange.deployment,
        status=exchange.status,
        reason=exchange.reason,
        ttft_s=None if exchange.first_token is None else exchange.first_token - started,
        duration_s=exchange.ended - started,
        cost_usd=exchange.cost_usd,
        usage=exchange.usage,
        attempts=[attempt_record(attempt, started, exchange.usage, full=True) for attempt in exchange.attempts],
    )
