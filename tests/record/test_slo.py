"""Service levels: every figure by hand, the same out of metrics and out of records, and over the time that was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from agent_gateway.core.errors import BadRequest, ClientLeft, ProviderFault, ProviderTimeout
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import Settings, State
from agent_gateway.core.usage import Usage
from agent_gateway.record import slo_records
from agent_gateway.record.cost import settle
from agent_gateway.record.family import Family
from agent_gateway.record.figures import HOUR_MS
from agent_gateway.record.metrics import DURATION_S, Metrics
from agent_gateway.record.recorder import Recorder
from agent_gateway.record.row import make_record
from agent_gateway.record.sinks.database import DatabaseSink, _Errand
from agent_gateway.record.slo import OBJECTIVES, TIMES, Sums, Verdict, judged, quantile, summed
from agent_gateway.record.slo_window import MINUTE_S, SloWindow
from agent_gateway.stores.operation import Operation
from tests.kit.eventually import eventually
from tests.record.exchanges import attempt, exchange
from tests.record.kept import CLOCK
from tests.stores.stores import fresh_url


def lasting(seconds: float, **fields: object) -> Exchange:
    made = exchange(**fields)  # type: ignore[arg-type]
    made.ended = made.started + seconds
    if made.attempts:
        made.attempts[-1].ended = made.ended
    return made


def told(sums: Sums) -> dict[str, Verdict]:
    return {verdict.slo: verdict for verdict in judged(sums)}


def crowd() -> Iterator[Exchange]:
    """20 requests that count, one that its client left, and one that was the client's mistake."""
    for _ in range(10):
        yield lasting(1.5)
    for _ in range(4):
        yield lasting(7.0, stream=True, first_token=10.4)
    yield lasting(3.0, stream=True, error=ProviderFault("cut"), first_token=12.5)
    yield lasting(0.8, status="fallback", quality=0.6)
    failing = [attempt(outcome="provider_timeout")]
    yield lasting(1.2, attempts=failing, status="degraded", quality=0.0)
    yield lasting(9.0, attempts=failing, error=ProviderTimeout("too late", kind="attempt"))
    yield lasting(20.0, edge="batch")
    yield lasting(1.0, edge="batch", usage=Usage(input=100, output=1000), cost_usd=0.5)
    yield lasting(1.0, error=ClientLeft("gone"))
    yield lasting(0.0, attempts=[], error=BadRequest("no"))


@pytest.fixture(params=["sqlite", "postgres"])
async def recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Recorder:
    url = await fresh_url(request.param, request.config, tmp_path)
    recorder = Recorder.for_settings(Settings(state=State(database=url)))
    recorder.metrics.configure(["chat"], ["local/small"])
    (sink,) = recorder._sinks
    assert isinstance(sink, DatabaseSink)
    sink._clock = CLOCK  # else the records are old, and gone if they come before its thread has first looked for such
    return recorder


async def both_told(recorder: Recorder, exchanges: Iterable[Exchange]) -> tuple[dict[str, Verdict], dict[str, Verdict]]:
    """Out of metrics, and out of records."""
    await recorder.start()
    for made in exchanges:
        recorder.begin(made)
        recorder.submit(made)
    recorder.fold()
    live = told(summed(recorder.metrics.families()))
    await recorder.close(10)
    assert recorder.archive is not None
    kept = told(await recorder.archive.sums(0, 2**52))
    await recorder.archive.close()
    return live, kept


async def test_metrics_and_records_say_the_same(recorder: Recorder) -> None:
    live, kept = await both_told(recorder, crowd())
    for name in ("fallback_rate", "availability", "errors", "timeouts"):
        assert live[name].count == 20, name
    assert live["availability"].figure == pytest.approx(17 / 20)
    assert (live["fallback_rate"].figure, live["errors"].figure, live["timeouts"].figure) == (2 / 20, 2 / 20, 1 / 20)
    assert (live["stream_completion"].figure, live["stream_errors"].figure) == (0.8, 0.2)
    assert (live["first_token"].met, live["first_content"].met) == (False, False)
    assert (live["fallback_quality"].figure, live["fallback_quality"].met) == (0.6, False)
    assert (live["degraded_within"].met, live["duration_p50"].met, live["duration_p95"].met) == (True, True, False)
    assert (live["batch_p95"].met, live["batch_errors"].figure, live["batch_errors"].met) == (False, 0.0, True)
    for name, verdict in live.items():
        if name not in ("records_complete", "model_latency"):  # the one only a process knows; a request's calls, or each of them
            assert kept[name].figure == pytest.approx(verdict.figure), name
            assert (kept[name].met, kept[name].count, kept[name].budget_left) == (verdict.met, verdict.count, verdict.budget_left), name


