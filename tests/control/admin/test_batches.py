"""`/admin/v1/batches`: everybody's batches out of the store, whoever put them there; cancelling and downloading is a journey."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agent_gateway.batch.native.plan import Part, Plan
from agent_gateway.batch.results import result_line
from agent_gateway.control.admin.batches import TOLD_MAX, BatchHands, BatchRoutes
from agent_gateway.control.batch_view import FAILURES_MAX, MESSAGE_MAX_CHARS, batch_shown
from agent_gateway.core.admin import AdminAsk
from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import (
    BatchStore,
    Claim,
    FinishedItem,
    ItemResult,
    NewItem,
    StoredBatch,
    StoredFile,
    batches_of,
)
from tests.control.admin.conftest import AUDITOR, CLOCK, NOW, Stage

ANN = Owner("key-1", "ann")


def batch(batch_id: str = "b", **changes: Any) -> StoredBatch:
    plain = StoredBatch(batch_id, ANN, "/v1/chat/completions", "file-1", "24h", NOW - 100, NOW + 86_300)
    return replace(plain, **{"status": "in_progress", "in_progress_at": NOW - 50, "models": ("chat",), "total": 100, **changes})


@pytest.fixture
def store(stage: Stage) -> BatchStore:
    return batches_of(stage.store)


async def ids(stage: Stage, **query: str) -> list[str]:
    return [each["id"] for each in (await stage.get("batches", **query))["data"]]


async def test_batches_of_everybody_are_listed_newest_first_page_by_page(stage: Stage, store: BatchStore) -> None:
    for n, status in enumerate(("completed", "in_progress", "failed", "cancelling", "in_progress")):
        await store.create_batch(batch(f"b{n}", owner=Owner(f"key-{n}"), created_at=NOW + n, status=status))
    first = await stage.get("batches", limit="2")
    assert [each["id"] for each in first["data"]] == ["b4", "b3"]
    assert await ids(stage, limit="5", cursor=first["next"]) == ["b2", "b1", "b0"]
    assert (await stage.get("batches"))["next"] is None
    assert {each["key"] for each in first["data"]} == {"key-4", "key-3"}
    assert await ids(stage, status="in_progress") == ["b4", "b1"]
    assert await ids(stage, status="open") == ["b4", "b3", "b1"]
    assert await ids(stage, status="ended", limit="1") == ["b2"]
    assert await ids(stage, status="ended", cursor="b2") == ["b0"]
    for query, told in (({"cursor": "b9"}, "cursor"), ({"status": "done"}, "status: .*open")):
        with pytest.raises(BadRequest, match=told):
            await stage.get("batches", **query)


def test_how_fast_it_is_and_how_long_it_will_take() -> None:
    shown = batch_shown(batch(completed=20, failed=5), NOW)
    assert (shown.rate_per_s, shown.eta_s) == (0.5, 150.0)
    assert batch_shown(batch(status="validating", in_progress_at=None, total=0), NOW).rate_per_s is None
    assert (batch_shown(batch(), NOW).rate_per_s, batch_shown(batch(), NOW).eta_s) == (0.0, None)
    at_provider = batch(completed=20, plan=Plan(parts=[Part(id="a", model="m", deployment="p/m", give_up_at=NOW)]).written())
    assert (batch_shown(at_provider, NOW).rate_per_s, batch_shown(at_provider, NOW).eta_s) == (0.4, None), "who does not say when"
    ended = batch(status="completed", completed=100, finalizing_at=NOW - 40, completed_at=NOW - 30)
    assert (batch_shown(ended, NOW).rate_per_s, batch_shown(ended, NOW).eta_s) == (10.0, None), "of the time in which it ran"


def test_what_it_costs_and_what_saved_the_rest() -> None:
    shown = batch_shown(batch(cost_usd=3.0, single_cost_usd=10.0, native_saved_usd=4.0, duplicate_saved_usd=2.0, cache_saved_usd=1.0), NOW)
    assert (shown.cost_usd, shown.single_call_cost_usd) == (3.0, 10.0)
    assert shown.saved_ratio == pytest.approx(0.7)
    assert shown.saved_by == {"native": 4.0, "duplicate": 2.0, "cache": 1.0}
    assert sum(shown.saved_by.values()) + shown.cost_usd == shown.single_call_cost_usd
    assert batch_shown(batch(), NOW).saved_ratio is None


async def test_one_is_shown_with_what_runs_what_providers_have_and_what_went_wrong(stage: Stage, store: BatchStore) -> None:
    parts = [
        Part(id="a", model="chat", deployment="local/x", give_up_at=NOW, stage="waiting", items=40, sent_at=NOW - 9, upstream="batch_7"),
        Part(id="b", model="chat", deployment="local/x", give_up_at=NOW, stage="held", items=3),
    ]
    await store.create_batch(batch(plan=Plan(parts=parts).written(), metadata=b'{"for":"a test"}'))
    await store.add_items("b", [NewItem(n, f"item {n}", "chat", b"{}") for n in range(1, 31)])
    held = await store.claim_items(Claim("me", {"chat": 30}, NOW, 15.0, 28))
    refused = b'{"error":{"message":"%b","type":"invalid_request_error","code":null}}' % (b"x" * 1000)
    failed = [ItemResult("b", item.number, item.fence, "failed", 400, f"req_{item.number}", refused) for item in held[:25]]
    await store.finish_items(failed)
    whole = await stage.get("batches/b")
    assert (whole["counts"], whole["running"], whole["at_providers"]) == ({"total": 100, "completed": 0, "failed": 25}, 3, 0)
    told = [(part["deployment"], part["stage"], part["requests"], part["sent_at"], part["upstream"]) for part in whole["parts"]]
    assert told == [("local/x", "waiting", 40, "2025-10-09T08:54:51.000Z", "batch_7"), ("local/x", "held", 3, None, None)]
    assert whole["metadata"] == {"for": "a test"}
    assert len(whole["failures"]) == FAILURES_MAX
    assert whole["failures"][0] == {
        "line": None,
        "custom_id": "item 1",
        "status_code": 400,
        "request_id": "req_1",
        "code": "invalid_request_error",
        "message": "x" * MESSAGE_MAX_CHARS,
    }
    assert (whole["output"], whole["errors"]) == (None, None)
    listed = (await stage.get("batches"))["data"][0]
    assert listed == {name: value for name, value in whole.items() if name in listed}
    assert (await stage.ask("GET", "batches/b", key=AUDITOR))[0] == 200
    with pytest.raises(NotFound, match="There is no batch 'c'"):
        await stage.get("batches/c")


async def test_the_lines_that_a_file_was_refused_for_are_shown(stage: Stage, store: BatchStore) -> None:
    errors = [{"code": "invalid_json", "message": f"Line {n} is no JSON.", "line": n, "param": None} for n in range(1, 31)]
    await store.create_batch(batch(status="failed", failed_at=NOW, total=0, errors=msgspec.json.encode(errors)))
    failures = (await stage.get("batches/b"))["failures"]
    assert [(each["line"], each["code"], each["message"]) for each in failures] == [
        (n, "invalid_json", f"Line {n} is no JSON.") for n in range(1, FAILURES_MAX + 1)
    ]


async def test_of_a_batch_that_has_ended_what_went_wrong_is_in_its_file(stage: Stage, store: BatchStore) -> None:
    items = [
        FinishedItem(1, "one", "failed", 400, "req_1", b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}'),
        FinishedItem(2, "two", "failed", 400, "req_2", b'["no error as it should be"]'),
        FinishedItem(3, "three", "expired", None, None, None),
    ]
    content = b"".join(result_line("batch_1", item) for item in items)
    await store.begin_file(StoredFile("file-2", ANN, "b_error.jsonl", "batch_output", NOW, NOW + 60))
    await store.add_chunk("file-2", 0, content)
    await store.complete_file("file-2", len(content))
    await store.create_batch(batch(status="expired", expired_at=NOW, error_file="file-2", failed=2))
    whole = await stage.get("batches/b")
    told = [(each["custom_id"], each["status_code"], each["code"], each["message"]) for each in whole["failures"]]
    assert told == [
        ("one", 400, "invalid_request_error", "no"),
        ("two", 400, None, '["no error as it should be"]'),
        ("three", None, "batch_expired", "This request could not be executed before the completion window expired."),
    ]
    assert (whole["output"], whole["errors"]["bytes"], whole["errors"]["expires_at"]) == (None, len(content), "2025-10-09T08:56:00.000Z")


async def test_a_file_that_is_not_there_says_why(stage: Stage, store: BatchStore) -> None:
    await store.create_batch(batch("running"))
    await store.create_batch(batch("ended", status="completed", completed_at=NOW, output_file="file-gone"))
    for path, why in (
        ("batches/running/output", "it is in_progress; its files are written when it ends"),
        ("batches/ended/errors", "it has none"),
        ("batches/ended/output", "was deleted or has expired"),
        ("batches/none/output", "There is no batch 'none'"),
    ):
        with pytest.raises(NotFound, match=why):
            await stage.api.answer(AdminAsk("req_1", "GET", path, {}, b"", None, "10.0.0.1"))


async def test_what_changes_is_told_live_whoever_changed_it(stage: Stage, store: BatchStore) -> None:
    feed = BatchRoutes(store, BatchHands(_none, _none, _none), stage.audit, CLOCK)
    assert await feed.news() is None
    for n in range(TOLD_MAX + 1):
        await store.create_batch(batch(f"b{n:03}", created_at=NOW + n, status="validating", in_progress_at=None))
    told = await feed.news()
    assert told is not None
    assert [each.id for each in told.data] == [f"b{n:03}" for n in range(TOLD_MAX, 0, -1)], "the youngest"
    assert await feed.news() is None, "nothing has changed"
    await store.update_batch("b007", 1, status="in_progress", total=5, in_progress_at=NOW)
    await store.update_batch("b008", 1, status="failed", failed_at=NOW)
    told = await feed.news()
    assert told is not None
    assert {(each.id, each.status) for each in told.data} == {("b007", "in_progress"), ("b008", "failed"), ("b000", "validating")}
    assert await feed.news() is None, "how one has ended is told once"


def _none(*_: Any) -> Any:
    raise AssertionError("it is not asked")
