"""When batches begin, go on and end, on a clock that sleeping moves on."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from agent_gateway.core.errors import RateLimited
from agent_gateway.simulator.batches import jobs as module
from agent_gateway.simulator.batches.billing import Billing
from agent_gateway.simulator.batches.faults import BatchFault
from agent_gateway.simulator.batches.jobs import Job, Jobs, Request, Result
from agent_gateway.simulator.batches.settings import BatchSettings
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.simulator.simulator import Simulator
from tests.kit.eventually import eventually
from tests.simulator.stage import STEADY, Time, chat

SETTINGS = BatchSettings(batch_ms=10_000)


class Shop:
    def __init__(self, settings: SimulatorSettings = STEADY, *, is_all_or_nothing: bool = False) -> None:
        self.time = Time()
        self.billing = Billing(SETTINGS)
        simulator = Simulator(settings, self.time.clock)
        self.jobs = Jobs(simulator, self.billing, SETTINGS, self.time.clock, self.time.sleep, is_all_or_nothing=is_all_or_nothing)
        self.kept: list[Result] = []

    def start(self, count: int = 4, fault: BatchFault | None = None, job_id: str = "j") -> Job:
        requests = [Request(str(number), "openai_chat", chat(f"Number {number}?"), "") for number in range(count)]
        job = Job(
            id=job_id,
            key="k",
            model="m",
            fault=fault,
            shown=None,
            requests=requests,
            total=count,
            keep=lambda _, results: self.kept.extend(results),
            created_at=0,
        )
        self.jobs.start(job)
        return job

    async def end(self, job: Job) -> None:
        await eventually(lambda: job.state == "ended", "the batch ends")


async def test_items_are_answered_evenly_until_the_end() -> None:
    shop = Shop()
    job = shop.start()
    assert job.state == "waiting"
    await shop.end(job)
    assert shop.time.slept == [2.5, 2.5, 2.5, 2.5]
    assert (job.outcome, dict(job.counts)) == ("completed", {"succeeded": 4})
    assert [result.id for result in shop.kept] == ["0", "1", "2", "3"]
    assert job.usage.output == 80
    assert (job.requests, job.results) == ((), [])


@pytest.mark.parametrize(
    ("is_all_or_nothing", "counts", "calls"), [(False, {"succeeded": 1, "cancelled": 3}, 1), (True, {"cancelled": 4}, 0)]
)
async def test_a_batch_is_cancelled_after_what_it_has_answered(is_all_or_nothing: bool, counts: dict[str, int], calls: int) -> None:
    shop = Shop(is_all_or_nothing=is_all_or_nothing)
    job = shop.start(fault=BatchFault("hang", 1))
    await eventually(lambda: job.results, "an item is answered")
    shop.jobs.cancel(job)
    shop.jobs.cancel(job)
    assert (job.state, job.cancelling_at) == ("cancelling", 1_700_000_000.0)
    await shop.end(job)
    assert (job.outcome, dict(job.counts)) == ("cancelled", counts)
    assert shop.billing.told().total.calls == calls


@pytest.mark.parametrize(
    ("rate", "kind", "statuses"),
    [
        ("error_rate", "errored", {500, 503, 529}),
        ("rate_limit_rate", "errored", {429}),
        ("cut_rate", "errored", {500}),
        ("hang_rate", "expired", {0}),
        ("slow_rate", "succeeded", {200}),
    ],
)
async def test_items_go_wrong_by_the_rates_of_live_calls(rate: str, kind: str, statuses: set[int]) -> None:
    shop = Shop(structs.replace(STEADY, **{rate: 1}))
    job = shop.start(count=20)
    await shop.end(job)
    assert (job.outcome, dict(job.counts)) == ("completed", {kind: 20})
    assert {result.status for result in shop.kept} == statuses
    assert shop.billing.told().total.calls == (20 if kind == "succeeded" else 0)


async def test_what_is_forgotten_stops() -> None:
    shop = Shop()
    job = shop.start(fault=BatchFault("hang"))
    await eventually(lambda: job.state == "running", "the batch has begun")
    shop.jobs.forget(job)
    assert shop.jobs.find("k", "j") is None
    for _ in range(50):
        await asyncio.sleep(0)
    assert (job.state, shop.kept) == ("running", [])


async def test_so_many_run_and_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNNING_MAX", 2)
    monkeypatch.setattr(module, "JOBS_MAX", 3)
    shop = Shop()
    await shop.end(shop.start(job_id="a"))
    await shop.end(shop.start(job_id="b", fault=BatchFault("fail")))
    shop.start(job_id="c", fault=BatchFault("hang"))
    shop.start(job_id="d", fault=BatchFault("hang"))
    assert [job.id for job in shop.jobs.of_key("k")] == ["d", "c", "b"]
    with pytest.raises(RateLimited, match="2 batches are under way"):
        shop.start(job_id="e")
    for job in list(shop.jobs.of_key("k")):
        shop.jobs.forget(job)
