"""Gemini's answers read, whole and streamed, with the bytes of each as Google lays them out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from agent_gateway.core.delta import (
    ArgumentsDelta,
    Delta,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
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
from agent_gateway.protocols.gemini.codec import Gemini
from tests.protocols.conversations import cut

#: As generativelanguage.googleapis.com lays out an answer of a model that thinks and calls functions.
ANSWER = b"""{
  "candidates": [
    {
      "content": {
        "parts": [
          {
            "text": "**Weather**\\n",
            "thought": true
          },
          {
            "text": "Let me see: \\"\\u4f60\\u597d\\" {["
          },
          {
            "functionCall": {
              "name": "weather",
              "args": {
                "city": "Paris"
              }
            },
            "thoughtSignature": "CiQBVKhc+/8="
          },
          {
            "functionCall": {
              "name": "time",
              "args": {},
              "id": "fc-2"
            }
          }
        ],
        "role": "model"
      },
      "finishReason": "STOP",
      "index": 0
    }
  ],
  "usageMetadata": {
    "promptTokenCount": 100,
    "candidatesTokenCount": 20,
    "totalTokenCount": 165,
    "cachedContentTokenCount": 40,
    "promptTokensDetails": [
      {
        "modality": "TEXT",
        "tokenCount": 100
      }
    ],
    "toolUsePromptTokenCount": 5,
    "thoughtsTokenCount": 40
  },
  "modelVersion": "gemini-2.5-flash",
  "responseId": "mAi6aO"
}
"""
DELTAS: list[Delta] = [
    Started("mAi6aO", "gemini-2.5-flash"),
    ReasoningDelta("**Weather**\n", origin="gemini"),
    TextDelta('Let me see: "你好" {['),
    ReasoningDelta(signature="CiQBVKhc+/8=", origin="gemini"),
    ToolCallStarted(0, "call_mAi6aO_0", "weather"),
    ArgumentsDelta(0, '{"city":"Paris"}'),
    ToolCallStarted(1, "fc-2", "time"),
    ArgumentsDelta(1, "{}"),
    Finished("tool_calls"),
    Used(Usage(input=105, output=60, cache_read=40, reasoning=40)),
]


def event(*parts: Any, reason: str | None = None, index: int | None = 0, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}}
    candidate |= {"finishReason": reason} if reason else {}
    candidate |= {} if index is None else {"index": index}
    return {"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "responseId": "r1"} | more


def sse(*events: Any) -> bytes:
    return b"".join([b"data: " + msgspec.json.encode(item) + b"\r\n\r\n" for item in events])


def array(*events: Any) -> bytes:
    return b"[" + b"\n,\r\n".join([msgspec.json.format(msgspec.json.encode(item)) for item in events]) + b"\n]\n"


def read(pieces: list[bytes]) -> list[Delta]:
    reader = Gemini().stream_reader()
    deltas = [delta for piece in pieces for delta in reader.feed(piece)]
    reader.finish()
    return deltas


def test_a_whole_answer() -> None:
    assert Gemini().read_answer(ANSWER) == DELTAS


EVENTS = (
    event({"text": "a\u2028", "thought": True}, usageMetadata={"promptTokenCount": 3}),
    event({"text": 'He said \\"} ]'}),
    event({"functionCall": {"name": "f", "args": {"a": "}"}}, "thoughtSignature": "c2ln"}),
    event({"text": ""}, reason="STOP", usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 2, "thoughtsTokenCount": 1}),
)
STREAMED: list[Delta] = [
    Started("r1", "gemini-2.5-flash"),
    ReasoningDelta("a\u2028", origin="gemini"),
    Used(Usage(input=3)),
    TextDelta('He said \\"} ]'),
    ReasoningDelta(signature="c2ln", origin="gemini"),
    ToolCallStarted(0, "call_r1_0", "f"),
    ArgumentsDelta(0, '{"a":"}"}'),
    Finished("tool_calls"),
    Used(Usage(input=3, output=3, reasoning=1)),
]


@pytest.mark.parametrize("stream", [sse(*EVENTS), array(*EVENTS), b"\n\n" + sse(*EVENTS).replace(b"\r", b"")])
def test_a_stream_split_at_every_byte_and_into_single_bytes(stream: bytes) -> None:
    assert read([stream]) == STREAMED
    assert read([stream[index : index + 1] for index in range(len(stream))]) == STREAMED
    for at in range(len(stream)):
        assert read([stream[:at], stream[at:]]) == STREAMED


@given(st.data())
def test_a_stream_split_anyhow(data: st.DataObject) -> None:
    stream = data.draw(st.sampled_from([sse(*EVENTS), array(*EVENTS)]))
    assert read(data.draw(cut(stream))) == STREAMED


def test_only_an_array_has_an_end_mark() -> None:
    reader = Gemini().stream_reader()
    reader.feed(sse(*EVENTS))
    assert not reader.done
    reader = Gemini().stream_reader()
    reader.feed(array(*EVENTS)[:-2])
    assert not reader.done
    reader.feed(b"]")
    assert reader.done


@pytest.mark.parametrize("framed", [sse, array])
def test_an_answer_that_broke_off_is_not_taken_for_a_whole_one(framed: Any) -> None:
    with pytest.raises(MalformedReply):
        read([framed(*EVENTS[:-1])])
    with pytest.raises(MalformedReply):
        read([framed(*EVENTS)[:-6]])
    with pytest.raises(EmptyReply):
        read([framed({"usageMetadata": {"promptTokenCount": 3}})])


def test_an_array_that_is_not_closed_broke_off() -> None:
    with pytest.raises(MalformedReply):
        read([array(*EVENTS).rstrip(b"\n]")])


def test_all_choices_have_to_end() -> None:
    first, second = event({"text": "a"}, reason="STOP"), event({"text": "b"}, index=1)
    with pytest.raises(MalformedReply):
        read([sse(first, second)])
    deltas = read([sse(first, second, event(reason="MAX_TOKENS", index=1))])
    assert deltas[1:] == [TextDelta("a"), Finished("stop"), TextDelta("b", 1), Finished("length", 1)]


def test_calls_of_other_choices_have_ids_of_their_own() -> None:
    call = {"functionCall": {"name": "f"}}
    deltas = read([sse(event(call, call, reason="STOP"), event(call, reason="STOP", index=1))])
    ids = [delta.id for delta in deltas if isinstance(delta, ToolCallStarted)]
    assert ids == ["call_r1_0", "call_r1_1", "call_r1_1_0"]


def test_an_end_is_told_once_where_a_model_says_it_in_each_event() -> None:
    deltas = read([sse(event({"text": "a"}, reason="STOP", index=None), event({"text": "b"}, reason="STOP", index=None))])
    assert deltas[1:] == [TextDelta("a"), Finished("stop"), TextDelta("b")]


@pytest.mark.parametrize(
    ("reason", "read_as"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("OTHER", "stop"),
        ("A_NEW_ONE", "stop"),
        *(
            (reason, "content_filter")
            for reason in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE")
        ),
    ],
)
def test_reasons(reason: str, read_as: str) -> None:
    assert Gemini().read_answer(msgspec.json.encode(event({"text": "a"}, reason=reason)))[-1] == Finished(read_as)  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE"])
def test_a_model_that_failed_is_a_fault(reason: str) -> None:
    with pytest.raises(ProviderFault) as caught:
        Gemini().read_answer(msgspec.json.encode(event(reason=reason)))
    assert reason in (caught.value.detail or "")


def test_a_blocked_prompt_is_an_answer_that_was_filtered() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}, "responseId": "r"}
    expected = [Started("r"), Finished("content_filter"), Used(Usage(input=4))]
    assert Gemini().read_answer(msgspec.json.encode(blocked)) == expected
    assert read([sse(blocked)]) == expected


def test_a_signature_at_the_end_belongs_to_nothing_that_follows() -> None:
    deltas = read([sse(event({"text": "a"}), event({"text": "", "thoughtSignature": "c2ln"}, reason="STOP"))])
    assert deltas[1:] == [TextDelta("a"), ReasoningDelta(signature="c2ln", origin="gemini"), Finished("stop")]


def test_logprobs_are_told_as_openai_does() -> None:
    result = {
        "chosenCandidates": [{"token": "hé", "tokenId": 5, "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "hé", "logProbability": -0.5}, {"token": "a", "logProbability": -2}]}],
    }
    told = event({"text": "hé"}, reason="STOP")
    told["candidates"][0]["logprobsResult"] = result
    content = (
        '[{"token":"hé","logprob":-0.5,"bytes":[104,195,169],"top_logprobs":[{"token":"hé","logprob":-0.5,"bytes":[104,195,169]},'
        '{"token":"a","logprob":-2.0,"bytes":[97]}]}]'
    )
    assert read([sse(told)])[1] == TextDelta("hé", logprobs=Raw(content.encode()))


# --- errors ---------------------------------------------------------------------------------------------------------------


def error(code: int, status: str, *details: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": "said", "status": status, "details": list(details)}}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (error(429, "RESOURCE_EXHAUSTED", RETRY), ProviderRateLimited),
        (error(503, "UNAVAILABLE"), ProviderFault),
        (error(500, "INTERNAL", {"@type": "x"}), ProviderFault),
        (error(400, "INVALID_ARGUMENT"), ProviderRefusedRequest),
        (error(400, "INVALID_ARGUMENT", BAD_KEY), ProviderKeyRefused),
        (error(403, "PERMISSION_DENIED"), ProviderKeyRefused),
        (error(404, "NOT_FOUND"), ProviderModelMissing),
        ({"error": {"code": 429}}, ProviderRateLimited),
        ({"error": {}}, ProviderFault),
    ],
)
def test_an_error_inside_an_answer(told: Any, kind: type[ProviderError]) -> None:
    body = msgspec.json.encode(told)
    for stream in (None, sse(told), array(told)):
        with pytest.raises(kind) as caught:
            Gemini().read_answer(body) if stream is None else read([stream])
        assert "said" not in caught.value.message
        assert type(caught.value) is kind
        if told["error"].get("details") == [RETRY]:
            assert caught.value.retry_after_s == 34.5


def test_what_came_before_an_error_is_told_first() -> None:
    reader = Gemini().stream_reader()
    assert reader.feed(sse(EVENTS[1], error(503, "UNAVAILABLE")))[1:] == [TextDelta('He said \\"} ]')]
    with pytest.raises(ProviderFault):
        reader.feed(b"")
    with pytest.raises(ProviderFault):
        reader.finish()


def test_an_error_as_bare_json_in_the_midst_of_a_stream() -> None:
    bare = msgspec.json.format(msgspec.json.encode(error(429, "RESOURCE_EXHAUSTED")))
    for end in (b"", b"\n", b"\n\n"):
        with pytest.raises(ProviderRateLimited):
            read([sse(EVENTS[1]), bare + end])


@pytest.mark.parametrize(
    "stream", [b"data: {oops\n\n", b"data: [1]\n\n", b'[{"candidates": 5}', b'data: {"candidates": "\xff"}\n\n']
)
def test_what_is_not_the_protocol(stream: bytes) -> None:
    with pytest.raises(MalformedReply):
        read([stream])


def test_an_event_over_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_gateway.protocols.gemini.array.FRAME_MAX_BYTES", 50)
    with pytest.raises(MalformedReply, match="size limit"):
        Gemini().stream_reader().feed(array(EVENTS[0])[:100])
