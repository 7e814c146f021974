"""There and back: whatever is written in this protocol reads as what it was, under the equivalences that `strategies` states."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import Conversation
from agent_gateway.core.delta import Delta
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import AnswerHead, Codec
from agent_gateway.protocols.fold import fold
from agent_gateway.protocols.openai_responses.codec import OpenAIResponses
from agent_gateway.wire.sse import FrameSplitter, frame_data
from tests.protocols.conversations import cut
from tests.protocols.openai_responses.strategies import answers, expressible, kept, kept_answer

codec: Codec = OpenAIResponses()
HEAD = AnswerHead("abc", 1_700_000_000, "public")
CALL = codec.read_call(b'{"model":"public","input":"Hi","stream":true}', {}, "/v1/responses")
sdk_event: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


@given(expressible)
def test_a_conversation_written_and_read_back_keeps_its_meaning(conversation: Conversation) -> None:
    body = codec.write_request(conversation, Deployment("openai/m", "openai", conversation.model))
    back = codec.read_conversation(Call("openai_responses", conversation.model, body))
    assert kept(back) == kept(conversation)


@given(expressible)
def test_what_was_asked_is_planned_for(conversation: Conversation) -> None:
    body = codec.write_request(conversation, Deployment("openai/m", "openai", conversation.model))
    call = codec.read_call(body, {}, "/v1/responses")
    assert call.stream is conversation.stream
    assert ("tools" in call.needs) is bool(conversation.tools)
    assert ("json_schema" in call.needs) is (conversation.format is not None and conversation.format.schema is not None)
    assert call.wants_json is (conversation.format is not None)
    assert ("vision" in call.needs) is (b'"input_image"' in body)


@given(answers(), st.data())
def test_a_stream_read_back_is_the_same_answer_however_it_is_cut(deltas: list[Delta], data: st.DataObject) -> None:
    writer = codec.stream_writer(HEAD, CALL)
    half = data.draw(st.integers(0, len(deltas)))
    stream = writer.write(deltas[:half]) + writer.write(deltas[half:]) + writer.end()
    reader = codec.stream_reader()
    read = [delta for piece in data.draw(cut(stream)) for delta in reader.feed(piece)]
    reader.finish()
    assert reader.done
    assert kept_answer(fold(read)) == kept_answer(fold(deltas))


@given(answers())
def test_a_whole_answer_is_what_its_stream_ends_with(deltas: list[Delta]) -> None:
    whole = codec.write_answer(HEAD, deltas, CALL)
    writer = codec.stream_writer(HEAD, CALL)
    events = _events(writer.write(deltas) + writer.end())
    assert events[-1]["response"] == msgspec.json.decode(whole)
    if events[-1]["response"]["output"]:
        assert kept_answer(fold(codec.read_answer(whole))) == kept_answer(fold(deltas))


@given(answers())
def test_the_sdk_reads_every_event_and_the_whole(deltas: list[Delta]) -> None:
    writer = codec.stream_writer(HEAD, CALL)
    stream = writer.write(deltas) + writer.end()
    for number, frame in enumerate(FrameSplitter.split(stream)):
        name, _, _ = frame.partition(b"\n")
        event = sdk_event.validate_json(frame_data(frame) or b"")
        assert event.sequence_number == number
        assert name == f"event: {event.type}".encode()
    Response.model_validate_json(codec.write_answer(HEAD, deltas, CALL))


@given(answers())
def test_an_item_is_added_then_filled_then_done(deltas: list[Delta]) -> None:
    writer = codec.stream_writer(HEAD, CALL)
    events = _events(writer.write(deltas) + writer.end())
    output = events[-1]["response"]["output"]
    for index, item in enumerate(output):
        of_item = [event for event in events if event.get("output_index") == index]
        assert of_item[0]["type"] == "response.output_item.added"
        assert of_item[-1]["type"] == "response.output_item.done"
        assert of_item[-1]["item"] == item
        assert {event.get("item_id", item["id"]) for event in of_item} == {item["id"]}
        said = "".join(event["delta"] for event in of_item if event["type"].endswith(".delta"))
        assert said == _said(item)
    assert [event["output_index"] for event in events if event["type"].endswith("item.added")] == list(range(len(output)))


def _said(item: dict[str, Any]) -> str:
    if item["type"] == "function_call":
        return str(item["arguments"])
    parts = item["summary"] if item["type"] == "reasoning" else item["content"]
    return "".join([part.get("text") or part.get("refusal") or "" for part in parts])


def _events(stream: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(frame_data(frame) or b"") for frame in FrameSplitter.split(stream)]
