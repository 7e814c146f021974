"""Settles an exchange: tokens and dollars of every attempt, and their sum.

Promise: whatever a provider began to answer is billed, estimated where it did not say; settling twice changes nothing.
"""

from __future__ import annotations

from functools import reduce
from operator import add

from agent_gateway.core.call import Call
from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.estimate import CHARS_PER_TOKEN, estimate_input_tokens, text_tokens
from agent_gateway.protocols.transcript import Transcript, read_answer


def settle(exchange: Exchange) -> None:
    """Fills `usage` and `cost_usd` of the attempts, then of the exchange, where they are None."""
    attempts = exchange.attempts
    if len(attempts) == 1:
        attempt = attempts[0]
        if attempt.usage is None:
            attempt.usage = exchange.usage or _consumed(exchange, attempt)
        if attempt.cost_usd is None:
            attempt.cost_usd = _cost_usd(attempt)
        if exchange.usage is None:
            exchange.usage = attempt.usage
        if exchange.cost_usd is None:
            exchange.cost_usd = attempt.cost_usd
    elif attempts:
        _settle_all(exchange)


def _settle_all(exchange: Exchange) -> None:
    answering = _answering(exchange)
    for attempt in exchange.attempts:
        if attempt.usage is None and attempt is answering:
            attempt.usage = exchange.usage or _consumed(exchange, attempt)
        if attempt.cost_usd is None:
            attempt.cost_usd = _cost_usd(attempt)
    if exchange.usage is None:
        usages = [attempt.usage for attempt in exchange.attempts if attempt.usage is not None]
        exchange.usage = reduce(add, usages) if usages else None
    if exchange.cost_usd is None:
        costs = [attempt.cost_usd for attempt in exchange.attempts if attempt.cost_usd is not None]
        exchange.cost_usd = sum(costs) if costs else None


def _answering(exchange: Exchange) -> Attempt | None:
    """The attempt whose content the client got: the last that had any."""
    for attempt in reversed(exchange.attempts):
        if attempt.first_token is not None:
            return attempt
    return None


def _consumed(exchange: Exchange, attempt: Attempt) -> Usage | None:
    """The answer's own word, else an estimate; None when the provider had not begun to answer."""
    if attempt.first_token is None and attempt.outcome != "success":
        return None
    transcript = read_answer(exchange)
    return transcript.usage or estimate(exchange.call, transcript)


def estimate(call: Call, transcript: Transcript) -> Usage:
    """Rough, for lack of a better word: within a third of the truth for prose and code."""
    texts = list(transcript.texts())
    unkept_chars = transcript.chars - sum(map(len, texts))
    output = text_tokens("".join(texts)) + -(-unkept_chars // CHARS_PER_TOKEN)
    return Usage(input=estimate_input_tokens(call), output=output, estimated=True)


def _cost_usd(attempt: Attempt) -> float | None:
    return None if attempt.usage is None or attempt.price is None else attempt.price.cost_usd(attempt.usage)
