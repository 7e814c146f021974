"""One item through the pipeline: what becomes of it is a result, or a failure that may pass."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent_gateway.admission.keys import KeyRing
from agent_gateway.batch.identity import key_of
from agent_gateway.batch.one_call import answered
from agent_gateway.batch.pacing import may_pass
from agent_gateway.batch.submission import ENDPOINTS, read_call
from agent_gateway.core.call import Call
from agent_gateway.core.clock import new_request_id
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.exchange import Exchange
from agent_gateway.pipeline import Runtime
from agent_gateway.protocols.base import error_body
from agent_gateway.stores.batches import Cause, ClaimedItem, ItemResult


class PassingFailure(Exception):
    """The item is to be run again."""

    def __init__(self, error: GatewayError, cost_usd: float) -> None:
        super().__init__(error.message)
        self.error = error
        self.cost_usd = cost_usd


async def run_item(item: ClaimedItem, runtime: Runtime, keys: KeyRing) -> ItemResult:
    """Recorded like any request. Raises `PassingFailure`; a failure for good is a result."""
    exchange = _exchange(item, runtime)
    body, error = await answered(exchange, _read(exchange, item, runtime, keys), runtime)
    cost_usd = exchange.cost_usd or 0.0
    if error is not None:
        if may_pass(error):
            raise PassingFailure(error, cost_usd)
        body = error_body(error, exchange.id, exchange.call.dialect)
    held = (item.batch, item.number, item.fence)
    status = 200 if error is None else error.shown_status
    state: Literal["done", "failed"] = "failed" if error else "done"
    cause: Cause = "cache" if exchange.status == "cached" else "live"
    return ItemResult(*held, state, status, exchange.id, on_one_line(body), cost_usd, cost_usd + exchange.saved_usd, cause)


def _exchange(item: ClaimedItem, runtime: Runtime) -> Exchange:
    wall = runtime.clock.wall()
    unread = Call(dialect=ENDPOINTS[item.endpoint], model=item.model, body=item.body)
    return Exchange(id=new_request_id(wall), call=unread, started=runtime.clock.monotonic(), started_wall=wall, edge="batch")


async def _read(exchange: Exchange, item: ClaimedItem, runtime: Runtime, keys: KeyRing) -> None:
    call = read_call(item.endpoint, item.body)
    exchange.call = msgspec.structs.replace(call, user=item.owner.user) if item.owner.user else call
    exchange.key = await key_of(keys, item.owner.key, item.key)
    route = runtime.gate.route(call.model)
    exchange.timeout_s = None if route is None else route.batching.timeout_s


def on_one_line(body: bytes) -> bytes:
    """In JSON a line end stands between values only."""
    return body.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in body or b"\r" in body else body
