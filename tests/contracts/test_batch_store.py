"""What every store that keeps batches promises of files, batches and items (`stores/batches.py`)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.stores import sql_items
from agent_gateway.stores.base import Owner, Store, open_store
from agent_gateway.stores.batches import (
    BatchStatus,
    BatchStore,
    Claim,
    ClaimedItem,
    FinishedItem,
    HeldItems,
    ItemResult,
    NewItem,
    ReturnedItem,
    StoredBatch,
    StoredFile,
    batches_of,
)
from tests.stores.stores import fresh_store, fresh_url, opened

NOW = 1_000_000.0
LEASE_S = 15.0
WINDOW_S = 3600.0
ANN, BOB = Owner("key", "ann"), Owner("key", "bob")
OTHERS = [BOB, Owner("other", "ann"), Owner("key", ""), Owner("", "ann")]
FILE = StoredFile("file-1", ANN, "a b/ü.jsonl", "batch", NOW)
ROOM = {"m": 1000, "n": 1000}


@pytest_asyncio.fixture(params=["memory", "postgres", "sqlite"])
async def whole_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store = await fresh_store(request.param, request.config, tmp_path)
    yield store
    await store.close()


@pytest.fixture
def store(whole_store: Store) -> BatchStore:
    return batches_of(whole_store)


def batch_named(batch_id: str, owner: Owner = ANN, **options: object) -> StoredBatch:
    plain = StoredBatch(batch_id, owner, "/v1/chat/completions", "file-1", "1h", NOW, NOW + WINDOW_S)
    return replace(plain, **{"status": "in_progress", "models": ("m",), **options})  # type: ignore[arg-type]


async def submit(
    store: BatchStore, batch_id: str, count: int, owner: Owner = ANN, models: Sequence[str] = ("m",), **options: object
) -> None:
    await store.create_batch(batch_named(batch_id, owner, total=count, models=tuple(models), **options))
    items = [NewItem(n, f"c{n}", models[n % len(models)], b'{"n":%d}' % n) for n in range(1, count + 1)]
    await store.add_items(batch_id, items)


async def claim(
    store: BatchStore,
    limit: int = 1000,
    *,
    holder: str = "one",
    now: float = NOW,
    room: Mapping[str, int] = ROOM,
    without: Collection[str] = (),
    lease_s: float = LEASE_S,
    **more: Any,
) -> list[ClaimedItem]:
    return list(await store.claim_items(Claim(holder, room, now, lease_s, limit, frozenset(without), **more)))


def done(item: ClaimedItem, body: bytes = b'"answer"', cost_usd: float = 0.25) -> ItemResult:
    return ItemResult(item.batch, item.number, item.fence, "done", 200, f"req_{item.number}", body, cost_usd, cost_usd)


def places(items: Sequence[ClaimedItem]) -> set[tuple[str, int]]:
    return {(item.batch, item.number) for item in items}


async def finish(store: BatchStore, results: Sequence[ItemResult]) -> set[tuple[str, int]]:
    """Those that were accepted."""
    return set(await store.finish_items(results))


async def found(store: BatchStore, batch_id: str = "b") -> StoredBatch:
    batch = await store.find_batch(None, batch_id)
    assert batch is not None
    return batch


# --- files ------------------------------------------------------------------------------------------------------------


async def test_a_file_is_there_once_it_is_complete(store: BatchStore) -> None:
    await store.begin_file(FILE)
    await store.add_chunk("file-1", 0, b"\x00\xffone")
    await store.add_chunk("file-1", 1, b"two")
    assert await store.find_file(ANN, "file-1", NOW) is None
    assert not (await store.list_files(ANN, now=NOW, limit=10)).files
    kept = replace(FILE, bytes=8, complete=True)
    assert await store.complete_file("file-1", 8) == kept
    assert await store.find_file(ANN, "file-1", NOW) == kept
    assert [await store.read_chunk("file-1", place) for place in range(3)] == [b"\x00\xffone", b"two", None]
    assert await store.complete_file("none", 1) is None


async def test_a_chunk_sent_again_replaces_the_first_and_one_of_no_file_is_refused(store: BatchStore) -> None:
    await store.begin_file(FILE)
    await store.add_chunk("file-1", 0, b"half")
    await store.add_chunk("file-1", 0, b"whole")
    assert await store.read_chunk("file-1", 0) == b"whole"
    with pytest.raises(NotFound):
        await store.add_chunk("none", 0, b"x")


async def test_others_do_not_see_a_file_and_cannot_delete_it(store: BatchStore) -> None:
    await _put(store, FILE)
    for other in OTHERS:
        assert await store.find_file(other, "file-1", NOW) is None
        assert not (await store.list_files(other, now=NOW, limit=10)).files
        assert not await store.delete_file(other, "file-1")
        with pytest.raises(BadRequest):
            await store.list_files(other, now=NOW, limit=10, cursor="file-1")
    assert await store.delete_file(ANN, "file-1")
    assert not await store.delete_file(ANN, "file-1")
    assert await store.read_chunk("file-1", 0) is None


async def test_files_are_listed_youngest_first_page_by_page_and_by_purpose(store: BatchStore) -> None:
    for n in range(5):
        await _put(store, replace(FILE, id=f"file-{n}", created_at=NOW + n // 2, purpose="batch" if n % 2 else "batch_output"))
    first = await store.list_files(ANN, now=NOW, limit=2)
    second = await store.list_files(ANN, now=NOW, limit=2, cursor=first.files[-1].id)
    third = await store.list_files(ANN, now=NOW, limit=2, cursor=second.files[-1].id)
    shown = [[file.id for file in page.files] for page in (first, second, third)]
    assert shown == [["file-4", "file-3"], ["file-2", "file-1"], ["file-0"]]
    assert (first.has_more, second.has_more, third.has_more) == (True, True, False)
    assert [file.id for file in (await store.list_files(ANN, now=NOW, limit=9, purpose="batch")).files] == ["file-3", "file-1"]


async def test_what_has_expired_or_was_left_behind_is_not_there_and_swept(store: BatchStore) -> None:
    await _put(store, replace(FILE, id="old", expires_at=NOW + 5))
    await _put(store, FILE)
    await store.begin_file(replace(FILE, id="begun", created_at=NOW - 100))
    await store.begin_file(replace(FILE, id="being written"))
    assert await store.find_file(ANN, "old", NOW + 4) is not None
    assert await store.find_file(ANN, "old", NOW + 5) is None
    assert await store.sweep_files(NOW + 5, abandoned_before=NOW - 50, limit=1) == 1
    assert await store.sweep_files(NOW + 5, abandoned_before=NOW - 50, limit=10) == 1
    assert await store.sweep_files(NOW + 5, abandoned_before=NOW - 50, limit=10) == 0
    assert await store.complete_file("being written", 0) is not None
    assert await store.find_file(ANN, "file-1", NOW) is not None


async def _put(store: BatchStore, file: StoredFile) -> None:
    await store.begin_file(file)
    await store.add_chunk(file.id, 0, b"{}")
    await store.complete_file(file.id, 2)


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_a_batch_comes_back_as_it_went_in_and_is_its_owners(store: BatchStore) -> None:
    batch = batch_named(
        "b", metadata=b'{"a":"\\u0000"}', key=b"{}", models=("m", "ü"), status="validating", errors=b"[]", plan=b"\x00", deduplicate=False,
        output_ttl_s=3600,
    )  # fmt: skip
    await store.create_batch(batch)
    assert await store.find_batch(ANN, "b") == batch
    assert await store.find_batch(None, "b") == batch
    for other in OTHERS:
        assert await store.find_batch(other, "b") is None


async def test_batches_are_listed_youngest_first_page_by_page(store: BatchStore) -> None:
    for n in range(5):
        await store.create_batch(batch_named(f"b{n}", ANN if n else BOB, created_at=NOW + n))
    first = await store.list_batches(ANN, limit=3)
    second = await store.list_batches(ANN, limit=3, cursor="b2")
    assert [[batch.id for batch in page.batches] for page in (first, second)] == [["b4", "b3", "b2"], ["b1"]]
    assert (first.has_more, second.has_more) == (True, False)
    assert [batch.id for batch in (await store.list_batches(None, limit=9)).batches] == ["b4", "b3", "b2", "b1", "b0"]
    with pytest.raises(BadRequest):
        await store.list_batches(ANN, limit=3, cursor="b0")


async def test_batches_of_some_statuses_are_listed_page_by_page(store: BatchStore) -> None:
    statuses = ["failed", "in_progress", "completed", "in_progress", "cancelling", "in_progress"]
    for n, status in enumerate(statuses):
        await store.create_batch(batch_named(f"b{n}", BOB if n == 3 else ANN, created_at=NOW + n, status=status))
    wanted: set[BatchStatus] = {"in_progress", "cancelling"}
    first = await store.list_batches(None, limit=2, statuses=wanted)
    second = await store.list_batches(None, limit=2, cursor="b4", statuses=wanted)
    assert [[batch.id for batch in page.batches] for page in (first, second)] == [["b5", "b4"], ["b3", "b1"]]
    assert (first.has_more, second.has_more) == (True, False)
    assert [batch.id for batch in (await store.list_batches(ANN, limit=9, statuses={"in_progress"})).batches] == ["b5", "b1"]
    assert (await store.list_batches(None, limit=9, statuses={"expired"})).batches == []


async def test_of_changes_to_the_same_version_one_is_made(store: BatchStore) -> None:
    await store.create_batch(batch_named("b", status="validating"))
    changed = await asyncio.gather(*(store.update_batch("b", 1, status="in_progress", total=n, models=("x",)) for n in range(10)))
    (one,) = [batch for batch in changed if batch is not None]
    assert one == await store.find_batch(ANN, "b")
    assert (one.version, one.status, one.models) == (2, "in_progress", ("x",))
    assert await store.update_batch("b", 1, status="failed") is None
    assert await store.update_batch("none", 1, status="failed") is None


async def test_open_batches_are_those_that_have_not_ended_oldest_first(store: BatchStore) -> None:
    statuses = ("validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled")
    for n, status in enumerate(statuses):
        await store.create_batch(batch_named(status, created_at=NOW - n, status=status))
    found = [batch.id for batch in await store.open_batches(limit=10)]
    assert found == ["cancelling", "finalizing", "in_progress", "validating"]
    assert len(await store.open_batches(limit=2)) == 2


async def test_ended_batches_are_swept_with_their_items(store: BatchStore) -> None:
    await submit(store, "b", 3)
    await submit(store, "c", 3)
    await store.update_batch("b", 1, status="completed", completed_at=NOW)
    await store.update_batch("c", 1, status="cancelled", cancelled_at=NOW + 10)
    assert await store.sweep_batches(ended_before=NOW + 5, limit=10) == 1
    assert await store.find_batch(None, "b") is None
    assert await store.read_items("b", after=0, limit=10) == []
    assert len(await store.read_items("c", after=0, limit=10)) == 3


async def test_a_users_files_and_batches_go_with_the_user(whole_store: Store, store: BatchStore) -> None:
    await _put(store, FILE)
    await _put(store, replace(FILE, id="file-2", owner=BOB))
    await submit(store, "b", 3)
    await submit(store, "c", 3, BOB)
    (item, *_) = await claim(store)
    assert await whole_store.delete_user("ann") == 2
    assert await store.find_file(ANN, "file-1", NOW) is None
    assert await store.find_file(BOB, "file-2", NOW) is not None
    assert await store.find_batch(None, "b") is None
    assert item.batch == "b"
    assert await finish(store, [done(item)]) == set()
    with pytest.raises(NotFound):
        await store.add_items("b", [NewItem(9, "c9", "m", b"{}")])


# --- items ------------------------------------------------------------------------------------------------------------


async def test_items_are_claimed_in_order_and_once(store: BatchStore) -> None:
    await submit(store, "b", 300)
    first, second = await claim(store, 100), await claim(store, 500, holder="two")
    assert sorted(item.number for item in first) == list(range(1, 101))
    assert sorted(item.number for item in second) == list(range(101, 301))
    assert await claim(store) == []
    item = min(first, key=lambda item: item.number)
    assert item == ClaimedItem("b", 1, 1, "c1", "m", b'{"n":1}', 1, ANN, "/v1/chat/completions", NOW + WINDOW_S)


async def test_items_added_twice_are_there_once(store: BatchStore) -> None:
    await submit(store, "b", 150)
    await store.add_items("b", [NewItem(n, "again", "m", b"{}") for n in range(100, 161)])
    items = await claim(store)
    assert len(items) == 160
    assert {item.custom_id for item in items if item.number > 150} == {"again"}
    assert next(item for item in items if item.number == 120).custom_id == "c120"


@pytest.mark.parametrize("status", ["validating", "finalizing", "cancelling", "failed"])
async def test_nothing_is_claimed_of_a_batch_that_is_not_in_progress(store: BatchStore, status: str) -> None:
    await submit(store, "b", 3, status=status)
    assert await claim(store) == []


async def test_nothing_is_claimed_when_the_window_is_over(store: BatchStore) -> None:
    await submit(store, "b", 3)
    assert await claim(store, now=NOW + WINDOW_S) == []
    assert len(await claim(store, now=NOW + WINDOW_S - 1)) == 3


async def test_results_are_counted_with_the_batch_and_read_in_order(store: BatchStore) -> None:
    await submit(store, "b", 4)
    items = await claim(store)
    results = [done(item, b"\x00%d" % item.number) for item in items]
    results[2] = replace(results[2], state="failed", status_code=400, cost_usd=0.0, single_cost_usd=0.0)
    results[3] = replace(results[3], cause="native", cost_usd=0.125)
    assert await finish(store, results[:3]) == places(items[:3])
    assert await finish(store, results) == places(items[3:])
    batch = await found(store)
    assert (batch.completed, batch.failed, batch.version) == (3, 1, 1)
    assert (batch.cost_usd, batch.single_cost_usd, batch.native_saved_usd, batch.lost_calls) == (0.625, 0.75, 0.125, 0)
    by_number = {item.number: item for item in await store.read_items("b", after=0, limit=10)}
    bad = items[2].number
    assert by_number[bad] == FinishedItem(bad, f"c{bad}", "failed", 400, f"req_{bad}", b"\x00%d" % bad)
    assert [item.number for item in await store.read_items("b", after=1, limit=2)] == [2, 3]
    assert await claim(store, now=NOW + WINDOW_S - 1) == []


async def test_a_lease_that_ended_is_taken_over_and_its_holder_is_heard_no_more(store: BatchStore) -> None:
    await submit(store, "b", 200)
    before = await claim(store)
    assert await claim(store, now=NOW + LEASE_S - 1) == []
    after = await claim(store, holder="two", now=NOW + LEASE_S)
    assert {(item.fence, item.attempts) for item in after} == {(2, 2)}
    assert (await found(store)).lost_calls == 200
    assert await finish(store, [done(item, b"late") for item in before]) == set()
    assert await store.extend_leases("one", [(i.batch, i.number, i.fence) for i in before], now=NOW, lease_s=LEASE_S) == set()
    await store.return_items([ReturnedItem(i.batch, i.number, i.fence, 0.0) for i in before])
    assert await finish(store, [done(item, b"right") for item in after]) == places(after)
    assert {item.body for item in await store.read_items("b", after=0, limit=1000)} == {b"right"}
    batch = await found(store)
    assert (batch.completed, batch.cost_usd) == (200, 50.0)


async def test_who_extends_a_lease_keeps_its_item(store: BatchStore) -> None:
    await submit(store, "b", 150)
    items = await claim(store)
    held = [(item.batch, item.number, item.fence) for item in items[1:]]
    assert await store.extend_leases("one", held, now=NOW + 10, lease_s=LEASE_S) == places(items[1:])
    taken = await claim(store, holder="two", now=NOW + LEASE_S + 1)
    assert places(taken) == places(items[:1])


async def test_returned_items_wait_until_they_are_due(store: BatchStore) -> None:
    await submit(store, "b", 2)
    first, second = sorted(await claim(store), key=lambda item: item.number)
    await store.return_items(
        [
            ReturnedItem("b", first.number, first.fence, NOW + 30, cost_usd=0.5),
            ReturnedItem("b", second.number, second.fence, NOW, attempted=False),
        ]
    )
    (again,) = await claim(store)
    assert (again.number, again.attempts, again.fence) == (second.number, 1, 2)
    (later,) = await claim(store, now=NOW + 30, room={"m": 1})
    assert (later.number, later.attempts) in {(first.number, 2), (second.number, 2)}
    batch = await found(store)
    assert (batch.cost_usd, batch.single_cost_usd, batch.completed) == (0.5, 0.5, 0)
    assert batch.lost_calls == (later.number == second.number)


async def test_a_batch_may_be_passed_over(store: BatchStore) -> None:
    await submit(store, "b", 2)
    await submit(store, "c", 2)
    assert {item.batch for item in await claim(store, without={"b"})} == {"c"}
    assert {item.batch for item in await claim(store)} == {"b"}


async def test_a_model_gets_as_many_items_as_it_has_room(store: BatchStore) -> None:
    await submit(store, "b", 40, models=("m", "n", "o"))
    items = await claim(store, room={"m": 3, "n": 5})
    assert Counter(item.model for item in items) == {"m": 3, "n": 5}
    assert await claim(store, room={"x": 5}) == []


async def test_owners_share_what_is_free_and_who_runs_less_comes_first(store: BatchStore) -> None:
    await submit(store, "old", 100)
    await submit(store, "older", 100, created_at=NOW - 1)
    assert Counter(item.batch for item in await claim(store, 20)) == {"older": 20}
    await submit(store, "bobs", 100, BOB)
    assert Counter(item.batch for item in await claim(store, 10)) == {"bobs": 5, "older": 5}
    assert Counter(item.batch for item in await claim(store, 1)) == {"bobs": 1}
    assert Counter(item.batch for item in await claim(store, 1000, room={"m": 75})) == {"bobs": 38, "older": 37}
    assert Counter(item.batch for item in await claim(store, 1000)) == {"bobs": 56, "older": 38, "old": 100}


async def test_what_nobody_holds_is_closed(store: BatchStore) -> None:
    await submit(store, "b", 30)
    items = await claim(store, 20)
    await finish(store, [done(item) for item in items[:5]])
    await store.extend_leases("one", [(i.batch, i.number, i.fence) for i in items[5:8]], now=NOW + 10, lease_s=LEASE_S)
    await store.update_batch("b", 1, status="cancelling")
    later = NOW + LEASE_S
    assert await store.close_items("b", "cancelled", now=later, limit=15) == (15, True)
    assert await store.close_items("b", "cancelled", now=later, limit=15) == (7, True)
    assert await finish(store, [done(item) for item in items[5:]]) == places(items[5:8])
    assert await store.close_items("b", "cancelled", now=later, limit=15) == (0, False)
    states = Counter(item.state for item in await store.read_items("b", after=0, limit=100))
    assert states == {"done": 8, "cancelled": 22}
    batch = await found(store)
    assert (batch.completed, batch.failed, batch.lost_calls) == (8, 0, 12)


async def test_items_are_deleted_a_few_at_a_time(store: BatchStore) -> None:
    await submit(store, "b", 30)
    await claim(store, 5)
    assert [await store.delete_items("b", 20) for _ in range(3)] == [20, 10, 0]
    assert await store.delete_items("none", 20) == 0
    assert await claim(store, now=NOW + LEASE_S) == []


# --- twins, prefixes, and what is sent to providers' own batches ------------------------------------------------------


async def submit_items(store: BatchStore, items: Sequence[NewItem]) -> None:
    await store.create_batch(batch_named("b", total=len(items), models=("m", "n")))
    await store.add_items("b", items)


async def test_what_is_due_together_is_claimed_by_prefix_then_number(store: BatchStore) -> None:
    prefixes = ["q", "a", "q", "", "a"]
    await submit_items(store, [NewItem(n, f"c{n}", "m", b"{}", prefix) for n, prefix in enumerate(prefixes, 1)])
    assert [item.number for n in range(5) for item in await claim(store, 1)] == [4, 2, 5, 1, 3]


async def test_failed_items_are_shown_while_others_run_and_those_that_are_held_are_counted(store: BatchStore) -> None:
    await submit_items(store, [NewItem(n, f"c{n}", "m", b"{}", twin=2 if n == 3 else None) for n in range(1, 9)])
    early = await claim(store, 2, holder="native:x", early=True)
    running = await claim(store, 4)
    assert await store.count_held("b", now=NOW) == HeldItems(running=4, sent=2)
    failed = [replace(done(item), state="failed", status_code=400) for item in running[:3]]
    await store.finish_items([*failed, done(running[3]), done(early[0])])
    numbers = sorted(item.number for item in running[:3])
    shown = await store.failed_items("b", limit=10)
    assert [(item.number, item.custom_id, item.state, item.status_code, item.body) for item in shown] == [
        (number, f"c{number}", "failed", 400, b'"answer"') for number in numbers
    ]
    assert [item.number for item in await store.failed_items("b", limit=1)] == numbers[:1]
    assert await store.count_held("b", now=NOW) == HeldItems(running=0, sent=1)
    (last,) = await claim(store)
    assert await store.count_held("b", now=NOW + LEASE_S) == HeldItems(running=0, sent=1), "whose lease is over is held by nobody"
    assert last.batch == "b"
    assert (await store.failed_items("none", limit=1), await store.count_held("none", now=NOW)) == ([], HeldItems(0, 0))


async def test_an_item_has_the_result_of_its_twin(store: BatchStore) -> None:
    twins = {3: 1, 4: 1, 5: 2, 6: 1}
    await submit_items(store, [NewItem(n, f"c{n}", "m", b'{"n":%d}' % n, twin=twins.get(n)) for n in range(1, 8)])
    items = sorted(await claim(store), key=lambda item: item.number)
    assert [item.number for item in items] == [1, 2, 7]
    one, two, seven = (done(item, b"%d" % item.number) for item in items)
    native = replace(one, cost_usd=0.125, cause="native")
    failed = replace(two, state="failed", status_code=400, cost_usd=0.0, single_cost_usd=0.0)
    assert await store.finish_items([native, failed]) == {("b", 1): 4, ("b", 2): 2}
    assert await store.finish_items([native, seven]) == {("b", 7): 1}
    shown = [
        (item.number, item.custom_id, item.state, item.request_id, item.body) for item in await store.read_items("b", after=2, limit=9)
    ]
    assert shown == [
        (3, "c3", "done", "req_1", b"1"),
        (4, "c4", "done", "req_1", b"1"),
        (5, "c5", "failed", "req_2", b"2"),
        (6, "c6", "done", "req_1", b"1"),
        (7, "c7", "done", "req_7", b"7"),
    ]
    batch = await found(store)
    assert (batch.completed, batch.failed, batch.unfinished) == (5, 2, 0)
    assert (batch.cost_usd, batch.single_cost_usd, batch.native_saved_usd, batch.duplicate_saved_usd) == (0.375, 1.25, 0.125, 0.75)


async def test_a_twin_waits_as_long_as_the_other_may_still_end_and_ends_with_it(store: BatchStore) -> None:
    await submit_items(store, [NewItem(n, f"c{n}", "m", b"{}", twin=1 if n in (2, 3) else 4 if n == 5 else None) for n in range(1, 6)])
    (first,) = await claim(store, 1)
    await store.return_items([ReturnedItem("b", 1, first.fence, NOW + 5)])
    (fourth,) = await claim(store)
    (first,) = await claim(store, now=NOW + 5)
    assert (first.number, fourth.number) == (1, 4)
    assert await store.close_items("b", "cancelled", now=NOW + LEASE_S, limit=10) == (2, True)
    assert await store.close_items("b", "expired", now=NOW + LEASE_S + 5, limit=10) == (3, False)
    states = [item.state for item in await store.read_items("b", after=0, limit=10)]
    assert states == ["expired", "expired", "expired", "cancelled", "cancelled"]


async def test_items_added_twice_have_their_twins_once(store: BatchStore) -> None:
    items = [NewItem(1, "c1", "m", b"{}"), NewItem(2, "c2", "m", b"{}", twin=1)]
    await submit_items(store, items)
    await store.add_items("b", items)
    (item,) = await claim(store)
    assert await store.finish_items([done(item)]) == {("b", 1): 2}
    assert await store.delete_items("b", 10) == 2


async def test_what_is_not_due_is_claimed_early_only_and_of_the_batch_that_is_named(store: BatchStore) -> None:
    later = NOW + 600
    await submit_items(store, [NewItem(n, f"c{n}", "m" if n < 5 else "n", b'{"n":%d}' % n, due_at=later) for n in range(1, 9)])
    await submit(store, "other", 5, BOB)
    assert {item.batch for item in await claim(store, without={"other"})} == set()
    sent = await claim(store, 3, holder="native:x", room={"m": 9}, lease_s=600, batch="b", early=True)
    assert [(item.batch, item.number, item.fence, item.attempts) for item in sent] == [("b", n, 1, 1) for n in (1, 2, 3)]
    assert await store.held_items("b", "native:x", after=0, limit=2) == sent[:2]
    assert await store.held_items("b", "native:x", after=2, limit=2) == sent[2:]
    assert await store.held_items("b", "native:y", after=0, limit=9) == []
    assert await store.held_items("none", "native:x", after=0, limit=9) == []
    rest = await claim(store, holder="native:y", lease_s=600, batch="b", early=True)
    assert sorted(item.number for item in rest) == [4, 5, 6, 7, 8]
    assert await claim(store, batch="b", early=True) == []
    assert {item.batch for item in await claim(store)} == {"other"}
    assert await store.close_items("b", "cancelled", now=NOW, limit=10) == (0, True)


async def test_what_was_claimed_early_is_written_by_its_holder_until_its_lease_ends(store: BatchStore) -> None:
    await submit_items(store, [NewItem(n, f"c{n}", "m", b"{}", due_at=NOW + 600) for n in range(1, 5)])
    one, two, three, four = await claim(store, holder="native:x", lease_s=600, batch="b", early=True)
    assert await finish(store, [done(one)]) == places([one])
    await store.return_items([ReturnedItem("b", two.number, two.fence, NOW, attempted=False)])
    assert await store.extend_leases("native:x", [("b", 3, three.fence)], now=NOW, lease_s=900) == {("b", 3)}
    assert await store.held_items("b", "native:x", after=0, limit=9) == [three, four]
    live = await claim(store, now=NOW + 600)
    assert [(item.number, item.fence, item.attempts) for item in sorted(live, key=lambda item: item.number)] == [(2, 2, 1), (4, 2, 2)]
    assert (await found(store)).lost_calls == 1
    assert await finish(store, [done(four), done(three)]) == places([three])


async def test_of_what_was_claimed_early_some_are_asked_for_by_their_numbers(store: BatchStore) -> None:
    await submit(store, "b", 5)
    sent = await claim(store, 4, holder="native:x", lease_s=600, batch="b", early=True)
    assert await store.held_items("b", "native:x", limit=9, among={4, 2, 5, 77}) == [sent[1], sent[3]]
    assert await store.held_items("b", "native:x", after=2, limit=9, among=[2, 4]) == [sent[3]]
    assert await store.held_items("b", "native:y", limit=9, among=[2, 4]) == []


async def test_a_call_that_may_have_been_made_is_counted_as_lost(store: BatchStore) -> None:
    await submit(store, "b", 3)
    one, two, three = await claim(store, holder="native:x", lease_s=600, batch="b", early=True)
    lost = [ReturnedItem("b", item.number, item.fence, NOW, lost=item is not three) for item in (one, two, three)]
    await store.return_items(lost)
    await store.return_items(lost)
    assert (await found(store)).lost_calls == 2


async def test_an_owner_is_not_busy_with_what_was_claimed_early(store: BatchStore) -> None:
    await submit(store, "b", 10)
    await submit(store, "c", 10, created_at=NOW + 1)
    await submit(store, "bobs", 10, BOB)
    assert len(await claim(store, 10, holder="native:x", batch="b", early=True)) == 10
    (item,) = await claim(store, 1, without={"c"})
    assert item.batch == "bobs"
    assert [item.batch for item in await claim(store, 1)] == ["c"]


async def test_what_waits_is_hastened_of_one_model_or_of_all(store: BatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_items, "HASTENED_AT_ONCE", 2)
    await submit_items(store, [NewItem(n, f"c{n}", "m" if n < 6 else "n", b"{}", due_at=NOW + 600) for n in range(1, 9)])
    held = await claim(store, 1, holder="native:x", room={"m": 1}, lease_s=600, early=True)
    assert await store.hasten_items("b", "m", now=NOW + 1) == 4
    assert await store.hasten_items("b", "m", now=NOW + 1) == 0
    assert await claim(store) == []
    assert sorted(item.number for item in await claim(store, now=NOW + 1)) == [2, 3, 4, 5]
    assert await store.hasten_items("b", None, now=NOW + 1) == 3
    assert sorted(item.number for item in await claim(store, now=NOW + 1)) == [6, 7, 8]
    assert await store.held_items("b", "native:x", after=0, limit=9) == held
    assert await store.hasten_items("none", None, now=NOW) == 0


# --- several processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
async def test_of_claims_side_by_side_each_item_is_ones(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = await fresh_url(kind, request.config, tmp_path)
    async with opened(url, 4) as stores:
        keepers = [batches_of(store) for store in stores]
        await submit(keepers[0], "b", 400)

        async def work(keeper: BatchStore, holder: str) -> list[ClaimedItem]:
            mine: list[ClaimedItem] = []
            for _ in range(10):
                items = await claim(keeper, 15, holder=holder)
                mine += items
                assert await finish(keeper, [done(item) for item in items]) == places(items)
            return mine

        worked = await asyncio.gather(*(work(keeper, f"w{n}") for n, keeper in enumerate(keepers)))
        rest = await claim(keepers[0])
        assert await finish(keepers[1], [done(item) for item in rest]) == places(rest)
        numbers = Counter(item.number for mine in (*worked, rest) for item in mine)
        assert numbers == dict.fromkeys(range(1, 401), 1)
        batch = await found(keepers[2])
        assert (batch.completed, batch.lost_calls, batch.cost_usd) == (400, 0, 100.0)


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
async def test_who_extends_leases_and_who_writes_results_do_not_wait_in_a_circle(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with opened(await fresh_url(kind, request.config, tmp_path), 1) as (one,):
        store = batches_of(one)
        await submit(store, "b", 600)
        items = await claim(store)
        held = [(item.batch, item.number, item.fence) for item in items]
        for start in range(0, 600, 100):
            some = items[start : start + 100]
            beats = (store.extend_leases("one", held[::way], now=NOW, lease_s=LEASE_S) for way in (1, -1))
            accepted, *_ = await asyncio.gather(finish(store, [done(item) for item in some[::-1]]), *beats)
            assert accepted == places(some)


def test_redis_says_what_to_do() -> None:
    with pytest.raises(BadRequest, match=r"state\.database"):
        batches_of(open_store("redis://127.0.0.1:1/0"))
