"""Anthropic's answers read: those its documentation shows, every kind of event, and what goes wrong in the middle."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core.conversation import Reasoning, Text, ToolUse
from agent_gateway.core.delta import ArgumentsDelta, Delta, Finished, Started, TextDelta, ToolCallStarted, Used
from agent_gateway.core.errors import (
    EmptyReply,
    MalformedReply,
    ProviderError,
    ProviderFault,
    ProviderKeyRefused,
    ProviderModelMissing,
    ProviderRateLimited,
    ProviderRefusedRequest,
)
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.anthropic.codec import Anthropic
from agent_gateway.wire.sse import FRAME_MAX_BYTES
from tests.protocols.conversations import cut, fold

codec = Anthropic()


def event(name: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode({"type": name, **members}))


def block(index: int, content_block: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    start = event("content_block_start", index=index, content_block=content_block)
    grown = [event("content_block_delta", index=index, delta=delta) for delta in deltas]
    return b"".join([start, *grown, event("content_block_stop", index=index)])


START = event(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-8",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 20, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 75, "output_tokens": 1},
    },
)
THOUGHT = block(
    0,
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "It is "},
    {"type": "thinking_delta", "thinking": "warm."},
    {"type": "signature_delta", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk"},
)
REDACTED = block(1, {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"})
TEXT = block(2, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Okay"}, {"type": "text_delta", "text": ", let's see 你好"})
SEARCH = block(
    3,
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
    {"type": "input_json_delta", "partial_json": '{"query": "x"}'},
)
TOOL = block(
    4,
    {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}},
    {"type": "input_json_delta", "partial_json": ""},
    {"type": "input_json_delta", "partial_json": '{"location": "San'},
    {"type": "input_json_delta", "partial_json": ' Francisco"}'},
)
TOOL_WITHOUT_INPUT = block(5, {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}})
PING = event("ping")
NEW = event("something_new", details={"a": 1})
END = event("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None}, usage={"output_tokens": 89})
STOP = event("message_stop")
STREAM = START + PING + THOUGHT + REDACTED + NEW + TEXT + SEARCH + TOOL + TOOL_WITHOUT_INPUT + END + STOP
SIGNATURE = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk"
PARTS = (
    Reasoning("It is warm.", SIGNATURE, origin="anthropic"),
    Reasoning(redacted="EmwKAhgBEgy3va3pzix", origin="anthropic"),
    Text("Okay, let's see 你好"),
    ToolUse("toolu_1", "get_weather", '{"location": "San Francisco"}'),
    ToolUse("toolu_2", "now", "{}"),
)
USAGE = Usage(input=100, output=89, cache_read=75, cache_write=5)


def test_a_stream_is_read_whole() -> None:
    reader = codec.stream_reader()
    deltas = reader.feed(STREAM)
    reader.finish()
    assert reader.done
    answer = fold(deltas)
    assert answer.started == Started("msg_1", "claude-opus-4-8")
    assert answer.choices[0].parts == PARTS
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage == USAGE


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_every_split_in_two_gives_the_same_deltas(ending: bytes) -> None:
    stream = STREAM.replace(b"\n", ending)
    expected = codec.stream_reader().feed(STREAM)
    for place in range(len(stream)):
        reader = codec.stream_reader()
        assert reader.feed(stream[:place]) + reader.feed(stream[place:]) == expected
        reader.finish()


@given(cut(STREAM))
def test_any_split_gives_the_same_deltas(pieces: list[bytes]) -> None:
    reader = codec.stream_reader()
    assert [delta for piece in pieces for delta in reader.feed(piece)] == codec.stream_reader().feed(STREAM)


def test_data_without_a_name_and_on_several_lines_is_read() -> None:
    reader = codec.stream_reader()
    named = b"id: 7\nevent: content_block_delta\n"
    named += b'data: {"type":"content_block_delta","index":0,\ndata: "delta":{"type":"text_delta","text":"a"}}\n\n'
    unnamed = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"b"}}\n\n'
    assert reader.feed(named + b": a comment\n\n" + unnamed) == [TextDelta("a"), TextDelta("b")]


def test_usage_is_told_at_the_start_and_completed_at_the_end() -> None:
    told = [delta.usage for delta in codec.stream_reader().feed(STREAM) if isinstance(delta, Used)]
    assert told == [Usage(input=100, output=1, cache_read=75, cache_write=5), USAGE]


def test_usage_of_the_end_replaces_that_of_the_start() -> None:
    end = event(
        "message_delta",
        delta={"stop_reason": "end_turn"},
        usage={"input_tokens": 40, "cache_read_input_tokens": None, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}},
    )
    usage = fold(codec.stream_reader().feed(START + end)).usage
    assert usage == Usage(input=120, output=9, cache_read=75, cache_write=5, reasoning=4)


def test_it_finishes_once() -> None:
    deltas = codec.stream_reader().feed(START + event("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 3}) + END + END)
    assert [delta for delta in deltas if isinstance(delta, Finished)] == [Finished("tool_calls")]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", Finished("stop")),
        ("stop_sequence", Finished("stop", stop_sequence="END")),
        ("max_tokens", Finished("length")),
        ("model_context_window_exceeded", Finished("length")),
        ("tool_use", Finished("tool_calls")),
        ("pause_turn", Finished("stop")),
        ("refusal", Finished("refusal")),
        ("a_new_reason", Finished("stop")),
    ],
)
def test_reasons(reason: str, expected: Finished) -> None:
    sequence = "END" if reason == "stop_sequence" else None
    end = event("message_delta", delta={"stop_reason": reason, "stop_sequence": sequence}, usage={"output_tokens": 1})
    assert codec.stream_reader().feed(START + end)[-1] == expected
    whole = msgspec.json.encode({"type": "message", "content": [], "stop_reason": reason, "stop_sequence": sequence})
    assert codec.read_answer(whole)[-1] == expected


def test_input_that_is_there_from_the_start_is_told() -> None:
    stream = block(0, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}})
    assert codec.stream_reader().feed(stream) == [ToolCallStarted(0, "t", "f"), ArgumentsDelta(0, '{"a":1}')]


# --- whole ------------------------------------------------------------------------------------------------------------

WHOLE = msgspec.json.encode(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-8",
        "content": [
            {"type": "thinking", "thinking": "It is warm.", "signature": SIGNATURE},
            {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"},
            {"type": "text", "text": "Okay, let's see 你好", "citations": None},
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": {"type": "web_search_tool_result_error"}},
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"location": "San Francisco"}},
            {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 20, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 75, "output_tokens": 89},
    }
)


def test_a_whole_answer_is_read() -> None:
    answer = fold(codec.read_answer(WHOLE))
    assert answer.choices[0].parts == (*PARTS[:3], ToolUse("toolu_1", "get_weather", '{"location":"San Francisco"}'), PARTS[4])
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage == USAGE
    assert answer.started == Started("msg_1", "claude-opus-4-8")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"content": 1}', b'{"content":[{"type":"text","text":1}]}', b"\xff", b"[" * 9999]
)
def test_what_is_no_answer_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedReply):
        codec.read_answer(body)


def test_an_answer_without_content_is_empty() -> None:
    with pytest.raises(EmptyReply):
        codec.read_answer(b'{"type":"message","id":"msg_1"}')


# --- what goes wrong --------------------------------------------------------------------------------------------------

ERRORS: list[tuple[str, type[ProviderError], bool]] = [
    ("overloaded_error", ProviderFault, True),
    ("api_error", ProviderFault, True),
    ("timeout_error", ProviderFault, True),
    ("a_new_error", ProviderFault, True),
    ("rate_limit_error", ProviderRateLimited, True),
    ("authentication_error", ProviderKeyRefused, True),
    ("permission_error", ProviderKeyRefused, True),
    ("billing_error", ProviderKeyRefused, True),
    ("not_found_error", ProviderModelMissing, True),
    ("invalid_request_error", ProviderRefusedRequest, False),
    ("request_too_large", ProviderRefusedRequest, False),
]


@pytest.mark.parametrize(("kind", "expected", "retryable"), ERRORS)
def test_an_error_inside_an_answer_is_classed_by_its_type(kind: str, expected: type[ProviderError], retryable: bool) -> None:
    error = {"type": kind, "message": "the provider's own words"}
    with pytest.raises(expected) as in_stream:
        codec.stream_reader().feed(event("error", error=error))
    with pytest.raises(expected) as in_whole:
        codec.read_answer(msgspec.json.encode({"type": "error", "error": error}))
    for raised in (in_stream, in_whole):
        assert raised.value.retryable is retryable
        assert raised.value.detail == f"{kind}: the provider's own words"
        assert "own words" not in raised.value.message


def test_what_came_before_an_error_is_told_first() -> None:
    reader = codec.stream_reader()
    failed = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    deltas = reader.feed(START + TEXT + failed + TEXT)
    assert fold(deltas).choices[0].text == "Okay, let's see 你好"
    with pytest.raises(ProviderFault):
        reader.feed(TEXT)
    with pytest.raises(ProviderFault):
        reader.finish()


@pytest.mark.parametrize("bad", [b"data: {not json}\n\n", b'data: {"type":1}\n\n', b'data: "text"\n\n', b"data: \xff\n\n"])
def test_an_event_that_is_not_of_the_protocol_is_malformed(bad: bytes) -> None:
    with pytest.raises(MalformedReply):
        codec.stream_reader().feed(bad)


def test_an_event_over_the_limit_is_malformed() -> None:
    reader = codec.stream_reader()
    with pytest.raises(MalformedReply):
        reader.feed(b"data: " + b"x" * (FRAME_MAX_BYTES + 1))


@given(st.integers(0, len(STREAM) - len(STOP) - len(END)))
def test_a_stream_that_is_cut_is_never_taken_for_whole(place: int) -> None:
    reader = codec.stream_reader()
    reader.feed(STREAM[:place])
    with pytest.raises((MalformedReply, EmptyReply)):
        reader.finish()


def test_a_stream_without_its_end_mark_is_whole_once_it_has_finished() -> None:
    reader = codec.stream_reader()
    reader.feed(START + TEXT + END)
    reader.finish()
    assert not reader.done


def test_what_follows_the_end_mark_is_not_read() -> None:
    """Some servers send OpenAI's `[DONE]` too."""
    reader = codec.stream_reader()
    reader.feed(STREAM)
    assert reader.feed(b"data: [DONE]\n\n") == []
    reader.finish()


def test_an_empty_stream_is_an_empty_reply() -> None:
    reader = codec.stream_reader()
    assert reader.feed(PING) == []
    with pytest.raises(EmptyReply):
        reader.finish()


def test_deltas_of_blocks_that_never_began_are_passed_over() -> None:
    grown = event("content_block_delta", index=7, delta={"type": "input_json_delta", "partial_json": "{}"})
    deltas: list[Delta] = codec.stream_reader().feed(grown + event("content_block_stop", index=7))
    assert deltas == []
