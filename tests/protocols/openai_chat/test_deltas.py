"""Providers' answers read, with the ways of the many that are compatible with OpenAI; and answers that are none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from agent_gateway.core.conversation import Reasoning, Refusal, Text, ToolUse
from agent_gateway.core.delta import Delta, Finished, Started, TextDelta, Used
from agent_gateway.core.errors import EmptyReply, GatewayError, MalformedReply, ProviderFault
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.fold import Choice, fold
from agent_gateway.protocols.openai_chat.codec import OpenAIChat
from tests.kit.samples import COMPLETION, DONE, PROVIDER_MODEL, TEXT, delta, sse, text_frames, tool_call_frames
from tests.protocols.conversations import cut

codec = OpenAIChat()


def read(*frames: bytes) -> list[Delta]:
    reader = codec.stream_reader()
    deltas = [delta for frame in frames for delta in reader.feed(frame)]
    reader.finish()
    return deltas


def said(*changes: dict[str, Any], reason: str | None = "stop") -> Choice:
    """The one choice of a stream of these deltas."""
    frames = [sse(delta(change)) for change in changes]
    return fold(read(*frames, sse(delta({}, reason)), DONE)).choices[0]


def unary(message: dict[str, Any], reason: str | None = "stop", **choice: Any) -> Choice:
    body = msgspec.json.encode({"choices": [{"index": 0, "message": message, "finish_reason": reason, **choice}]})
    return fold(codec.read_answer(body)).choices[0]


# --- as OpenAI has it -------------------------------------------------------------------------------------------------


def test_a_stream_of_text() -> None:
    begun, *texts, finished, used = read(*text_frames(["Hel", "lo"], usage=True))
    assert begun == Started("chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", PROVIDER_MODEL, 1741570283, "fp_fc9f1d7035")
    assert texts == [TextDelta("Hel"), TextDelta("lo")]
    assert (finished, used) == (Finished("stop"), Used(Usage(input=19, output=10)))


@given(st.data())
def test_any_split_gives_the_same(data: st.DataObject) -> None:
    whole = b": hi\r\n\r\n" + b"".join([*text_frames(["Hel", "lo 你好"], usage=True)[:-1], *tool_call_frames()])
    assert fold(read(*data.draw(cut(whole)))) == fold(read(whole))


def test_a_whole_answer() -> None:
    answer = fold(codec.read_answer(COMPLETION))
    assert answer.choices == (Choice(0, (Text(TEXT),), "stop"),)
    assert answer.started == Started("chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", PROVIDER_MODEL, 1741569952)
    assert answer.usage == Usage(input=19, output=10)


def test_tool_calls() -> None:
    assert fold(read(*tool_call_frames())).choices == (
        Choice(0, (ToolUse("call_DdmO9pD3xa9XTPNJ32zg2hcA", "get_weather", '{"city":"Paris"}'),), "tool_calls"),
    )
    calls = [
        {"id": name, "type": "function", "function": {"name": tool, "arguments": "{}"}} for name, tool in (("a", "f"), ("b", "f"))
    ]
    uses = (ToolUse("a", "f", "{}"), ToolUse("b", "f", "{}"))
    assert unary({"content": None, "tool_calls": calls}).parts == uses
    assert said({"tool_calls": [{"index": place, **call} for place, call in enumerate(calls)]}).parts == uses


def test_a_refusal_is_one_even_if_it_ends_with_stop() -> None:
    assert said({"refusal": "I "}, {"refusal": "won't"}) == Choice(0, (Refusal("I won't"),), "refusal")
    assert unary({"content": None, "refusal": "No"}) == Choice(0, (Refusal("No"),), "refusal")


def test_several_choices() -> None:
    frames = [sse({"choices": [{"index": index, "delta": {"content": "ab"[index]}}]}) for index in (1, 0)]
    ends = [sse({"choices": [{"index": index, "delta": {}, "finish_reason": "length"}]}) for index in (0, 1)]
    assert fold(read(*frames, *ends, DONE)).choices == (Choice(0, (Text("a"),), "length"), Choice(1, (Text("b"),), "length"))


def test_logprobs() -> None:
    token = {"token": "a", "logprob": -1, "bytes": [97], "top_logprobs": []}
    frame = sse({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [token], "refusal": None}}]})
    (choice,) = fold(read(frame, sse(delta({}, "stop")), DONE)).choices
    assert choice.logprobs == (Raw(msgspec.json.encode(token)),)


def test_usage_in_detail() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    deltas = read(*text_frames(["a"])[:-1], sse({"choices": [], "usage": usage}), DONE)
    assert deltas[-1] == Used(Usage(input=9, output=5, cache_read=3, cache_write=2, reasoning=4))


# --- as others have it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        [{"reasoning_content": "H"}, {"reasoning_content": "m"}, {"content": "a"}],  # DeepSeek, vLLM
        [{"reasoning": "Hm"}, {"content": "a"}],  # Groq, OpenRouter
        [{"reasoning": "Hm", "reasoning_content": "Hm"}, {"content": "a"}],  # vLLM, both names
        [{"reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm", "index": 0}]}, {"content": "a"}],
        [
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "a"}]}
        ],  # Mistral
    ],
)
def test_thoughts(changes: list[dict[str, Any]]) -> None:
    assert said(*changes).parts == (Reasoning("Hm", origin="openai_chat"), Text("a"))


def test_a_streamed_signature_belongs_to_the_thought_before_it() -> None:
    """OpenRouter."""
    detail = {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1"}
    pieces = [{**detail, "text": "Hm"}, {**detail, "text": "m"}, {**detail, "signature": "s"}]
    parts = said(*[{"content": "", "reasoning_details": [piece]} for piece in pieces], {"content": "a"}).parts
    assert parts == (Reasoning("Hmm", "anthropic-claude-v1 s", None, "openai_chat"), Text("a"))


@pytest.mark.parametrize(
    "calls",
    [
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
            {"index": 0, "id": "b", "function": {"name": "g"}},
        ],
        [{"id": "a", "function": {"name": "f"}}, {"function": {"arguments": "{}"}}, {"id": "b", "function": {"name": "g"}}],
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "}"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": None}},
            {"index": 1, "id": "", "function": {"name": None, "arguments": ""}},
        ],
        [
            {"index": 3, "id": "a", "function": {"name": "f", "arguments": "{}"}},
            {"index": 7, "id": "b", "function": {"name": "g"}},
        ],
    ],
    ids=["one number for all", "no numbers", "all repeated", "numbers with gaps"],
)
def test_tool_calls_however_they_are_numbered(calls: list[dict[str, Any]]) -> None:
    choice = said(*[{"tool_calls": [call]} for call in calls])
    assert choice == Choice(0, (ToolUse("a", "f", "{}"), ToolUse("b", "g", "")), "tool_calls")


def test_a_tool_call_without_an_id_gets_one_of_its_own() -> None:
    function = {"name": "f", "arguments": "{}"}
    streamed = said({"tool_calls": [{"index": 0, "function": function}, {"index": 1, "function": function}]}).tool_uses
    legacy = said({"function_call": {"name": "f"}}, {"function_call": {"arguments": "{}"}}, reason="function_call")
    assert len({use.id for use in streamed}) == 2
    assert (legacy.tool_uses[0].arguments, legacy.finish_reason) == ("{}", "tool_calls")


@pytest.mark.parametrize(
    ("told", "reason"),
    [("stop", "stop"), ("eos", "stop"), ("length", "length"), ("model_length", "length"), ("content_filter", "content_filter")],
)
def test_reasons(told: str, reason: str) -> None:
    assert said({"content": "a"}, reason=told).finish_reason == reason


def test_the_stop_sequence_where_it_is_told() -> None:
    """vLLM; a number is a token's."""
    assert unary({"content": "a"}, stop_reason="END").stop_sequence == "END"
    assert unary({"content": "a"}, stop_reason=7).stop_sequence is None


