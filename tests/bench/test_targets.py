"""A load test is judged by the same targets as the gateway itself, by what its clients saw."""

from __future__ import annotations

from typing import Any

import pytest

from agent_gateway.bench.load import Mode
from agent_gateway.bench.targets import judged
from agent_gateway.record.slo import OBJECTIVES, Verdict
from tests.bench.figures import figures, told
from tests.bench.loads import load

TARGETS = {objective.name: objective.target for objective in OBJECTIVES}


def verdicts(mode: Mode = "stream", rate: float | None = None, **changes: Any) -> dict[str, Verdict]:
    preset = {"stream": "support", "batch": "codegen"}.get(mode)
    return {each.slo: each for each in judged(figures(**changes), load(mode=mode, rate=rate), preset)}  # type: ignore[arg-type]


def test_a_good_stream_meets_all() -> None:
    judgements = {name: verdict.met for name, verdict in verdicts().items()}
    assert judgements.pop("degraded_within") is None, "there was no fixed reply"
    assert set(judgements.values()) == {True}
    assert {"first_token", "first_content", "stream_errors", "overhead_p99", "availability", "support_cost"} <= set(judgements)
    assert {name: verdict.target for name, verdict in verdicts().items()}.items() <= TARGETS.items()


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"first_token": told(*[0.3] * 90, *[0.6] * 10)}, {"first_token"}),
        ({"first_token": told(*[2.5] * 1000)}, {"first_token", "first_content"}),
        ({"overhead": told(0.006)}, {"overhead_p99"}),
        ({"answered": 940, "failed": 60, "errors": {"cut off": 60}}, {"stream_completion", "stream_errors", "errors", "availability"}),
        ({"answered": 994, "failed": 6, "errors": {"timeout": 6}}, {"timeouts"}),
        ({"answered": 994, "failed": 6, "errors": {"504 provider_timeout": 6}}, {"timeouts"}),
        ({"answered": 994, "failed": 6, "errors": {"503 overloaded": 6}}, set()),
        ({"statuses": {"success": 940, "fallback": 60}}, {"fallback_rate"}),
        ({"statuses": {"success": 970, "degraded": 30}, "degraded": told(2.5)}, {"availability", "degraded_within"}),
        ({"latency": told(2.5)}, {"duration_p50"}),
        ({"latency": told(11)}, {"duration_p50", "duration_p95", "duration_p99"}),
        ({"cost_usd": 6.0}, {"support_cost"}),
        ({"cost_usd": 11.0}, {"support_cost", "cost"}),
    ],
)
def test_what_is_not_as_it_should_is_missed(changes: dict[str, Any], missed: set[str]) -> None:
    assert {name for name, verdict in verdicts(**changes).items() if verdict.met is False} == missed


def test_streams_that_never_began_did_not_break_off() -> None:
    found = verdicts(answered=900, failed=100, errors={"503 overloaded": 100}, first_token=told(*[0.3] * 900))
    assert found["stream_errors"].met is True
    assert found["stream_completion"].met is False


def test_batches_are_judged_as_their_clients_see_them() -> None:
    found = verdicts("batch", latency=told(*[7] * 98, 14, 16), answered=990, failed=10, errors={"504": 10})
    assert {name for name, verdict in found.items() if verdict.met is False} == {"batch_errors"}
    assert (found["batch_p95"].text, found["batch_p95"].count) == ("p95 of a batch of 50", 100)
    assert found["token_efficiency"].figure == 0.4
    assert "first_token" not in found


@pytest.mark.parametrize(
    ("rate", "per_s", "met"), [(None, 101.0, True), (None, 90.0, False), (125.0, 90.0, False), (50.0, 50.0, None), (50.0, 100.0, True)]
)
def test_throughput_is_judged_where_so_much_was_asked_for(rate: float | None, per_s: float, met: bool | None) -> None:
    assert verdicts("batch", rate=rate, per_s=per_s)["batch_throughput"].met is met


def test_of_what_nobody_told_nothing_is_judged() -> None:
    found = verdicts(cost_usd=None, overhead=None)
    assert [found[name].met for name in ("cost", "support_cost", "overhead_p99")] == [None, None, None]
