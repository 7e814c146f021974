"""The answer of last resort: the configured text, as an ordinary answer in the client's protocol."""

from __future__ import annotations

from agent_gateway.core.event import Chunk, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.openai_chat.client import DONE, StreamWriter, write_answer
from agent_gateway.wire import openai_chat as wire

NOTHING = Usage()


def fixed_reply(exchange: Exchange, text: str) -> Chunk | Whole:
    """It consumed nothing, and says so where usage is asked for."""
    call = exchange.call
    answer_id = f"chatcmpl-{exchange.id.removeprefix('req_')}"
    created = int(exchange.started_wall)
    if call.stream:
        writer = StreamWriter(answer_id, created, call.model, with_usage=call.wants_usage)
        frames = [writer.role(0), writer.text(0, text), writer.finish(0, "stop")]
        if call.wants_usage:
            frames.append(writer.usage(NOTHING))
        return Chunk(b"".join([*frames, DONE]))
    message = wire.AnswerMessage(content=text)
    return Whole(
        write_answer(
            wire.Answer(
                id=answer_id,
                created=created,
                model=call.model,
                choices=[wire.Choice(index=0, message=message, finish_reason="stop")],
                usage=wire.Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0),
            )
        )
    )
