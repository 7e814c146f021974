"""What is taken from a record, and what stays behind."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from agent_gateway.core.call import MODEL_PATHS, Dialect
from agent_gateway.core.route import Deployment
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import codec_of
from agent_gateway.record.row import AttemptRecord, Record, packed
from agent_gateway.rehearsal.traffic import Asked, Traffic, read, with_body
from tests.rehearsal.hour import each

_BODY = {
    "model": "chat",
    "max_completion_tokens": 77,
    "user": "ann",
    "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}],
    "response_format": {"type": "json_object"},
}


def record(number: int = 0, attempts: list[AttemptRecord] | None = None, **given: Any) -> Record:
    usual = dict.fromkeys(Record._fields)
    usual |= {"id": f"req_{number:05}", "started_ms": 1_760_000_000_000 + number * 1000, "model": "chat", "deployment": "p/m"}
    usual |= {"dialect": "openai_chat", "pattern": "unary", "status": "success", "http_status": 200, "stream": 0}
    usual |= {"input_tokens": 30, "output_tokens": 50, "cache_read_tokens": 10, "cache_write_tokens": 0, "reasoning_tokens": 0}
    usual |= {"tokens_estimated": 0, "cost_usd": 0.1, "duration_ms": 900.0, "overhead_ms": 1.0, "request_bytes": 120}
    made = [AttemptRecord("p/m", 1.0, 11.0, 20.0, None, 901.0, "success", 200)] if attempts is None else attempts
    usual |= {"attempts": msgspec.json.encode(made) if made else None, "attempts_count": len(made)}
    return Record(**{**usual, **given})


def traffic(*records: Record) -> Traffic:
    return asyncio.run(read(each(records)))


def asked(*records: Record) -> list[Asked]:
    return traffic(*records).requests


def test_a_request_is_known_by_its_own_body_where_it_was_kept() -> None:
    body = msgspec.json.encode(_BODY)
    for kept in (body, packed(body + b" " * 40_000)):
        (one,) = asked(record(request=kept, request_bytes=len(body) if kept is body else len(body) + 40_000))
        assert one.call.needs == {"vision"}
        assert (one.call.max_output_tokens, one.call.user, one.call.body) == (77, "ann", b"")
        assert not one.call.wants_json, "what is rehearsed says nothing, and is not to be refused for it"


@pytest.mark.parametrize("kept", [None, msgspec.json.encode(_BODY)[:40], b"{}"], ids=["minimal", "cut", "not a request"])
def test_and_else_by_its_figures(kept: bytes | None) -> None:
    made = traffic(record(request=kept, request_bytes=2 if kept == b"{}" else 9_999, stream=1))
    (one,) = made.requests
    assert (one.call.model, one.call.stream, one.call.needs, one.body_bytes) == ("chat", True, frozenset(), 2 if kept == b"{}" else 9_999)
    assert made.without_body == (kept is None)


def test_an_answer_takes_what_it_took() -> None:
    (one,) = asked(record())
    assert one.usage == Usage(input=30, output=50, cache_read=10)
    failed = AttemptRecord("p/m", 0.0, 1.0, None, 5.0, 90.0, "provider_connection_cut", usage=Usage(input=30, output=9))
    second = AttemptRecord("q/m", 91.0, 92.0, None, None, 901.0, "success", 200, usage=Usage(input=31, output=40))
    (one,) = asked(record(attempts=[failed, second], input_tokens=61, output_tokens=49))
    assert one.usage == Usage(input=31, output=40)


def test_what_was_never_answered_takes_what_others_of_its_model_take() -> None:
    error = [AttemptRecord("p/m", 0.0, 1.0, None, None, 90.0, "provider_error", 500)]
    nothing = {"input_tokens": None, "output_tokens": None, "status": "error", "error_code": "provider_error", "request_bytes": 240}
    failed, _ = asked(record(0, error, **nothing), record(1))
    assert failed.usage == Usage(input=60, output=50)
    assert not failed.answered
    (alone,) = asked(record(0, error, **nothing))
    assert alone.usage == Usage(input=60, output=256)


def test_a_client_that_left_would_have_had_as_much_as_others() -> None:
    partial = AttemptRecord("p/m", 0.0, 1.0, 2.0, 3.0, 90.0, "cancelled")
    left = record(0, [partial], status="cancelled", error_code="client_left", stream=1, output_tokens=3, duration_ms=90.0)
    one, _ = asked(left, record(1, stream=1))
    assert one.left_after_s == 0.09
    assert one.usage.output == 50


def test_what_a_deployment_said_of_the_request_is_no_habit_of_the_deployment() -> None:
    refused = AttemptRecord("p/m", 0.0, 1.0, None, None, 90.0, "provider_refused_request", 400)
    made = traffic(record(0, [refused], status="error", error_code="provider_refused_request"), record(1))
    assert set(made.requests[0].refused) == {"p/m"}
    assert [done.outcome for done in made.done] == ["success"]


def test_times_of_calls_count_from_their_own_beginning() -> None:
    (done,) = traffic(record(attempts=[AttemptRecord("p/m", 100.0, 110.0, 120.0, 300.0, 900.0, "success")], stream=1)).done
    assert done.at == 1_760_000_000.1
    assert (done.connected_s, done.first_token_s, done.ended_s) == pytest.approx((0.01, 0.2, 0.8))


def test_what_no_configuration_decides_about_is_left_out_and_counted() -> None:
    made = traffic(
        record(0, [], status="error", error_code="bad_request"),
        record(1, [], status="error", error_code="guard_refused"),
        record(2, [], status="cached"),
        record(3, [], status="error", error_code="rate_limit_exceeded", input_tokens=None, output_tokens=None),
        record(4),
        record(5, edge="native"),
    )
    assert [one.at - 1_760_000_000 for one in made.requests] == [3, 4]
    assert made.left_out == {"bad_request": 1, "guard_refused": 1, "answered from the cache": 1, "run as a provider's own batch": 1}
    assert made.then.all().requests == 2


@pytest.mark.parametrize("dialect", [*MODEL_PATHS, "gemini"])
def test_a_body_of_the_size_is_a_request_of_its_protocol(dialect: Dialect) -> None:
    (one,) = asked(record(dialect=dialect, model="some-model", request_bytes=4_000))
    call = with_body(one.call, one.body_bytes, {"x": "1"})
    assert len(call.body) == pytest.approx(4_000, abs=8)
    read_back = codec_of(dialect).read_call(call.body, {}, call.path)
    assert read_back.model == "some-model"
    assert codec_of(dialect).pass_request(call, Deployment(id="p/other", provider="p", model="other"))
    small = with_body(one.call, 1, {})
    assert codec_of(dialect).read_call(small.body, {}, small.path).model == "some-model"
