"""Counting tokens: the request is one of Messages, the answer a number, and nothing else applies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import msgspec
import pytest

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import Text, Turn
from agent_gateway.core.errors import BadRequest, InternalError, MalformedReply, NotExpressible
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.anthropic_count.codec import DROPPED, REFUSED, AnthropicCount
from agent_gateway.protocols.base import AnswerHead, codec_of

codec = AnthropicCount()
BODY = b'{ "model":"claude",  "messages":[{"role":"user","content":"hi"}], "tools":[{"name":"f","input_schema":{}}]}'
CALL = codec.read_call(BODY, {}, "/v1/messages/count_tokens")
THERE = Deployment("anthropic/it", "anthropic", "claude-opus-4-8", default={"max_tokens": 5}, override={"temperature": 0})


def test_it_sits_in_its_seat() -> None:
    assert isinstance(codec_of("anthropic_count"), AnthropicCount)


def test_a_request_is_read() -> None:
    assert (CALL.dialect, CALL.model, CALL.stream, CALL.conversational) == ("anthropic_count", "claude", False, False)
    assert CALL.needs == {"tools"}
    assert codec.read_conversation(CALL).turns == (Turn("user", (Text("hi"),)),)
    assert codec.as_unary(CALL) is CALL


def test_it_is_never_a_stream() -> None:
    assert not codec.read_call(b'{"model":"m","messages":[1],"stream":true}', {}, "").stream


def test_what_is_wrong_is_refused_by_its_place() -> None:
    with pytest.raises(BadRequest) as refused:
        codec.read_call(b'{"model":"m","messages":[]}', {}, "")
    assert refused.value.param == "messages"


def test_only_the_models_name_is_changed() -> None:
    """Anthropic refuses `max_tokens` here, so the deployment's parameters stay behind."""
    assert codec.pass_request(CALL, THERE) == BODY.replace(b'"claude"', b'"claude-opus-4-8"')
    assert codec.renamed(b'{"input_tokens":5}', "mine") == b'{"input_tokens":5}'


def test_the_sdk_reads_the_count() -> None:
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=codec.counted(42), request=request))
    with anthropic.Anthropic(api_key="x", http_client=httpx2.Client(transport=transport)) as client:
        assert client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "hi"}]).input_tokens == 42


def test_a_count_is_told_from_what_is_none() -> None:
    assert codec.read_answer(b'{"input_tokens":42,"new":1}') == []
    for body in (b"", b"{}", b'{"input_tokens":"42"}', b"\xff"):
        with pytest.raises(MalformedReply):
            codec.read_answer(body)


def test_errors_are_anthropics() -> None:
    assert msgspec.json.decode(codec.write_error(InternalError("no"), "req-1")) == {
        "type": "error",
        "error": {"type": "api_error", "message": "no"},
        "request_id": "req-1",
    }


HEAD = AnswerHead("a", 1, "claude")
NOT_HERE: list[Callable[[], Any]] = [
    lambda: codec.stream_writer(HEAD, CALL),
    lambda: codec.write_answer(HEAD, [], CALL),
    lambda: codec.write_stream_error(InternalError("no"), "req-1", None),
    lambda: codec.write_request(codec.read_conversation(CALL), THERE),
    codec.stream_reader,
    lambda: codec.continued(Call("anthropic_count", "claude", BODY), "text", THERE),
]


@pytest.mark.parametrize("method", NOT_HERE)
def test_what_belongs_to_conversations_is_refused(method: Callable[[], Any]) -> None:
    with pytest.raises(NotExpressible) as refused:
        method()
    assert REFUSED["turns"] in refused.value.message
    assert not DROPPED
