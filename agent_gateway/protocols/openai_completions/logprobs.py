"""Log probabilities of tokens, as completions tell them, to and from chat's way, which deltas use."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct

from agent_gateway.wire import openai_completions as wire


class _Alternative(Struct):
    token: str
    logprob: float
    #: UTF-8; completions do not tell them.
    bytes: list[int] | None = None


class _Token(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[_Alternative] = []


_tokens = msgspec.json.Decoder(list[_Token])
_json = msgspec.json.Encoder()


def from_wire(told: wire.Logprobs) -> Raw:
    """The first token of an echoed prompt has no probability: 0 stands for it."""
    alternatives: Iterable[dict[str, float] | None] = told.top_logprobs or [None] * len(told.tokens)
    tokens = [
        _Token(token, logprob or 0.0, None, [_Alternative(name, value) for name, value in (others or {}).items()])
        for token, logprob, others in zip(told.tokens, told.token_logprobs, alternatives, strict=False)
    ]
    return Raw(_json.encode(tokens))


def to_wire(content: Raw, offset: int) -> wire.Logprobs:
    """`offset`: characters of the choice's text before these tokens."""
    told = wire.Logprobs([], [], [], [])
    assert told.top_logprobs is not None
    for token in _tokens.decode(content):
        told.tokens.append(token.token)
        told.token_logprobs.append(token.logprob)
        told.top_logprobs.append({other.token: other.logprob for other in token.top_logprobs})
        told.text_offset.append(offset)
        offset += len(token.token)
    return told