async def test_whole_hours_are_read_off_the_figures_and_outlive_their_records(recorder: Recorder, tmp_path: Path) -> None:
    """26 hours with a crowd every 10 minutes, asked for from within an hour to within one; the oracle counts the metrics of the same."""
    begin, since, until = 488_889 * HOUR_MS, 488_889 * HOUR_MS + HOUR_MS // 2, 488_914 * HOUR_MS + HOUR_MS // 3
    metrics, rows, gone = Metrics(), [], []
    metrics.configure(["chat"], ["local/small"])
    for step in range(26 * 6):
        at_ms = begin + step * HOUR_MS // 6
        native = lasting(30_000.0, edge="native")
        native.attempts[0].ended = None  # as it is with a provider's own batch
        for made in [*crowd(), native]:
            made.started_wall = at_ms / 1000
            settle(made)
            rows.append(make_record(made, "full"))
            if since <= at_ms < until:
                metrics.observe(made)
                if since + HOUR_MS < at_ms < until - HOUR_MS:
                    gone.append(rows[-1].id)
    await recorder.start()
    (sink,) = recorder._sinks
    assert isinstance(sink, DatabaseSink)
    sink.keep(100_000)
    sink.write(rows)
    await eventually(lambda: sink.written == len(rows), "all rows")
    assert recorder.archive is not None
    live = told(summed(metrics.families()))
    for _ in range(2):
        kept = told(await recorder.archive.sums(since, until))
        for name, verdict in live.items():
            if name not in ("records_complete", "model_latency"):
                assert kept[name].figure == pytest.approx(verdict.figure), name
                assert (kept[name].met, kept[name].count) == (verdict.met, verdict.count), name
        await sink._run_errand(_Errand("not removed", lambda: sink.table.change(removal(gone))), 10)
    assert not (await recorder.archive.sums(until, since)).number("requests")
    await recorder.close(10)


def removal(ids: list[str]) -> Operation[bool]:
    yield f"DELETE FROM records WHERE id IN ({', '.join('?' * len(ids))})", ids
    return True


async def test_the_busiest_minute_is_of_the_time_that_is_asked_for(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slo_records, "PEAK_LEAST", 5)
    begin = 488_889 * HOUR_MS
    made = make_record(lasting(1.0, edge="batch"), "full")
    minutes = [1] * 7 + [65, 65, *range(70, 80)] + [150] * 4  # of its second and third hour, the last one has too few
    await recorder.start()
    (sink,) = recorder._sinks
    assert isinstance(sink, DatabaseSink)
    sink.keep(100_000)
    sink.write([made._replace(id=f"req_{place}", started_ms=begin + minute * 60_000) for place, minute in enumerate(minutes)])
    await eventually(lambda: sink.written == len(minutes), "all rows")
    assert recorder.archive is not None
    peaks = [
        (await recorder.archive.sums(begin + first * 60_000, begin + last * 60_000)).number("batch_peak")
        for first, last in ((0, 180), (2, 180), (66, 180), (0, 1), (140, 180))
    ]
    await recorder.close(10)
    assert peaks == [7, 2, 1, 0, 0]


def test_what_another_process_left_behind_makes_no_records_complete() -> None:
    sums = summed([Family("counter", "records", "", ("sink", "outcome"), OUTCOMES)])
    assert (sums.number("records"), sums.number("records_lost")) == (100, 3)


OUTCOMES = {("database", "written"): 97, ("database", "adopted"): 5_000, ("database", "dropped"): 2, ("database", "missing"): 1}


async def test_nobody_waits_for_what_a_provider_runs_in_a_batch(recorder: Recorder) -> None:
    asked = lasting(1.5)
    in_a_batch = [lasting(40_000.0, edge="native") for _ in range(20)]
    for made in in_a_batch:
        made.attempts[-1].ended = None
    for verdicts in await both_told(recorder, [asked, *in_a_batch]):
        assert verdicts["availability"].count == 21
        for name in ("duration_p50", "duration_p99", "overhead_p99", "model_latency"):
            assert (verdicts[name].count, verdicts[name].met) == (1, True), name


