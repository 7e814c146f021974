"""What a client gets, read by the openai SDK as its users do; and that an answer repeats its request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from openai.types.responses import FunctionToolParam

from agent_gateway.core.delta import (
    ArgumentsDelta,
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.errors import ProviderRateLimited, UnknownModel
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.openai_responses.codec import OpenAIResponses

codec = OpenAIResponses()
HEAD = AnswerHead("abc", 1_700_000_000, "public")
TOOL: FunctionToolParam = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": True}
DELTAS: list[Delta] = [
    Started("theirs", "their-model", 5),
    ReasoningDelta("Hm", origin="anthropic"),
    ReasoningDelta(signature="SIG", origin="anthropic"),
    TextDelta("Hel"),
    TextDelta("lo"),
    ToolCallStarted(0, "c1", "look"),
    ArgumentsDelta(0, "{}"),
    Used(Usage(input=7, output=5, cache_read=3, cache_write=2, reasoning=1)),
    Finished("tool_calls"),
]
Respond = Callable[[httpx2.Request], httpx2.Response]


def client(respond: Respond) -> openai.AsyncOpenAI:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(respond))
    return openai.AsyncOpenAI(api_key="x", base_url="http://gateway.test/v1", max_retries=0, http_client=http)


def answering(deltas: list[Delta], broken_off_by: bytes | None = None) -> Respond:
    """The gateway's part: a request read, an answer written."""

    def respond(request: httpx2.Request) -> httpx2.Response:
        call = codec.read_call(request.content, {}, request.url.path)
        if not call.stream:
            return httpx2.Response(
                200, content=codec.write_answer(HEAD, deltas, call), headers={"content-type": "application/json"}
            )
        writer = codec.stream_writer(HEAD, call)
        frames = [codec.heartbeat, *(writer.write([delta]) for delta in deltas), broken_off_by or writer.end()]
        return httpx2.Response(200, content=b"".join(frames), headers={"content-type": "text/event-stream"})

    return respond


async def test_the_sdk_reads_a_whole_answer() -> None:
    async with client(answering(DELTAS)) as sdk:
        response = await sdk.responses.create(
            model="public",
            input="Hi",
            instructions="Be brief.",
            tools=[TOOL],
            metadata={"k": "v"},
            max_output_tokens=99,
        )
    assert (response.id, response.created_at, response.model, response.status) == (
        "resp_abc",
        1_700_000_000,
        "public",
        "completed",
    )
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
    assert response.output_text == "Hello"
    assert (response.instructions, response.metadata, response.max_output_tokens) == ("Be brief.", {"k": "v"}, 99)
    assert response.usage is not None
    assert response.usage.to_dict() == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 12,
    }


async def test_the_sdk_reads_a_stream_and_its_helper_puts_it_together() -> None:
    async with client(answering(DELTAS)) as sdk:
        stream = await sdk.responses.create(model="public", input="Hi", stream=True)
        events = [event async for event in stream]
        async with sdk.responses.stream(model="public", input="Hi") as told:
            final = await told.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Hello"
    assert events[-1].type == "response.completed"
    assert final.output_text == "Hello"
    assert [item.to_dict() for item in events[-1].response.output] == [
        {
            "id": "rs_abc_0",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "Hm"}],
            "encrypted_content": "agw^anthropic:SIG",
        },
        {
            "id": "msg_abc_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
        },
        {"id": "fc_abc_2", "type": "function_call", "status": "completed", "call_id": "c1", "name": "look", "arguments": "{}"},
    ]


async def test_the_sdks_user_is_told_of_a_stream_that_fails() -> None:
    error = ProviderRateLimited("The model provider's rate limit is reached.", retry_after_s=3)
    told = codec.write_stream_error(error, "req_1", "backup")
    told_before = (
        codec.stream_writer(HEAD, codec.read_call(b'{"model":"m","input":"Hi"}', {}, "")).write(DELTAS[:4]).count(b"event: ")
    )
    async with client(answering(DELTAS[:4], told)) as sdk:
        events = aiter(await sdk.responses.create(model="public", input="Hi", stream=True))
        read = [await anext(events) for _ in range(told_before)]
        with pytest.raises(openai.APIError) as caught:
            await anext(events)
    assert read[-1].type == "response.output_text.delta"
    assert caught.value.message == error.message
    assert caught.value.body == {
        "message": error.message,
        "type": "rate_limit_error",
        "code": "provider_rate_limited",
        "retry_after": 3,
        "fallback_model": "backup",
    }
    assert told.startswith(b'event: error\ndata: {"type":"error","code":"provider_rate_limited","message":"The model')


