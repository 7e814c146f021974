"""The simulator's OpenAI protocol: the shape of streams, and when usage is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.simulator.stage import answer_to, body_of, chat, reply_to, stream_of, tool


def test_a_stream_opens_speaks_finishes_and_is_done() -> None:
    events = stream_of(chat(stream=True))
    assert events[-1] == "[DONE]"
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    reasons = [event["choices"][0]["finish_reason"] for event in events[:-1]]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert all(set(delta) == {"content"} for delta in deltas[1:-1])
    assert deltas[-1] == {}
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]


def test_usage_is_told_last_and_only_when_asked_for() -> None:
    asked = stream_of(chat(stream=True, stream_options={"include_usage": True}))
    assert [event["usage"] for event in asked[:-2]] == [None] * (len(asked) - 2)
    assert asked[-2]["choices"] == []
    assert asked[-2]["usage"] == answer_to(chat())["usage"]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
def test_usage_is_not_told_unasked(options: dict[str, Any] | None) -> None:
    assert all("usage" not in event for event in stream_of(chat(stream=True, stream_options=options))[:-1])
    assert all("usage" not in event for event in stream_of(chat(stream=True))[:-1])


@pytest.mark.parametrize(
    "fields", [{}, {"n": 2}, {"tools": [tool()]}, {"response_format": {"type": "json_object"}}, {"max_tokens": 1}]
)
def test_the_sdk_knows_every_shape(fields: dict[str, Any]) -> None:
    answer = ChatCompletion.model_validate(answer_to(chat(**fields)))
    chunks = [ChatCompletionChunk.model_validate(event) for event in stream_of(chat(stream=True, **fields))[:-1]]
    for choice in answer.choices:
        mine = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == choice.index]
        assert mine[0].delta.role == "assistant"
        assert "".join([part.delta.content or "" for part in mine]) == (choice.message.content or "")
        assert mine[-1].finish_reason == choice.finish_reason


def test_choices_are_streamed_side_by_side() -> None:
    indexes = [event["choices"][0]["index"] for event in stream_of(chat(stream=True, n=2))[:-1]]
    assert indexes != sorted(indexes)


def test_headers_of_both_kinds() -> None:
    whole = dict(reply_to(chat()).headers)
    streamed = reply_to(chat(stream=True))
    told = dict(streamed.headers)
    assert (whole.pop("content-type"), told.pop("content-type")) == ("application/json", "text/event-stream; charset=utf-8")
    assert told.pop("cache-control") == "no-cache"
    assert whole == told
    assert whole.pop("x-request-id").startswith("req_")
    assert whole["x-ratelimit-remaining-requests"] == "9999"
    assert streamed.body_bytes is None


@pytest.mark.parametrize("body", [b"{", b"[]", chat(model=""), b'{"model":"m","messages":[]}'])
def test_a_bad_request_is_refused_in_the_protocol(body: bytes) -> None:
    reply = reply_to(body)
    assert reply.status == 400
    assert set(msgspec.json.decode(body_of(reply))["error"]) == {"message", "type", "param", "code"}
