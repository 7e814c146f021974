"""From an exchange to what is kept of its answer, and from that to the answer of another exchange.

Promise: nothing is kept but a whole answer of the model that was asked for, and what is given again is that, byte for byte.
"""

from __future__ import annotations

import re

import msgspec

from agent_gateway.cache.base import Entry
from agent_gateway.core.delta import NATURAL_ENDS
from agent_gateway.core.event import Chunk, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.protocols.relay import NO_CONVERSATION
from agent_gateway.protocols.transcript import Answer, take_answer

#: A response's own id: those of its items begin otherwise.
_RESPONSE_ID = re.compile(rb'"id"\s*:\s*("resp_[^"\\]+")')
_json = msgspec.json.Encoder()
_told = msgspec.json.Decoder(Answer)


def entry_of(exchange: Exchange, body: bytes) -> Entry | None:
    """Of an exchange whose answer is there, all of it. None: it is not one to be given again."""
    if exchange.status != "success" or exchange.reason is not None or exchange.deployment is None:
        return None  # another model's, carried on after a cut, or only the best of bad ones
    told = take_answer(exchange)
    if exchange.call.dialect not in NO_CONVERSATION and not _is_natural(told):
        return None
    answering = next((attempt for attempt in reversed(exchange.attempts) if attempt.outcome == "success"), None)
    return Entry(
        body=body,
        told=None if told is None else _json.encode(told),
        deployment=exchange.deployment,
        usage=exchange.usage,
        cost_usd=None if answering is None else answering.cost_usd,
        finish_reason=exchange.finish_reason,
        quality=exchange.quality,
    )


def replayed(exchange: Exchange, entry: Entry, now: float) -> Chunk | Whole:
    """The answer; the exchange tells from here on where it is from."""
    call = exchange.call
    body = entry.body if call.keeping is None else _with_id(entry.body, exchange)
    exchange.status = "cached"
    exchange.deployment = entry.deployment
    exchange.usage = entry.usage
    exchange.cost_usd, exchange.saved_usd = 0.0, entry.cost_usd or 0.0
    exchange.finish_reason, exchange.quality = entry.finish_reason, entry.quality
    exchange.transcript = None if entry.told is None else _told.decode(entry.told)
    exchange.answer_bytes = exchange.compacted_bytes = len(body)
    exchange.first_token = now if call.stream else None
    if exchange.reservation is not None:  # or the next ones might be refused for what this one does not cost
        exchange.reservation.settle(entry.usage.total if entry.usage else 0, 0.0)
    return Chunk(body) if call.stream else Whole(body)


def _is_natural(told: Answer | None) -> bool:
    """Every choice came to an end of its own."""
    return told is not None and all(choice.finish_reason in NATURAL_ENDS for choice in (told, *(told.choices or ())))


def _with_id(body: bytes, exchange: Exchange) -> bytes:
    """A response is a thing of its own, which is fetched, gone on from and deleted by its id."""
    found = _RESPONSE_ID.search(body)
    if found is None:
        return body
    return body.replace(found[1], b'"resp_%b"' % exchange.id.removeprefix("req_").encode())