async def test_the_sdks_user_is_told_of_an_error() -> None:
    body = codec.write_error(UnknownModel("No such model.", param="model"), "req_1")
    async with client(lambda _: httpx2.Response(404, content=body, headers={"content-type": "application/json"})) as sdk:
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk.responses.create(model="x", input="Hi")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def answer_to(body: dict[str, Any], deltas: list[Delta] = DELTAS) -> dict[str, Any]:
    call = codec.read_call(msgspec.json.encode({"model": "public", "input": "Hi", **body}), {}, "/v1/responses")
    answer: dict[str, Any] = msgspec.json.decode(codec.write_answer(HEAD, deltas, call))
    return answer


def test_an_answer_repeats_what_was_asked() -> None:
    asked = {
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "max_tool_calls": 3,
        "metadata": {"k": "v"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "p",
        "reasoning": {"effort": "low", "summary": "auto"},
        "safety_identifier": "s",
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "look"},
        "tools": [TOOL],
        "top_logprobs": 2,
        "top_p": 0.5,
        "truncation": "auto",
        "user": "u",
    }
    assert asked.items() <= answer_to(asked).items()
    defaults: dict[str, Any] = {
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "reasoning": {"effort": None, "summary": None},
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
    }
    assert defaults.items() <= answer_to({}).items()
    never_null = dict.fromkeys(["metadata", "parallel_tool_calls", "reasoning", "text", "tool_choice", "tools", "truncation"])
    assert defaults.items() <= answer_to(never_null).items()


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
        ("refusal", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_an_answer_ended(reason: FinishReason, status: str, why: dict[str, str] | None) -> None:
    """What was cut is the last item; a call that was cut must not be run."""
    answer = answer_to({}, [*DELTAS[:-1], Finished(reason)])
    assert (answer["status"], answer["incomplete_details"]) == (status, why)
    assert [item.get("status") for item in answer["output"]] == [None, "completed", status]
    only_text = answer_to({}, [TextDelta("Hel"), Finished(reason)])
    assert only_text["output"][0]["status"] == status


def test_layout_of_the_request_does_not_break_the_stream() -> None:
    call = codec.read_call(b'{"model":"public","input":"Hi","tools":[\n\n{"type":"function",\r\n"name":"f"}\n]}', {}, "")
    [_, data, *rest] = codec.stream_writer(HEAD, call).write([]).splitlines()
    assert msgspec.json.decode(data.removeprefix(b"data: "))["response"]["tools"] == [{"type": "function", "name": "f"}]
    assert rest[0] == b""


def test_further_choices_are_not_told() -> None:
    """The protocol has one; no request for more is written in it."""
    assert answer_to({}, [*DELTAS, TextDelta("other", 1), Finished("length", 1)]) == answer_to({})


def test_arguments_may_come_in_any_order() -> None:
    calls: list[Delta] = [ToolCallStarted(0, "a", "f"), ToolCallStarted(1, "b", "f")]
    calls += [
        ArgumentsDelta(1, "{"),
        ArgumentsDelta(0, "[1"),
        ArgumentsDelta(1, "}"),
        ArgumentsDelta(0, "]"),
        Finished("tool_calls"),
    ]
    assert [(item["call_id"], item["arguments"]) for item in answer_to({}, calls)["output"]] == [("a", "[1]"), ("b", "{}")]


def test_an_answer_that_another_began_goes_on_where_it_broke_off() -> None:
    """Under the item's own id, behind one that was not shown, and numbered on."""
    latest = (
        b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "sequence_number": 41, "item_id": "msg_theirs", '
        b'"output_index": 1, "content_index": 0, "delta": "Hel"}\n\n: quiet\n\n'
    )
    writer = codec.stream_writer(HEAD, codec.read_call(b'{"model": "public", "input": "Hi", "stream": true}', {}, "/v1/responses"))
    writer.follow("Hel", latest)
    frames = writer.write([TextDelta("lo"), ToolCallStarted(0, "c1", "look")]) + writer.end()
    events = [msgspec.json.decode(frame.partition(b"data: ")[2]) for frame in frames.split(b"\n\n") if frame]
    assert [event["sequence_number"] for event in events] == [*range(42, 42 + len(events))]
    said, *_, ended = events
    assert (said["type"], said["item_id"], said["output_index"]) == ("response.output_text.delta", "msg_theirs", 1)
    places = [(event["item"]["id"], event["output_index"]) for event in events if event["type"] == "response.output_item.done"]
    assert places == [("msg_theirs", 1), ("fc_abc_2", 2)]
    message, call = ended["response"]["output"]
    assert (message["id"], message["content"][0]["text"], call["id"]) == ("msg_theirs", "Hello", "fc_abc_2")
