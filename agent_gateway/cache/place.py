"""Where a request's answer is kept: the name holds all that the answer depends on, and whose it is.

Promise: two requests have one place only if the same deployments would be sent the same bytes for the same key and user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from agent_gateway.cache.base import Place
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import WIDEST, Route

#: Changed with whatever is kept or hashed: what another version has kept is not found.
FORMAT = 1
#: A longer body is hashed beside the event loop (bytes): it takes 1 ms for each MB.
APART_BYTES = 256 * 1024
#: Of the headers that go on to the provider, those that tell nothing to the model.
_SAY_NOTHING = frozenset({"traceparent", "tracestate"})

_encoder = msgspec.msgpack.Encoder(order="deterministic")


async def place_of(exchange: Exchange, route: Route, addresses: Mapping[str, str]) -> Place:
    """`addresses`: where each provider is, by its name."""
    call = exchange.call if exchange.fit is None else exchange.fit(WIDEST)
    headers = {name: value for name, value in call.forward_headers.items() if name not in _SAY_NOTHING}
    head = _encoder.encode(
        (
            (FORMAT, route.cache.exact.ttl_s),
            ("" if exchange.key is None else exchange.key.id, call.user or ""),
            (call.dialect, call.model, call.stream, call.framing, headers),
            [(one.id, addresses.get(one.provider, ""), one.default, one.override) for one in route.deployments],
        )
    )
    # The head tells its own length, so that nothing of it can be taken for a body.
    digest = _digest(head, call.body) if len(call.body) <= APART_BYTES else await asyncio.to_thread(_digest, head, call.body)
    return Place(user_digest(call.user or ""), digest)


def user_digest(user: str) -> str:
    return blake2b(user.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _digest(head: bytes, body: bytes) -> str:
    digest = blake2b(head, digest_size=32)
    digest.update(body)
    return digest.hexdigest()
