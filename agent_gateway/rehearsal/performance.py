"""From what a call meets to the bytes of a reply and their times: as many tokens as it takes, and nothing said."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from agent_gateway.core.call import Call
from agent_gateway.core.delta import Finished, TextDelta
from agent_gateway.core.errors import LowQuality, ProviderTimeout
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.estimate import CHARS_PER_TOKEN
from agent_gateway.rehearsal.behaviour import SUCCESS, Act
from agent_gateway.simulator.script import Script, Step
from agent_gateway.simulator.simulator import Reply
from agent_gateway.simulator.telling import Frame, Telling

#: What a stream says comes in pieces, so long apart (s) and at most so many.
PIECE_S = 1.0
PIECES_MAX = 600
#: Outcomes of a call whose answer has come to its end: one that was no good, here one that says nothing.
ANSWERED = frozenset({SUCCESS, LowQuality.code})

_ID = "rehearsed"
_TOKEN = "and ".rjust(CHARS_PER_TOKEN)


def performed(act: Act, call: Call, usage: Usage, connected_s: float, created: int) -> Reply:
    """Of a call that is answered, breaks off after it has begun, or is never heard of again. Times of the reply count from when the
    call was connected.
    """
    ended_s = act.ended_s - connected_s
    if act.outcome in ANSWERED:
        tokens = usage.output if act.outcome == SUCCESS else 0
        if not call.stream:
            return _whole(_body(call, usage, tokens, created), ended_s)
        first_s = ended_s if act.first_token_s is None else act.first_token_s - connected_s
        return Reply(200, (), first_s, _telling(call, usage, tokens, created, first_s, ended_s).frames())
    if act.first_token_s is None or not call.stream:
        return Reply(200, (), math.inf, iter(()), "silence")
    first_s, said = act.first_token_s - connected_s, max(act.output_tokens, 1)
    if act.outcome == ProviderTimeout.code:
        telling = _telling(call, usage, said, created, first_s, first_s)
        return Reply(200, (), first_s, telling.broken_off(len(telling.script.steps) - 1), "silence")
    telling = _telling(call, usage, said, created, first_s, ended_s)
    return Reply(200, (), first_s, _until(telling.broken_off(len(telling.script.steps) - 1), ended_s), "cut")


def _telling(call: Call, usage: Usage, tokens: int, created: int, first_s: float, ended_s: float) -> Telling:
    """The first token comes at its time, and the last at the end."""
    pieces = min(max(math.ceil((ended_s - first_s) / PIECE_S) + 1, 1), PIECES_MAX, max(tokens, 1))
    steps = []
    for number in range(pieces):
        text = _TOKEN * (tokens * (number + 1) // pieces - tokens * number // pieces)
        if text:
            steps.append(Step(first_s + (ended_s - first_s) * number / max(pieces - 1, 1), TextDelta(text)))
    script = Script((*steps, Step(ended_s, Finished("stop"))), usage)
    return Telling(script, codec_of(call.dialect), call, _ID, created)


def _body(call: Call, usage: Usage, tokens: int, created: int) -> bytes:
    match call.dialect:
        case "openai_embeddings":
            return _embedding(call, usage)
        case "anthropic_count":
            from agent_gateway.protocols.anthropic_count.codec import AnthropicCount

            return AnthropicCount().counted(usage.input)
        case _:
            return _telling(call, usage, tokens, created, 0.0, 0.0).whole()


def _embedding(call: Call, usage: Usage) -> bytes:
    used = {"prompt_tokens": usage.input, "total_tokens": usage.input}
    data = [{"object": "embedding", "index": 0, "embedding": [1.0]}]
    return msgspec.json.encode({"object": "list", "data": data, "model": call.model, "usage": used})


def _whole(body: bytes, at_s: float) -> Reply:
    return Reply(200, (), at_s, iter([Frame(at_s, body)]), body_bytes=len(body))


def _until(frames: Iterator[Frame], ended_s: float) -> Iterator[Frame]:
    """What breaks off does so when it did, not as soon as the last piece is out."""
    yield from frames
    yield Frame(ended_s, b"")
