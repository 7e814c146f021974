"""Statuses and error codes become classes of error, once, and never by prose."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core.errors import (
    ContentFiltered,
    ContextTooLong,
    MalformedReply,
    ProviderError,
    ProviderFault,
    ProviderKeyRefused,
    ProviderModelMissing,
    ProviderRateLimited,
    ProviderRefusedRequest,
)
from agent_gateway.protocols.failure import REFUSED
from agent_gateway.upstream.refusal import refusal, refusal_under_200


def read(status: int, code: str | None = None, *, kind: str | None = None, body: bytes | None = None) -> ProviderError:
    told = msgspec.json.encode({"error": {"message": "a secret sk-123", "type": kind, "code": code, "param": None}})
    return refusal(status, {b"content-type": b"application/json"}, told if body is None else body, 0, "openai_chat")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, None, ProviderRateLimited),
        (429, "insufficient_quota", ProviderRateLimited),
        (429, "model_not_found", ProviderRateLimited),
        (413, "rate_limit_exceeded", ProviderRateLimited),
        (402, None, ProviderKeyRefused),
        (401, "invalid_api_key", ProviderKeyRefused),
        (403, None, ProviderKeyRefused),
        (408, None, ProviderFault),
        (409, None, ProviderFault),
        (500, None, ProviderFault),
        (502, None, ProviderFault),
        (503, None, ProviderFault),
        (529, None, ProviderFault),
        (500, "context_length_exceeded", ProviderFault),
        (404, "model_not_found", ProviderModelMissing),
        (404, "DeploymentNotFound", ProviderModelMissing),
        (404, None, ProviderRefusedRequest),
        (400, None, ProviderRefusedRequest),
        (413, None, ProviderRefusedRequest),
        (422, None, ProviderRefusedRequest),
        (400, "context_length_exceeded", ContextTooLong),
        (400, "string_above_max_length", ContextTooLong),
        (400, "content_filter", ContentFiltered),
        (400, "content_policy_violation", ContentFiltered),
        (204, None, MalformedReply),
        (302, None, MalformedReply),
    ],
)
def test_each_status_has_its_class(status: int, code: str | None, expected: type[ProviderError]) -> None:
    error = read(status, code)
    assert type(error) is expected
    assert error.provider_status == status


def test_a_code_may_stand_in_the_type() -> None:
    assert type(read(400, kind="context_length_exceeded")) is ContextTooLong


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, {"type": "invalid_request_error"}, ProviderRefusedRequest),
        (404, {"type": "not_found_error"}, ProviderModelMissing),
        (413, {"type": "request_too_large"}, ProviderRefusedRequest),
        (529, {"type": "overloaded_error"}, ProviderFault),
        (400, {"code": 400, "status": "INVALID_ARGUMENT"}, ProviderRefusedRequest),
        (400, {"code": 400, "status": "INVALID_ARGUMENT", "details": [{}, {"reason": "API_KEY_INVALID"}]}, ProviderKeyRefused),
        (400, {"code": 400, "status": "INVALID_ARGUMENT", "details": [{"reason": "OTHER"}]}, ProviderRefusedRequest),
        # Said of a free tier that is not to be had there, but also of a file that is not processed yet: the client's own doing.
        (400, {"code": 400, "status": "FAILED_PRECONDITION"}, ProviderRefusedRequest),
        (404, {"code": 404, "status": "NOT_FOUND"}, ProviderModelMissing),
        (504, {"code": 504, "status": "DEADLINE_EXCEEDED"}, ProviderFault),
    ],
)
def test_codes_of_the_other_protocols(status: int, error: dict[str, object], expected: type[ProviderError]) -> None:
    body = msgspec.json.encode({"error": {"message": "said", **error}})
    assert type(read(status, body=body)) is expected
    assert type(read(status, body=b"[%b]" % body)) is expected


def test_a_refusal_knows_the_protocol_that_it_is_told_in() -> None:
    body = b'{"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: Field required"}}'
    error = refusal(400, {}, body, 0, "anthropic")
    assert isinstance(error, ProviderRefusedRequest)
    assert (error.dialect, error.message, error.body) == ("anthropic", f"{REFUSED}: max_tokens: Field required", body)


@pytest.mark.parametrize(("body", "said"), [(b"", ""), (b"<html>", "<html>"), (b'{"error": "x"}', "x"), (b'{"message": "y"}', "y")])
def test_what_it_says_is_found_in_any_shape(body: bytes, said: str) -> None:
    error = refusal(400, {}, body, 0, "openai_chat")
    assert isinstance(error, ProviderRefusedRequest)
    assert error.message == (f"{REFUSED}: {said}" if said else f"{REFUSED}.")


def test_what_it_says_is_bounded() -> None:
    error = read(400, body=msgspec.json.encode({"error": {"message": "x" * 100_000}}))
    assert isinstance(error, ProviderRefusedRequest)
    assert error.message == f"{REFUSED}: {'x' * 2000}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"message": "boom"}}', ProviderFault),
        (b'{"error": "boom"}', ProviderFault),
        (b'{"type": "error", "error": {"type": "overloaded_error"}}', ProviderFault),
        (b'{"type": "error", "error": {"type": "rate_limit_error"}}', ProviderRateLimited),
        (b'[{"error": {"status": "RESOURCE_EXHAUSTED"}}]', ProviderRateLimited),
        (b'{"error": {"code": "content_filter"}}', ContentFiltered),
    ],
)
def test_an_error_under_a_200_is_classed_by_its_code(body: bytes, expected: type[ProviderError]) -> None:
    assert type(refusal_under_200(body, "openai_chat")) is expected


@pytest.mark.parametrize("body", [b"", b"{}", b'{"choices": []}', b'{"error": null}', b"[]", b"<html>", b'{"message": "no error"}'])
def test_what_is_no_error_is_none(body: bytes) -> None:
    assert refusal_under_200(body, "openai_chat") is None


def test_prose_decides_nothing() -> None:
    assert type(read(400, body=b'{"error": {"message": "context_length_exceeded"}}')) is ProviderRefusedRequest


def test_only_a_refused_request_is_told_in_the_providers_words() -> None:
    error = read(400)
    assert isinstance(error, ProviderRefusedRequest)
    assert b"sk-123" in error.body
    assert error.content_type == "application/json"
    assert not error.retryable
    for status in (401, 429, 500):
        assert "sk-123" not in read(status).message
        assert "sk-123" in (read(status).detail or "")


@pytest.mark.parametrize("status", [429, 503, 529])
def test_the_wait_that_was_asked_for_is_kept(status: int) -> None:
    assert refusal(status, {b"retry-after": b"7"}, b"", 0, "openai_chat").retry_after_s == 7


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"null", b"[]", b'"\xff"', b'{"error": "said"}', b'{"error": {"code": 5, "type": ["x"]}}', b"[" * 100_000],
    ids=["nothing", "HTML", "null", "list", "no UTF-8", "a text", "odd types", "deep"],
)
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_any_body_will_do(status: int, body: bytes) -> None:
    error = read(status, body=body)
    assert error.provider_status == status
    assert len(error.detail or "") <= 500


@given(st.integers(201, 599), st.binary(max_size=200), st.dictionaries(st.sampled_from([b"retry-after", b"content-type"]), st.binary()))
def test_whatever_comes_is_an_error_of_the_tree(status: int, body: bytes, headers: dict[bytes, bytes]) -> None:
    error = refusal(status, headers, body, 0, "openai_chat")
    assert error.provider_status == status
    assert error.retry_after_s is None or 0 <= error.retry_after_s <= 3600
