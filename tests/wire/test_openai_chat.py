"""OpenAI's types: what is read is what is written, and the unknown does no harm."""

from __future__ import annotations

import msgspec
import pytest

from agent_gateway.wire import openai_chat as wire

CHUNK = (
    b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","service_tier":"default","system_fingerprint":"fp",'
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}'
)
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Hi","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1,'
    b'"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":null},"system_fingerprint":"fp"}'
)


def test_absent_and_null_usage_are_told_apart() -> None:
    assert msgspec.json.decode(CHUNK, type=wire.Chunk).usage is None
    assert msgspec.json.decode(CHUNK.replace(b',"usage":null', b""), type=wire.Chunk).usage is msgspec.UNSET


def test_a_chunk_is_written_as_it_was_read_but_for_unknown_fields() -> None:
    chunk = msgspec.json.decode(CHUNK, type=wire.Chunk)
    assert msgspec.json.encode(chunk) == CHUNK.replace(b'"service_tier":"default",', b"")


def test_an_answer_is_written_as_it_was_read_but_for_unknown_fields() -> None:
    answer = msgspec.json.decode(ANSWER, type=wire.Answer)
    assert msgspec.json.decode(msgspec.json.encode(answer)) == {
        **msgspec.json.decode(ANSWER),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "total_tokens": 3,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
    }


@pytest.mark.parametrize(
    "content",
    [
        b'"Hi"',
        b"null",
        b'[{"type":"text","text":"Hi"},{"type":"image_url","image_url":{"url":"x"}}]',
        b'[{"type":"from_the_future","q":1}]',
    ],
)
def test_every_form_of_content_is_read(content: bytes) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":%b,"new":1}],"newer":{}}' % content
    assert msgspec.json.decode(body, type=wire.Request).messages[0].role == "user"
