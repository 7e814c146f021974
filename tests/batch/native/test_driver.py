"""Batches at providers, from their planning to their results: what goes well, what goes wrong, and what it costs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from agent_gateway.admission.keys import create_key
from agent_gateway.batch import tenure
from agent_gateway.batch.native import driver, gathering, planner, taking_in
from agent_gateway.batch.native.base import BATCH_APIS, BatchApi, Job, Outcome, Progress
from agent_gateway.batch.native.plan import plan_of
from agent_gateway.control.interventions import Intervention
from agent_gateway.core.errors import ConnectionCut, ProviderTimeout, StoreDown
from agent_gateway.core.settings import Budget
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import ItemResult, NewItem
from tests.batch.native.bench import KINDS, MODEL, PRICE, Bench, configuration, running
from tests.kit.eventually import eventually
from tests.kit.records import Record
from tests.simulator.serving import Provider

ITEMS = 12
#: By fault: how many items each provider runs in its batch, how many are run live, and how many calls are lost (of every API, but where
#: it is told).
FAULTS = {
    "batch-refuse": (0, 12, 0),
    "batch-refuse-400": (0, 12, 0),
    "batch-fail": (0, 12, 0),
    "batch-expire-5": (5, 7, 0),
    "batch-error-2": (6, 6, 0),
    "batch-garble-3": (12, 4, 4),
    "batch-miss-3": (12, 4, 4),
    "batch-strange-3": (12, 4, 4),
    "batch-double-2": (12, 0, 0),
    "batch-gone": (12, 12, 12),
}
#: Of a batch that expires, Gemini gives out nothing, and bills nothing.
FAULTS_OF = {"openai": FAULTS, "anthropic": FAULTS, "gemini": {**FAULTS, "batch-expire-5": (0, 12, 0)}}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_batch_is_run_by_the_provider_at_half_the_price(kind: str, simulated: Provider, tmp_path: Path) -> None:
    async with running(configuration(simulated, tmp_path), simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create(kind, items=ITEMS), "completed")
        bill = await bench.bill()
        assert (batch.completed, batch.failed, batch.plan, batch.lost_calls) == (ITEMS, 0, None, 0)
        assert (bill["live"].calls, bill["batch"].calls) == (0, ITEMS)
        assert batch.cost_usd == pytest.approx(bill["batch"].usd)
        assert batch.single_cost_usd == pytest.approx(2 * batch.cost_usd)
        assert batch.native_saved_usd == pytest.approx(batch.cost_usd)
        lines = await bench.lines(batch.output_file)
        assert [each["custom_id"] for each in lines] == [f"item {number}" for number in range(ITEMS)]
        assert all(each["response"]["body"]["choices"][0]["message"]["content"] for each in lines)
        assert {each["response"]["body"]["model"] for each in lines} == {kind}
        records = await _records(bench, ITEMS)
        assert {record["id"] for record in records} == {each["response"]["request_id"] for each in lines}
        assert sum(record["cost_usd"] or 0.0 for record in records) == pytest.approx(batch.cost_usd)
        assert Counter((record["pattern"], record["status"], record["deployment"]) for record in records) == {
            ("native", "success", f"{kind}/gpt-4o-mini"): ITEMS
        }


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_provider_does_not_run_well_is_run_live(kind: str, simulated: Provider, tmp_path: Path) -> None:
    faults = FAULTS_OF[kind]
    async with running(configuration(simulated, tmp_path, list(faults)), simulated, tmp_path) as bench:
        batches = [await bench.create(f"{kind}:{fault}", items=ITEMS) for fault in faults]
        ended = await asyncio.gather(*(bench.until(batch_id, "completed") for batch_id in batches))
        for (fault, (_, live, lost)), batch in zip(faults.items(), ended, strict=True):
            assert (batch.completed, batch.failed, batch.lost_calls) == (ITEMS, 0, lost), fault
            lines = await bench.lines(batch.output_file)
            assert [each["custom_id"] for each in lines] == [f"item {number}" for number in range(ITEMS)], fault
            assert (batch.native_saved_usd > 0) == (live < ITEMS), fault
        bill = await bench.bill()
        # Nothing is billed that is not told, and nothing is told that was not billed.
        expected = [sum(counts) for counts in zip(*faults.values(), strict=True)]
        assert [bill["batch"].calls, bill["live"].calls, sum(batch.lost_calls for batch in ended)] == expected
        assert bill["batch"].calls + bill["live"].calls == sum(batch.completed + batch.lost_calls for batch in ended)


async def _records(bench: Bench, count: int) -> list[Record]:
    def all_of_them() -> list[Record] | None:
        records = bench.records()
        return records if len(records) >= count else None

    return await eventually(all_of_them, f"{count} records")


async def _has_spent(bench: Bench, key_id: str, usd: float) -> None:
    async def spent() -> float:
        return next(iter((await bench.gateway._store.spend_of({(f"key:{key_id}", 0.0)})).values()), 0.0)

    async with asyncio.timeout(10):
        while await spent() != pytest.approx(usd):  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.05)


# --- what ends early --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_what_would_miss_the_window_is_stopped_and_run_live(
    kind: str, simulated: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "ON_WINDOW_S", 1.0)
    monkeypatch.setattr(planner, "LIVE_SHARE_MIN", 0.98)
    monkeypatch.setattr(planner, "LIVE_SHARE_MAX", 0.98)
    model = f"{kind}:batch-hang"
    async with running(configuration(simulated, tmp_path, ["batch-hang"]), simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create(model, items=ITEMS, window_s=60.0), "completed")
        assert (batch.completed, batch.lost_calls, batch.native_saved_usd) == (ITEMS, 0, 0.0)
        bill = await bench.bill()
        assert (bill["live"].calls, bill["batch"].calls) == (ITEMS, 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_batch_is_cancelled_there_too(kind: str, slow: Provider, tmp_path: Path) -> None:
    async with running(configuration(slow, tmp_path), slow, tmp_path) as bench:
        batch_id = await bench.create(kind, items=100)
        await bench.part(batch_id, "waiting")
        assert await bench.engine.cancel(None, batch_id) is not None
        batch = await bench.until(batch_id, "cancelled")
        bill = await bench.bill()
        assert batch.completed == len(await bench.lines(batch.output_file)) == bill["batch"].calls
        assert (bill["live"].calls, batch.lost_calls, batch.plan) == (0, 0, None)
        unrun = await bench.lines(batch.error_file)
        assert len(unrun) == 100 - batch.completed > 0
        assert {each["error"]["code"] for each in unrun} == {"batch_cancelled"}


async def test_what_was_run_before_a_batch_was_cancelled_is_taken(slow: Provider, tmp_path: Path) -> None:
    async with running(configuration(slow, tmp_path), slow, tmp_path) as bench:
        batch_id = await bench.create("openai", items=100)
        await bench.part(batch_id, "waiting")
        client = AsyncOpenAI(base_url=f"{slow.url}/v1", api_key="sk-x")
        async with asyncio.timeout(10):
            while not [one async for one in client.batches.list() if one.request_counts and one.request_counts.completed > 1]:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.02)
        await client.close()
        assert await bench.engine.cancel(None, batch_id) is not None
        batch = await bench.until(batch_id, "cancelled")
        assert 1 < batch.completed < 100
        assert batch.completed == len(await bench.lines(batch.output_file)) == (await bench.bill())["batch"].calls
        assert batch.cost_usd == pytest.approx((await bench.bill())["batch"].usd)


async def test_a_part_is_sent_again_until_there_is_room_for_it(
    simulated: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = BATCH_APIS.load("openai")
    create, look, made, full = api.create, api.look, list[str](), list[Job]()

    async def noted(self: BatchApi, job: Job, lines: Sequence[bytes]) -> str:
        made.append(str(await create(self, job, lines)))
        return made[-1]

    async def too_much(self: BatchApi, job: Job) -> Progress:
        progress: Progress = await look(self, job)
        if progress.state != "failed" or len(full) == 2:
            return progress
        full.append(job)
        return replace(progress, may_pass=True)

    monkeypatch.setattr(api, "create", noted)
    monkeypatch.setattr(api, "look", too_much)
    async with running(configuration(simulated, tmp_path, ["batch-fail"]), simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create("openai:batch-fail", items=ITEMS), "completed")
        assert [job.upstream for job in full] == made[:2]
        assert (len(made), len(set(made))) == (3, 3)
        assert ((await bench.bill())["live"].calls, batch.completed, batch.lost_calls) == (ITEMS, ITEMS, 0)


async def test_what_waits_to_be_sent_to_a_drained_deployment_is_run_live_elsewhere(
    simulated: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = BATCH_APIS.load("openai")
    look, full = api.look, asyncio.Event()

    async def too_much(self: BatchApi, job: Job) -> Progress:
        progress: Progress = await look(self, job)
        if progress.state == "failed":
            full.set()
        return replace(progress, may_pass=True)

    monkeypatch.setattr(api, "look", too_much)
    monkeypatch.setattr(driver, "QUEUE_MIN_S", 600.0)
    cheap = {"provider": "openai", "model": f"{MODEL}:batch-fail", "price": CHEAP}
    models = {"two": {"deployments": [cheap, {"provider": "anthropic", "model": MODEL, "price": PRICE}]}}
    async with running(configuration(simulated, tmp_path, models=models), simulated, tmp_path) as bench:
        batch_id = await bench.create("two", items=ITEMS)
        async with asyncio.timeout(20):
            await full.wait()
        drained = Intervention(mode="drain", until=None, by="the test", reason="")
        await bench.gateway._interventions.put(f"openai/{MODEL}:batch-fail", drained)
        batch = await bench.until(batch_id, "completed")
        assert (batch.completed, batch.plan, batch.native_saved_usd, batch.lost_calls) == (ITEMS, None, 0.0, 0)
        assert (await bench.bill())["live"].calls == ITEMS
        assert {record["deployment"] for record in await _records(bench, ITEMS)} == {f"anthropic/{MODEL}"}


# --- what nobody can know ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_batch_that_was_made_though_nobody_heard_of_it_is_found_again(
    kind: str, simulated: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = BATCH_APIS.load(kind)
    create, asked = api.create, Counter[str]()

    async def unheard(self: BatchApi, job: Job, lines: Sequence[bytes]) -> str:
        asked[job.id] += 1
        await create(self, job, lines)
        raise ProviderTimeout("No answer.", kind="attempt")

    monkeypatch.setattr(api, "create", unheard)
    async with running(configuration(simulated, tmp_path), simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create(kind, items=ITEMS), "completed")
        bill = await bench.bill()
        assert list(asked.values()) == [1]
        assert (bill["live"].calls, bill["batch"].calls, batch.completed, batch.lost_calls) == (0, ITEMS, ITEMS, 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_batch_that_was_not_made_is_made_once(
    kind: str, simulated: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = BATCH_APIS.load(kind)
    create, asked = api.create, Counter[str]()

    async def cut(self: BatchApi, job: Job, lines: Sequence[bytes]) -> str:
        asked[job.id] += 1
        if asked[job.id] < 3:
            raise ConnectionCut("Cut.")
        return str(await create(self, job, lines))

    monkeypatch.setattr(api, "create", cut)
    monkeypatch.setattr(driver, "SEND_SHARE", 1.0)  # however long a busy machine takes for it
    async with running(configuration(simulated, tmp_path), simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create(kind, items=ITEMS), "completed")
        bill = await bench.bill()
        assert list(asked.values()) == [3]
        assert (bill["live"].calls, bill["batch"].calls, batch.completed, batch.lost_calls) == (0, ITEMS, ITEMS, 0)


async def test_results_that_break_off_are_asked_for_again(simulated: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = BATCH_APIS.load("openai")
    outcomes, times = api.outcomes, Counter[str]()
    monkeypatch.setattr(taking_in, "TAKEN_AT_ONCE", 5)

    async def breaking(self: BatchApi, job: Job, progress: Progress) -> AsyncGenerator[Outcome | None, None]:
        times[job.id] += 1
        told = 0
        async for outcome in outcomes(self, job, progress):
            yield outcome
            told += 1
            if told == 7 and times[job.id] == 1:
                raise ConnectionCut("Cut.")

    monkeypatch.setattr(api, "outcomes", breaking)
    async with running(configuration(simulated, tmp_path), simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create("openai", items=ITEMS), "completed")
        bill = await bench.bill()
        assert (bill["live"].calls, batch.completed, batch.lost_calls, list(times.values())) == (0, ITEMS, 0, [2])
        assert batch.cost_usd == pytest.approx(bill["batch"].usd)
        assert len(await _records(bench, ITEMS)) == ITEMS


async def test_what_could_not_be_written_is_paid_for_once(simulated: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(configuration(simulated, tmp_path), simulated, tmp_path) as bench:
        finish, tries = bench.store.finish_items, Counter[str]()

        async def down(results: Sequence[ItemResult]) -> dict[tuple[str, int], int]:
            tries["finish"] += 1
            if tries["finish"] == 1:
                raise StoreDown("The store is down.")
            return await finish(results)

        monkeypatch.setattr(bench.store, "finish_items", down)
        monkeypatch.setattr(tenure, "LEASE_S", 0.1)  # what was begun is taken up again after it
        key, _ = await create_key(bench.gateway._store, "buyer", budget=Budget(usd=1.0, per="total"))
        batch = await bench.until(await bench.create("openai", items=ITEMS, owner=Owner(key.id)), "completed")
        assert tries["finish"] == 2
        await _records(bench, ITEMS)
        text = bench.gateway._recorder.scrape()[0].decode()
        assert [line.split()[1] for line in text.splitlines() if line.startswith("agent_gateway_requests_total{")] == [f"{ITEMS}.0"], text
        await _has_spent(bench, key.id, batch.cost_usd)


# --- what goes, and what does not -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [
        ("completions", "openai"),
        ("embeddings", "openai"),
        ("messages", "openai"),
        ("messages", "anthropic"),
        ("messages", "gemini"),
        ("responses", "anthropic"),
    ],
)
async def test_every_endpoint_goes_where_its_protocol_can_be_told(endpoint: str, kind: str, simulated: Provider, tmp_path: Path) -> None:
    more: dict[str, Any] = {"store": False} if endpoint == "responses" else {}
    async with running(configuration(simulated, tmp_path), simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create(kind, endpoint=endpoint, **more), "completed")
        bill = await bench.bill()
        assert (bill["live"].calls, bill["batch"].calls, batch.completed) == (0, 6, 6)
        lines = await bench.lines(batch.output_file)
        kept = {"completions": "choices", "embeddings": "data", "messages": "content", "responses": "output"}[endpoint]
        assert all(each["response"]["body"][kept] for each in lines)


CHEAP = {"input": 0.01, "output": 0.01}


@pytest.mark.parametrize(
    ("model", "endpoint", "more"),
    [
        ("gemini", "embeddings", {}),  # told in OpenAI's protocol there
        ("anthropic", "responses", {}),  # kept here for its client, as a live one is
        ("guarded", "chat", {}),
        ("off", "chat", {}),
        ("auto", "chat", {}),  # the provider's address is not its own
        ("blind", "chat", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://h/x.png"}}]}]}),
    ],
)
async def test_what_a_providers_batch_cannot_have_is_run_live(
    model: str, endpoint: str, more: dict[str, Any], simulated: Provider, tmp_path: Path
) -> None:
    there = {"deployments": [{"provider": "openai", "model": MODEL, "price": PRICE}]}
    models = {
        "guarded": {**there, "guards": {"output": [{"kind": "pii", "action": "flag"}]}},
        "off": {**there, "batching": {"native": "off"}},
        "auto": {**there, "batching": {"native": "auto"}},
        "blind": {"deployments": [{"provider": "blind", "model": MODEL, "price": CHEAP}, {"provider": "openai", "model": MODEL}]},
    }
    config = configuration(simulated, tmp_path, models=models)
    config["providers"]["blind"] = {**config["providers"]["openai"], "lacks": ["vision"]}
    async with running(config, simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create(model, endpoint=endpoint, **more), "completed")
        bill = await bench.bill()
        assert (batch.completed, batch.lost_calls, bill["live"].calls, bill["batch"].calls) == (6, 0, 6, 0)


async def test_a_short_window_is_for_live_calls(simulated: Provider, tmp_path: Path) -> None:
    async with running(configuration(simulated, tmp_path), simulated, tmp_path) as bench:
        await bench.until(await bench.create("openai", window_s=600.0), "completed")
        assert (await bench.bill())["batch"].calls == 0


async def test_what_one_who_is_gone_meant_for_a_provider_is_not_put_off_by_another(simulated: Provider, tmp_path: Path) -> None:
    """Whose configuration sends it nowhere: it was read in halfway, and is due only in 18 hours."""
    config = configuration(simulated, tmp_path)
    config["models"]["openai"]["batching"] = {"native": "off"}
    async with running(config, simulated, tmp_path) as bench:
        items = [NewItem(number, f"item {number - 1}", "openai", b'{"model":"openai","messages":[]}', due_at=1e11) for number in (1, 2)]
        batch = await bench.until(await bench.create("openai", already=items), "completed")
        assert (batch.completed + batch.failed, (await bench.bill())["batch"].calls) == (6, 0)


async def test_each_model_of_a_batch_goes_its_own_way(simulated: Provider, tmp_path: Path) -> None:
    models = {"off": {"deployments": [{"provider": "openai", "model": MODEL, "price": PRICE}], "batching": {"native": "off"}}}
    async with running(configuration(simulated, tmp_path, models=models), simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create(*KINDS, "off", items=20), "completed")
        bill = await bench.bill()
        assert (batch.completed, bill["live"].calls, bill["batch"].calls) == (20, 5, 15)
        lines = await bench.lines(batch.output_file)
        assert [each["response"]["body"]["model"] for each in lines] == [*KINDS, "off"] * 5
        assert batch.cost_usd == pytest.approx(bill["live"].usd + bill["batch"].usd)
        assert batch.single_cost_usd == pytest.approx(bill["live"].usd + 2 * bill["batch"].usd)


async def test_what_is_the_same_is_sent_once(simulated: Provider, tmp_path: Path) -> None:
    same: dict[str, Any] = {"temperature": 0, "messages": [{"role": "user", "content": "How are you?"}]}
    async with running(configuration(simulated, tmp_path), simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create("openai", "gemini", items=10, **same), "completed")
        bill = await bench.bill()
        assert (batch.completed, bill["live"].calls, bill["batch"].calls) == (10, 0, 2)
        assert batch.cost_usd == pytest.approx(bill["batch"].usd)
        assert batch.native_saved_usd == pytest.approx(bill["batch"].usd)
        assert batch.duplicate_saved_usd == pytest.approx(4 * 2 * bill["batch"].usd)


async def test_many_items_go_in_several_parts(simulated: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "PART_REQUESTS", 40)
    monkeypatch.setattr(gathering, "ITEMS_AT_ONCE", 15)
    async with running(configuration(simulated, tmp_path), simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create("openai", items=100), "completed")
        bill = await bench.bill()
        assert (batch.completed, bill["live"].calls, bill["batch"].calls, batch.lost_calls) == (100, 0, 100, 0)


async def test_what_the_provider_refuses_for_good_is_a_result(simulated: Provider, tmp_path: Path) -> None:
    async with running(configuration(simulated, tmp_path, ["fail-400"]), simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create(*(f"{kind}:fail-400" for kind in KINDS)), "completed")
        assert (batch.completed, batch.failed, batch.output_file, (await bench.bill())["live"].failed_calls) == (0, 6, None, 0)
        for each in await bench.lines(batch.error_file):
            assert each["response"]["status_code"] == 400
            assert each["response"]["body"]["error"]["message"]


# --- who may, and who pays --------------------------------------------------------------------------------------------


async def test_a_budget_is_spent_and_what_it_does_not_hold_is_not_sent(simulated: Provider, tmp_path: Path) -> None:
    config = configuration(simulated, tmp_path, auth={"require_key": True, "admin_key": "sk-admin-0123456789abcdef"})
    async with running(config, simulated, tmp_path) as bench:
        store = bench.gateway._store
        rich, _ = await create_key(store, "rich", budget=Budget(usd=1.0, per="total"))
        poor, _ = await create_key(store, "poor", budget=Budget(usd=0.0005, per="total"))
        stranger, _ = await create_key(store, "stranger", models=frozenset({"anthropic"}))
        batch = await bench.until(await bench.create("openai", items=50, owner=Owner(rich.id)), "completed")
        assert batch.native_saved_usd > 0
        await _has_spent(bench, rich.id, batch.cost_usd)
        # A few are expected to cost what there is; the others are run live, where the budget is exact.
        batch_id = await bench.create("openai", items=50, owner=Owner(poor.id))
        async with asyncio.timeout(10):
            while (found := await bench.find(batch_id)).status == "validating" or found.plan:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.02)
        before = await bench.bill()
        assert 0 < before["batch"].calls - 50 < 50
        failed = await bench.until(await bench.create("openai", owner=Owner(stranger.id)), "completed")
        assert (failed.completed, failed.failed) == (0, 6)
        assert (await bench.bill())["batch"].calls == before["batch"].calls


async def test_a_budget_is_not_spent_twice_by_what_is_at_providers_already(slow: Provider, tmp_path: Path) -> None:
    config = configuration(slow, tmp_path, auth={"require_key": True, "admin_key": "sk-admin-0123456789abcdef"})
    config["models"]["openai"]["batching"] = {"concurrency": 1}
    async with running(config, slow, tmp_path) as bench:
        key, _ = await create_key(bench.gateway._store, "poor", budget=Budget(usd=0.0005, per="total"))
        other, _ = await create_key(bench.gateway._store, "another", budget=Budget(usd=0.0005, per="total"))
        first = await bench.create("openai", "anthropic", items=100, owner=Owner(key.id))
        sent = await bench.part(first, "waiting")
        assert 0 < sent.items < 50
        assert sent.estimated_usd >= 0.0005
        assert len(plan_of(await bench.find(first)).parts) == 1, "nothing is left for the other model"
        second = await bench.create("openai", items=50, owner=Owner(key.id))
        async with asyncio.timeout(10):
            while (found := await bench.find(second)).status == "validating" or plan_of(found).targets:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.02)
        assert found.plan is None
        third = await bench.create("openai", items=50, owner=Owner(other.id))
        assert (await bench.part(third, "waiting")).items == sent.items


async def test_a_part_stays_with_the_key_that_it_was_sent_with(
    simulated: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "PART_REQUESTS", 3)
    monkeypatch.setattr(gathering, "ITEMS_AT_ONCE", 3)
    config = configuration(simulated, tmp_path)
    for kind in KINDS:
        del config["providers"][kind]["api_key"]
        config["providers"][kind]["api_keys"] = ["sk-a", "sk-b"]
    async with running(config, simulated, tmp_path) as bench:
        batch = await bench.until(await bench.create(*KINDS, items=36), "completed")
        bill = await bench.bill()
        assert (batch.completed, batch.lost_calls, bill["live"].calls, bill["batch"].calls) == (36, 0, 0, 36)
        for key in ("sk-a", "sk-b"):
            client = AsyncOpenAI(base_url=f"{simulated.url}/v1", api_key=key)
            assert [one.request_counts.total async for one in client.batches.list() if one.request_counts] == [3, 3]
            assert [file.id async for file in client.files.list()] == [], "what is done with is deleted"
            await client.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_who_takes_over_from_one_that_was_sending_finds_what_it_sent(
    kind: str, simulated: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = BATCH_APIS.load(kind)
    create, made = api.create, asyncio.Event()

    async def never_back(self: BatchApi, job: Job, lines: Sequence[bytes]) -> str:
        await create(self, job, lines)
        made.set()
        return str(await asyncio.Future())

    config = configuration(simulated, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(api, "create", never_back)
        async with running(config, simulated, tmp_path) as bench:
            batch_id = await bench.create(kind, items=ITEMS)
            async with asyncio.timeout(10):
                await made.wait()
    async with running(config, simulated, tmp_path) as bench:
        batch = await bench.find(batch_id)
        assert [part.stage for part in plan_of(batch).parts] == ["sending"]
        await bench.store.update_batch(batch_id, batch.version, lease_until=0.0)  # as its end would
        batch = await bench.until(batch_id, "completed")
        bill = await bench.bill()
        assert (batch.completed, batch.lost_calls, bill["live"].calls, bill["batch"].calls) == (ITEMS, 0, 0, ITEMS)


async def test_what_two_have_sent_is_stopped_by_the_one_that_was_too_slow(
    simulated: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease ended while it waited for the provider, and another went on."""
    api = BATCH_APIS.load("openai")
    create, cancel, cancelled = api.create, api.cancel, asyncio.Event()

    async def too_slow(self: BatchApi, job: Job, lines: Sequence[bytes]) -> str:
        upstream = str(await create(self, job, lines))
        batch = (await bench.store.open_batches(limit=1))[0]
        assert await bench.store.update_batch(batch.id, batch.version, holder="another") is not None
        return upstream

    async def noted(self: BatchApi, job: Job) -> None:
        await cancel(self, job)
        cancelled.set()

    monkeypatch.setattr(api, "create", too_slow)
    monkeypatch.setattr(api, "cancel", noted)
    async with running(configuration(simulated, tmp_path), simulated, tmp_path) as bench:
        await bench.create("openai", items=ITEMS)
        async with asyncio.timeout(10):
            await cancelled.wait()
        assert (await bench.bill())["live"].calls == 0


async def test_a_batch_whose_provider_has_left_the_configuration_is_run_elsewhere(simulated: Provider, tmp_path: Path) -> None:
    config = configuration(simulated, tmp_path, ["batch-hang"])
    async with running(config, simulated, tmp_path) as bench:
        batch_id = await bench.create("openai:batch-hang", items=ITEMS)
        await bench.part(batch_id, "waiting")
    config["models"]["openai:batch-hang"]["deployments"] = [{"provider": "anthropic", "model": MODEL, "price": PRICE}]
    async with running(config, simulated, tmp_path) as bench:
        batch = await bench.find(batch_id)
        plan = plan_of(batch)
        plan.parts[0].stopping_at, plan.parts[0].next_at = 1.0, 0.0  # its time is over
        await bench.store.update_batch(batch_id, batch.version, lease_until=0.0, plan=plan.written())
        batch = await bench.until(batch_id, "completed")
        assert (batch.completed, batch.lost_calls, (await bench.bill())["live"].calls) == (ITEMS, ITEMS, ITEMS)
