"""Metrics as Prometheus reads them: names, labels, numbers, and that a client cannot make more of them."""

from __future__ import annotations

import sys
from subprocess import run
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.errors import ClientLeft, ConnectionCut, Overloaded, ProviderTimeout, ShuttingDown
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.settings import Concurrency
from agent_gateway.core.usage import Usage
from agent_gateway.health.registry import Health
from agent_gateway.record.cost import settle
from agent_gateway.record.metrics import DURATION_S, UNCONFIGURED_DEPLOYMENTS_MAX, Metrics
from tests.record.exchanges import attempt, exchange

P = "agent_gateway_"


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    metrics.configure(["chat"], ["local/small"])
    return metrics


def samples(metrics: Metrics) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Name → labels → value, as a scraper reads them."""
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    told: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in told.setdefault(sample.name, {}), f"{sample.name} {labels} twice"
            told[sample.name][labels] = sample.value
    return told


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get(P + name, {}).get(tuple(sorted(labels.items())))


def observe(metrics: Metrics, made: Exchange) -> None:
    settle(made)
    metrics.observe(made)


def test_an_answered_request_is_counted_everywhere(metrics: Metrics) -> None:
    for _ in range(2):
        observe(metrics, exchange(stream=True))
    labels = {"model": "chat", "dialect": "openai_chat", "pattern": "streaming", "status": "success"}
    assert value(metrics, "requests_total", **labels) == 2
    assert value(metrics, "request_duration_seconds_count", model="chat", pattern="streaming") == 2
    assert value(metrics, "request_duration_seconds_sum", model="chat", pattern="streaming") == pytest.approx(1.002)
    assert value(metrics, "time_to_first_token_seconds_sum", model="chat") == pytest.approx(0.202)
    assert value(metrics, "time_per_output_token_seconds_sum", model="chat") == pytest.approx(2 * 0.4 / 11)
    assert value(metrics, "overhead_seconds_sum") == pytest.approx(0.004)
    assert value(metrics, "upstream_duration_seconds_sum", deployment="local/small") == pytest.approx(0.998)
    assert value(metrics, "attempts_total", deployment="local/small", outcome="success") == 2
    assert value(metrics, "streams_total", model="chat", outcome="completed") == 2
    assert value(metrics, "tokens_total", model="chat", direction="input") == 60
    assert value(metrics, "tokens_total", model="chat", direction="output") == 24
    assert value(metrics, "cost_usd_total", model="chat") == pytest.approx(2 * 54e-6)
    assert value(metrics, "token_efficiency_sum", model="chat") == pytest.approx(2 * 12 / 42)


def test_every_name_of_the_contract_is_there_with_its_labels(metrics: Metrics) -> None:
    metrics.watch(_Sink())
    metrics.enter("chat")
    observe(metrics, exchange(stream=True, attempts=[attempt(outcome="provider_timeout"), attempt()], reason="provider_timeout"))
    fallen = exchange(stream=True, reason="provider_timeout")
    fallen.status = "fallback"
    replied = exchange(reason="provider_timeout")
    replied.status = "degraded"
    for made in (fallen, replied):
        observe(metrics, made)
    told = {name: {frozenset(dict(labels)) for labels in values} for name, values in samples(metrics).items()}
    for name, labels in {
        "requests_total": {"model", "dialect", "pattern", "status"},
        "request_duration_seconds_sum": {"model", "pattern"},
        "time_to_first_token_seconds_sum": {"model"},
        "time_per_output_token_seconds_sum": {"model"},
        "overhead_seconds_sum": set[str](),
        "upstream_duration_seconds_sum": {"deployment"},
        "attempts_total": {"deployment", "outcome"},
        "streams_total": {"model", "outcome"},
        "fallbacks_total": {"model", "reason"},
        "degraded_total": {"model"},
        "timeouts_total": {"kind"},
        "tokens_total": {"model", "direction"},
        "cost_usd_total": {"model"},
        "token_efficiency_sum": {"model"},
        "in_flight": {"model"},
        "records_total": {"sink", "outcome"},
        "edge_requests_total": set[str](),
    }.items():
        assert told[P + name] == {frozenset(labels)}, name


class _Sink:
    name = "database"
    written = 5
    adopted = 0
    dropped = 2


def test_records_are_counted_by_sink_with_what_never_reached_it(metrics: Metrics) -> None:
    metrics.watch(_Sink())
    metrics.count_dropped(3)
    assert value(metrics, "records_total", sink="database", outcome="written") == 5
    assert value(metrics, "records_total", sink="database", outcome="dropped") == 5


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"error": ConnectionCut("x"), "attempts": [attempt(outcome="provider_connection_cut")]}, "error"),
        ({"error": ClientLeft("x"), "attempts": [attempt(outcome="cancelled")]}, "cancelled"),
        ({"error": ConnectionCut("x"), "attempts": []}, None),
    ],
    ids=["failed", "left", "refused before any attempt"],
)
def test_outcomes_of_streams(metrics: Metrics, fields: dict[str, Any], outcome: str | None) -> None:
    observe(metrics, exchange(stream=True, answer=[], usage=None, **fields))
    expected = {} if outcome is None else {(("model", "chat"), ("outcome", outcome)): 1}
    assert samples(metrics).get(P + "streams_total", {}) == expected


def test_the_fallbacks_reason_and_the_fixed_reply_are_counted_apart(metrics: Metrics) -> None:
    fallen, replied = exchange(reason="provider_timeout"), exchange(reason="provider_error")
    fallen.status, replied.status = "fallback", "degraded"
    observe(metrics, fallen)
    observe(metrics, replied)
    told = samples(metrics)
    assert told[P + "fallbacks_total"] == {(("model", "chat"), ("reason", "provider_timeout")): 1}
    assert told[P + "degraded_total"] == {(("model", "chat"),): 1}


@pytest.mark.parametrize(
    ("stream", "fields", "deadline", "kind"),
    [
        (False, {"connected": None}, 99, "connect"),
        (False, {"connected": 10.1}, 99, "attempt"),
        (True, {"connected": 10.1}, 99, "first_token"),
        (True, {"connected": 10.1, "first_token": 10.2}, 99, "idle"),
        (True, {"connected": 10.1}, 10.5, "total"),
    ],
)
def test_kinds_of_timeouts(metrics: Metrics, stream: bool, fields: dict[str, Any], deadline: float, kind: str) -> None:
    late = attempt(outcome="provider_timeout", **fields)
    error = ProviderTimeout("late", kind="first_token")
    observe(metrics, exchange(stream=stream, answer=[], usage=None, attempts=[late], error=error, deadline=deadline))
    assert samples(metrics)[P + "timeouts_total"] == {(("kind", kind),): 1}


def test_a_timeout_before_any_attempt_and_one_that_was_retried_are_counted(metrics: Metrics) -> None:
    observe(metrics, exchange(answer=[], usage=None, attempts=[], error=ProviderTimeout("late", kind="total")))
    observe(metrics, exchange(attempts=[attempt(outcome="provider_timeout"), attempt()]))
    assert value(metrics, "timeouts_total", kind="total") == 1
    assert value(metrics, "timeouts_total", kind="connect") == 1


def test_requests_that_there_was_no_room_for_are_counted_by_reason(metrics: Metrics) -> None:
    for error in (
        Overloaded("No room.", param="queue"),
        Overloaded("No room.", param="bodies"),
        Overloaded("Nothing there."),
        ShuttingDown("Bye."),
    ):
        observe(metrics, exchange(attempts=[], error=error))
    assert [value(metrics, "shed_total", reason=reason) for reason in ("queue", "bodies")] == [1, 1]
    assert len(samples(metrics)[P + "shed_total"]) == 2


def test_limits_and_lines_are_told_by_deployment(metrics: Metrics) -> None:
    health = Health()
    metrics.watch_health(health, SYSTEM_CLOCK)
    deployment = Deployment("local/small", "local", "small")
    health.follow(Route(name="chat", deployments=(deployment,)))
    assert (value(metrics, "concurrency_limit", deployment="local/small"), value(metrics, "waiting", deployment="local/small")) == (None, 0)
    health.follow(Route(name="chat", deployments=(deployment,), concurrency=Concurrency(max=3)))
    assert value(metrics, "concurrency_limit", deployment="local/small") == 3


def test_what_is_in_flight_goes_back_to_zero_over_a_reload(metrics: Metrics) -> None:
    metrics.enter("chat")
    metrics.enter("late")
    metrics.enter("made-up")
    assert value(metrics, "in_flight", model="chat") == 1
    assert value(metrics, "in_flight", model="other") == 2
    metrics.configure(["chat", "late"], [])
    assert value(metrics, "in_flight", model="late") == 1
    for model in ("chat", "late", "made-up"):
        metrics.leave(model)
    assert samples(metrics)[P + "in_flight"] == {(("model", "chat"),): 0, (("model", "late"),): 0}
    assert value(metrics, "edge_requests_total") == 3


def test_names_that_clients_make_up_make_no_series(metrics: Metrics) -> None:
    for number in range(1000):
        made = exchange(attempts=[attempt(deployment=f"local/{number}", outcome=f"code_{number}")], reason=f"why {number}")
        made.status = "fallback"
        made.call = replace(made.call, model=f"model-{number}")
        observe(metrics, made)
    observe(metrics, exchange())
    told = samples(metrics)
    assert {dict(labels)["model"] for labels in told[P + "requests_total"]} == {"chat", "other"}
    assert {dict(labels)["reason"] for labels in told[P + "fallbacks_total"]} == {"other"}
    deployments = {dict(labels)["deployment"] for labels in told[P + "attempts_total"]}
    assert {"local/small", "other"} <= deployments
    assert len(deployments) == UNCONFIGURED_DEPLOYMENTS_MAX + 2
    assert len({dict(labels)["outcome"] for labels in told[P + "attempts_total"]}) <= 101
    assert sum(told[P + "attempts_total"].values()) == 1001


def test_buckets_hold_what_is_at_or_below_their_bound(metrics: Metrics) -> None:
    for ended in (12.0, 12.001, 700.0):
        made = exchange()
        made.ended = ended
        observe(metrics, made)
    buckets = samples(metrics)[P + "request_duration_seconds_bucket"]
    by_bound = {dict(labels)["le"]: count for labels, count in buckets.items()}
    assert (by_bound["1.0"], by_bound["2.0"], by_bound["3.0"], by_bound["600.0"], by_bound["+Inf"]) == (0, 1, 2, 2, 3)
    assert len(by_bound) == len(DURATION_S) + 1
    assert {0.5, 2.0, 5.0, 8.0, 10.0, 15.0} <= set(DURATION_S)


def test_an_answer_of_one_token_has_no_time_per_token(metrics: Metrics) -> None:
    observe(metrics, exchange(stream=True, usage=Usage(input=1, output=1)))
    assert value(metrics, "time_per_output_token_seconds_count", model="chat") == 0


def test_what_no_model_wrote_has_no_time_per_token(metrics: Metrics) -> None:
    cached = exchange(stream=True, attempts=[], first_token=10.2)
    cached.status = "cached"
    observe(metrics, cached)
    assert value(metrics, "time_per_output_token_seconds_count", model="chat") == 0
    assert value(metrics, "time_to_first_token_seconds_count", model="chat") == 1
    assert value(metrics, "requests_total", model="chat", dialect="openai_chat", pattern="streaming", status="cached") == 1
    assert value(metrics, "streams_total", model="chat", outcome="completed") == 1


class _Cache:
    results: ClassVar = {"hit": 3, "joined": 0, "miss": 1, "skipped": 2}
    failures = 4
    kept_bytes = 5


def test_the_cache_is_told_of_once_there_is_one(metrics: Metrics) -> None:
    assert P + "cache_total" not in samples(metrics)
    metrics.watch_cache(_Cache())
    assert {result: value(metrics, "cache_total", result=result) for result in _Cache.results} == _Cache.results
    assert (value(metrics, "cache_failures_total"), value(metrics, "cache_bytes")) == (4, 5)


def test_a_start_does_not_import_the_client_library() -> None:
    program = "import agent_gateway.record.recorder, sys; sys.exit('prometheus_client' in sys.modules)"
    assert run([sys.executable, "-c", program], check=False).returncode == 0
