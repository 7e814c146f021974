"""Answers as an Anthropic client gets them: its SDK reads every one, whole and streamed."""

from __future__ import annotations

import msgspec
from anthropic.types import Message
from hypothesis import given

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
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.anthropic.codec import Anthropic
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.wire.sse import FrameSplitter, frame_data
from tests.protocols.anthropic import sdk
from tests.protocols.conversations import Expressible, answers

codec = Anthropic()
HEAD = AnswerHead("abc123", 1_700_000_000, "the-model")
CALL = Call("anthropic", "the-model", b"{}")

PARALLEL: list[Delta] = [
    Started("chatcmpl-9", "gpt-4o"),
    ReasoningDelta("Let me ", origin="openai_responses"),
    ReasoningDelta("look.", origin="openai_responses"),
    ReasoningDelta(signature="sig", origin="openai_responses"),
    TextDelta("I look "),
    TextDelta("it up."),
    ToolCallStarted(0, "call_1", "weather"),
    ArgumentsDelta(0, '{"city":'),
    ArgumentsDelta(0, '"Paris"}'),
    ToolCallStarted(1, "call_2", "time"),
    ArgumentsDelta(1, "{}"),
    Finished("tool_calls"),
    Used(Usage(input=100, output=20, cache_read=30, cache_write=10, reasoning=5)),
]


def stream(deltas: list[Delta]) -> bytes:
    writer = codec.stream_writer(HEAD, CALL)
    return b"".join(writer.write([delta]) for delta in deltas) + writer.end()


def both(deltas: list[Delta]) -> Message:
    """The whole answer, which the streamed one must equal."""
    whole = sdk.whole(codec.write_answer(HEAD, deltas, CALL))
    assert sdk.streamed(stream(deltas)).to_dict(exclude_none=True) == whole.to_dict(exclude_none=True)
    return whole


@given(answers(Expressible(reasoning_origin="anthropic", redacted_reasoning=True, refusals=True, stop_sequences=True, cache_write=True)))
def test_the_sdk_reads_every_answer(deltas: list[Delta]) -> None:
    both(deltas)


def test_thought_text_and_parallel_tools_have_blocks_of_their_own() -> None:
    message = both(PARALLEL)
    assert (message.id, message.model, message.stop_reason) == ("msg_abc123", "the-model", "tool_use")
    thought, text, weather, time = message.content
    assert thought.type == "thinking"
    assert (thought.thinking, thought.signature) == ("Let me look.", "agw^openai_responses:sig")
    assert text.type == "text"
    assert text.text == "I look it up."
    assert weather.type == time.type == "tool_use"
    assert (weather.id, weather.name, weather.input) == ("call_1", "weather", {"city": "Paris"})
    assert (time.id, time.name, time.input) == ("call_2", "time", {})
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (60, 30, 10)
    assert usage.output_tokens == 20
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == 5


def test_every_event_says_what_it_is_and_blocks_are_counted() -> None:
    names = [frame.split(b"\n")[0].removeprefix(b"event: ").decode() for frame in FrameSplitter.split(stream(PARALLEL))]
    start, grown, stop = "content_block_start", "content_block_delta", "content_block_stop"
    assert names == [
        "message_start",
        *(start, grown, grown, grown, stop),
        *(start, grown, grown, stop),
        *(start, grown, grown, stop),
        *(start, grown, stop),
        "message_delta",
        "message_stop",
    ]


def test_a_signature_without_a_thought_is_a_block_of_its_own() -> None:
    """Gemini hangs one on the call that follows; the client hands it back."""
    deltas: list[Delta] = [ReasoningDelta(signature="g", origin="gemini"), ToolCallStarted(0, "c", "f"), Finished("tool_calls")]
    thought, use = both(deltas).content
    assert thought.type == "thinking"
    assert (thought.thinking, thought.signature) == ("", "agw^gemini:g")
    assert use.type == "tool_use"
    assert use.input == {}


