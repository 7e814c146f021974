"""The answer of last resort: the configured text, as an ordinary answer in the client's protocol."""

from __future__ import annotations

from agent_gateway.core.delta import Delta, Finished, Started, TextDelta, Used
from agent_gateway.core.event import Chunk, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead, codec_of


def fixed_reply(exchange: Exchange, text: str) -> Chunk | Whole:
    """It consumed nothing, and says so where usage is asked for."""
    call = exchange.call
    codec = codec_of(call.dialect)
    head = AnswerHead(exchange.id.removeprefix("req_"), int(exchange.started_wall), call.model)
    deltas: list[Delta] = [Started(), TextDelta(text), Finished("stop"), Used(Usage())]
    if not call.stream:
        return Whole(codec.write_answer(head, deltas, call))
    writer = codec.stream_writer(head, call)
    return Chunk(writer.write(deltas) + writer.end())
