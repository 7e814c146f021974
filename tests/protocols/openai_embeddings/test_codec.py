"""Embeddings: the input is checked, the vectors pass through, and what was used is known."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openai.types import CreateEmbeddingResponse

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import Conversation
from agent_gateway.core.delta import Used
from agent_gateway.core.errors import BadRequest, EmptyReply, GatewayError, MalformedReply, NotExpressible, ProviderFault
from agent_gateway.core.route import Deployment
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead, codec_of
from agent_gateway.protocols.openai_embeddings.codec import DROPPED, REFUSED

codec = codec_of("openai_embeddings")
ANSWER = b"""{
  "object": "list",
  "data": [{"object": "embedding", "index": 0, "embedding": [0.0023064255, -1e-9, 1.50]}],
  "model": "provider-name",
  "usage": {"prompt_tokens": 8, "total_tokens": 8}
}"""


def asked(**members: Any) -> Call:
    return codec.read_call(
        msgspec.json.encode({"model": "m", "input": "Hi", **members}), {"traceparent": "00-1"}, "/v1/embeddings"
    )


@pytest.mark.parametrize("value", ["Hi", "你好", ["Hi"], ["Hi", "Ho"], [1, 2], [[1, 2], [3]]])
def test_every_form_of_input_passes(value: Any) -> None:
    call = asked(input=value, encoding_format="base64", dimensions=7, user="u")
    assert (call.dialect, call.model, call.user, call.stream, call.conversational) == (
        "openai_embeddings",
        "m",
        "u",
        False,
        False,
    )
    assert call.forward_headers == {"traceparent": "00-1"}
    sent = msgspec.json.decode(codec.pass_request(call, Deployment("p/n", "p", "n", default={"dimensions": 9})))
    assert sent == {"model": "n", "input": value, "encoding_format": "base64", "dimensions": 7, "user": "u"}
    assert codec.as_unary(call) is call


def test_a_request_that_needs_no_change_is_the_clients_own() -> None:
    call = asked()
    assert codec.pass_request(call, Deployment("p/m", "p", "m")) is call.body


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": {"text": "Hi"}}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [1, [2]]}, "input[1]"),
        ({"input": [None]}, "input[0]"),
        ({"model": ""}, "model"),
        ({"user": 5}, "user"),
    ],
)
def test_a_bad_request_names_its_field(members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        asked(**members)
    assert caught.value.param == param


def test_what_is_not_json_is_refused() -> None:
    for body in (b"", b"{", b'{"model":"\xff","input":"a"}', b'{"model":"m"}'):
        with pytest.raises(BadRequest):
            codec.read_call(body, {}, "")


def test_what_was_used_is_known() -> None:
    assert codec.read_answer(ANSWER) == [Used(Usage(input=8))]
    assert codec.read_answer(b'{"data":[{}]}') == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":{"message":"no"}}', ProviderFault),
        (b'{"data":[]}', EmptyReply),
        (b"{}", EmptyReply),
        (b"<html>", MalformedReply),
    ],
)
def test_what_is_no_answer_is_refused(body: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        codec.read_answer(body)


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        b'{"model":"provider-name","data":[{"embedding":"AAAA","model":"inner"}],"usage":{}}',
        b'{"data":[{"embedding":"AAAA"}],"model":"provider-name","note":"model"}',
        b'{"data":[{"embedding":"AAAA"}],"model":"provider-name","by":{"model":"inner"}}',
        b'{"data":[{"embedding":"AAAA"}],"object":"model"}',
        b'{"data":[]}',
    ],
    ids=["behind the vectors", "before them", "a value of that name", "inside too", "only a value of that name", "none"],
)
def test_only_the_name_changes(answer: bytes) -> None:
    assert codec.renamed(answer, "public") == answer.replace(b'"provider-name"', b'"public"')


def test_the_sdk_reads_what_the_client_gets() -> None:
    assert CreateEmbeddingResponse.model_validate_json(codec.renamed(ANSWER, "public")).model == "public"


def test_they_are_never_translated() -> None:
    head, call, deployment = AnswerHead("a", 1, "m"), asked(), Deployment("p/m", "p", "m")
    for translate in (
        lambda: codec.read_conversation(call),
        lambda: codec.write_request(Conversation(model="m", turns=()), deployment),
        lambda: codec.stream_writer(head, call),
        lambda: codec.stream_reader(),
        lambda: codec.write_answer(head, [], call),
        lambda: codec.write_stream_error(ProviderFault("no"), "req_1", None),
        lambda: codec.continued(call, "a", deployment),
    ):
        with pytest.raises(NotExpressible, match="embeddings: "):
            translate()
    assert (DROPPED, list(REFUSED)) == ({}, ["turns"])


def test_errors_are_openais() -> None:
    assert msgspec.json.decode(codec.write_error(BadRequest("no", param="input"), "req_1"))["error"]["param"] == "input"
