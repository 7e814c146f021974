"""Content that the gateway has no word for: it passes to a client of the provider's own protocol, and counts as an answer there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.delta import Beyond
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.relay import stream_relay, whole_answer
from agent_gateway.protocols.transcript import Transcript

HEAD = AnswerHead("abc", 1_700_000_000, "m")
_json = msgspec.json.encode


def _event(data: dict[str, Any]) -> bytes:
    name = b"event: %b\n" % data["type"].encode() if "type" in data else b""
    return name + b"data: %b\n\n" % _json(data)


IMAGE = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
PICTURE = {"candidates": [{"content": {"parts": [IMAGE], "role": "model"}, "finishReason": "STOP", "index": 0}]}
RUN = {"candidates": [{"content": {"parts": [{"executableCode": {"code": "1"}}]}, "finishReason": "STOP", "index": 0}]}

PATCH = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "apply_patch", "input": "***"}
RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [PATCH]}

SEARCH = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [SEARCH], "stop_reason": "pause_turn"}

WHOLE: list[tuple[Dialect, dict[str, Any]]] = [
    ("gemini", PICTURE),
    ("gemini", RUN),
    ("openai_responses", RESPONSE),
    ("anthropic", MESSAGE),
]
STREAMED: list[tuple[Dialect, list[dict[str, Any]]]] = [
    ("gemini", [PICTURE]),
    (
        "openai_responses",
        [
            {"type": "response.created", "response": RESPONSE | {"status": "in_progress", "output": []}},
            {"type": "response.output_item.added", "output_index": 0, "item": PATCH},
            {"type": "response.output_item.done", "output_index": 0, "item": PATCH},
            {"type": "response.completed", "response": RESPONSE},
        ],
    ),
    (
        "anthropic",
        [
            {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": SEARCH | {"input": {}}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "pause_turn"}, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ],
    ),
]


def _call(dialect: Dialect, *, stream: bool = False) -> Call:
    return Call(dialect, "m", b'{"model":"m","input":"x"}', stream)


@pytest.mark.parametrize(("spoken", "answer"), WHOLE)
def test_an_answer_of_nothing_else_is_not_empty_where_it_passes(spoken: Dialect, answer: dict[str, Any]) -> None:
    passed = whole_answer(_json(answer), _call(spoken), spoken, lambda: HEAD)
    assert (passed.says_something, passed.says_only_text) == (True, False)
    assert passed.body == _json(answer)


@pytest.mark.parametrize(("spoken", "answer"), WHOLE)
def test_where_it_is_translated_nothing_is_said(spoken: Dialect, answer: dict[str, Any]) -> None:
    assert not whole_answer(_json(answer), _call("openai_chat"), spoken, lambda: HEAD).says_something


@pytest.mark.parametrize(("spoken", "events"), STREAMED)
def test_a_stream_has_its_content_as_soon_as_it_comes(spoken: Dialect, events: list[dict[str, Any]]) -> None:
    passing = stream_relay(_call(spoken, stream=True), spoken, lambda: HEAD)
    translating = stream_relay(_call("openai_chat", stream=True), spoken, lambda: HEAD)
    sent = b""
    for event in events[:2]:
        sent += passing.feed(_event(event))
        translating.feed(_event(event))
    assert passing.has_content
    assert sent == b"".join(map(_event, events[:2]))
    for event in events[2:]:
        passing.feed(_event(event))
        translating.feed(_event(event))
    passing.finish()
    translating.finish()
    assert not translating.has_content
    assert not any(isinstance(delta, Beyond) for delta in translating.sent)


def test_an_array_holds_what_the_frames_do() -> None:
    call = Call("gemini", "ours", b"{}", True, framing="json_array")
    relay = stream_relay(call, "gemini", lambda: HEAD)
    more = {"groundingMetadata": {"webSearchQueries": ["x"]}, "modelVersion": "theirs"}
    begun = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "index": 0}]} | more
    sent = relay.feed(_event(begun) + _event(PICTURE)) + relay.feed(b"\n\n") + relay.finish()
    assert relay.done
    assert msgspec.json.decode(sent) == [begun | {"modelVersion": "ours"}, PICTURE]


def test_the_transcript_knows_that_it_does_not_hold_all() -> None:
    transcript = Transcript()
    transcript.read_deltas([Beyond()])
    assert transcript.beyond
    assert transcript.answer() is None


def test_pictures_of_openrouter_are_an_answer() -> None:
    message = {"role": "assistant", "content": "", "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    body = _json({"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    answer = whole_answer(body, _call("openai_chat"), "openai_chat", lambda: HEAD)
    assert (answer.says_something, answer.says_only_text) == (True, False)
