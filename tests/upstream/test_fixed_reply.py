"""The fixed reply is an ordinary answer: OpenAI's own types read it."""

from __future__ import annotations

import msgspec
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from agent_gateway.core.event import Chunk, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import FIXED_REPLY
from agent_gateway.upstream.fixed_reply import fixed_reply
from agent_gateway.wire.sse import DONE, FrameSplitter, frame_data
from tests.upstream.stage import call

TEXTS = [FIXED_REPLY, "Later.", 'quotes " and\nlines \\', "抱歉"]


def exchange(*, stream: bool, with_usage: bool = False) -> Exchange:
    options = {"stream_options": {"include_usage": True}} if with_usage else {}
    return Exchange(id="req_abc", call=call(stream=stream, **options), started=0, started_wall=1_700_000_000.9)


@pytest.mark.parametrize("text", TEXTS)
def test_whole(text: str) -> None:
    event = fixed_reply(exchange(stream=False), text)
    assert isinstance(event, Whole)
    answer = ChatCompletion.model_validate_json(event.body, strict=True)
    assert answer.choices[0].message.content == text
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.id, answer.created, answer.model) == ("chatcmpl-abc", 1_700_000_000, "chat")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 0


@pytest.mark.parametrize("with_usage", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_stream(text: str, with_usage: bool) -> None:
    event = fixed_reply(exchange(stream=True, with_usage=with_usage), text)
    assert isinstance(event, Chunk)
    *frames, done = FrameSplitter.split(event.data)
    assert done == DONE
    chunks = [ChatCompletionChunk.model_validate_json(frame_data(frame) or b"", strict=True) for frame in frames]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == text
    assert choices[0].delta.role == "assistant"
    assert choices[-1].finish_reason == "stop"
    assert {(chunk.id, chunk.model) for chunk in chunks} == {("chatcmpl-abc", "chat")}
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([0] if with_usage else [])
    assert b"usage" in msgspec.json.encode(frames[0].decode()) or not with_usage
