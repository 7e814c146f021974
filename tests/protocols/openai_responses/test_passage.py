"""Same protocol on both sides: what is edited, and that nothing else is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core.call import Call
from agent_gateway.core.route import Deployment, Prefill
from agent_gateway.protocols.openai_responses.codec import OpenAIResponses
from agent_gateway.wire.sse import data_frame

codec = OpenAIResponses()
SAME = Deployment("openai/m", "openai", "m")
OTHER = Deployment("openai/gpt-5", "openai", "gpt-5", default={"max_tokens": 5, "top_p": 0.5}, override={"temperature": 0})


def call(body: bytes) -> Call:
    return codec.read_call(body, {}, "/v1/responses")


def test_a_request_that_needs_no_edit_is_passed_as_it_is() -> None:
    read = call(b'{"model": "m", "input": "Hi", "unknown": [1.0, 2e5]}')
    assert codec.pass_request(read, SAME) is read.body


def test_what_routing_requires_is_edited() -> None:
    read = call(b'{"model":"m","input":[ {"role":"user","content":"Hi"} ],"temperature":1,"top_p":0.9,"unknown":{"a": 1.0}}')
    passed = codec.pass_request(read, OTHER)
    assert b'"input":[ {"role":"user","content":"Hi"} ]' in passed
    assert b'"unknown":{"a": 1.0}' in passed
    edited = {name: msgspec.json.decode(passed)[name] for name in ("model", "temperature", "top_p", "max_output_tokens")}
    assert edited == {"model": "gpt-5", "temperature": 0, "top_p": 0.9, "max_output_tokens": 5}


def test_only_what_bears_the_mark_is_taken_out() -> None:
    native = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    ours = native | {"encrypted_content": "agw^anthropic:SIG"}
    said = {"role": "user", "content": "agw^ what is that?"}
    read = call(msgspec.json.encode({"model": "m", "input": [native, ours, said]}))
    assert msgspec.json.decode(codec.pass_request(read, SAME))["input"] == [native, said]
    text = call(b'{"model":"m","input":"agw^x"}')
    assert msgspec.json.decode(codec.pass_request(text, SAME)) == msgspec.json.decode(text.body)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"previous_response_id": "resp_1"}, {}),
        ({"conversation": {"id": "conv_1"}, "store": False}, {"store": False}),
        ({"background": True, "metadata": {"a": "b"}}, {"metadata": {"a": "b"}}),
        (
            {"reasoning": {"effort": "low"}, "include": ["message.output_text.logprobs"]},
            {
                "reasoning": {"effort": "low"},
                "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
            },
        ),
    ],
)
def test_what_the_gateway_keeps_and_goes_on_from_is_not_the_providers(asked: dict[str, Any], sent: dict[str, Any]) -> None:
    """But for thoughts, which have to come in the answer that is kept."""
    kept = call(msgspec.json.encode({"model": "m", "input": "Hi", **asked}))
    assert msgspec.json.decode(codec.pass_request(kept, SAME)) == {"model": "m", "input": "Hi", **sent}


@pytest.mark.parametrize(
    "more",
    [
        b'"store":false,"reasoning":{"effort":"low"}',
        b'"reasoning":{"effort":"low"}, "include":["reasoning.encrypted_content"]',
        b'"reasoning":{"effort":"none"}',
        b'"store" : true',
    ],
)
def test_nothing_is_asked_for_that_need_not_be(more: bytes) -> None:
    body = b'{"model":"m","input":"Hi",%b}' % more
    assert codec.pass_request(call(body), SAME) == body


def test_a_call_for_one_piece() -> None:
    read = call(b'{"model":"m","input":"Hi","stream":true,"stream_options":{"include_obfuscation":false}}')
    unary = codec.as_unary(read)
    assert not unary.stream
    assert msgspec.json.decode(unary.body) == {"model": "m", "input": "Hi"}


BEGUN = {"type": "message", "role": "assistant", "content": "Once upon"}


@pytest.mark.parametrize(
    ("prefill", "item", "more"),
    [
        ("plain", BEGUN, {}),
        ("prefix", BEGUN | {"prefix": True}, {}),
        ("continue_final_message", BEGUN, {"continue_final_message": True, "add_generation_prompt": False}),
    ],
)
@pytest.mark.parametrize("told", ['"Hi"', '[{"type":"message","role":"user","content":"Hi"}]'])
def test_an_answer_is_carried_on(prefill: Prefill, item: dict[str, Any], more: dict[str, Any], told: str) -> None:
    deployment = Deployment("openai/m", "openai", "m", prefill=prefill)
    asked = call(b'{"model":"m","input":%b,"max_output_tokens":9}' % told.encode())
    continued = codec.continued(asked, "Once upon", deployment)
    hi = {"type": "message", "role": "user", "content": "Hi"}
    assert msgspec.json.decode(continued.body) == {"model": "m", "input": [hi, item], "max_output_tokens": 6, **more}


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["created", "in_progress", "completed", "incomplete", "failed"])
def test_the_model_is_named_as_the_client_asked(kind: str) -> None:
    before = b'{"id":"r","text":{"model":"a"},"l":[["model",{"model":1}]],'
    event = b'{"type":"response.%b", "response" : %b"model": "theirs", "n":1.0},"model":"kept"}' % (kind.encode(), before)
    frame = b"event: response.%b\ndata: %b\n\n" % (kind.encode(), event)
    assert codec.renamed(frame, 'o"urs') == frame.replace(b'"model": "theirs"', rb'"model": "o\"urs"')


def test_a_whole_answer_is_renamed_at_its_top() -> None:
    answer = b'{"output":[{"model":"a"}],"response":{"model":"b"}, "model": "theirs" }'
    assert codec.renamed(answer, "ours") == answer.replace(b"theirs", b"ours")


@pytest.mark.parametrize(
    "frame",
    [
        b": a comment\n\n",
        b'event: response.output_text.delta\ndata: {"delta":"\\"response\\":{\\"model\\":\\"x\\"}","model":"x"}\n\n',
        b'event: x\ndata: {"response":{"id":"r"},"model":"kept","other":{"model":"kept"}}\n\n',
        b'event: x\ndata: {"a":"response","model":"kept"}\n\n',
        b'event: response\nid: "response"\n\n',
    ],
)
def test_any_other_frame_is_kept_byte_for_byte(frame: bytes) -> None:
    assert codec.renamed(frame, "ours") == frame


def test_data_on_several_lines_is_renamed_too() -> None:
    frame = b'data: {"response":\ndata: {"model":"theirs"}}\n\n'
    assert codec.renamed(frame, "ours") == data_frame(b'{"response":\n{"model":"ours"}}')


_json_values = st.recursive(
    st.none() | st.integers(0, 9) | st.sampled_from(["model", "response", '"model":', "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["model", "response", "a"]), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["model", "response", "a"]), _json_values))
def test_only_the_responses_own_model_is_renamed(event: dict[str, Any]) -> None:
    """Of a string, number or literal; what the protocol does not have there is left alone."""
    renamed = codec.renamed(data_frame(msgspec.json.encode(event)), "ours")
    response = event.get("response")
    if isinstance(response, dict) and "model" in response and not isinstance(response["model"], dict | list):
        response["model"] = "ours"
    assert renamed == data_frame(msgspec.json.encode(event))