def test_a_reason_that_was_left_out_is_made_up_at_the_end() -> None:
    frame = sse(delta({"content": "a"}))
    assert read(frame, DONE)[-1] == Finished("stop")
    assert unary({"content": "a"}, None).finish_reason == "stop"


def test_a_first_chunk_without_choices_begins_nothing() -> None:
    """Azure tells first what its filter made of the prompt."""
    filtered = sse({"id": "", "model": "", "choices": [], "prompt_filter_results": [{}]})
    assert isinstance(read(filtered, *text_frames(["a"]))[0], Started)


def test_a_whole_answer_may_be_streamed_as_one_message() -> None:
    body = msgspec.json.decode(COMPLETION)
    assert fold(read(sse(body), DONE)).choices == fold(codec.read_answer(COMPLETION)).choices


# --- what is no answer ------------------------------------------------------------------------------------------------

ERROR = sse({"error": {"message": "Overloaded", "code": 502}})


def test_an_error_after_content_comes_after_it() -> None:
    reader = codec.stream_reader()
    assert reader.feed(text_frames(["a"])[1] + ERROR)[-1] == TextDelta("a")
    for _ in range(2):
        with pytest.raises(ProviderFault):
            reader.feed(DONE)
    with pytest.raises(ProviderFault):
        reader.finish()


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (ERROR, ProviderFault),
        (sse(delta({"content": "a"}, "error")), ProviderFault),
        (sse(delta({}, "insufficient_system_resource")), ProviderFault),
        (b"data: {nope\n\n", MalformedReply),
        (b"data: \xff\n\n", MalformedReply),
        (b"data: " + b"[" * 100_000 + b"\n\n", MalformedReply),
        (sse({"choices": "none"}), MalformedReply),
        (sse(delta({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})), MalformedReply),
        (b"data: " + b"x" * (16 * 1024 * 1024), MalformedReply),
    ],
    ids=[
        "error",
        "broke off",
        "no resources",
        "no JSON",
        "no UTF-8",
        "too deep",
        "odd types",
        "a call without a name",
        "too large",
    ],
)
def test_what_is_no_answer_is_refused(frame: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        codec.stream_reader().feed(frame)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":{"message":"no"}}', ProviderFault),
        (b'{"choices":[]}', EmptyReply),
        (b"{}", EmptyReply),
        (b"", MalformedReply),
        (b"<html>", MalformedReply),
        (b'{"choices":[{"index":"0"}]}', MalformedReply),
    ],
)
def test_a_body_that_is_no_answer_is_refused(body: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        codec.read_answer(body)


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"", EmptyReply),
        (b": waiting\n\n", EmptyReply),
        (DONE, None),
        (b"".join(text_frames(["a"])[:-2]), MalformedReply),
        (b"".join(text_frames(["a"])[:-1]), None),
        (b"".join(text_frames(["a"])[:-1]) + b"data: [DO", MalformedReply),
        (b"".join(text_frames(["a"])) + b"\n", None),
    ],
    ids=["nothing", "a comment", "only the end", "cut", "no end mark", "cut inside an event", "a blank line more"],
)
def test_whether_a_stream_was_complete(stream: bytes, error: type[GatewayError] | None) -> None:
    reader = codec.stream_reader()
    reader.feed(stream)
    if error is None:
        reader.finish()
    else:
        with pytest.raises(error):
            reader.finish()


def test_nothing_is_read_behind_the_end() -> None:
    reader = codec.stream_reader()
    reader.feed(b"".join(text_frames(["a"])))
    assert reader.done
    assert reader.feed(sse(delta({"content": "more"}))) == []


@given(st.binary(max_size=80))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    for read_it in (codec.read_answer, codec.stream_reader().feed):
        try:
            read_it(data)
        except (MalformedReply, EmptyReply, ProviderFault):
            continue
