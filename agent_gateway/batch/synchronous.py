"""`POST /v1/batch`: many requests in one, run beside each other while the client waits.

Promise: each request has a result of its own, in its place; what is wrong with one is told there and stops no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.structs import replace

from agent_gateway.batch.one_call import answered
from agent_gateway.batch.submission import CUSTOM_ID_MAX_LENGTH, ENDPOINTS, read_call
from agent_gateway.core.call import MODEL_PATHS, Call
from agent_gateway.core.clock import new_request_id
from agent_gateway.core.errors import BadRequest
from agent_gateway.core.exchange import Exchange
from agent_gateway.pipeline import Runtime
from agent_gateway.protocols.base import error_body

#: In one; more belong into a file (`/v1/batches`).
REQUESTS_MAX = 1_000


class Request(Struct, frozen=True):
    custom_id: Annotated[str, Meta(min_length=1, max_length=CUSTOM_ID_MAX_LENGTH)]
    body: Raw
    url: str = MODEL_PATHS["openai_chat"]


class Asked(Struct, frozen=True):
    requests: Annotated[list[Request], Meta(min_length=1, max_length=REQUESTS_MAX)]
    #: Each result is sent as an event, when it is there.
    stream: bool = False


class Result(Struct, frozen=True, kw_only=True):
    custom_id: str
    status_code: int
    #: Its record's.
    request_id: str
    #: What a client of the endpoint would have got, where that is an answer.
    body: Raw | None = None
    #: In OpenAI's form, where it is not.
    error: Raw | None = None


class Summary(Struct, frozen=True, kw_only=True):
    total: int
    completed: int
    failed: int
    cost_usd: float
    duration_s: float


class _ErrorBody(Struct):
    error: Raw


_asked = msgspec.json.Decoder(Asked)
_error_body = msgspec.json.Decoder(_ErrorBody)


class Group:
    """The requests that came in one. `envelope` is the exchange they came in: whose they are, and whether their client has left."""

    def __init__(self, body: bytes, user: str, envelope: Exchange, runtime: Runtime) -> None:
        """Raises `BadRequest`."""
        try:
            asked = _asked.decode(body)
        except msgspec.MsgspecError as error:
            raise BadRequest(f"The request is no batch: {error}.") from None
        seen: set[str] = set()
        for place, request in enumerate(asked.requests):
            if request.custom_id in seen:
                field = f"requests[{place}].custom_id"
                raise BadRequest(f"{field}: {request.custom_id[:64]!r} was used before; each request needs one of its own.", param=field)
            seen.add(request.custom_id)
        self.stream = asked.stream
        self._requests = asked.requests
        self._user = user
        self._envelope = envelope
        self._runtime = runtime
        self._running: dict[str, Exchange] = {}
        self._completed = 0
        self._failed = 0
        self._cost_usd = 0.0

    async def results(self) -> AsyncGenerator[tuple[int, Result], None]:
        """Each with its place among the requests, as they come; at most `batching.max_size` are under way at a time."""
        at_once = min(self._runtime.settings.batching.max_size, len(self._requests))
        places = iter(range(len(self._requests)))
        # Bounded: where the client is slow to take results, no more are made.
        made: asyncio.Queue[tuple[int, Result]] = asyncio.Queue(at_once)

        async def work() -> None:
            for place in places:
                await made.put((place, await self._result(self._requests[place])))

        workers = [asyncio.ensure_future(work()) for _ in range(at_once)]
        try:
            for _ in self._requests:
                yield await made.get()
        finally:
            for exchange in self._running.values():
                exchange.client_left = self._envelope.client_left
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)

    def summary(self) -> Summary:
        """Of the results so far."""
        return Summary(
            total=len(self._requests),
            completed=self._completed,
            failed=self._failed,
            cost_usd=self._cost_usd,
            duration_s=self._runtime.clock.monotonic() - self._envelope.started,
        )

    async def _result(self, request: Request) -> Result:
        exchange = self._exchange(request.url)
        self._running[exchange.id] = exchange
        try:
            body, error = await answered(exchange, self._read(exchange, request), self._runtime)
        finally:
            del self._running[exchange.id]
        self._cost_usd += exchange.cost_usd or 0.0
        told = Result(custom_id=request.custom_id, status_code=200, request_id=exchange.id)
        if error is None:
            self._completed += 1
            return replace(told, body=Raw(body))
        self._failed += 1
        why = _error_body.decode(error_body(error, exchange.id, "openai_chat")).error
        return replace(told, status_code=error.shown_status, error=why)

    def _exchange(self, url: str) -> Exchange:
        """Whose request is not read yet."""
        clock, envelope = self._runtime.clock, self._envelope
        wall = clock.wall()
        return Exchange(
            id=new_request_id(wall),
            call=Call(dialect=ENDPOINTS.get(url, "openai_chat"), model="", body=b""),
            started=clock.monotonic(),
            started_wall=wall,
            client_request_id=envelope.client_request_id,
            key=envelope.key,
            uses_cache=envelope.uses_cache,
            edge="batch",
        )

    async def _read(self, exchange: Exchange, request: Request) -> None:
        """Raises `BadRequest`."""
        if request.url not in ENDPOINTS:
            raise BadRequest(f"url: {request.url[:100]!r} is not one of {', '.join(ENDPOINTS)}.", param="url")
        call = read_call(request.url, bytes(request.body))
        exchange.call = replace(call, user=self._user) if self._user else call
        route = self._runtime.gate.route(call.model)
        bounds_s = (self._envelope.timeout_s, None if route is None else route.batching.timeout_s)
        exchange.timeout_s = min((bound_s for bound_s in bounds_s if bound_s is not None), default=None)
