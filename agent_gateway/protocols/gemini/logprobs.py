"""Log probabilities of tokens, between Gemini's two lists and OpenAI's one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from agent_gateway.wire import gemini as wire

_json = msgspec.json.Encoder()


class _Token(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _ChosenToken(_Token, kw_only=True):
    top_logprobs: list[_Token] = []


_chosen = msgspec.json.Decoder(_ChosenToken)
_tokens = msgspec.json.Decoder(list[Raw])


def read_logprobs(result: wire.LogprobsResult) -> Raw | None:
    """OpenAI's `logprobs.content`; None where no token was told."""
    tops = result.top_candidates or []
    tokens = []
    for position, chosen in enumerate(result.chosen_candidates or ()):
        others = tops[position].candidates or () if position < len(tops) else ()
        token = _token(chosen)
        tokens.append(_ChosenToken(token.token, token.logprob, token.bytes, top_logprobs=[_token(other) for other in others]))
    return Raw(_json.encode(tokens)) if tokens else None


def write_logprobs(tokens: Sequence[Raw]) -> wire.LogprobsResult:
    """Of the items of OpenAI's `logprobs.content`."""
    read = [_chosen.decode(token) for token in tokens]
    return wire.LogprobsResult(
        [wire.TopCandidates([_told(other) for other in token.top_logprobs]) for token in read],
        [_told(token) for token in read],
    )


def split_tokens(content: Raw) -> list[Raw]:
    """OpenAI's list, item by item."""
    return _tokens.decode(content)


def _token(told: wire.TokenLogprob) -> _Token:
    text = told.token or ""
    return _Token(text, told.log_probability or 0.0, list(text.encode()))


def _told(token: _Token) -> wire.TokenLogprob:
    return wire.TokenLogprob(token.token, token.logprob)
