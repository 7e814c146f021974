"""What is read of an answer: every shape of it, however it is cut, and never an error."""

from __future__ import annotations

import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core.usage import Usage
from agent_gateway.protocols import transcript as module
from agent_gateway.protocols.transcript import (
    COMPACT_BYTES,
    CONTENT_MAX_CHARS,
    Answer,
    ToolCall,
    Transcript,
    compact,
    read_answer,
    take_answer,
)
from tests.record.exchanges import FINISH, chunk, exchange, whole


def read(data: bytes, kept_max_chars: int = CONTENT_MAX_CHARS) -> Answer:
    transcript = Transcript(kept_max_chars)
    transcript.read(data)
    answer = transcript.answer()
    assert answer is not None
    return answer


def encoded(answer: Answer | None) -> bytes:
    return msgspec.json.encode(answer)


TOOLS = b"".join(
    b"data: %b\n\n" % data
    for data in (
        b'{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":"Let me "}}]}',
        b'{"choices":[{"index":0,"delta":{"reasoning_content":"look."}}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"find","arguments":""}}]}}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"t2","function":{"name":"open","arguments":"{}"}}]}}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"q\\":"}}]}}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\"cat\\"}"}}]}}]}',
        b'{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}',
        b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":2}}}',
        b"[DONE]",
    )
)


def test_a_stream_becomes_its_text() -> None:
    answer = read(chunk("Hello") + chunk(" there 你好") + FINISH)
    assert encoded(answer) == '{"content":"Hello there 你好","finish_reason":"stop"}'.encode()


def test_tool_calls_and_reasoning_are_put_together() -> None:
    answer = read(TOOLS)
    assert answer.reasoning == "Let me look."
    assert answer.tool_calls == [ToolCall("t1", "find", '{"q":"cat"}'), ToolCall("t2", "open", "{}")]
    assert answer.content is None
    assert answer.finish_reason == "tool_calls"


def test_an_answer_tells_its_own_usage() -> None:
    transcript = Transcript()
    transcript.read(TOOLS)
    assert transcript.usage == Usage(input=9, output=5, reasoning=2)


def test_a_body_becomes_its_text() -> None:
    assert encoded(read(b"\n  " + whole("Hi"))) == b'{"content":"Hi","finish_reason":"stop"}'


def test_further_choices_and_parts_of_text_are_kept() -> None:
    parts = b'[{"type":"text","text":"Yes"},{"type":"x"}]'
    answer = read(b'{"choices":[{"index":1,"message":{"refusal":"No."}},{"index":0,"message":{"content":%b}}]}' % parts)
    assert answer.content == "Yes"
    assert answer.choices is not None
    assert [choice.refusal for choice in answer.choices] == ["No."]


def test_the_error_that_ends_a_stream_is_kept_beside_its_text() -> None:
    answer = read(chunk("Hel") + b'data: {"error":{"message":"gone","code":"provider_timeout"}}\n\n')
    assert answer.content == "Hel"
    assert encoded(answer).endswith(b'"error":{"message":"gone","code":"provider_timeout"}}')


def test_a_body_of_another_shape_is_kept_as_it_is() -> None:
    assert encoded(read(b'{"object":"list","data":[1,2]}')) == b'{"body":{"object":"list","data":[1,2]}}'


@pytest.mark.parametrize(
    "data",
    [
        (chunk("a") + b": heartbeat\n\n" + chunk("b") + FINISH).replace(b"\n", b"\r\n"),
        b'event: x\ndata: {"choices":[{"index":0,\ndata: "delta":{"content":"ab"},"finish_reason":"stop"}]}\n\n',
        b'id: 4\n\ndata:{"choices":[{"index":0,"delta":{"content":"ab"},"finish_reason":"stop"}]}\n\ndata:[DONE]\n\n',
    ],
    ids=["heartbeat and CRLF", "several data lines", "no space"],
)
def test_unusual_frames_are_read_too(data: bytes) -> None:
    assert encoded(read(data)) == b'{"content":"ab","finish_reason":"stop"}'


def test_garbage_is_counted_and_what_is_around_it_kept() -> None:
    torn = b'data: {"choices":[{"ind'
    answer = read(chunk("a") + b"<html>\n\n" + chunk("b") + torn)
    assert answer.content == "ab"
    assert answer.unread_bytes == len(b"<html>\n\n") + len(torn) - len(b"data: ")


def test_content_is_bounded() -> None:
    answer = read(chunk("12345") + chunk("6789") + FINISH, kept_max_chars=7)
    assert (answer.content, answer.truncated, answer.finish_reason) == ("1234567", True, "stop")
    transcript = Transcript(7)
    transcript.read(chunk("12345") + chunk("6789"))
    assert transcript.chars == 9


def test_choices_and_tool_calls_are_bounded() -> None:
    choices = b",".join(b'{"index":%d,"message":{"content":"x"}}' % index for index in range(1000))
    answer = read(b'{"choices":[%b]}' % choices)
    assert answer.truncated
    assert answer.choices is not None
    assert len(answer.choices) == 127