def test_a_target_is_judged_by_the_share_within_it() -> None:
    sums = Sums()
    place = DURATION_S.index(5.0)
    sums.add("durations", 95, place)
    sums.add("durations", 5, len(DURATION_S))
    assert told(sums)["duration_p95"].met is True
    sums.add("durations", 1, len(DURATION_S))
    assert told(sums)["duration_p95"].met is False


def test_what_is_left_of_an_error_budget_is_told_as_a_share_of_it() -> None:
    sums = Sums()
    assert {verdict.budget_left for verdict in judged(sums)} == {None}, "nothing was asked for"
    place = DURATION_S.index(5.0)
    sums.add("durations", 990, place)
    sums.add("durations", 10, len(DURATION_S))
    for name, count in (("requests", 1000), ("available", 990), ("failed", 10), ("fell_back", 100), ("cost_usd", 1), ("streams", 10)):
        sums.add(name, count)
    sums.add("records", 200)
    sums.add("records_lost", 1)
    left = {name: verdict.budget_left for name, verdict in told(sums).items() if verdict.budget_left is not None}
    assert left == pytest.approx(
        {
            "availability": 0.5,  # 1 % of 2 %
            "errors": 0.0,  # 1 % of 1 %
            "fallback_rate": -1.0,  # 10 % of 5 %
            "timeouts": 1.0,
            "duration_p50": -1.0,  # all of them are slower than its 2 s
            "duration_p95": 0.8,  # 1 % of 5 %
            "duration_p99": 0.0,
            "stream_completion": -19.0,
            "stream_errors": 1.0,
            "records_complete": 0.5,
        }
    )


def test_throughput_is_judged_where_it_was_asked_for() -> None:
    sums = Sums()
    sums.add("batch_requests", 100)
    sums.add("batch_peak", 50)
    assert told(sums)["batch_throughput"].met is None
    sums.add("batch_peak", 7_000)
    assert (told(sums)["batch_throughput"].met, told(sums)["batch_throughput"].figure) == (True, 7_050 / 60)


def test_a_ratio_is_what_is_used_of_the_target() -> None:
    sums = Sums()
    sums.add("requests", 200)
    sums.add("available", 198)
    sums.add("failed", 1)
    found = told(sums)
    assert (found["errors"].ratio, found["availability"].ratio) == (0.5, 0.98 / 0.99)


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [([0, 0, 0], 0.5, None), ([4, 0, 0], 0.5, 0.5), ([2, 2, 0], 0.75, 2.0), ([0, 0, 1], 0.5, 3.0)],
)
def test_a_quantile_is_spread_evenly_over_its_bucket(counts: list[int], share: float, expected: float | None) -> None:
    assert quantile((1.0, 3.0), counts, share) == expected


def test_a_window_holds_what_came_within_it() -> None:
    window = SloWindow()
    recorder = Recorder(metrics := Recorder.for_settings(Settings(state=State(database="sqlite:///:memory:"))).metrics)
    recorder.metrics.configure(["chat"], [])
    assert judged(window.sums(3600))[0].figure is None
    for minute in range(180):
        for _ in range(2 if minute < 120 else 1):
            metrics.observe(lasting(1.0, error=ProviderFault("no") if minute < 120 else None))
        metrics.observe(lasting(1.0, edge="batch"))
        window.look(metrics.families(), minute * MINUTE_S)
    sums = window.sums(30 * MINUTE_S)
    assert (sums.number("requests"), sums.number("failed"), sums.number("batch_peak")) == (60, 0, 1)
    assert window.sums(86_400.0).number("requests") == 120 * 3 + 60 * 2
    assert window.ratios["errors"] < 0.1
    assert window.ratios["duration_p50"] == pytest.approx(told(window.sums(3600))["duration_p50"].ratio)


def test_every_target_on_a_time_is_a_bound() -> None:
    for objective in OBJECTIVES:
        if objective.unit == "s":
            assert any(objective.target in bounds for bounds in TIMES.values()), objective.name
    assert len({objective.name for objective in OBJECTIVES}) == len(OBJECTIVES)
