"""What the gateway reads of a request, and bytes that pass through: nothing is changed but what routing requires."""

from __future__ import annotations

from typing import Any

import anthropic
import msgspec
import pydantic
import pytest
from anthropic.types import ErrorResponse
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core import errors
from agent_gateway.core.call import Call
from agent_gateway.core.errors import BadRequest, GatewayError
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.anthropic.codec import Anthropic
from agent_gateway.protocols.base import codec_of
from agent_gateway.wire.sse import frame_data
from tests.protocols.anthropic import sdk

codec = Anthropic()
HI = [{"role": "user", "content": "hi"}]


def call(*, spaced: bool = False, **members: Any) -> Call:
    body = msgspec.json.encode({"model": "claude", "messages": HI, **members})
    return codec.read_call(msgspec.json.format(body) if spaced else body, {}, "/v1/messages")


def deployment(model: str = "claude-opus-4-8", **parameters: Any) -> Deployment:
    return Deployment("anthropic/it", "anthropic", model, **parameters)


def test_it_sits_in_its_seat() -> None:
    assert isinstance(codec_of("anthropic"), Anthropic)


def test_a_plain_request() -> None:
    read = codec.read_call(b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}', {"anthropic-beta": "x"}, "")
    assert (read.dialect, read.model, read.stream, read.max_output_tokens) == ("anthropic", "m", False, 5)
    assert read.conversational
    assert not read.wants_json
    assert not read.needs
    assert read.user is None
    assert read.forward_headers == {"anthropic-beta": "x"}


def test_everything_the_gateway_acts_on() -> None:
    read = call(stream=True, max_tokens=0, metadata={"user_id": "ann"}, output_config={"format": {"type": "json_schema", "schema": {}}})
    assert (read.stream, read.max_output_tokens, read.user, read.wants_json) == (True, None, "ann", True)
    assert not read.conversational


@pytest.mark.parametrize(("choice", "conversational"), [("auto", True), ("none", True), ("any", False), ("tool", False)])
def test_a_tool_that_must_be_called_is_no_conversation(choice: str, conversational: bool) -> None:
    assert call(tool_choice={"type": choice, "name": "f"}).conversational is conversational


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://e.com/a"}}
DOCUMENT = {"type": "document", "source": {"type": "url", "url": "https://e.com/a"}}


def with_block(block: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [block]}]}


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize(
    ("members", "needs"),
    [
        ({}, set()),
        ({"tools": [], "thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, set()),
        (with_block(IMAGE), {"vision"}),
        (with_block(DOCUMENT), {"documents"}),
        (with_block({"type": "tool_result", "tool_use_id": "t", "content": [IMAGE, DOCUMENT]}), {"vision", "documents"}),
        (with_block({"type": "text", "text": 'say "type":"image" and "document"'}), set()),
        (with_block({"type": "tool_use", "id": "t", "name": "f", "input": {"parts": [IMAGE, DOCUMENT]}}), set()),
        ({"tools": [{"name": "f", "input_schema": {}}]}, {"tools"}),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, {"json_schema"}),
        ({"thinking": {"type": "adaptive"}}, {"reasoning"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"reasoning"}),
    ],
)
def test_needs(members: dict[str, Any], needs: set[str], spaced: bool) -> None:
    assert call(spaced=spaced, **members).needs == needs


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"", None),
        (b"[]", None),
        (b'{"messages":[1]}', "model"),
        (b'{"model":"","messages":[1]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":[ ]}', "messages"),
        (b'{"model":"m","messages":"hi"}', "messages"),
        (b'{"model":"m","messages":[1],"stream":"yes"}', "stream"),
        (b'{"model":"m","messages":["\xff"]}', None),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, path: str | None) -> None:
    with pytest.raises(BadRequest) as refused:
        codec.read_call(body, {}, "/v1/messages")
    assert refused.value.param == path


# --- bytes that pass --------------------------------------------------------------------------------------------------

BODY = (
    b'{ "messages" : [{"role":"user","content":"\\u00e9 \\"model\\": \\"x\\""}],\n'
    b' "model":"claude", "new": {"model":"inner"} , "max_tokens":9}'
)


def test_only_the_models_name_is_changed_in_a_request() -> None:
    read = codec.read_call(BODY, {}, "")
    assert codec.pass_request(read, deployment("claude")) is BODY
    assert codec.pass_request(read, deployment("other")) == BODY.replace(b'"claude"', b'"other"')


def test_the_deployments_parameters_pass_with_it() -> None:
    passed = msgspec.json.decode(
        codec.pass_request(codec.read_call(BODY, {}, ""), deployment(default={"max_tokens": 1, "top_k": 2}, override={"temperature": 0}))
    )
    assert (passed["model"], passed["max_tokens"], passed["top_k"], passed["temperature"]) == ("claude-opus-4-8", 9, 2, 0)
    assert passed["new"] == {"model": "inner"}


def test_as_unary_takes_the_stream_off() -> None:
    unary = codec.as_unary(call(stream=True, max_tokens=5))
    assert not unary.stream
    assert msgspec.json.decode(unary.body) == {"model": "claude", "messages": HI, "max_tokens": 5}


START = (
    b"event: message_start\n"
    b'data: {"type": "message_start", "message": {"id":"msg_1", "content": [], "model" : "claude-opus-4-8","usage":{"model":"x"}} }\n\n'
)


def test_a_stream_is_renamed_where_it_begins() -> None:
    assert codec.renamed(START, "mine") == START.replace(b'"claude-opus-4-8"', b'"mine"')


