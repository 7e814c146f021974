"""The OpenAI chat codec: what it refuses and how it says so, and that the SDK understands what it writes."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from agent_gateway.core.errors import BadRequest, ProviderRateLimited, UnknownModel
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.openai_chat import client as codec
from agent_gateway.protocols.usage import ToldUsage
from agent_gateway.wire.sse import frame_data

USER = b'"messages":[{"role":"user","content":"Hi"}]'

#: Body, the field at fault, part of what is said.
BAD = [
    (b"", None, "The request body is empty. Send a JSON object."),
    (b"{", None, "not valid JSON: Input data was truncated"),
    (b'{"model":"m" "x"}', None, "byte 13"),
    (b'{"model":"\xff",' + USER + b"}", None, "not valid UTF-8"),
    (b"[]", None, "has to be a JSON object"),
    (b'{"model":"m","metadata":' + b'{"a":' * 100_000, None, "nested too deeply"),
    (b"{" + USER + b"}", "model", "model: this field is required"),
    (b'{"model":7,' + USER + b"}", "model", "expected a string, got a number."),
    (b'{"model":"",' + USER + b"}", "model", "expected a string that is not empty."),
    (b'{"model":"m"}', "messages", "messages: this field is required"),
    (b'{"model":"m","messages":"Hi"}', "messages", "array"),
    (b'{"model":"m","messages":null}', "messages", "array"),
    (b'{"model":"m","messages":[ ]}', "messages", "array"),
    (b'{"model":"m","stream":"yes",' + USER + b"}", "stream", "expected true, false or null, got a string."),
    (b'{"model":"m","stream_options":{"include_usage":1},' + USER + b"}", "stream_options.include_usage", "got a number."),
    (b'{"model":"m","max_tokens":"many",' + USER + b"}", "max_tokens", "expected a whole number or null, got a string."),
    (b'{"model":"m","user":5,' + USER + b"}", "user", "expected a string or null"),
    (b'{"model":"m","messages":[{"role":"user"},{"content":"Hi"}]}', "messages[1].role", "required"),
    (b'{"model":"m","messages":[{"role":"user","content":5}]}', "messages[0].content", "expected a string, an array or null"),
    (b'{"model":"m","n":0,' + USER + b"}", "n", "a whole number of at least 1."),
    (b'{"model":"m","tools":[{"type":"function","function":{}}],' + USER + b"}", "tools[0].function.name", "required"),
]


@pytest.mark.parametrize(("body", "param", "said"), BAD, ids=[f"{param} {said}" for _, param, said in BAD])
def test_a_bad_request_names_its_field(body: bytes, param: str | None, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        codec.read_request(body)
    assert caught.value.param == param
    assert said in caught.value.message
    assert "`" not in caught.value.message


#: Fields that the gateway does not act on, or only a model needs.
FOR_THE_MODEL = {"messages[0].content", "messages[1].role", "n", "tools[0].function.name", "metadata"}


@pytest.mark.parametrize(("body", "param", "said"), BAD, ids=[f"{param} {said}" for _, param, said in BAD])
def test_the_gateway_refuses_only_what_it_acts_on(body: bytes, param: str | None, said: str) -> None:
    if param in FOR_THE_MODEL:
        assert codec.read_call(body, {}).body is body
        return
    with pytest.raises(BadRequest) as caught:
        codec.read_call(body, {})
    assert caught.value.param == param
    assert said in caught.value.message or param == "messages"


def test_a_request_nested_without_end_is_refused_whoever_reads_it() -> None:
    body = b'{"model":"m","x":' + b"[" * 100_000
    for read in (codec.read_request, lambda body: codec.read_call(body, {})):
        with pytest.raises(BadRequest, match="nested too deeply"):
            read(body)


def test_what_the_gateway_acts_on() -> None:
    body = (
        b'{"model":"m","messages":[{"role":"new","content":{"odd":[1]}}],"stream":true,"stream_options":{"include_usage":true,"x":1},'
        b'"max_tokens":5,"max_completion_tokens":9,"user":"u","temperature":"hot","unknown":[{}]}'
    )
    call = codec.read_call(body, {"traceparent": "00-1"})
    assert call.body is body
    assert (call.model, call.stream, call.wants_usage, call.max_output_tokens, call.user) == ("m", True, True, 9, "u")
    assert call.forward_headers == {"traceparent": "00-1"}


def test_nulls_and_absence_are_the_same() -> None:
    nulls = b'"stream":null,"stream_options":null,"max_tokens":null,"user":null,"response_format":null,"tool_choice":null,'
    for members in (nulls, b""):
        call = codec.read_call(b'{"model":"m",' + members + USER + b"}", {})
        assert (call.stream, call.wants_usage, call.max_output_tokens, call.user) == (False, False, None, None)
        assert (call.wants_json, call.conversational) == (False, True)


@pytest.mark.parametrize("limit", [-1, 0])
def test_a_limit_below_one_token_is_none(limit: int) -> None:
    assert codec.read_call(b'{"model":"m","max_tokens":%d,' % limit + USER + b"}", {}).max_output_tokens is None


@pytest.mark.parametrize(
    ("member", "wants_json", "conversational"),
    [
        (b'"response_format":{"type":"text"}', False, True),
        (b'"response_format":{"type":"json_object"}', True, False),
        (b'"response_format":{"type":"json_schema","json_schema":{}}', True, False),
        (b'"tool_choice":"auto"', False, True),
        (b'"tool_choice":"none"', False, True),
        (b'"tool_choice":"required"', False, False),
        (b'"tool_choice":{"type":"function","function":{"name":"f"}}', False, False),
    ],
)
def test_whether_a_fixed_text_may_stand_in(member: bytes, wants_json: bool, conversational: bool) -> None:
    call = codec.read_call(b'{"model":"m",' + member + b"," + USER + b"}", {})
    assert (call.wants_json, call.conversational) == (wants_json, conversational)


PART = b'"messages":[{"role":"user","content":[{"type":"text","text":"Hi"},{ "type" : "%b" }]}]'


@pytest.mark.parametrize(
    ("members", "needs"),
    [
        (USER, set()),
        (PART % b"text", set()),
        (PART % b"image_url", {"vision"}),
        (PART % b"input_audio", {"audio"}),
        (PART % b"file", {"documents"}),
        (USER.replace(b"Hi", b'[\\"type\\": \\"image_url\\"]'), set()),
        (USER + b',"tools":[]', set()),
        (USER + b',"tools":null', set()),
        (USER + b',"tools":[{"type":"file"}]', {"tools"}),
        (USER + b',"functions":[{"name":"f"}]', {"tools"}),
        (USER + b',"response_format":{"type":"json_object"}', set()),
        (USER + b',"response_format":{"type":"json_schema"}', {"json_schema"}),
        (USER + b',"reasoning_effort":"none"', set()),
        (USER + b',"reasoning_effort":"low"', {"reasoning"}),
        (PART % b"file" + b',"reasoning_effort":"low","tools":[1]', {"documents", "reasoning", "tools"}),
    ],
)
def test_what_is_needed_of_a_model(members: bytes, needs: set[str]) -> None:
    assert codec.read_call(b'{"model":"m",' + members + b"}", {}).needs == needs


some_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["model", "messages", "stream", "role", "content", "tools", "stop"]), inner)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=60) | some_json.map(msgspec.json.encode))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    for read in (codec.read_request, lambda body: codec.read_call(body, {})):
        with suppress(BadRequest):
            assert read(body).model


def test_what_is_not_typed_is_never_refused() -> None:
    messages = b'"messages":[{"role":"new","content":[{"type":"new","x":1}],"y":[]}]'
    body = b'{"model":"m","logit_bias":"odd","stream":null,"n":null,' + messages + b"}"
    request = codec.read_request(body)
    assert (request.model, request.stream, request.n, request.messages[0].role) == ("m", None, None, "new")


def test_error_bodies() -> None:
    told = msgspec.json.decode(codec.write_error(UnknownModel("No model 'x'.", param="model")))
    assert told == {
        "error": {
            "message": "No model 'x'.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
    frame = codec.write_stream_error(ProviderRateLimited("Busy.", retry_after_s=2.5), fallback_model="small")
    assert msgspec.json.decode(frame_data(frame) or b"") == {
        "error": {
            "message": "Busy.",
            "type": "rate_limit_error",
            "code": "provider_rate_limited",
            "retry_after": 2.5,
            "fallback_model": "small",
        }
    }


def test_every_chunk_is_one_that_the_sdk_knows() -> None:
    writer = codec.StreamWriter("chatcmpl-1", 7, "m", fingerprint="fp", with_usage=True)
    frames = [
        writer.role(0),
        writer.text(0, 'two\nlines "quoted" é'),
        writer.tool_call(0, 1, "call_1", "look"),
        writer.tool_arguments(0, 1, '{"a":'),
        writer.finish(0, "tool_calls"),
        writer.usage(Usage(input=3, output=4)),
    ]
    chunks = [ChatCompletionChunk.model_validate_json(frame_data(frame) or b"") for frame in frames]
    assert {(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks} == {
        ("chatcmpl-1", 7, "m", "fp")
    }
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[1].choices[0].delta.content == 'two\nlines "quoted" é'
    begun, continued = [(chunk.choices[0].delta.tool_calls or [])[0] for chunk in chunks[2:4]]
    assert (begun.index, begun.id, begun.type, begun.function and begun.function.name) == (1, "call_1", "function", "look")
    assert (continued.index, continued.id, continued.function and continued.function.arguments) == (1, None, '{"a":')
    assert chunks[4].choices[0].finish_reason == "tool_calls"
    assert not chunks[5].choices
    assert chunks[5].usage is not None
    assert chunks[5].usage.total_tokens == 7
    assert all(b'"usage":null' in frame for frame in frames[:5])


def test_usage_is_not_mentioned_to_who_did_not_ask() -> None:
    writer = codec.StreamWriter("chatcmpl-1", 7, "m")
    assert b"usage" not in writer.text(0, "Hi") + writer.finish(0, "stop")


tokens = st.integers(0, 10**9)


@given(tokens, tokens, tokens, tokens)
def test_usage_survives_the_wire(prompt: int, completion: int, cached: int, reasoning: int) -> None:
    usage = Usage(input=prompt, output=completion, cache_read=cached, reasoning=reasoning)
    written = msgspec.json.encode(codec.usage_to_wire(usage))
    assert msgspec.json.decode(written, type=ToldUsage).counted() == usage


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt_tokens":3,"completion_tokens":4}',
        b'{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":null}}',
    ],
)
def test_usage_without_details_is_read(body: bytes) -> None:
    assert msgspec.json.decode(body, type=ToldUsage).counted() == Usage(input=3, output=4)
