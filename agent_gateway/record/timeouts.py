"""What ran out of time, of a request that has ended."""

from __future__ import annotations

from agent_gateway.core.errors import ProviderTimeout, TimeoutKind
from agent_gateway.core.exchange import Attempt, Exchange


def timeouts_of(exchange: Exchange) -> list[TimeoutKind]:
    """Of every attempt that ran out of time, and of the request if it did so outside of them."""
    kinds = [_kind(attempt, exchange) for attempt in exchange.attempts if attempt.outcome == ProviderTimeout.code]
    error = exchange.error
    if not kinds and isinstance(error, ProviderTimeout):
        kinds.append(error.kind)
    return kinds


def _kind(attempt: Attempt, exchange: Exchange) -> TimeoutKind:
    """Which limit it was follows from how far the attempt had come."""
    if attempt.ended is not None and exchange.deadline and attempt.ended >= exchange.deadline:
        return "total"
    if attempt.connected is None:
        return "connect"
    if not exchange.call.stream:
        return "attempt"
    return "first_token" if attempt.first_token is None else "idle"
