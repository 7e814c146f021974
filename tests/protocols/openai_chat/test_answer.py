"""Answers written for clients: OpenAI's SDK puts together from them what the provider said."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from agent_gateway.core.call import Call
from agent_gateway.core.delta import (
    ArgumentsDelta,
    Delta,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.errors import ProviderTimeout, RateLimited
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.openai_chat.codec import OpenAIChat
from agent_gateway.wire.sse import DONE, FrameSplitter, frame_data
from tests.protocols.conversations import answers, fold
from tests.protocols.openai_chat.test_round_trip import ALL

codec = OpenAIChat()
HEAD = AnswerHead("abc123", 1_700_000_000, "public-name", "fp_1")
CALL = Call("openai_chat", "public-name", b"{}", wants_usage=True)
STARTED = Started("msg_provider", "claude", 5)


def chunks(*deltas: Delta, wants_usage: bool = True) -> list[dict[str, Any]]:
    call = Call("openai_chat", "public-name", b"{}", wants_usage=wants_usage)
    writer = codec.stream_writer(HEAD, call)
    stream = writer.write(deltas) + writer.end()
    assert stream.endswith(DONE)
    return [msgspec.json.decode(frame_data(frame) or b"") for frame in FrameSplitter.split(stream)[:-1]]


def changes(*deltas: Delta) -> list[dict[str, Any]]:
    """What each chunk but those for role and reason says."""
    said = [chunk["choices"][0]["delta"] for chunk in chunks(*deltas) if chunk["choices"]]
    return [change for change in said if change and "role" not in change]


def message(*deltas: Delta) -> dict[str, Any]:
    whole: dict[str, Any] = msgspec.json.decode(codec.write_answer(HEAD, [STARTED, *deltas, Finished("stop")], CALL))
    told: dict[str, Any] = whole["choices"][0]["message"]
    return told


@given(answers(ALL))
def test_the_sdk_reads_a_stream_as_it_reads_the_whole(deltas: list[Delta]) -> None:
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for chunk in chunks(*deltas):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    streamed = state.current_completion_snapshot
    whole = ChatCompletion.model_validate_json(codec.write_answer(HEAD, deltas, CALL))
    assert (
        (streamed.id, streamed.created, streamed.model)
        == (whole.id, whole.created, whole.model)
        == (
            "chatcmpl-abc123",
            1_700_000_000,
            "public-name",
        )
    )
    assert (streamed.usage, streamed.system_fingerprint) == (whole.usage, whole.system_fingerprint)
    told = sorted(streamed.choices, key=lambda choice: choice.index)
    for one, other, meant in zip(told, whole.choices, fold(deltas).choices, strict=True):
        assert (one.message.content or "") == (other.message.content or "") == meant.text
        assert one.message.refusal == other.message.refusal
        assert one.finish_reason == other.finish_reason
        for said in (one.message, other.message):
            calls = [
                (call.id, call.function.name, call.function.arguments)
                for call in said.tool_calls or ()
                if call.type == "function"
            ]
            assert calls == [(use.id, use.name, use.arguments) for use in meant.tool_uses]


def test_every_choice_begins_with_its_role() -> None:
    first, text, *_ = chunks(STARTED, TextDelta("Hi"), Finished("stop"))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert text == {
        "id": "chatcmpl-abc123",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "public-name",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": None, "finish_reason": None}],
        "usage": None,
    }


def test_the_text_may_be_what_stands_for_it() -> None:
    """A chunk is filled in where another's text stood."""
    texts = ["\x00", "a", "\x00\x00", '"', "\\u0000"]
    assert [change["content"] for change in changes(*map(TextDelta, texts))] == texts


def test_usage_comes_last_and_only_to_those_who_asked() -> None:
    deltas: list[Delta] = [TextDelta("a"), Used(Usage(input=1, output=1)), Finished("stop"), Used(Usage(input=3, output=4, cache_write=2))]
    *rest, last = chunks(*deltas)
    assert last["choices"] == []
    assert (last["usage"]["prompt_tokens"], last["usage"]["prompt_tokens_details"]["cache_write_tokens"]) == (3, 2)
    assert all(chunk["usage"] is None for chunk in rest)
    assert all("usage" not in chunk for chunk in chunks(*deltas, wants_usage=False))


@pytest.mark.parametrize(
    ("deltas", "reason"),
    [
        ([TextDelta("a"), Finished("stop", stop_sequence="END")], "stop"),
        ([TextDelta("a"), Finished("content_filter")], "content_filter"),
        ([RefusalDelta("No"), Finished("refusal")], "stop"),
        ([TextDelta("a"), Finished("refusal")], "content_filter"),
    ],
)
def test_reasons(deltas: list[Delta], reason: str) -> None:
    assert chunks(*deltas)[-1]["choices"][0]["finish_reason"] == reason
    whole = msgspec.json.decode(codec.write_answer(HEAD, deltas, CALL))
    assert whole["choices"][0]["finish_reason"] == reason


def test_thoughts_are_shown_and_can_be_sent_back() -> None:
    thought: list[Delta] = [ReasoningDelta("H", origin="anthropic"), ReasoningDelta("m", "s", origin="anthropic")]
    assert changes(*thought, TextDelta("a")) == [
        {"reasoning_content": "H", "reasoning_details": [{"type": "reasoning.text", "text": "H", "index": 0}]},
        {"reasoning_content": "m", "reasoning_details": [{"type": "reasoning.text", "text": "m", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.text", "signature": "agw^anthropic:s", "index": 0}]},
        {"content": "a"},
    ]
    assert message(*thought, TextDelta("a")) == {
        "role": "assistant",
        "content": "a",
        "refusal": None,
        "reasoning_content": "Hm",
        "reasoning_details": [{"type": "reasoning.text", "text": "Hm", "signature": "agw^anthropic:s", "index": 0}],
    }


def test_a_thought_right_before_a_tool_call_says_so() -> None:
    redacted: list[Delta] = [
        ReasoningDelta(redacted="r", origin="anthropic"),
        ToolCallStarted(0, "call_1", "f"),
        ArgumentsDelta(0, "{}"),
    ]
    detail = {"type": "reasoning.encrypted", "data": "agw^anthropic:r", "index": 0, "tool_call_id": "call_1"}
    assert changes(*redacted)[0] == {"reasoning_details": [detail]}
    assert message(*redacted)["reasoning_details"] == [detail]


def test_a_signature_at_the_very_end_is_not_lost() -> None:
    ended = ReasoningDelta("", "s", origin="openai_responses", id="rs_1")
    detail = {"type": "reasoning.text", "signature": "agw^openai_responses:s", "id": "rs_1", "index": 0}
    assert changes(ended) == [{"reasoning_details": [detail]}]


@pytest.mark.parametrize(
    ("deltas", "content"),
    [([], ""), ([TextDelta("a")], "a"), ([RefusalDelta("No")], None), ([ToolCallStarted(0, "x", "f")], None)],
)
def test_content_is_null_only_where_something_else_is_said(deltas: list[Delta], content: str | None) -> None:
    assert message(*deltas)["content"] == content


def test_errors() -> None:
    assert msgspec.json.decode(codec.write_error(RateLimited("Slow down."), "req_1"))["error"]["code"] == "rate_limit_exceeded"
    frame = codec.write_stream_error(ProviderTimeout("Too slow.", kind="idle"), "req_1", "small")
    told = msgspec.json.decode(frame_data(frame) or b"")["error"]
    assert (told["code"], told["fallback_model"]) == ("provider_timeout", "small")