def test_a_start_on_several_lines_is_renamed() -> None:
    torn = START.replace(b'"content"', b'\ndata: "content"')
    data = frame_data(codec.renamed(torn, "mine"))
    assert data is not None
    assert msgspec.json.decode(data)["message"]["model"] == "mine"


@pytest.mark.parametrize(
    "frame",
    [
        codec.heartbeat,
        b": a comment\n\n",
        b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"\\"message_start\\" \\"model\\":\\"a\\""}}\n\n',
        b'event: message_start\ndata: {"type":"message_start"}\n\n',
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1"}}\n\n',
        b'event: message_start\ndata: {"type":"message_start",\n\n',
        b'event: "message_start"\n\n',
    ],
)
def test_other_frames_pass_byte_for_byte(frame: bytes) -> None:
    assert codec.renamed(frame, "mine") == frame


def test_a_whole_answer_is_renamed_at_its_top_level() -> None:
    body = b'{"content":[{"type":"tool_use","input":{"model":"a"}}], "model": "claude-opus-4-8" ,"type":"message"}'
    assert codec.renamed(body, "mine") == body.replace(b'"claude-opus-4-8"', b'"mine"')


@given(st.text(min_size=1))
def test_any_name_survives(name: str) -> None:
    data = frame_data(codec.renamed(START, name))
    assert data is not None
    assert msgspec.json.decode(data)["message"]["model"] == name


# --- an answer carried on ---------------------------------------------------------------------------------------------


def test_an_answer_is_carried_on_from_the_assistants_turn() -> None:
    begun = call(stream=True, max_tokens=100, thinking={"type": "enabled", "budget_tokens": 2048})
    carried_on = codec.continued(begun, "Once upon a ", deployment(prefill="plain"))
    assert carried_on.stream
    body = msgspec.json.decode(carried_on.body)
    assert body["messages"] == [*HI, {"role": "assistant", "content": "Once upon a"}]
    assert 0 < body["max_tokens"] < 100
    assert "thinking" not in body


def test_a_limit_that_is_used_up_leaves_one_token() -> None:
    carried_on = codec.continued(call(max_tokens=2), "word " * 99, deployment())
    assert msgspec.json.decode(carried_on.body)["max_tokens"] == 1
    assert "max_tokens" not in msgspec.json.decode(codec.continued(call(), "word", deployment()).body)


# --- errors -----------------------------------------------------------------------------------------------------------

ERRORS: list[tuple[GatewayError, str, type[anthropic.APIStatusError]]] = [
    (errors.BadRequest("no"), "invalid_request_error", anthropic.BadRequestError),
    (errors.Unauthenticated("no"), "authentication_error", anthropic.AuthenticationError),
    (errors.Forbidden("no"), "permission_error", anthropic.PermissionDeniedError),
    (errors.UnknownModel("no"), "not_found_error", anthropic.NotFoundError),
    (errors.MethodNotAllowed("no"), "invalid_request_error", anthropic.APIStatusError),
    (errors.RequestTimeout("no"), "timeout_error", anthropic.APIStatusError),
    (errors.Conflict("no"), "conflict_error", anthropic.ConflictError),
    (errors.TooLarge("no"), "request_too_large", anthropic.APIStatusError),
    (errors.Unprocessable("no"), "invalid_request_error", anthropic.UnprocessableEntityError),
    (errors.RateLimited("no"), "rate_limit_error", anthropic.RateLimitError),
    (errors.InternalError("no"), "api_error", anthropic.InternalServerError),
    (errors.ProviderFault("no"), "api_error", anthropic.InternalServerError),
    (errors.ProviderRateLimited("no"), "rate_limit_error", anthropic.RateLimitError),
    (errors.NotExpressible("no"), "invalid_request_error", anthropic.BadRequestError),
    (errors.Overloaded("no"), "overloaded_error", anthropic.APIStatusError),
    (errors.ProviderTimeout("no", kind="idle"), "timeout_error", anthropic.InternalServerError),
]


@pytest.mark.parametrize(("error", "kind", "raised"), ERRORS, ids=lambda value: getattr(type(value), "code", None))
def test_the_sdk_raises_its_own_error(error: GatewayError, kind: str, raised: type[anthropic.APIStatusError]) -> None:
    body = codec.write_error(error, "req-1")
    assert msgspec.json.decode(body) == {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req-1"}
    with sdk.client(body, error.shown_status) as client, pytest.raises(raised) as caught:
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
    assert (caught.value.status_code, caught.value.type, caught.value.api_message) == (error.shown_status, kind, "no")


def test_the_sdks_type_of_an_error_takes_ours() -> None:
    body = codec.write_error(errors.Overloaded("no"), "req-1")
    assert pydantic.TypeAdapter(ErrorResponse).validate_json(body).request_id == "req-1"


def test_an_error_after_content_is_the_streams_last_event() -> None:
    error = errors.Overloaded("too much", retry_after_s=3)
    frame = codec.write_stream_error(error, "req-1", "backup")
    assert frame.startswith(b"event: error\n")
    assert msgspec.json.decode(frame_data(frame) or b"") == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "too much", "code": "overloaded", "retry_after": 3, "fallback_model": "backup"},
        "request_id": "req-1",
    }
    with sdk.client(START + frame, content_type="text/event-stream") as client, pytest.raises(anthropic.APIStatusError) as caught:
        for _ in client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}], stream=True):
            pass
    assert caught.value.type == "overloaded_error"