def test_what_is_known_of_a_plain_body_is_told_without_reading_it() -> None:
    known = exchange(answer=[whole("Hello")])
    known.transcript = Answer("Hello", finish_reason="stop")
    assert encoded(take_answer(known)) == encoded(read_answer(exchange(answer=[whole("Hello")])).answer())


FRAMES = st.one_of(st.text(max_size=20).map(chunk), st.sampled_from([FINISH, TOOLS, b": hold on\n\n", b"data: oops\n\n"]))


PIECES = st.lists(
    st.text(max_size=6) | st.sampled_from(['"', "\\", '"},"finish_reason":null}]}', "data: {", '"content":"', "\n\n"]), min_size=3
)


def _frame(member: str, text: str, padding: str | None) -> bytes:
    delta = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]} if member == "arguments" else {member: text}
    frame = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    return b"data: %b\n\n" % msgspec.json.encode(frame if padding is None else frame | {"obfuscation": padding})


@given(
    st.lists(st.tuples(st.sampled_from(["content", "reasoning_content", "arguments"]), PIECES), max_size=3),
    st.sampled_from([None, "", "aZ09"]),
    st.lists(FRAMES, max_size=2),
    st.integers(1, 60),
)
def test_joining_frames_before_they_are_read_changes_nothing(
    runs: list[tuple[str, list[str]]], padding: str | None, others: list[bytes], kept_max_chars: int
) -> None:
    frames = [_frame(member, text, padding and padding[: len(text)]) for member, pieces in runs for text in pieces]
    data = b"".join([chunk(""), *frames, *others, *frames[:4], FINISH])
    plain, joined = Transcript(kept_max_chars), Transcript(kept_max_chars)
    plain.read(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "JOIN_BYTES", 0)
        joined.read(data)
    assert encoded(joined.answer()) == encoded(plain.answer())
    assert (joined.chars, joined.truncated, joined.unread_bytes) == (plain.chars, plain.truncated, plain.unread_bytes)


def test_a_long_stream_is_joined_to_a_few_frames() -> None:
    for padding in (None, "abcdefg"):
        frames = [_frame("content", f" token{number}", padding and padding[: number % 7]) for number in range(64)]
        data = b"".join([chunk(""), *frames, FINISH])
        assert len(module._joined(data)) < len(data) / 4


@pytest.mark.parametrize("text", ["", "Hello", "x" * CONTENT_MAX_CHARS, "x" * (CONTENT_MAX_CHARS + 1)])
@pytest.mark.parametrize("more", [{}, {"refusal": None, "tool_calls": []}, {"reasoning_content": "Hm."}, {"refusal": "No."}])
def test_a_plain_body_is_read_in_one_go_to_the_same_answer(text: str, more: dict[str, object]) -> None:
    body = msgspec.json.encode({"choices": [{"index": 0, "message": {"content": text, **more}, "finish_reason": "stop"}]})
    assert encoded(take_answer(exchange(answer=[body]))) == encoded(read(body))


@given(st.lists(FRAMES))
def test_compacting_at_any_frame_changes_nothing(frames: list[bytes]) -> None:
    plain = exchange(answer=list(frames), stream=True)
    compacted = exchange(answer=[], stream=True)
    for frame in frames:
        compacted.answer.append(frame)
        compacted.answer_bytes += len(frame)
        compact(compacted)
        assert compacted.answer == []
        assert compacted.compacted_bytes == compacted.answer_bytes
    assert encoded(read_answer(compacted).answer()) == encoded(read_answer(plain).answer())


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_are_read_without_an_error(data: bytes, cut: int) -> None:
    made = exchange(answer=[data[:cut], data[cut:]], stream=True)
    compact(made)
    read_answer(made).answer()


def test_a_frame_that_is_not_whole_waits_for_its_end() -> None:
    frame = chunk("whole")
    made = exchange(answer=[chunk("a"), frame[:20]], stream=True)
    compact(made)
    assert made.answer == [frame[:20]]
    made.answer.append(frame[20:])
    assert encoded(take_answer(made)) == b'{"content":"awhole"}'


def test_a_long_stream_keeps_its_content_and_not_its_frames() -> None:
    made = exchange(answer=[], stream=True)
    frame = chunk(" token")
    for _ in range(5000):
        made.answer.append(frame)
        made.answer_bytes += len(frame)
        if made.answer_bytes - made.compacted_bytes > COMPACT_BYTES:
            compact(made)
    unread = sum(len(sent) for sent in made.answer if isinstance(sent, bytes))
    kept = unread + sum(sys.getsizeof(text) for text in read_answer(made).texts())
    assert kept < 5000 * len(" token") + 2 * COMPACT_BYTES
    assert read_answer(made).chars == 5000 * len(" token")
