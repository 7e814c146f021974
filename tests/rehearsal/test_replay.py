"""A recorded hour, replayed: as it was, and as it would have been, against running it so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
import pytest

from agent_gateway.cli.replaying import compiled
from agent_gateway.control.load import compile_mapping
from agent_gateway.core.call import Dialect
from agent_gateway.core.usage import Usage
from agent_gateway.record.row import AttemptRecord, Record
from agent_gateway.rehearsal.behaviour import Behaviour
from agent_gateway.rehearsal.figures import Figures, Tally
from agent_gateway.rehearsal.replay import Forecast, NobodyAnswered, forecasts, rehearse
from agent_gateway.rehearsal.traffic import Traffic, read
from agent_gateway.stores.base import Key
from tests.rehearsal.hour import CHAT, RECORDED, changed, each, hour
from tests.rehearsal.test_traffic import record

#: Requests a second in the recorded hour: 2,500 in all.
PER_S = 0.7
OTHER = changed(strategy="priority", deployments=[CHAT[1], CHAT[0]])


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return hour(RECORDED, per_s=PER_S)


@pytest.fixture(scope="module")
def traffic(records: list[Record]) -> Traffic:
    return asyncio.run(read(each(records)))


@pytest.fixture(scope="module")
def made(traffic: Traffic) -> Forecast:
    return foretold(traffic, OTHER, runs=2)


def foretold(traffic: Traffic, raw: Mapping[str, Any], *, seed: int = 3, runs: int = 1) -> Forecast:
    was, new = (compiled(compile_mapping(dict(each))) for each in (RECORDED, raw))
    return forecasts(traffic, {}, was, [new], seed=seed, runs=runs)[0]


def under(traffic: Traffic, raw: Mapping[str, Any], keys: Mapping[str, Key] | None = None, seed: int = 3) -> Figures:
    return rehearse(traffic, keys or {}, Behaviour(traffic.done), compiled(compile_mapping(dict(raw))), seed)[0].all()


def test_the_same_configuration_comes_to_the_same(made: Forecast) -> None:
    """Issue 8: cost within 1 %, p95 within 10 %."""
    recorded, replayed = made.recorded.all, made.replayed.all
    assert recorded.requests == replayed.requests > 2_000
    assert recorded.fallback > 0, "the hour holds an outage"
    assert replayed.cost_usd == pytest.approx(recorded.cost_usd, rel=0.01)
    assert replayed.p50_s == pytest.approx(recorded.p50_s, rel=0.1)
    assert replayed.p95_s == pytest.approx(recorded.p95_s, rel=0.1)
    assert replayed.ttft_p95_s == pytest.approx(recorded.ttft_p95_s, rel=0.1)
    assert replayed.fallback_rate == pytest.approx(recorded.fallback_rate, abs=0.005)
    assert replayed.attempts_per_request == pytest.approx(recorded.attempts_per_request, rel=0.02)
    for model, figures in made.recorded.models.items():
        assert made.replayed.models[model].cost_usd == pytest.approx(figures.cost_usd, rel=0.02)


def test_another_configuration_comes_to_what_running_it_comes_to(made: Forecast) -> None:
    """Within the errors that docs/replay.md tells; the p95 of the first token stands where the slow minutes begin."""
    real = Tally()
    real.add(hour(OTHER, per_s=PER_S))
    ran, foreseen = real.all(), made.new.all
    assert foreseen.cost_usd < 0.95 * made.recorded.all.cost_usd, "the cheaper one comes first"
    assert foreseen.cost_usd == pytest.approx(ran.cost_usd, rel=0.03)
    assert foreseen.p95_s == pytest.approx(ran.p95_s, rel=0.15)
    assert foreseen.ttft_p95_s == pytest.approx(ran.ttft_p95_s, rel=0.25)
    assert foreseen.fallback_rate == pytest.approx(ran.fallback_rate, abs=0.005)


def test_an_outage_is_an_outage_again(records: list[Record], traffic: Traffic) -> None:
    """With nowhere to go but the deployment that was down, requests fail for as long: it was hardly tried in that time, so there are few
    records of it.
    """
    alone = {**changed(deployments=CHAT[:1], fallbacks=[]), "fallback": {"reply": None}}
    figures = under(traffic, alone)
    asked = [record for record in records if record.model == "chat"]
    during = [record for record in asked if 1200 <= (record.started_ms - asked[0].started_ms) / 1000 < 1800]
    assert figures.error == pytest.approx(len(during), rel=0.1)


def test_the_same_seed_gives_the_same_forecast_and_another_one_another(records: list[Record]) -> None:
    small = asyncio.run(read(each(records[:300])))
    made = foretold(small, OTHER)
    assert msgspec.json.encode(foretold(small, OTHER)) == msgspec.json.encode(made)
    assert under(small, OTHER, seed=4) != made.new.all


def test_several_runs_tell_how_much_is_chance(records: list[Record]) -> None:
    small = asyncio.run(read(each(records[:300])))
    made = foretold(small, RECORDED, runs=3)
    assert made.new.spread is not None
    assert made.new.spread.p95_s is not None
    assert 0 < made.new.spread.p95_s < 1
    assert made.new.spread.requests == 0


def test_a_deployment_never_seen_is_told_of(records: list[Record]) -> None:
    small = asyncio.run(read(each(records[:300])))
    price = {"input": 1, "output": 4}
    unseen = [("cheap", "large"), ("east", "tiny")]
    new = changed(deployments=[{"provider": provider, "model": model, "price": price} for provider, model in unseen])
    assumed = {(each.deployment, each.stream): each for each in foretold(small, new).assumed}
    assert set(assumed) == {("cheap/large", True), ("cheap/large", False), ("east/tiny", True), ("east/tiny", False)}
    assert assumed["cheap/large", True].like in ("east/large", "west/large"), "the same model elsewhere"
    assert assumed["east/tiny", True].like in ("east/large", "west/large", "cheap/small"), "the median of all"
    assert sum(each.share for each in assumed.values()) == pytest.approx(sum(r.model == "chat" for r in records[:300]) / 300, abs=0.1)


def test_limits_of_the_new_configuration_refuse(records: list[Record]) -> None:
    small = asyncio.run(read(each(records[:300])))
    limited = {**RECORDED, "limits": {"requests_per_minute": 20}}
    figures = under(small, limited)
    assert figures.refused_by_limits == figures.error > 50
    assert figures.cost_usd < 0.9 * under(small, RECORDED).cost_usd


def test_a_key_is_held_to_its_own_limits(records: list[Record]) -> None:
    small = asyncio.run(read(each([record._replace(key_id="k1") for record in records[:300]])))
    assert under(small, RECORDED).error == 0
    assert under(small, RECORDED, {"k1": Key("k1", "one", requests_per_minute=10)}).refused_by_limits > 100


def test_a_model_that_is_not_there_any_more_is_an_error(records: list[Record]) -> None:
    small = asyncio.run(read(each(records[:300])))
    models = {"small": RECORDED["models"]["small"]}
    made = foretold(small, {**RECORDED, "models": models})
    assert made.new.models["chat"].error == made.recorded.models["chat"].requests
    assert made.new.models["small"].success == pytest.approx(made.recorded.models["small"].success, abs=3)


def test_who_left_leaves_again_unless_he_is_answered_before(records: list[Record]) -> None:
    impatient = [record._replace(status="cancelled", http_status=499, error_code="client_left") for record in records[:300]]
    patient = [record._replace(duration_ms=60_000.0) for record in impatient]
    at_once = [record._replace(duration_ms=10.0) for record in impatient]
    others = [record._replace(id=f"{record.id}o") for record in records[:300]]

    def cancelled(left: list[Record]) -> float:
        together = sorted([*left, *others], key=lambda record: record.started_ms)
        return under(asyncio.run(read(each(together))), RECORDED).cancelled

    assert cancelled(at_once) == 300
    assert cancelled(patient) == 0


def test_nothing_can_be_said_where_nobody_answered(records: list[Record]) -> None:
    limited = [record._replace(status="error", error_code="rate_limit_exceeded", attempts=None) for record in records[:10]]
    traffic = asyncio.run(read(each(limited)))
    assert len(traffic.requests) == 10
    with pytest.raises(NobodyAnswered):
        foretold(traffic, RECORDED)


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_every_protocol_is_answered_in_its_own(records: list[Record], dialect: Dialect) -> None:
    """By the real codecs, streams and whole answers: what is read of the answer is what the record said that it takes."""
    is_stream = {"openai_embeddings": False, "anthropic_count": False}
    some = [
        record._replace(dialect=dialect, stream=+is_stream.get(dialect, bool(number % 2)), ttft_ms=None)
        for number, record in enumerate(record for record in records[:200] if record.model == "small" and record.status == "success")
    ]
    figures = under(asyncio.run(read(each(some))), RECORDED)
    assert figures.success == figures.requests == len(some)
    if dialect not in is_stream:
        assert figures.cost_usd == pytest.approx(sum(record.cost_usd or 0.0 for record in some), rel=0.01)
        assert figures.ttft_p95_s is not None


def test_a_stream_that_broke_off_is_carried_on_where_the_configuration_says_so() -> None:
    cut = AttemptRecord("east/large", 0.0, 10.0, 20.0, 200.0, 500.0, "provider_connection_cut", usage=Usage(input=30, output=20))
    whole = AttemptRecord("west/large", 0.0, 10.0, 20.0, 300.0, 900.0, "success", 200)
    failed = {"status": "error", "error_code": "provider_connection_cut", "output_tokens": 20}
    broken = [record(number, [cut], stream=1, **failed) for number in range(40)]
    fine = [record(40 + number, [whole], stream=1, model="small") for number in range(40)]
    traffic = asyncio.run(read(each([*broken, *fine])))
    assert all(asked.usage.output == 256 for asked in traffic.requests[:40])
    figures = under(traffic, changed(strategy="priority", fallbacks=[]))
    assert figures.error == 0
    assert figures.attempts_per_request > 1.05
    assert under(traffic, changed(strategy="priority", fallbacks=[], streaming={"recovery": "error"})).error >= 5


@pytest.mark.parametrize(
    ("outcome", "connected_ms", "status"),
    [
        ("provider_unreachable", None, None),
        ("provider_timeout", None, None),
        ("provider_timeout", 10.0, 200),
        ("provider_error", 10.0, 503),
        ("provider_rate_limited", 10.0, 429),
        ("provider_malformed_reply", 10.0, 200),
        ("provider_refused_request", 10.0, 400),
        ("context_length_exceeded", 10.0, 400),
        ("quality", 10.0, 200),
    ],
)
@pytest.mark.parametrize("stream", [0, 1])
def test_a_call_fails_as_it_did(outcome: str, connected_ms: float | None, status: int | None, stream: int) -> None:
    bad = AttemptRecord("east/large", 0.0, connected_ms, None, None, 90.0, outcome, status)
    nothing = {"status": "error", "error_code": outcome, "stream": stream, "input_tokens": None, "output_tokens": None}
    fine = AttemptRecord("east/large", 0.0, 10.0, 20.0, 30.0 if stream else None, 900.0, "success", 200)
    failed = [record(number, [bad], **nothing) for number in range(20)]
    later = [record(5_000 + number, [fine], stream=stream) for number in range(20)]
    alone = {**changed(deployments=CHAT[:1], fallbacks=[]), "fallback": {"reply": None}, "retries": {"max_attempts": 1}}
    figures = under(asyncio.run(read(each([*failed, *later]))), alone)
    assert (figures.error, figures.success) == (20, 20)
