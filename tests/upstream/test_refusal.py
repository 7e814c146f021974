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
from agent_gateway.upstream.refusal import refusal


def read(status: int, code: str | None = None, *, kind: str | None = None, body: bytes | None = None) -> ProviderError:
    told = msgspec.json.encode({"error": {"message": "a secret sk-123", "type": kind, "code": code, "param": None}})
    return refusal(status, {b"content-type": b"application/json"}, told if body is None else body, 0)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, None, ProviderRateLimited),
        (429, "insufficient_quota", ProviderRateLimited),
        (401, "invalid_api_key", ProviderKeyRefused),
        (403, None, ProviderKeyRefused),
        (408, None, ProviderFault),
        (409, None, ProviderFault),
        (500, None, ProviderFault),
        (502, None, ProviderFault),
        (503, None, ProviderFault),
        (529, None, ProviderFault),
        (404, "model_not_found", ProviderModelMissing),
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


def test_prose_decides_nothing() -> None:
    assert type(read(400, body=b'{"error": {"message": "context_length_exceeded"}}')) is ProviderRefusedRequest


def test_only_a_refused_request_is_told_in_the_providers_words() -> None:
    error = read(400)
    assert isinstance(error, ProviderRefusedRequest)
    assert b"sk-123" in error.body
    assert error.content_type == "application/json"
    assert not error.retryable
    for status in (401, 404, 429, 500):
        assert "sk-123" not in read(status).message
        assert "sk-123" in (read(status).detail or "")


@pytest.mark.parametrize("status", [429, 503, 529])
def test_the_wait_that_was_asked_for_is_kept(status: int) -> None:
    assert refusal(status, {b"retry-after": b"7"}, b"", 0).retry_after_s == 7


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
    error = refusal(status, headers, body, 0)
    assert error.provider_status == status
    assert error.retry_after_s is None or 0 <= error.retry_after_s <= 3600
