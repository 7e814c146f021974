"""Batches from their creation to their files: the engine on a gateway in this process, with a provider under script."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_gateway.admission.keys import create_key
from agent_gateway.app import Gateway
from agent_gateway.batch import engine as engine_module
from agent_gateway.batch import pacing as pacing_module
from agent_gateway.batch.closing import RESULTS_TTL_S
from agent_gateway.batch.engine import Engine
from agent_gateway.batch.file_writer import FileWriter
from agent_gateway.batch.identity import new_batch_id, new_file_id
from agent_gateway.control.load import compile_mapping
from agent_gateway.core.errors import Conflict, StoreDown
from agent_gateway.protocols.openai_chat.client import read_call
from agent_gateway.record.metrics import Metrics
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import BatchStore, Claim, ItemResult, NewItem, StoredBatch, StoredFile, batches_of
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.provider import Heard, ScriptedProvider
from tests.kit.records import Record, read_records
from tests.kit.replies import after, hang, later, whole

ENDPOINT = "/v1/chat/completions"
ITEM_USD = (10 * 0.15 + 10 * 0.60) / 1e6


#: On several lines, as some providers write.
ANSWER = b"""{"id": "x", "object": "chat.completion", "created": 1, "model": "p",
 "choices": [{"index": 0, "message": {"role": "assistant", "content": "about NAME"}, "finish_reason": "stop"}],\r
 "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}}"""


class Bench:
    """A gateway, its engine and its store."""

    def __init__(self, gateway: Gateway, provider: ScriptedProvider) -> None:
        assert gateway._batches is not None
        self.gateway = gateway
        self.engine: Engine = gateway._batches
        self.store: BatchStore = batches_of(gateway._store)
        self.provider = provider
        self.asked: Counter[str] = Counter()
        #: What is answered to an item instead of an answer, once each time it is named.
        self.instead: dict[str, list[Any]] = {}
        provider.reply_by(self._script)

    def _script(self, heard: Heard) -> Any:
        name = heard.json["messages"][0]["content"]
        self.asked[name] += 1
        if others := self.instead.get(name):
            return others.pop(0)
        return whole(ANSWER.replace(b"NAME", name.encode()))

    async def upload(self, *lines: bytes, owner: Owner = Owner()) -> str:  # noqa: B008
        writer = FileWriter(self.store, StoredFile(new_file_id(), owner, "in.jsonl", "batch", time.time()))
        await writer.write(b"\n".join(lines))
        file = await writer.complete()
        assert file is not None
        return file.id

    async def create(self, *names: str, owner: Owner = Owner(), model: str = "m", window_s: float = 3600.0, **options: Any) -> str:  # noqa: B008
        return await self.create_of(await self.upload(*(line(name, model) for name in names), owner=owner), owner, window_s, **options)

    async def create_of(self, file_id: str, owner: Owner = Owner(), window_s: float = 3600.0, **options: Any) -> str:  # noqa: B008
        now = time.time()
        batch = StoredBatch(new_batch_id(), owner, ENDPOINT, file_id, "1h", now, now + window_s, **options)
        await self.store.create_batch(batch)
        self.engine.wake()
        return batch.id

    async def find(self, batch_id: str) -> StoredBatch:
        batch = await self.store.find_batch(None, batch_id)
        assert batch is not None
        return batch

    async def until(self, batch_id: str, *statuses: str, completed: int = 0) -> StoredBatch:
        async with asyncio.timeout(20):
            while (batch := await self.find(batch_id)).status not in statuses or batch.completed < completed:  # noqa: ASYNC110  (nothing tells of it)
                await asyncio.sleep(0.01)
            return batch

    async def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        if file_id is None:
            return []
        content, place = b"", 0
        while (chunk := await self.store.read_chunk(file_id, place)) is not None:
            content, place = content + chunk, place + 1
        return [msgspec.json.decode(text) for text in content.splitlines()]


def line(name: str, model: str = "m", text: str | None = None) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": text or name}]}
    return msgspec.json.encode({"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body})


def error_reply(status: int) -> Any:
    return whole(b'{"error":{"message":"no","type":"x"}}', status)


async def recorded(folder: Path, count: int) -> list[Record]:
    """As soon as there are so many."""

    def all_of_them() -> list[Record] | None:
        records = read_records(folder / "gateway.records.db")
        return records if len(records) == count else None

    return await eventually(all_of_them, f"{count} records")


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(engine_module, "LOOK_S", 0.1)
    monkeypatch.setattr(pacing_module, "ITEM_WAIT_S", 0.01)
    async with ScriptedProvider() as provider:
        price = {"input": 0.15, "output": 0.60}
        deployments = {name: [{"provider": "scripted", "model": name, "price": price}] for name in ("m", "narrow", "bounded", "shared")}
        raw = {
            "state": {"database": f"sqlite:///{tmp_path}/gateway.db"},
            "retries": {"max_attempts": 1},
            "fallback": {"reply": None},
            "providers": {"scripted": {"kind": "openai", "base_url": provider.base_url, "api_key": "sk-x"}},
            "models": {
                "m": {"deployments": deployments["m"]},
                "narrow": {"deployments": deployments["narrow"], "batching": {"concurrency": 3}},
                "bounded": {"deployments": deployments["bounded"], "concurrency": {"max": 2}},
                "shared": {"deployments": deployments["shared"], "concurrency": {"max": 5}},
            },
        }
        gateway = Gateway(compile_mapping(raw), environ={})
        await gateway._start()
        try:
            yield Bench(gateway, provider)
        finally:
            await gateway._stop()


# --- to the end -------------------------------------------------------------------------------------------------------


async def test_a_batch_is_read_in_run_and_closed(bench: Bench) -> None:
    names = [f"item {number}" for number in range(120)]
    batch = await bench.until(await bench.create(*names, metadata=b'{"a":"b"}'), "completed")
    assert (batch.total, batch.completed, batch.failed, batch.models, batch.error_file) == (120, 120, 0, ("m",), None)
    moments = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert moments == sorted(moment for moment in moments if moment is not None)
    assert (batch.metadata, batch.lost_calls, batch.holder) == (b'{"a":"b"}', 0, None)
    assert batch.cost_usd == batch.single_cost_usd == pytest.approx(120 * ITEM_USD)
    lines = await bench.lines(batch.output_file)
    assert [answer["custom_id"] for answer in lines] == names
    first = lines[0]
    assert first["error"] is None
    assert first["response"]["status_code"] == 200
    assert first["response"]["body"]["choices"][0]["message"]["content"] == "about item 0"
    assert bench.asked == dict.fromkeys(names, 1)
    assert await bench.store.read_items(batch.id, after=0, limit=10) == []


async def test_records_and_report_tell_the_same_costs(bench: Bench, tmp_path: Path) -> None:
    bench.instead["b"] = [error_reply(500)]
    batch = await bench.until(await bench.create("a", "b", "c"), "completed")

    records = await recorded(tmp_path, 4)
    assert sum(record["cost_usd"] or 0.0 for record in records) == pytest.approx(batch.cost_usd)
    assert {record["pattern"] for record in records} == {"batching"}
    answered = {record["id"] for record in records if record["status"] == "success"}
    assert {answer["response"]["request_id"] for answer in await bench.lines(batch.output_file)} == answered


async def test_requests_that_are_the_same_are_run_once(bench: Bench, tmp_path: Path) -> None:
    asked = [("a1", "a"), ("b1", "b"), ("a2", "a"), ("bad1", "bad"), ("a3", "a"), ("bad2", "bad")]
    bench.instead = {"a": [error_reply(500)], "bad": [error_reply(400)]}
    file_id = await bench.upload(*(line(custom_id, text=text) for custom_id, text in asked))
    batch = await bench.until(await bench.create_of(file_id, deduplicate=True), "completed")
    assert bench.asked == {"a": 2, "b": 1, "bad": 1}
    assert (batch.total, batch.completed, batch.failed, batch.unfinished) == (6, 4, 2, 0)
    costs = [batch.cost_usd, batch.single_cost_usd, batch.duplicate_saved_usd]
    assert costs == pytest.approx([2 * ITEM_USD, 4 * ITEM_USD, 2 * ITEM_USD])
    answers = await bench.lines(batch.output_file)
    shown = [(answer["custom_id"], answer["response"]["body"]["choices"][0]["message"]["content"]) for answer in answers]
    assert shown == [("a1", "about a"), ("b1", "about b"), ("a2", "about a"), ("a3", "about a")]
    assert len({answer["id"] for answer in answers}) == 4
    assert len({answer["response"]["request_id"] for answer in answers}) == 2
    assert [failed["custom_id"] for failed in await bench.lines(batch.error_file)] == ["bad1", "bad2"]
    assert bench.engine.figures.items == {"done": 4, "failed": 2}
    records = await recorded(tmp_path, 4)
    assert sum(record["cost_usd"] or 0.0 for record in records) == pytest.approx(batch.cost_usd)


async def test_requests_that_begin_alike_are_run_one_after_the_other(bench: Bench) -> None:
    beginnings = [f"{n} " * 600 for n in range(4)]
    file_id = await bench.upload(*(line(f"{n}", "narrow", f"{beginnings[n % 4]}{n}") for n in range(40)))
    order: list[str] = []

    def script(heard: Heard) -> Any:
        order.append(heard.json["messages"][0]["content"][0])
        return whole(ANSWER)

    bench.provider.reply_by(script)
    await bench.until(await bench.create_of(file_id), "completed")
    assert Counter(order) == dict.fromkeys("0123", 10)
    assert sum(one != other for one, other in pairwise(order)) <= 3 * 5  # of three calls at once, each border may be crossed five times


async def test_its_files_are_kept_as_long_as_was_asked(bench: Bench) -> None:
    for ttl_s, kept_s in ((None, RESULTS_TTL_S), (3600, 3600)):
        bench.instead["bad"] = [error_reply(400)]
        batch = await bench.until(await bench.create("a", "bad", output_ttl_s=ttl_s), "completed")
        for file_id in (batch.output_file, batch.error_file):
            assert file_id is not None
            file = await bench.store.find_file(batch.owner, file_id, time.time())
            assert file is not None
            assert file.expires_at == file.created_at + kept_s


async def test_what_a_client_did_wrong_is_in_the_error_file_with_its_answer(bench: Bench) -> None:
    bench.instead["bad"] = [error_reply(400)]
    file_id = await bench.upload(line("good"), line("bad"), line("lost", "no-such-model"))
    batch = await bench.until(await bench.create_of(file_id), "completed")
    assert (batch.completed, batch.failed, batch.models) == (1, 2, ("m", "no-such-model"))
    assert [answer["custom_id"] for answer in await bench.lines(batch.output_file)] == ["good"]
    bad, lost = await bench.lines(batch.error_file)
    assert (bad["custom_id"], bad["response"]["status_code"], bad["response"]["body"]["error"]["message"]) == ("bad", 400, "no")
    assert (lost["response"]["status_code"], lost["response"]["body"]["error"]["code"]) == (404, "model_not_found")
    assert bench.engine.figures.items == {"done": 1, "failed": 2}


async def test_what_may_pass_is_tried_again_until_it_does(bench: Bench) -> None:
    bench.instead = {"a": [error_reply(500), error_reply(429), error_reply(503)], "b": [error_reply(500)]}
    batch = await bench.until(await bench.create("a", "b", "c"), "completed")
    assert (batch.completed, batch.failed, batch.lost_calls) == (3, 0, 0)
    assert bench.asked == {"a": 4, "b": 2, "c": 1}


async def test_a_file_with_errors_fails_the_batch_and_runs_nothing(bench: Bench) -> None:
    file_id = await bench.upload(line("a"), b"{", line("a"))
    batch = await bench.until(await bench.create_of(file_id), "failed")
    errors = msgspec.json.decode(batch.errors or b"[]")
    assert [(error["line"], error["code"]) for error in errors] == [(2, "invalid_json_line"), (3, "duplicate_custom_id")]
    assert batch.failed_at is not None
    assert not bench.asked
    assert await bench.store.read_items(batch.id, after=0, limit=10) == []


async def test_a_file_that_is_gone_fails_the_batch(bench: Bench) -> None:
    batch = await bench.until(await bench.create_of("file-none"), "failed")
    assert b"file_not_found" in (batch.errors or b"")


@pytest.mark.parametrize(("model", "most"), [("narrow", 3), ("bounded", 2)])
async def test_no_more_calls_are_under_way_than_a_deployment_bears(bench: Bench, model: str, most: int) -> None:
    under_way: list[int] = []

    def script(_: Heard) -> Any:
        under_way.append(len(bench.engine._under_way))
        return later(0.02, whole(ANSWER))

    bench.provider.reply_by(script)
    batch = await bench.until(await bench.create(*map(str, range(20)), model=model), "completed")
    assert batch.completed == 20
    assert max(under_way) == most


async def test_as_many_interactive_calls_as_there_were_lately_find_room_beside_a_batch(bench: Bench) -> None:
    under_way: list[int] = []

    def script(_: Heard) -> Any:
        under_way.append(len(bench.engine._under_way))
        return later(0.02, whole(ANSWER))

    bench.provider.reply_by(script)
    call = read_call(msgspec.json.encode({"model": "shared", "messages": [{"role": "user", "content": "Hi"}]}), {})
    await bench.gateway._asked(call)
    batch = await bench.until(await bench.create(*map(str, range(20)), model="shared"), "completed")
    assert batch.completed == 20
    assert max(under_way) == 5 - 1 - 1


async def test_a_store_that_is_gone_for_a_while_costs_nothing_but_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refusals = bench.store.finish_items, [StoreDown("gone")] * 3

    async def finish(results: Sequence[ItemResult]) -> dict[tuple[str, int], int]:
        if refusals:
            raise refusals.pop()
        return await real(results)

    monkeypatch.setattr(bench.store, "finish_items", finish)
    batch = await bench.until(await bench.create("a", "b", "c"), "completed")
    assert (batch.completed, batch.lost_calls, refusals) == (3, 0, [])
    assert bench.asked == {"a": 1, "b": 1, "c": 1}


# --- cancelled, out of time -------------------------------------------------------------------------------------------


async def test_a_cancelled_batch_keeps_what_it_has_and_begins_nothing_more(bench: Bench) -> None:
    names = [f"item {number}" for number in range(200)]
    bench.instead = {name: [hang] for name in names[10:]}
    batch_id = await bench.create(*names)
    await bench.until(batch_id, "in_progress", completed=10)
    under_way = sum(bench.asked.values()) - 10
    batch = await bench.engine.cancel(Owner(), batch_id)
    assert batch is not None
    assert batch.status == "cancelling"
    assert await bench.engine.cancel(Owner("another"), batch_id) is None
    for call in list(bench.engine._under_way.values()):  # in place of the timeout of what hangs
        call.cancel()
    await bench.store.extend_leases("", [(batch_id, number + 1, 1) for number in range(200)], now=0.0, lease_s=0.0)
    batch = await bench.until(batch_id, "cancelled")
    assert (batch.completed, batch.failed) == (10, 0)
    assert batch.cancelled_at is not None
    assert under_way <= batch.lost_calls <= 60
    assert sum(bench.asked.values()) <= 10 + 60
    lines = await bench.lines(batch.error_file)
    assert [answer["custom_id"] for answer in lines] == names[10:]
    assert {answer["error"]["code"] for answer in lines} == {"batch_cancelled"}
    again = await bench.engine.cancel(Owner(), batch_id)
    assert again == batch


async def test_a_batch_that_is_cancelled_while_it_is_read_in_has_no_results(bench: Bench) -> None:
    real, moment = bench.store.add_items, asyncio.Event()

    async def add_items(batch_id: str, items: Sequence[NewItem]) -> None:
        await real(batch_id, items)
        await bench.engine.cancel(None, batch_id)
        moment.set()

    bench.store.add_items = add_items  # type: ignore[method-assign]
    batch = await bench.until(await bench.create("a", "b"), "cancelled")
    assert moment.is_set()
    assert (batch.total, batch.output_file, batch.error_file) == (0, None, None)
    assert await bench.store.read_items(batch.id, after=0, limit=10) == []
    assert not bench.asked


async def test_what_has_ended_cannot_be_cancelled(bench: Bench) -> None:
    batch_id = await bench.create("a")
    await bench.until(batch_id, "completed")
    with pytest.raises(Conflict):
        await bench.engine.cancel(None, batch_id)


async def test_a_window_that_is_over_ends_the_batch_with_what_there_is(bench: Bench, tmp_path: Path) -> None:
    bench.instead["stuck"] = [error_reply(500) for _ in range(1000)]
    batch_id = await bench.create("good", "stuck")
    await bench.until(batch_id, "in_progress", completed=1)
    with closing(sqlite3.connect(tmp_path / "gateway.db", timeout=PATIENCE_S)) as database, database:
        database.execute("update batches set expires_at = ? where id = ?", (time.time(), batch_id))
    batch = await bench.until(batch_id, "expired")
    assert (batch.completed, batch.failed) == (1, 0)
    assert [answer["custom_id"] for answer in await bench.lines(batch.output_file)] == ["good"]
    (stuck,) = await bench.lines(batch.error_file)
    assert (stuck["custom_id"], stuck["response"], stuck["error"]["code"]) == ("stuck", None, "batch_expired")


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_a_batch_runs_with_its_key_and_for_its_user(bench: Bench) -> None:
    key, _ = await create_key(bench.gateway._store, "mine", models=frozenset({"other"}))
    batch = await bench.until(await bench.create("a", owner=Owner(key.id, "ann")), "completed")
    (refused,) = await bench.lines(batch.error_file)
    assert refused["response"]["status_code"] == 403
    good, _ = await create_key(bench.gateway._store, "good")
    batch = await bench.until(await bench.create("b", owner=Owner(good.id, "ann")), "completed")
    assert batch.completed == 1


async def test_a_key_that_was_revoked_runs_nothing_more(bench: Bench) -> None:
    key, _ = await create_key(bench.gateway._store, "mine")
    await bench.gateway._store.revoke_key(key.id, time.time())
    batch = await bench.until(await bench.create("a", owner=Owner(key.id)), "completed")
    (refused,) = await bench.lines(batch.error_file)
    assert (refused["response"]["status_code"], batch.failed) == (401, 1)
    assert not bench.asked


async def test_a_tokens_key_goes_with_the_batch(bench: Bench) -> None:
    kept = msgspec.json.encode({"id": "jwt:ann", "name": "ann", "expires_at": 1.0, "models": ["other"]})
    batch = await bench.until(await bench.create("a", owner=Owner("jwt:ann"), key=kept), "completed")
    (refused,) = await bench.lines(batch.error_file)
    assert refused["response"]["status_code"] == 403


# --- several hands ----------------------------------------------------------------------------------------------------


async def test_what_another_left_half_read_or_half_written_is_taken_up(bench: Bench) -> None:
    file_id = await bench.upload(line("a"), line("b"))
    now = time.time()
    half = StoredBatch("batch_half", Owner(), ENDPOINT, file_id, "1h", now, now + 3600, holder="dead", lease_until=now + 0.3)
    await bench.store.create_batch(half)
    bench.engine.wake()
    await bench.until("batch_half", "completed")
    assert bench.asked == {"a": 1, "b": 1}
    written = replace(half, id="batch_written", status="finalizing", total=0, lease_until=0.0)
    await bench.store.create_batch(written)
    bench.engine.wake()
    assert (await bench.until("batch_written", "completed")).output_file is None


async def test_an_item_that_a_dead_process_held_is_run_again_and_counted(bench: Bench) -> None:
    now = time.time()
    await bench.engine.close(0)
    batch_id = await bench.create("a", "b")
    taking = Engine(bench.store, bench.gateway.live, bench.gateway._keys, bench.gateway._health, bench.gateway._clock)
    await taking._steward.look()
    await bench.until(batch_id, "in_progress")
    claim = Claim("dead", {"m": 1}, now, 0.5, 1)
    assert len(await bench.store.claim_items(claim)) == 1
    taking.start()
    try:
        batch = await bench.until(batch_id, "completed")
    finally:
        await taking.close(1)
    assert (batch.completed, batch.lost_calls) == (2, 1)


async def test_a_process_that_stops_gives_back_what_it_has_not_finished(bench: Bench) -> None:
    bench.instead["slow"] = [hang]
    batch_id = await bench.create("slow", "quick")
    await bench.until(batch_id, "in_progress", completed=1)
    await bench.engine.close(0.1)
    other = Engine(bench.store, bench.gateway.live, bench.gateway._keys, bench.gateway._health, bench.gateway._clock)
    other.start()
    try:
        batch = await bench.until(batch_id, "completed")
    finally:
        await other.close(1)
    assert (batch.completed, batch.lost_calls) == (2, 1)
    assert bench.asked == {"slow": 2, "quick": 1}


async def test_a_process_that_stops_takes_no_other_batch_in_hand(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be cut off in the middle, and nobody else could have the batch before the lease ends."""
    monkeypatch.setattr(engine_module, "GROUP_S", 0.0)
    answered = asyncio.Event()
    bench.instead["slow"] = [after(answered, whole(ANSWER))]
    running = await bench.create("slow")
    await eventually(lambda: bench.asked["slow"], "the call")
    closing = asyncio.create_task(bench.engine.close(10))
    await eventually(lambda: bench.engine._closing, "the engine's closing")
    waiting = await bench.create("other")
    await eventually(lambda: not bench.engine._stirred.is_set(), "the engine's next turn")
    answered.set()
    await closing
    assert (await bench.find(running)).completed == 1
    batch = await bench.find(waiting)
    assert (batch.status, batch.holder) == ("validating", None)


async def test_who_has_lost_its_lease_stops_its_call(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.engine.close(0)
    monkeypatch.setattr(engine_module, "HEARTBEAT_S", 0.05)
    bench.instead["a"] = [hang]
    engine = Engine(bench.store, bench.gateway.live, bench.gateway._keys, bench.gateway._health, bench.gateway._clock)
    engine.start()
    try:
        batch_id = await bench.create("a")
        engine.wake()
        await eventually(lambda: bench.asked["a"], "the call")
        claim = Claim("other", {"m": 1}, time.time() + 3600 - 1, 60.0, 1)
        assert len(await bench.store.claim_items(claim)) == 1
        await eventually(lambda: not engine._under_way, "the end of the call")
        assert (await bench.find(batch_id)).lost_calls == 1
    finally:
        await engine.close(1)


async def test_what_is_under_way_stays_so_though_its_lease_could_not_be_renewed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store was down for longer than a lease, or the process was stopped for as long."""
    monkeypatch.setattr(engine_module, "LEASE_S", 0.05)
    answered = asyncio.Event()
    bench.instead["a"] = [after(answered, whole(ANSWER))]
    batch_id = await bench.create("a", "b", "c", "d", model="narrow")
    await bench.until(batch_id, "in_progress", completed=3)
    await bench.until(await bench.create("e", model="narrow"), "completed")  # there was something to claim after its lease
    answered.set()
    batch = await bench.until(batch_id, "completed")
    assert (bench.asked["a"], batch.lost_calls) == (1, 0)
    assert not bench.engine._under_way
    assert bench.engine._of_model["narrow"] == 0


async def test_what_is_under_way_is_not_claimed_anew_where_its_renewal_took_longer_than_a_lease(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "LEASE_S", 0.05)
    renew, delays_s = bench.store.extend_leases, [0.1]

    async def slow(holder: str, holds: Sequence[tuple[str, int, int]], *, now: float, lease_s: float) -> set[tuple[str, int]]:
        kept = await renew(holder, holds, now=now, lease_s=lease_s)
        if holds and delays_s:
            await asyncio.sleep(delays_s.pop())
        return kept

    monkeypatch.setattr(bench.store, "extend_leases", slow)
    answered = asyncio.Event()
    bench.instead["a"] = [after(answered, whole(ANSWER))]
    batch_id = await bench.create("a", "b", "c", "d", model="narrow")
    await bench.until(batch_id, "in_progress", completed=3)
    await bench.until(await bench.create("e", model="narrow"), "completed")
    assert not delays_s
    answered.set()
    batch = await bench.until(batch_id, "completed")
    assert (bench.asked["a"], batch.lost_calls) == (1, 0)


async def test_metrics_tell_of_items_and_durations(bench: Bench) -> None:
    await bench.until(await bench.create("a", "b"), "completed")
    metrics = Metrics()
    metrics.watch_batches(bench.engine.figures)
    text = metrics.render()[0].decode()
    assert 'agent_gateway_batch_items_total{status="done"} 2.0' in text
    assert "agent_gateway_batch_duration_seconds_count 1.0" in text
