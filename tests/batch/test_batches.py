"""How a batch is shown, and what is refused before it is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from openai.types import Batch

from agent_gateway.batch.batches import WINDOWS_S, Batches, shown_batch
from agent_gateway.batch.submission import ENDPOINTS
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, Forbidden, NotFound
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import StoredBatch, StoredFile

ANN = Owner("ann")
NOW = 1_000_000.5
STORED = StoredBatch("batch_1", ANN, "/v1/chat/completions", "file-1", "24h", NOW, NOW + 86400)


def shown(**more: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(shown_batch(replace(STORED, **more))))


def test_a_new_one_has_every_field_of_openais() -> None:
    told = shown()
    assert set(Batch.model_fields) - {"usage"} <= set(told)
    assert Batch.model_validate(told).status == "validating"
    assert (told["created_at"], told["expires_at"]) == (1_000_000, 1_086_400)
    nulls = {name for name, value in told.items() if value is None}
    assert nulls == {
        "model", "errors", "output_file_id", "error_file_id", "in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at",
        "cancelling_at", "cancelled_at", "metadata", "saved_ratio",
    }  # fmt: skip


def test_one_that_has_ended_says_what_it_cost() -> None:
    told = shown(
        status="completed", completed_at=NOW + 9.9, models=("chat",), total=3, completed=2, failed=1,
        output_file="file-2", error_file="file-3", cost_usd=0.6, single_cost_usd=1.0,
        native_saved_usd=0.3, duplicate_saved_usd=0.1, lost_calls=4, metadata=b'{"a":"b"}',
    )  # fmt: skip
    assert told["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert (told["model"], told["completed_at"], told["metadata"]) == ("chat", 1_000_010, {"a": "b"})
    assert (told["output_file_id"], told["error_file_id"]) == ("file-2", "file-3")
    assert (told["cost_usd"], told["single_call_cost_usd"], told["saved_ratio"]) == (0.6, 1.0, pytest.approx(0.4))
    assert told["saved_by"] == {"native": 0.3, "duplicate": 0.1, "cache": 0.0}
    assert told["duplicated_calls"] == 4


def test_of_many_models_none_is_named() -> None:
    assert shown(models=("a", "b"))["model"] is None


def test_its_errors_are_a_list() -> None:
    errors = [{"code": "invalid_json_line", "message": "No.", "line": 7, "param": None}]
    told = shown(status="failed", errors=msgspec.json.encode(errors))["errors"]
    assert told == {"object": "list", "data": errors}


class Woken:
    """An engine that is only told that there is something to do."""

    times = 0

    def wake(self) -> None:
        self.times += 1


class Bench:
    """`Batches` without an engine: what is asked for comes as far as its wake-up call."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.batches = Batches(self.store, None, Clock(wall=lambda: NOW))

    async def file(self, purpose: str = "batch", owner: Owner = ANN) -> str:
        file = StoredFile(f"file-{purpose}-{owner.key}", owner, "a.jsonl", purpose, NOW)
        await self.store.begin_file(file)
        await self.store.complete_file(file.id, 0)
        return file.id

    def with_engine(self) -> Woken:
        woken = Woken()
        self.batches._engine = woken  # type: ignore[assignment]
        return woken

    async def create(self, **asked: Any) -> None:
        usual = {"input_file_id": await self.file(), "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        await self.batches.create(ANN, None, msgspec.json.encode({**usual, **asked}), lambda endpoint: None)


@pytest.mark.parametrize(
    "asked",
    [
        {"endpoint": "/v1/messages/count_tokens"},
        {"endpoint": 7},
        {"input_file_id": None},
        {"completion_window": "1d"},
        {"metadata": {"k" * 65: ""}},
        {"metadata": {"k": 1}},
        {"output_expires_after": {"anchor": "created_at", "seconds": 3599}},
        {"output_expires_after": {"anchor": "created_at", "seconds": 2592001}},
        {"output_expires_after": {"anchor": "last_active_at", "seconds": 3600}},
        {"output_expires_after": {"seconds": 3600}},
        {"deduplicate": "yes"},
    ],
)
async def test_what_no_batch_can_be(asked: dict[str, Any]) -> None:
    bench = Bench()
    with pytest.raises(BadRequest):
        await bench.create(**asked)
    assert (await bench.store.list_batches(None, limit=10)).batches == []


async def test_its_file_is_ones_own_and_for_batches() -> None:
    bench = Bench()
    with pytest.raises(NotFound):
        await bench.create(input_file_id="file-none")
    with pytest.raises(NotFound):
        await bench.create(input_file_id=await bench.file(owner=Owner("bob")))
    with pytest.raises(BadRequest, match="batch_output"):
        await bench.create(input_file_id=await bench.file("batch_output"))


async def test_the_key_must_be_good_for_the_endpoint() -> None:
    def refuse(endpoint: str) -> None:
        raise Forbidden(endpoint)

    bench = Bench()
    asked = {"input_file_id": await bench.file(), "endpoint": "/v1/embeddings", "completion_window": "24h"}
    with pytest.raises(Forbidden, match="/v1/embeddings"):
        await bench.batches.create(ANN, None, msgspec.json.encode(asked), refuse)


@pytest.mark.parametrize("window", WINDOWS_S)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_every_endpoint_and_window_that_is_named_is_taken(endpoint: str, window: str) -> None:
    bench = Bench()
    woken = bench.with_engine()
    await bench.create(endpoint=endpoint, completion_window=window)
    (batch,) = (await bench.store.list_batches(ANN, limit=10)).batches
    assert (batch.endpoint, batch.completion_window, batch.expires_at) == (endpoint, window, NOW + WINDOWS_S[window])
    assert woken.times == 1


@pytest.mark.parametrize(
    ("asked", "deduplicate", "output_ttl_s"),
    [
        ({}, None, None),
        ({"deduplicate": None, "output_expires_after": None}, None, None),
        ({"deduplicate": True, "output_expires_after": {"anchor": "created_at", "seconds": 3600}}, True, 3600),
        ({"deduplicate": False, "output_expires_after": {"anchor": "created_at", "seconds": 2592000}}, False, 2592000),
    ],
)
async def test_what_it_asks_of_its_items_and_files_is_kept(
    asked: dict[str, Any], deduplicate: bool | None, output_ttl_s: int | None
) -> None:
    bench = Bench()
    bench.with_engine()
    await bench.create(**asked)
    (batch,) = (await bench.store.list_batches(ANN, limit=10)).batches
    assert (batch.deduplicate, batch.output_ttl_s) == (deduplicate, output_ttl_s)
