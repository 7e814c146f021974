"""What the lines of providers' results mean, those that mean nothing included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.batch.native import anthropic, gemini, openai
from agent_gateway.batch.native.base import Outcome

READERS = {"openai": openai._outcome, "anthropic": anthropic._outcome, "gemini": gemini._outcome}


@pytest.mark.parametrize(
    ("kind", "line", "outcome"),
    [
        ("openai", b'{"custom_id":"a","response":{"status_code":200,"body":{"x":1}},"error":null}', Outcome("a", 200, b'{"x":1}')),
        ("openai", b'{"custom_id":"a","response":{"status_code":400,"body":{"error":{}}}}', Outcome("a", 400, b'{"error":{}}')),
        ("openai", b'{"custom_id":"a","response":null,"error":{"code":"batch_expired"}}', Outcome("a", None)),
        ("openai", b'{"response":{"status_code":200,"body":{}}}', None),
        ("openai", b'{"custom_id":"a","response":{"status_c', None),
        ("anthropic", b'{"custom_id":"a","result":{"type":"succeeded","message":{"x":1}}}', Outcome("a", 200, b'{"x":1}')),
        (
            "anthropic",
            b'{"custom_id":"a","result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error"}}}}',
            Outcome("a", 400, b'{"type":"error","error":{"type":"invalid_request_error"}}'),
        ),
        (
            "anthropic",
            b'{"custom_id":"a","result":{"type":"errored","error":{"error":{"type":"api_error"}}}}',
            Outcome("a", 500, b'{"error":{"type":"api_error"}}'),
        ),
        ("anthropic", b'{"custom_id":"a","result":{"type":"expired"}}', Outcome("a", None)),
        ("anthropic", b'{"custom_id":"a","result":{"type":"canceled"}}', Outcome("a", None)),
        ("anthropic", b'{"custom_id":"a","result":{"type":"errored","error":[]}}', None),
        ("gemini", b'{"key":"a","response":{"x":1}}', Outcome("a", 200, b'{"x":1}')),
        ("gemini", b'{"key":"a","error":{"code":3,"message":"no"}}', Outcome("a", 400, b'{"error":{"code":3,"message":"no"}}')),
        ("gemini", b'{"key":"a","error":{"code":13}}', Outcome("a", 500, b'{"error":{"code":13}}')),
        ("gemini", b'{"key":"a","response":null}', Outcome("a", None)),
        ("gemini", b"[]", None),
    ],
)
def test_a_line_is_what_became_of_a_request(kind: str, line: bytes, outcome: Outcome | None) -> None:
    assert READERS[kind](line) == outcome


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_line_is_too_odd_to_be_passed_over(line: bytes) -> None:
    for read in READERS.values():
        read(line)
