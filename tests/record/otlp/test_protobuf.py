"""What is written is what OpenTelemetry's own classes read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint

from agent_gateway.record.otlp.protobuf import Malformed, fields, packed_double, packed_fixed64
from agent_gateway.record.otlp.values import DEPTH_MAX, any_value, attribute
from tests.kit.collector import plain

INT64 = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_value_of_json_is_read_as_it_is(value: Any) -> None:
    read = KeyValue.FromString(next(bytes(item) for _, item in fields(attribute(9, "name", value)) if isinstance(item, bytes)))
    assert plain([read]) == {"name": value}


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_a_number_beyond_64_bits_is_a_double(number: int) -> None:
    assert AnyValue.FromString(any_value(number)).double_value == float(number)


def test_what_is_nested_without_end_is_cut() -> None:
    endless: list[Any] = []
    endless.append(endless)
    read = AnyValue.FromString(any_value(endless))
    for _ in range(DEPTH_MAX):
        (read,) = read.array_value.values
    assert read.WhichOneof("value") is None


def test_half_a_character_is_replaced() -> None:
    assert AnyValue.FromString(any_value("a\ud800b")).string_value == "a?b"


@given(st.lists(st.integers(0, 2**64 - 1)), st.lists(st.floats(allow_nan=False)))
def test_packed_numbers_are_read_as_they_are(counts: list[int], bounds: list[float]) -> None:
    point = HistogramDataPoint.FromString(packed_fixed64(6, counts) + packed_double(7, bounds))
    assert (list(point.bucket_counts), list(point.explicit_bounds)) == (counts, bounds)


@given(st.integers(0, 2**63 - 1), st.text())
def test_an_answer_is_read_as_it_was_written(rejected: int, message: str) -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = message
    (partial,) = (value for number, value in fields(answer.SerializeToString()) if number == 1)
    assert isinstance(partial, bytes)
    assert dict(fields(partial)) == {number: value for number, value in ((1, rejected), (2, message.encode())) if value}


@given(st.binary())
def test_bytes_that_are_no_message_are_an_error_and_nothing_else(garbage: bytes) -> None:
    try:
        for _ in fields(garbage):
            pass
    except Malformed:
        pass
