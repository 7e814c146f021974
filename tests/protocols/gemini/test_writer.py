"""Answers written for Gemini's clients, parsed by Google's SDK."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from google.genai import errors, types

from agent_gateway.core.call import Call
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
from agent_gateway.core.errors import BadRequest, GatewayError, ProviderFault, RateLimited, Unauthenticated
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.gemini.codec import Gemini
from tests.protocols.gemini.sdk import Oracle, json

HEAD = AnswerHead("abc", 1_700_000_000, "gpt-4o")
CALLING: list[Delta] = [
    Started("chatcmpl-1", "gpt-4o-2024"),
    ReasoningDelta("h", origin="anthropic"),
    ReasoningDelta("m", "sig", origin="anthropic"),
    TextDelta("Let me "),
    TextDelta("see"),
    ToolCallStarted(0, "c1", "weather"),
    ArgumentsDelta(0, '{"city":'),
    ArgumentsDelta(0, '"Paris"}'),
    ToolCallStarted(1, "c2", "time"),
    Finished("tool_calls"),
    Used(Usage(input=100, output=60, cache_read=40, reasoning=50)),
]


def call(framing: Literal["sse", "json_array"] = "sse") -> Call:
    return Call("gemini", "gpt-4o", b"{}", True, framing=framing)


def stream(deltas: Sequence[Delta], framing: Literal["sse", "json_array"] = "sse") -> bytes:
    writer = Gemini().stream_writer(HEAD, call(framing))
    return b"".join([writer.write([delta]) for delta in deltas]) + writer.end()


def events(deltas: Sequence[Delta]) -> list[Any]:
    told: list[Any] = json(stream(deltas, "json_array"))
    return told


def unary(deltas: Sequence[Delta]) -> Any:
    return json(Gemini().write_answer(HEAD, deltas, call()))


def told_parts(answers: list[types.GenerateContentResponse]) -> list[types.Part]:
    return [part for answer in answers for part in answer.parts or ()]


def test_a_whole_answer_for_the_sdk() -> None:
    answer = Oracle(Gemini().write_answer(HEAD, CALLING, call())).answer()
    assert (answer.response_id, answer.model_version, answer.text) == ("abc", "gpt-4o", "Let me see")
    assert answer.parts
    thought, said, *calls = answer.parts
    assert (thought.text, thought.thought) == ("hm", True)
    assert said.text == "Let me see"
    assert [
        (part.function_call.id, part.function_call.name, part.function_call.args) for part in calls if part.function_call
    ] == [
        ("c1", "weather", {"city": "Paris"}),
        ("c2", "time", {}),
    ]
    assert answer.candidates
    assert answer.candidates[0].finish_reason is types.FinishReason.STOP
    usage = answer.usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count) == (100, 10, 50)
    assert (usage.cached_content_token_count, usage.total_token_count) == (40, 160)


def test_a_stream_for_the_sdk_with_heartbeats_in_it() -> None:
    beat = Gemini.heartbeat
    data = beat + stream(CALLING).replace(b"\n\n", b"\n\n" + beat)
    answers = Oracle(data).stream()
    parts = told_parts(answers)
    assert [(part.text, part.thought) for part in parts if part.text] == [
        ("h", True),
        ("m", True),
        ("Let me ", None),
        ("see", None),
    ]
    assert [part.function_call.args for part in parts if part.function_call] == [{"city": "Paris"}, {}]
    assert all(answer.candidates and answer.candidates[0].content and answer.candidates[0].content.parts for answer in answers)
    assert {(answer.response_id, answer.model_version) for answer in answers} == {("abc", "gpt-4o")}
    last = answers[-1]
    assert last.candidates
    assert last.candidates[0].finish_reason is types.FinishReason.STOP
    assert last.usage_metadata is not None
    assert last.usage_metadata.total_token_count == 160


def test_an_array_with_heartbeats_in_it_is_json() -> None:
    writer = Gemini().stream_writer(HEAD, call("json_array"))
    beat = Gemini.heartbeat
    pieces = [beat, *[piece + beat for delta in CALLING if (piece := writer.write([delta]))], writer.end()]
    assert json(b"".join(pieces)) == events(CALLING)
    assert b"".join(pieces).replace(beat, b"").startswith(b'[{"candidates"')
    assert stream(CALLING, "json_array").count(b"}\n,\r\n{") == len(events(CALLING)) - 1


def test_both_framings_and_any_grouping_say_the_same() -> None:
    frames = [json(frame.removeprefix(b"data: ")) for frame in stream(CALLING).split(b"\n\n") if frame]
    assert frames == events(CALLING)
    writer = Gemini().stream_writer(HEAD, call())
    assert writer.write(CALLING) + writer.end() == stream(CALLING)


def test_a_call_is_held_back_until_it_is_whole() -> None:
    writer = Gemini().stream_writer(HEAD, call())
    assert writer.write([ToolCallStarted(0, "c", "f"), ArgumentsDelta(0, '{"a"'), ArgumentsDelta(0, ":1}")]) == b""
    assert b'"functionCall":{"name":"f","args":{"a":1},"id":"c"}' in writer.write([TextDelta("x")])


def test_pieces_of_several_calls_may_come_mixed() -> None:
    mixed: list[Delta] = [
        ToolCallStarted(0, "a", "f"),
        ToolCallStarted(1, "b", "g"),
        ArgumentsDelta(0, '{"x":'),
        ArgumentsDelta(1, '{"y":'),
        TextDelta("so"),
        ArgumentsDelta(0, "1}"),
        ArgumentsDelta(1, "2}"),
        ToolCallStarted(2, "c", "h"),
        Finished("tool_calls"),
    ]
    parts = [part for event in events(mixed) for part in event["candidates"][0]["content"]["parts"]]
    calls = [(part["functionCall"]["id"], part["functionCall"]["args"]) for part in parts if "functionCall" in part]
    assert calls == [("a", {"x": 1}), ("b", {"y": 2}), ("c", {})]
    assert [part["text"] for part in parts if "text" in part] == ["so"]


def test_usage_that_makes_no_sense_is_not_negative() -> None:
    # Some providers leave thoughts out of the output that they tell.
    told = unary([TextDelta("x"), Finished("stop"), Used(Usage(input=3, output=5, reasoning=9))])
    assert told["usageMetadata"]["candidatesTokenCount"] == 0


def test_text_by_hand_is_written_as_by_the_encoder() -> None:
    text = 'a "b" \\ \n 你'
    assert events([TextDelta(text, 1)])[0] == {
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 1}],
        "modelVersion": "gpt-4o",
        "responseId": "abc",
    }


def test_a_signature_of_gemini_hangs_on_what_follows() -> None:
    signature: Delta = ReasoningDelta(signature="c2ln", origin="gemini")
    tool: list[Delta] = [ToolCallStarted(0, "c", "f"), Finished("tool_calls")]
    for deltas in ([signature, *tool], [ReasoningDelta("hm", origin="gemini"), signature, *tool]):
        for parts in (
            unary(deltas)["candidates"][0]["content"]["parts"],
            events(deltas)[-1]["candidates"][0]["content"]["parts"],
        ):
            assert parts[-1] == {"functionCall": {"name": "f", "args": {}, "id": "c"}, "thoughtSignature": "c2ln"}
    last = events([TextDelta("a"), signature, Finished("stop")])[-1]["candidates"][0]
    assert last == {
        "content": {"parts": [{"text": "", "thoughtSignature": "c2ln"}], "role": "model"},
        "finishReason": "STOP",
        "index": 0,
    }


def test_a_signature_of_another_provider_is_base64_with_its_mark_inside() -> None:
    for deltas in (unary(CALLING), events(CALLING)[1]):
        signature = deltas["candidates"][0]["content"]["parts"][0]["thoughtSignature"]
        assert base64.b64decode(signature, validate=True).startswith(b"agw^anthropic:")
    answer = Oracle(Gemini().write_answer(HEAD, CALLING, call())).answer()
    assert answer.parts
    assert (answer.parts[0].thought_signature or b"").startswith(b"agw^anthropic:")


def test_a_foreign_signature_comes_back_through_the_sdk_as_it_was_made() -> None:
    """The SDK decodes the field to bytes and sends it back in the URL-safe alphabet."""
    codec = Gemini()
    deltas: list[Delta] = [
        ReasoningDelta("hm", "s?>~ü=\x7f", origin="anthropic"),
        ReasoningDelta(redacted="r\u00ff", origin="openai_responses", id="rs_1"),
        ReasoningDelta("plain"),
        TextDelta("a"),
        Finished("stop"),
    ]
    for answers in ([Oracle(codec.write_answer(HEAD, deltas, call())).answer()], Oracle(stream(deltas)).stream()):
        history = types.Content(role="model", parts=told_parts(answers))
        path, body = Oracle().request({}, [history, "go on"])
        thoughts = codec.read_conversation(codec.read_call(body, {}, path)).turns[0].parts
        assert [getattr(part, "signature", None) for part in thoughts[:2]] == ["s?>~ü=\x7f", None]
        assert [getattr(part, "redacted", None) for part in thoughts[:2]] == [None, "r\u00ff"]
        assert [getattr(part, "origin", None) for part in thoughts[:2]] == ["anthropic", "openai_responses"]
        assert getattr(thoughts[1], "id", None) == "rs_1"


@pytest.mark.parametrize(
    ("reason", "told"),
    [("stop", "STOP"), ("length", "MAX_TOKENS"), ("tool_calls", "STOP"), ("content_filter", "SAFETY"), ("refusal", "SAFETY")],
)
def test_reasons(reason: FinishReason, told: str) -> None:
    deltas: list[Delta] = [TextDelta("a"), Finished(reason)]
    assert unary(deltas)["candidates"][0]["finishReason"] == told
    assert events(deltas)[-1]["candidates"][0]["finishReason"] == told


def test_a_refusal_is_text() -> None:
    deltas: list[Delta] = [RefusalDelta("I "), RefusalDelta("won't"), Finished("stop")]
    assert unary(deltas)["candidates"][0]["content"]["parts"] == [{"text": "I won't"}]
    assert [part.text for part in told_parts(Oracle(stream(deltas)).stream())] == ["I ", "won't", ""]


@pytest.mark.parametrize(("reason", "told"), [("tool_calls", "MALFORMED_FUNCTION_CALL"), ("length", "MAX_TOKENS")])
def test_a_call_that_is_no_object_is_told_as_gemini_tells_it(reason: FinishReason, told: str) -> None:
    deltas: list[Delta] = [ToolCallStarted(0, "c", "f"), ArgumentsDelta(0, '{"a":'), Finished(reason)]
    for candidate in (unary(deltas)["candidates"][0], events(deltas)[-1]["candidates"][0]):
        assert candidate["finishReason"] == told
        assert not any("functionCall" in part for part in candidate["content"]["parts"])


def test_choices_are_candidates() -> None:
    deltas: list[Delta] = [TextDelta("a"), TextDelta("b", 1), Finished("stop"), Finished("length", 1)]
    answer = Oracle(Gemini().write_answer(HEAD, deltas, call())).answer()
    assert [(item.index, item.finish_reason) for item in answer.candidates or ()] == [
        (0, types.FinishReason.STOP),
        (1, types.FinishReason.MAX_TOKENS),
    ]
    assert [candidate["index"] for candidate in events(deltas)[-1]["candidates"]] == [0, 1]


# --- errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadRequest("contents: no.", param="contents"), "INVALID_ARGUMENT", errors.ClientError),
        (Unauthenticated("No key."), "UNAUTHENTICATED", errors.ClientError),
        (RateLimited("Slower.", param="tokens", retry_after_s=1.5), "RESOURCE_EXHAUSTED", errors.ClientError),
        (ProviderFault("Failed."), "UNAVAILABLE", errors.ServerError),
        (GatewayError("Ours."), "INTERNAL", errors.ServerError),
    ],
)
def test_errors_for_the_sdk(error: GatewayError, status: str, kind: type[errors.APIError]) -> None:
    body = Gemini().write_error(error, "req_1")
    for ask in (Oracle(body, error.status).answer, Oracle(body, error.status).stream):
        with pytest.raises(kind) as caught:
            ask()
        assert (caught.value.code, caught.value.status, caught.value.message) == (error.status, status, error.message)
    details = {item["@type"].rpartition(".")[2]: item for item in json(body)["error"]["details"]}
    assert details["ErrorInfo"]["reason"] == error.code.upper()
    assert details.get("RetryInfo", {}).get("retryDelay") == ("1.5s" if error.retry_after_s else None)
    assert ("BadRequest" in details) is isinstance(error, BadRequest)


def test_an_error_in_the_midst_of_a_stream_for_the_sdk() -> None:
    codec = Gemini()
    error = ProviderFault("Failed.", retry_after_s=2.0)
    writer = codec.stream_writer(HEAD, call())
    frame = codec.write_stream_error(error, "req_1", "backup")
    oracle = Oracle(writer.write([TextDelta("a")]) + frame)
    answers = oracle.models.generate_content_stream(model="m", contents="hi")
    assert next(answers).text == "a"
    with pytest.raises(errors.ServerError) as caught:
        next(answers)
    assert caught.value.details == {
        "error": {"code": 502, "message": "Failed.", "status": "UNAVAILABLE", "retry_after": 2.0, "fallback_model": "backup"}
    }
