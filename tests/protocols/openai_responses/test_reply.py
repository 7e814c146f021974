"""Providers' answers as they come: real shapes, odd ones, and those that fail."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from agent_gateway.core.delta import (
    ArgumentsDelta,
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.errors import EmptyReply, MalformedReply, ProviderFault
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.openai_responses.reply import StreamReader, read_answer
from agent_gateway.wire.sse import DONE, FRAME_MAX_BYTES

USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 29,
}
RESPONSE = {"id": "resp_1", "object": "response", "created_at": 1_700_000_000.0, "model": "gpt-5", "output": []}
THOUGHT = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "**A**\n\na"}, {"type": "summary_text", "text": "b"}],
}
TEXT = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
MESSAGE = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [TEXT]}
CALL = {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "look", "arguments": '{"a":1}'}
ENDED = RESPONSE | {"status": "completed", "usage": USAGE, "output": [THOUGHT | {"encrypted_content": "ENC"}, MESSAGE, CALL]}


def event(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, "sequence_number": 0, **members}))


#: As OpenAI sends it: a summary of two parts, a text, a call, padding, and events that only its own tools have.
STREAM = b"".join(
    [
        event("response.created", response=RESPONSE | {"status": "in_progress"}),
        event("response.in_progress", response=RESPONSE | {"status": "in_progress"}),
        event("response.output_item.added", output_index=0, item=THOUGHT | {"summary": []}),
        event(
            "response.reasoning_summary_part.added",
            output_index=0,
            item_id="rs_1",
            summary_index=0,
            part={"type": "summary_text", "text": ""},
        ),
        event(
            "response.reasoning_summary_text.delta",
            output_index=0,
            item_id="rs_1",
            summary_index=0,
            delta="**A**",
            obfuscation="x",
        ),
        event("response.reasoning_summary_text.delta", output_index=0, item_id="rs_1", summary_index=0, delta="\n\na"),
        event("response.reasoning_summary_text.done", output_index=0, item_id="rs_1", summary_index=0, text="**A**\n\na"),
        event("response.reasoning_summary_text.delta", output_index=0, item_id="rs_1", summary_index=1, delta="b"),
        event("response.output_item.done", output_index=0, item=THOUGHT | {"encrypted_content": "ENC"}),
        event("response.web_search_call.searching", output_index=1, item_id="ws_1", delta={"odd": True}),
        event("response.output_item.added", output_index=1, item=MESSAGE | {"content": []}),
        event("response.content_part.added", output_index=1, item_id="msg_1", content_index=0, part=TEXT | {"text": ""}),
        b": keep-alive\n\n",
        event(
            "response.output_text.delta",
            output_index=1,
            item_id="msg_1",
            content_index=0,
            delta="Hel",
            logprobs=[],
            obfuscation="xx",
        ),
        event("response.output_text.delta", output_index=1, item_id="msg_1", content_index=0, delta="lo", logprobs=[]),
        event("response.output_text.annotation.added", output_index=1, item_id="msg_1", content_index=0, annotation={}),
        event("response.output_text.done", output_index=1, item_id="msg_1", content_index=0, text="Hello"),
        event("response.output_item.done", output_index=1, item=MESSAGE),
        event("response.output_item.added", output_index=2, item=CALL | {"arguments": ""}),
        event("response.function_call_arguments.delta", output_index=2, item_id="fc_1", delta='{"a"'),
        event("response.function_call_arguments.delta", output_index=2, item_id="fc_1", delta=":1}"),
        event("response.function_call_arguments.done", output_index=2, item_id="fc_1", arguments='{"a":1}'),
        event("response.output_item.done", output_index=2, item=CALL),
        event("response.completed", response=ENDED),
    ]
)
SEAL = '["rs_1",[["summary",8],["summary",1]],"ENC"]'
DELTAS: list[Delta] = [
    Started("resp_1", "gpt-5", 1_700_000_000),
    ReasoningDelta("**A**", origin="openai_responses", id="rs_1"),
    ReasoningDelta("\n\na", origin="openai_responses", id="rs_1"),
    ReasoningDelta("\n\nb", origin="openai_responses", id="rs_1"),
    ReasoningDelta(signature=SEAL, origin="openai_responses", id="rs_1"),
    TextDelta("Hel"),
    TextDelta("lo"),
    ToolCallStarted(0, "call_1", "look"),
    ArgumentsDelta(0, '{"a"'),
    ArgumentsDelta(0, ":1}"),
    Used(Usage(input=20, output=9, cache_read=5, cache_write=2, reasoning=4)),
    Finished("tool_calls"),
]


def read(stream: bytes) -> list[Delta]:
    reader = StreamReader()
    deltas = reader.feed(stream)
    reader.finish()
    return deltas


def test_a_real_stream_is_read() -> None:
    assert read(STREAM) == DELTAS


def test_it_is_the_same_cut_at_any_byte() -> None:
    for cut in range(len(STREAM)):
        reader = StreamReader()
        assert reader.feed(STREAM[:cut]) + reader.feed(STREAM[cut:]) == DELTAS
        assert reader.done


def test_it_is_the_same_byte_by_byte_and_with_other_line_ends() -> None:
    for stream in (STREAM, STREAM.replace(b"\n", b"\r\n")):
        reader = StreamReader()
        assert [delta for byte in range(len(stream)) for delta in reader.feed(stream[byte : byte + 1])] == DELTAS


def test_what_follows_the_end_is_passed_over() -> None:
    reader = StreamReader()
    assert reader.feed(STREAM + DONE) == DELTAS
    assert reader.feed(event("response.output_text.delta", output_index=1, delta="more")) == []
    reader.finish()


def test_a_server_that_tells_everything_at_an_items_end_is_understood() -> None:
    stream = b"".join(
        [
            event("response.output_item.done", output_index=0, item=THOUGHT | {"encrypted_content": "ENC"}),
            event("response.output_text.delta", output_index=1, content_index=0, delta="He"),
            event("response.output_item.done", output_index=1, item=MESSAGE),
            event("response.output_item.done", output_index=2, item=CALL),
            event("response.completed", response=ENDED),
        ]
    )
    assert read(stream) == [
        ReasoningDelta("**A**\n\na", origin="openai_responses", id="rs_1"),
        ReasoningDelta("\n\nb", origin="openai_responses", id="rs_1"),
        ReasoningDelta(signature=SEAL, origin="openai_responses", id="rs_1"),
        TextDelta("He"),
        TextDelta("llo"),
        ToolCallStarted(0, "call_1", "look"),
        ArgumentsDelta(0, '{"a":1}'),
        Started("resp_1", "gpt-5", 1_700_000_000),
        *DELTAS[-2:],
    ]


def test_a_whole_answer_is_read() -> None:
    """As a stream would be that tells each item only at its end."""
    ends = [
        event("response.output_item.done", output_index=place, item=item)
        for place, item in enumerate((THOUGHT | {"encrypted_content": "ENC"}, MESSAGE, CALL))
    ]
    assert read_answer(msgspec.json.encode(ENDED)) == read(b"".join(ends) + event("response.completed", response=ENDED))


def test_thoughts_that_are_spelled_out_are_read() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
    stream = (
        event("response.reasoning_text.delta", output_index=0, item_id="rs_1", content_index=0, delta="Hm.")
        + event("response.output_item.done", output_index=0, item=item)
        + event("response.completed", response=ENDED)
    )
    assert read(stream)[:2] == [
        ReasoningDelta("Hm.", origin="openai_responses", id="rs_1"),
        ReasoningDelta(signature='["rs_1",[["content",3]],null]', origin="openai_responses", id="rs_1"),
    ]


def test_logprobs_are_told_as_openai_chat_tells_them() -> None:
    logprobs = [{"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Ho", "logprob": -1.5}]}]
    [delta] = StreamReader().feed(event("response.output_text.delta", output_index=0, delta="Hi", logprobs=logprobs))
    assert isinstance(delta, TextDelta)
    assert isinstance(delta.logprobs, Raw)
    assert msgspec.json.decode(delta.logprobs) == [
        {"token": "Hi", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "Ho", "logprob": -1.5, "bytes": None}]}
    ]


REFUSAL = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ({"status": "completed", "output": [MESSAGE]}, "stop"),
        ({"output": [MESSAGE]}, "stop"),
        ({"status": "completed", "output": [MESSAGE, CALL]}, "tool_calls"),
        ({"status": "completed", "output": [REFUSAL]}, "refusal"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "incomplete", "incomplete_details": None, "output": [CALL]}, "length"),
    ],
)
def test_why_an_answer_ended(ended: dict[str, Any], reason: FinishReason) -> None:
    assert read_answer(msgspec.json.encode(RESPONSE | ended))[-1] == Finished(reason)


def test_a_refusal_is_read() -> None:
    assert RefusalDelta("No.") in read_answer(msgspec.json.encode(RESPONSE | {"status": "completed", "output": [REFUSAL]}))


# --- failures ---------------------------------------------------------------------------------------------------------

FAULTS = [
    event("response.failed", response=RESPONSE | {"status": "failed", "error": {"code": "server_error", "message": "Boom"}}),
    event("error", code="server_error", message="Boom", param=None),
    event("error", error={"type": "server_error", "message": "Boom"}),
    b'data: {"error":{"type":"server_error","message":"Boom"}}\n\n',
]


@pytest.mark.parametrize("frame", FAULTS)
def test_a_failure_inside_a_stream_is_raised(frame: bytes) -> None:
    with pytest.raises(ProviderFault) as caught:
        StreamReader().feed(frame)
    assert caught.value.detail == "server_error: Boom"


@pytest.mark.parametrize("frame", [*FAULTS, b"data: {\n\n", event("response.output_text.delta", delta="x")])
def test_what_came_before_a_bad_frame_is_told_first(frame: bytes) -> None:
    reader = StreamReader()
    good = event("response.output_text.delta", output_index=0, delta="Hi")
    assert reader.feed(good + frame + good) == [TextDelta("Hi")]
    for again in (lambda: reader.feed(b""), reader.finish):
        with pytest.raises((ProviderFault, MalformedReply)):
            again()


BAD = [
    b"data: nothing\n\n",
    b'data: {"type":7}\n\n',
    event("response.output_text.delta", output_index=0, delta=7),
    event("response.output_item.added", output_index=0, item={"type": "function_call"}),
    event("response.function_call_arguments.delta", output_index=0, delta="{}"),
    event("response.completed", response=RESPONSE | {"status": "in_progress"}),
    b"data: " + b"[" * 100_000 + b"\n\n",
]


@pytest.mark.parametrize("frame", BAD, ids=range(len(BAD)))
def test_what_is_not_the_protocol_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedReply):
        StreamReader().feed(frame)


def test_an_event_without_end_is_refused() -> None:
    with pytest.raises(MalformedReply, match="over the size limit"):
        StreamReader().feed(b"x" * (FRAME_MAX_BYTES + 1))


def test_a_stream_that_stops_is_not_taken_for_complete() -> None:
    with pytest.raises(EmptyReply):
        read(event("response.created", response=RESPONSE))
    cut = STREAM[: STREAM.index(b"event: response.completed")]
    for stream in (cut, cut + b"event: response.comp"):
        with pytest.raises(MalformedReply):
            read(stream)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", MalformedReply),
        (b"[]", MalformedReply),
        (b"{}", EmptyReply),
        (b'{"choices":[]}', EmptyReply),
        (msgspec.json.encode(RESPONSE | {"status": "completed"}), EmptyReply),
        (msgspec.json.encode(RESPONSE | {"status": "queued"}), MalformedReply),
        (msgspec.json.encode(RESPONSE | {"status": "failed", "error": None}), ProviderFault),
        (b'{"error":{"code":"server_error","message":"Boom"}}', ProviderFault),
    ],
)
def test_a_whole_answer_that_is_none(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_answer(body)
