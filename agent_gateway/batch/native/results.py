"""From what a provider's batch says of a request to the item's result, and to its record: as a call by itself would have left them.

Promise: an answer that a live call would not have accepted, and an error that may pass, are no result; the item is run live.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import msgspec

from agent_gateway.batch.item_call import on_one_line
from agent_gateway.batch.native.base import Outcome
from agent_gateway.batch.native.plan import Part
from agent_gateway.batch.native.planner import Place
from agent_gateway.batch.pacing import may_pass
from agent_gateway.batch.submission import read_call
from agent_gateway.core.call import Call
from agent_gateway.core.errors import GatewayError, LowQuality, ProviderRefusedRequest
from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.pipeline import Runtime
from agent_gateway.protocols.base import AnswerHead, error_body
from agent_gateway.protocols.relay import Whole, whole_answer
from agent_gateway.protocols.transcript import Answer
from agent_gateway.record.cost import settle
from agent_gateway.stores.base import Key
from agent_gateway.stores.batches import ClaimedItem, ItemResult, ReturnedItem
from agent_gateway.upstream.quality import Facts, objection, score
from agent_gateway.upstream.refusal import refusal

_log = logging.getLogger("agent_gateway.batch")


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who pays. `charged`: the key is still there to be charged."""

    key: Key | None
    charged: bool


def item_call(item: ClaimedItem) -> Call:
    """Raises `BadRequest`."""
    call = read_call(item.endpoint, item.body)
    return msgspec.structs.replace(call, user=item.owner.user) if item.owner.user else call


def settled(
    item: ClaimedItem, outcome: Outcome, part: Part, place: Place, buyer: Buyer, runtime: Runtime
) -> tuple[ItemResult | ReturnedItem, Exchange]:
    """Of what was run (`outcome.status`). The exchange is for `record`, once what became of the item was heard."""
    exchange = _exchange(item, part, place, buyer, runtime)
    attempt = exchange.attempts[0]
    attempt.provider_status = outcome.status
    body = b""
    error: GatewayError | None = None
    try:
        if outcome.status != 200:
            raise refusal(outcome.status or 0, {}, outcome.body, runtime.clock.wall(), place.dialect)
        body = _answer(exchange, outcome.body, place)
    except GatewayError as raised:
        error = raised
        error.detail = place.provider.redact(error.detail) if error.detail else None
    except Exception as raised:
        error = exchange.why(raised)
        _log.exception("what came of request %s could not be read, by a fault of the gateway", exchange.id)
    attempt.outcome = "success" if error is None else error.code
    attempt.error_detail = None if error is None else error.detail or error.message
    exchange.end(error, runtime.clock.monotonic())
    settle(exchange)
    return _result(item, exchange, body, error, place), exchange


def record(exchange: Exchange, place: Place, buyer: Buyer, runtime: Runtime) -> None:
    """And paid for."""
    runtime.recorder.begin(exchange)
    if buyer.charged:
        runtime.gate.charge(exchange, place.route)
    runtime.recorder.submit(exchange)


def _exchange(item: ClaimedItem, part: Part, place: Place, buyer: Buyer, runtime: Runtime) -> Exchange:
    """It began when it was sent. Its id is the same however often it is made."""
    now, waited_s = runtime.clock.monotonic(), max(runtime.clock.wall() - part.sent_at, 0.0)
    exchange = Exchange(
        id=f"req_{int(part.sent_at * 1000):012x}{part.id[:8]}{item.number:08x}",
        call=item_call(item),
        started=now - waited_s,
        started_wall=part.sent_at,
        key=buyer.key,
        edge="native",
        route=place.route,
    )
    # When the provider ran it is not known, and so not how long it took.
    exchange.attempts = [Attempt(place.deployment.id, exchange.started, price=place.price)]
    return exchange


def _answer(exchange: Exchange, body: bytes, place: Place) -> bytes:
    call, policy = exchange.call, place.route.fallback.quality
    head = AnswerHead(exchange.id.removeprefix("req_"), int(exchange.started_wall), call.model)
    whole: Whole = whole_answer(body, call, place.dialect, lambda: head)
    facts = Facts(whole.says_something, whole.finish_reason, whole.usage, whole.text)
    exchange.usage, exchange.finish_reason, exchange.quality = whole.usage, whole.finish_reason, score(facts, call, policy)
    exchange.answer += whole.told
    exchange.answer_bytes = len(whole.body)
    if whole.says_only_text:
        exchange.transcript = Answer(whole.text, finish_reason=whole.finish_reason)
    if (bad := objection(facts, call, policy)) is not None:
        raise LowQuality("The model's answer did not pass the quality check.", detail=bad)
    exchange.status, exchange.deployment = "success", place.deployment.id
    return whole.body


def _result(item: ClaimedItem, exchange: Exchange, body: bytes, error: GatewayError | None, place: Place) -> ItemResult | ReturnedItem:
    held = (item.batch, item.number, item.fence)
    cost_usd = exchange.cost_usd or 0.0
    if error is None:
        price, usage = place.deployment.price, exchange.usage
        single_usd = 0.0 if price is None or usage is None else price.cost_usd(usage)
        return ItemResult(*held, "done", 200, exchange.id, on_one_line(body), cost_usd, single_usd, "native")
    if _is_final(error):
        said = on_one_line(error_body(error, exchange.id, exchange.call.dialect))
        return ItemResult(*held, "failed", error.shown_status, exchange.id, said, cost_usd, cost_usd, "native")
    return ReturnedItem(*held, due_at=0.0, cost_usd=cost_usd)


def _is_final(error: GatewayError) -> bool:
    """A live call would only be told the same. A context that is too long may fit another deployment."""
    return isinstance(error, ProviderRefusedRequest) and not error.retryable and not may_pass(error)


def not_run(item: ClaimedItem, *, attempted: bool = True, lost: bool = False) -> ReturnedItem:
    return ReturnedItem(item.batch, item.number, item.fence, due_at=0.0, attempted=attempted, lost=lost)
