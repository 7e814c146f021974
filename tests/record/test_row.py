"""Rows: what each mode keeps, how times are told, and what is cut or packed."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from agent_gateway.core.errors import ClientLeft, ConnectionCut
from agent_gateway.core.plan import Candidate, Detour, Plan
from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.usage import Usage
from agent_gateway.record.cost import settle
from agent_gateway.record.row import (
    COMPRESS_MIN_BYTES,
    DETAIL_MAX_CHARS,
    NAME_MAX_CHARS,
    REQUEST_MAX_BYTES,
    ROUTE_MAX_CHARS,
    AttemptRecord,
    Mode,
    Record,
    make_record,
    overhead_s,
    packed,
    pattern_of,
    unpacked,
)
from tests.record.exchanges import REQUEST, attempt, chunk, exchange

FAILED = "provider said: 'Who are you' is not allowed"


def attempts_of(record: Record) -> list[AttemptRecord]:
    assert record.attempts is not None
    return msgspec.json.decode(record.attempts, type=list[AttemptRecord])


def test_a_full_record_tells_the_whole_story() -> None:
    made = exchange(stream=True)
    settle(made)
    record = make_record(made, "full")
    assert record._replace(attempts=None) == Record(
        id=made.id,
        started_ms=int(made.started_wall * 1000),
        model="chat",
        deployment="local/small",
        dialect="openai_chat",
        pattern="streaming",
        status="success",
        http_status=200,
        error_code=None,
        reason=None,
        finish_reason="stop",
        stream=1,
        key_id="key-1",
        user_id="user-7",
        session_id="session-9",
        client_request_id="theirs",
        input_tokens=30,
        output_tokens=12,
        cache_read_tokens=0,
        cache_write_tokens=0,
        reasoning_tokens=0,
        tokens_estimated=0,
        cost_usd=made.cost_usd,
        quality=None,
        duration_ms=record.duration_ms,
        ttft_ms=record.ttft_ms,
        overhead_ms=record.overhead_ms,
        attempts_count=1,
        attempts=None,
        request_bytes=len(REQUEST),
        request=REQUEST,
        answer=b'{"content":"Hello there","finish_reason":"stop"}',
        guards=None,
        edge="http",
        route=None,
        per_token_ms=record.per_token_ms,
        traceparent=None,
    )
    assert record.per_token_ms == pytest.approx(400 / 11, abs=0.001)
    assert made.cost_usd == pytest.approx(54e-6)
    assert [record.duration_ms, record.ttft_ms, record.overhead_ms] == [pytest.approx(time, abs=0.002) for time in (501, 101, 2)]
    [told] = attempts_of(record)
    assert (told.deployment, told.outcome, told.provider_status, told.cost_usd) == ("local/small", "success", 200, made.cost_usd)
    times = [told.started_ms, told.connected_ms, told.first_byte_ms, told.first_token_ms, told.ended_ms]
    assert times == [pytest.approx(time, abs=0.002) for time in (1, 2, 101, 101, 500)]


@pytest.mark.parametrize("stream", [False, True])
def test_a_minimal_record_holds_figures_only(stream: bool) -> None:
    failed = attempt(10.0, 10.0005, "provider_error", error_detail=FAILED)
    made = exchange(stream=stream, attempts=[failed, attempt()])
    settle(made)
    full, minimal = make_record(made, "full"), make_record(made, "minimal")
    said = repr(minimal) + repr(attempts_of(minimal))
    for private in ("Who are you", "Hello", "user-7", "session-9", "theirs"):
        assert private in repr(full) + repr(attempts_of(full))
        assert private not in said
    hidden = {"user_id", "session_id", "client_request_id", "request", "answer", "attempts", "finish_reason"}
    kept = [name for name in Record._fields if name not in hidden]
    assert [getattr(minimal, name) for name in kept] == [getattr(full, name) for name in kept]


def plan(*candidates: str, detour: Detour | None = None) -> Plan:
    """Of the model `chat` at a, b and c; its fallback is at z."""
    made = {name: Deployment(name, name.partition("/")[0], name.partition("/")[2]) for name in ("local/a", "local/b", "local/c", "sim/z")}
    own = Route(name="chat", deployments=(made["local/a"], made["local/b"], made["local/c"]), strategy="balanced")
    backup = Route(name="backup", deployments=(made["sim/z"],))
    ordered = [Candidate(made[name], backup if name == "sim/z" else own, name == "sim/z") for name in candidates]
    return Plan(own, tuple(ordered), detour)


@pytest.mark.parametrize(
    ("candidates", "detour", "told"),
    [
        (["local/b", "local/a", "local/c"], None, "balanced: local/b, local/a, local/c"),
        (["local/b", "sim/z"], None, "balanced: local/b, sim/z (backup); not able: local/a, local/c"),
        (["sim/z"], "capability", "balanced, capability: sim/z (backup); not able: local/a, local/b, local/c"),
        (["sim/z", "local/a", "local/b", "local/c"], "controller", "balanced, controller: sim/z (backup), local/a, local/b, local/c"),
    ],
)
def test_a_choice_among_deployments_is_told_with_its_reasons(candidates: list[str], detour: Detour | None, told: str) -> None:
    assert make_record(exchange(plan=plan(*candidates, detour=detour)), "minimal").route == told


def test_where_there_was_no_choice_nothing_is_told_of_it() -> None:
    only = Deployment("local/a", "local", "a")
    route = Route(name="chat", deployments=(only,))
    assert make_record(exchange(plan=Plan(route, (Candidate(only, route),))), "full").route is None


def test_what_is_told_of_a_choice_is_bounded() -> None:
    many = tuple(Deployment(f"local/{number:03}", "local", f"{number:03}") for number in range(100))
    route = Route(name="chat", deployments=many)
    record = make_record(exchange(plan=Plan(route, tuple(Candidate(one, route) for one in many))), "full")
    assert len(record.route or "") == ROUTE_MAX_CHARS


def test_an_error_is_told_by_its_code() -> None:
    failed = attempt(outcome="provider_connection_cut", error_detail="x" * 5000)
    record = make_record(exchange(attempts=[failed], answer=[], error=ConnectionCut("cut"), usage=None), "full")
    assert (record.status, record.http_status, record.error_code) == ("error", 502, "provider_connection_cut")
    assert (record.answer, record.input_tokens, record.cost_usd) == (None, None, None)
    assert attempts_of(record)[0].detail == "x" * DETAIL_MAX_CHARS


def test_a_client_that_left_is_told_as_499() -> None:
    made = exchange(answer=[chunk("Hel")], stream=True, error=ClientLeft("left"))
    record = make_record(made, "full")
    assert (record.status, record.http_status, record.answer) == ("cancelled", 499, b'{"content":"Hel"}')


def test_a_request_that_was_refused_has_no_attempt() -> None:
    record = make_record(exchange(attempts=[], answer=[], error=ConnectionCut("x"), key=None), "full")
    assert (record.attempts_count, record.attempts, record.key_id, record.deployment) == (0, None, None, None)


def test_an_attempts_own_usage_is_told_where_it_is_not_the_requests() -> None:
    other = Usage(input=5, output=1)
    made = exchange(attempts=[attempt(outcome="provider_error", usage=other), attempt()])
    settle(made)
    assert [one.usage for one in attempts_of(make_record(made, "full"))] == [other, None]


def test_a_request_over_the_bound_is_cut_and_its_length_told() -> None:
    made = exchange()
    made.call = replace(made.call, body=b"{" + b" " * (2 * REQUEST_MAX_BYTES))
    record = make_record(made, "full")
    assert record.request is not None
    assert (len(record.request), record.request_bytes) == (REQUEST_MAX_BYTES, 2 * REQUEST_MAX_BYTES + 1)


def test_names_that_a_client_chose_are_bounded() -> None:
    record = make_record(exchange(session="s" * 9999, client_request_id="i" * 9999), "full")
    assert (record.session_id, record.client_request_id) == ("s" * NAME_MAX_CHARS, "i" * NAME_MAX_CHARS)


@pytest.mark.parametrize(
    ("edge", "stream", "pattern"), [("http", False, "unary"), ("http", True, "streaming"), ("batch", True, "batching")]
)
def test_patterns(edge: str, stream: bool, pattern: str) -> None:
    assert pattern_of(exchange(edge=edge, stream=stream)) == pattern


@pytest.mark.parametrize(
    ("spans", "overhead"),
    [
        ([], 1.0),
        ([(10.1, 10.9)], 0.2),
        ([(10.1, 10.3), (10.5, 10.9)], 0.4),
        ([(10.1, 10.8), (10.2, 10.5)], 0.3),
        ([(10.1, 10.5), (10.4, 10.9)], 0.2),
        ([(10.1, None)], 0.1),
        ([(10.0, 11.5)], 0.0),
    ],
    ids=["none", "one", "apart", "inside", "overlapping", "not ended", "beyond"],
)
def test_overhead_is_what_no_attempt_covers(spans: list[tuple[float, float | None]], overhead: float) -> None:
    made = exchange(attempts=[attempt(started, ended=ended) for started, ended in spans])  # type: ignore[arg-type]
    assert overhead_s(made, 11.0) == pytest.approx(overhead)


def test_a_wait_for_room_is_told_and_is_no_overhead() -> None:
    made = exchange(attempts=[attempt(10.3, ended=10.9, queued_s=0.25)], queued_s=0.25)
    assert overhead_s(made, 11.0) == pytest.approx(0.15)
    assert msgspec.json.decode(make_record(made, "minimal").attempts or b"")[0]["queued_ms"] == 250
    assert b"queued_ms" not in (make_record(exchange(), "full").attempts or b"")


def test_large_bodies_are_packed_and_small_ones_are_not() -> None:
    small, large = b"{" * (COMPRESS_MIN_BYTES - 1), b'{"a": "' + b"word " * COMPRESS_MIN_BYTES
    assert packed(small) is small
    stored = packed(large)
    assert stored is not None
    assert len(stored) < len(large) / 10
    assert unpacked(stored) == large
    assert unpacked(small) is small
    assert packed(None) is unpacked(None) is None


@pytest.mark.parametrize("mode", ["full", "minimal"])
def test_a_record_of_nothing_but_a_start_can_be_made(mode: Mode) -> None:
    made = exchange(attempts=[], answer=[])
    made.ended = made.status = None
    record = make_record(made, mode)
    assert (record.status, record.duration_ms) == ("error", 0.0)