def test_thoughts_of_two_origins_are_two_blocks() -> None:
    deltas: list[Delta] = [ReasoningDelta("a", origin="gemini"), ReasoningDelta("b", origin="openai_chat"), Finished("stop")]
    signatures = [block.signature for block in both(deltas).content if block.type == "thinking"]
    assert signatures == ["agw^gemini:", "agw^openai_chat:"]


def test_a_redacted_thought_of_another_origin_is_marked() -> None:
    (block,) = both([ReasoningDelta(redacted="secret", origin="openai_responses"), Finished("stop")]).content
    assert block.type == "redacted_thinking"
    assert block.data == "agw^openai_responses:secret"


def test_a_refusal_is_text_and_a_reason() -> None:
    message = both([RefusalDelta("I can"), RefusalDelta("not."), Finished("stop")])
    assert message.stop_reason == "refusal"
    (block,) = message.content
    assert block.type == "text"
    assert block.text == "I cannot."


def test_reasons_in_anthropics_words() -> None:
    assert both([TextDelta("a"), Finished("stop")]).stop_reason == "end_turn"
    assert both([TextDelta("a"), Finished("length")]).stop_reason == "max_tokens"
    assert both([TextDelta("a"), Finished("content_filter")]).stop_reason == "refusal"
    stopped = both([TextDelta("a"), Finished("stop", stop_sequence="END")])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "END")


def test_an_answer_that_never_said_why_it_ended_ends_its_turn() -> None:
    assert both([]).stop_reason == "end_turn"
    assert both([Used(Usage(input=3, output=0))]).usage.input_tokens == 3


def test_usage_that_is_known_at_the_start_is_told_there() -> None:
    writer = codec.stream_writer(HEAD, CALL)
    start = writer.write([Used(Usage(input=7, output=1)), TextDelta("a")])
    assert b'"input_tokens":7' in FrameSplitter.split(start)[0]


def test_nothing_is_written_before_anything_is_said() -> None:
    assert codec.stream_writer(HEAD, CALL).write([]) == b""


def test_a_block_is_whole_when_it_stops() -> None:
    """Some OpenAI-compatible servers take turns between parallel calls; clients read a tool's input when its block stops."""
    deltas: list[Delta] = [
        ToolCallStarted(0, "a", "f"),
        ToolCallStarted(1, "b", "g"),
        ToolCallStarted(2, "c", "h"),
        ArgumentsDelta(0, '{"x":'),
        ArgumentsDelta(1, '{"y":2'),
        ArgumentsDelta(0, "1}"),
        ArgumentsDelta(1, "}"),
        Finished("tool_calls"),
    ]
    assert [block.input for block in both(deltas).content if block.type == "tool_use"] == [{"x": 1}, {"y": 2}, {}]
    open_block = None
    for frame in FrameSplitter.split(stream(deltas)):
        event = msgspec.json.decode(frame_data(frame) or b"")
        match event["type"]:
            case "content_block_start":
                assert open_block is None
                open_block = event["index"]
            case "content_block_delta":
                assert event["index"] == open_block
            case "content_block_stop":
                assert event["index"] == open_block
                open_block = None


def test_only_the_first_choice_is_told() -> None:
    message = both([TextDelta("a"), TextDelta("b", choice=1), Finished("stop"), Finished("length", choice=1)])
    assert [block.text for block in message.content if block.type == "text"] == ["a"]
    assert message.stop_reason == "end_turn"


def test_arguments_that_are_no_object_are_kept_in_one() -> None:
    answer = msgspec.json.decode(codec.write_answer(HEAD, [ToolCallStarted(0, "a", "f"), ArgumentsDelta(0, '{"x":')], CALL))
    assert answer["content"][0]["input"] == {"INVALID_JSON": '{"x":'}


def test_pings_are_passed_over() -> None:
    writer = codec.stream_writer(HEAD, CALL)
    told = writer.write([TextDelta("a")]) + codec.heartbeat + writer.write([TextDelta("b")]) + codec.heartbeat + writer.end()
    (block,) = sdk.streamed(told).content
    assert block.type == "text"
    assert block.text == "ab"
