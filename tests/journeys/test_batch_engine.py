"""Batches while the processes that run them die: every item has one result, and what was asked twice is counted."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from agent_gateway.batch.file_writer import FileWriter
from agent_gateway.batch.identity import new_batch_id, new_file_id
from agent_gateway.stores.base import Owner, open_store
from agent_gateway.stores.batches import BatchStore, StoredBatch, StoredFile, batches_of
from tests.kit.client import ask
from tests.kit.configuration import configuration
from tests.kit.gateway import Gateway
from tests.kit.ports import free_port
from tests.kit.provider import Heard, ScriptedProvider
from tests.kit.replies import later, whole
from tests.kit.samples import PROVIDER_MODEL
from tests.stores.stores import fresh_url

ITEMS = 2_000
KILLS = 20
#: An answer takes so long (s), so that some are always under way.
ANSWER_S = 0.08
#: Calls of a process at once: what each kill leaves behind, for the time of a lease.
CONCURRENCY = 16
PATIENCE_S = 120.0
ENDPOINT = "/v1/chat/completions"
OWNER = Owner()


class Upstream:
    """Answers each item with its own name, and counts how often it was asked."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self.asked: Counter[str] = Counter()
        provider.reply_by(self._script)

    def _script(self, heard: Heard) -> Any:
        name = heard.json["messages"][0]["content"]
        self.asked[name] += 1
        message = {"role": "assistant", "content": f"about {name}"}
        usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": PROVIDER_MODEL, "choices": [choice], "usage": usage}
        return later(ANSWER_S, whole(msgspec.json.encode(answer)))


@asynccontextmanager
async def kept(url: str) -> AsyncIterator[BatchStore]:
    store = open_store(url)
    try:
        yield batches_of(store)
    finally:
        await store.close()


async def submit(store: BatchStore) -> str:
    now = time.time()
    writer = FileWriter(store, StoredFile(new_file_id(), OWNER, "in.jsonl", "batch", now))
    for number in range(ITEMS):
        body = {"model": "chat", "messages": [{"role": "user", "content": f"item {number}"}]}
        await writer.write(msgspec.json.encode({"custom_id": f"item {number}", "url": ENDPOINT, "body": body}) + b"\n")
    file = await writer.complete()
    assert file is not None
    batch = StoredBatch(new_batch_id(), OWNER, ENDPOINT, file.id, "1h", now, now + 3_600)
    await store.create_batch(batch)
    return batch.id


async def has_come_to(items: int, store: BatchStore, batch_id: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while (batch := await store.find_batch(None, batch_id)) is None or batch.completed < items:
        assert time.monotonic() < until, batch
        await asyncio.sleep(0.02)


async def have_worked(gateways: Sequence[Gateway]) -> None:
    """Each has ended items, and they are kept: they learn of a batch one after the other."""
    until = time.monotonic() + PATIENCE_S
    for gateway in gateways:
        while not re.search(rb'\nagent_gateway_batch_items_total\{status="done"\} [1-9]', (await ask(gateway.url, "/metrics")).content):
            assert time.monotonic() < until, gateway.log[-2_000:]
            await asyncio.sleep(0.02)


async def completed(store: BatchStore, batch_id: str, gateways: Sequence[Gateway]) -> StoredBatch:
    until = time.monotonic() + PATIENCE_S
    while (batch := await store.find_batch(None, batch_id)) is None or not batch.ended:
        assert time.monotonic() < until, f"{batch}\n{gateways[-1].log[-2_000:]}"
        await asyncio.sleep(0.2)
    return batch


async def lines_of(store: BatchStore, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    content, place = b"", 0
    while (chunk := await store.read_chunk(file_id, place)) is not None:
        content, place = content + chunk, place + 1
    return [msgspec.json.decode(line) for line in content.splitlines()]


async def check(store: BatchStore, batch: StoredBatch, upstream: Upstream) -> None:
    """Every item exactly one result, its own; none lost; calls made twice are counted, and hardly any others."""
    assert (batch.status, batch.total, batch.completed, batch.failed, batch.error_file) == ("completed", ITEMS, ITEMS, 0, None)
    lines = await lines_of(store, batch.output_file)
    assert [line["custom_id"] for line in lines] == [f"item {number}" for number in range(ITEMS)]
    for line in lines:
        assert line["response"]["status_code"] == 200
        assert line["response"]["body"]["choices"][0]["message"]["content"] == f"about {line['custom_id']}"
    assert len({line["response"]["request_id"] for line in lines}) == ITEMS
    assert len(upstream.asked) == ITEMS
    twice = upstream.asked.total() - ITEMS
    # What was claimed and not yet asked when its process died counts too: nobody can know that it was not.
    assert twice <= batch.lost_calls <= twice + KILLS * CONCURRENCY
    assert batch.cost_usd == pytest.approx(ITEMS * (10 * 0.15 + 10 * 0.60) / 1e6)


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


def gateway_in(folder: Path, provider: ScriptedProvider, url: str) -> Gateway:
    folder.mkdir(exist_ok=True)
    port = int(provider.base_url.rpartition(":")[2].partition("/")[0])
    config = configuration(port, free_port(), state={"database": url}, batching={"concurrency": CONCURRENCY})
    return Gateway(folder, config, "fast lane")


@pytest.mark.timeout(240)
async def test_a_worker_that_is_killed_again_and_again_loses_and_doubles_nothing(provider: ScriptedProvider, tmp_path: Path) -> None:
    random, upstream = Random(7), Upstream(provider)
    url = f"sqlite:///{tmp_path}/gateway.db"
    gateway = gateway_in(tmp_path / "one", provider, url)
    async with kept(url) as store:
        batch_id = await submit(store)
        try:
            for moment in sorted(random.randrange(ITEMS) for _ in range(KILLS)):
                await asyncio.to_thread(gateway.start)
                await has_come_to(moment, store, batch_id)
                await asyncio.sleep(random.uniform(0, ANSWER_S))
                await asyncio.to_thread(gateway.kill)
            await asyncio.to_thread(gateway.start)
            batch = await completed(store, batch_id, [gateway])
            await check(store, batch, upstream)
            assert batch.lost_calls > 0
        finally:
            gateway.close()


@pytest.mark.timeout(240)
async def test_of_three_processes_one_that_is_gone_for_good_is_not_missed(
    provider: ScriptedProvider, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    upstream = Upstream(provider)
    url = await fresh_url("postgres", request.config, tmp_path)
    gateways = [gateway_in(tmp_path / str(number), provider, url) for number in range(3)]
    async with kept(url) as store:
        try:
            await asyncio.gather(*(asyncio.to_thread(gateway.start) for gateway in gateways))
            batch_id = await submit(store)
            await has_come_to(ITEMS // 4, store, batch_id)
            await have_worked(gateways)
            await asyncio.to_thread(gateways[1].kill)
            batch = await completed(store, batch_id, gateways)
            await check(store, batch, upstream)
            # An id says, in its eight digits behind the time, which process gave it (core/clock.py).
            worked = Counter(line["response"]["request_id"][16:24] for line in await lines_of(store, batch.output_file))
            assert len(worked) == len(gateways), worked
        finally:
            for gateway in gateways:
                gateway.close()
