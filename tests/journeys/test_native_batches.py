"""Batches at providers while the gateways that see to them die: every item has one result, and the provider's bill is what is told."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
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
from tests.kit.gateway import Gateway
from tests.kit.simulator import SimulatorProcess
from tests.stores.stores import fresh_url

ITEMS = 400
KILLS = 6
#: A tenure that was left behind is free after 15 s; every kill may cost one.
PATIENCE_S = 60.0
KINDS = ("openai", "anthropic", "gemini")
ENDPOINT = "/v1/chat/completions"
OWNER = Owner()
PRICE = {"input": 0.15, "output": 0.60}


@pytest.fixture
def provider() -> Iterator[SimulatorProcess]:
    options = ("--ttft-ms", "0", "--tokens-per-s", "0", "--jitter", "0", "--output-tokens", "10", "--batch-ms", "1500")
    provider = SimulatorProcess(*options)
    try:
        yield provider.wait_until_ready()
    finally:
        provider.close()


def gateway_in(folder: Path, provider: SimulatorProcess, url: str) -> Gateway:
    folder.mkdir(exist_ok=True)
    urls = {"openai": f"{provider.url}/v1", "anthropic": provider.url, "gemini": provider.url}
    config = {
        "state": {"database": url},
        "fallback": {"reply": None},
        "batching": {"native": "on"},
        "providers": {kind: {"kind": kind, "base_url": base_url, "api_key": "sk-x"} for kind, base_url in urls.items()},
        "models": {kind: {"deployments": [{"provider": kind, "model": "gpt-4o-mini", "price": PRICE}]} for kind in KINDS},
    }
    return Gateway(folder, config, "fast lane")


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
        body = {"model": KINDS[number % 3], "messages": [{"role": "user", "content": f"Say something about {number}"}]}
        await writer.write(msgspec.json.encode({"custom_id": f"item {number}", "url": ENDPOINT, "body": body}) + b"\n")
    file = await writer.complete()
    assert file is not None
    batch = StoredBatch(new_batch_id(), OWNER, ENDPOINT, file.id, "24h", now, now + 86_400)
    await store.create_batch(batch)
    return batch.id


async def find(store: BatchStore, batch_id: str) -> StoredBatch:
    batch = await store.find_batch(None, batch_id)
    assert batch is not None
    return batch


async def ended(store: BatchStore, batch_id: str, gateway: Gateway) -> StoredBatch:
    until = time.monotonic() + PATIENCE_S
    while not (batch := await find(store, batch_id)).ended:
        assert time.monotonic() < until, f"{batch}\n{gateway.log[-2_000:]}"
        await asyncio.sleep(0.1)
    return batch


async def check(store: BatchStore, batch: StoredBatch, provider: SimulatorProcess) -> None:
    """Every item exactly one result, its own; what the provider bills is told, call by call and to the last cent."""
    assert (batch.status, batch.total, batch.completed, batch.failed, batch.plan) == ("completed", ITEMS, ITEMS, 0, None)
    lines = await lines_of(store, batch.output_file)
    assert [line["custom_id"] for line in lines] == [f"item {number}" for number in range(ITEMS)]
    assert [line["response"]["body"]["model"] for line in lines] == [KINDS[number % 3] for number in range(ITEMS)]
    assert len({line["response"]["request_id"] for line in lines}) == ITEMS
    data = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{provider.url}/billing", timeout=PATIENCE_S).read())
    bill = msgspec.json.decode(data)
    assert bill["total"]["calls"] == batch.completed + batch.lost_calls
    if not batch.lost_calls:
        assert batch.cost_usd == pytest.approx(bill["total"]["usd"])
        assert batch.single_cost_usd == pytest.approx(2 * bill["total"]["usd"])


async def lines_of(store: BatchStore, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    content, place = b"", 0
    while (chunk := await store.read_chunk(file_id, place)) is not None:
        content, place = content + chunk, place + 1
    return [msgspec.json.decode(line) for line in content.splitlines()]


async def steps_taken(store: BatchStore, batch_id: str, version: int) -> None:
    """Each step of a batch makes another version of it: so far it is to come, or to its end."""
    until = time.monotonic() + PATIENCE_S
    while not (batch := await find(store, batch_id)).ended and batch.version < version:
        assert time.monotonic() < until, batch
        await asyncio.sleep(0.001)


@pytest.mark.timeout(300)
async def test_a_gateway_that_is_killed_at_any_step_loses_and_doubles_nothing(provider: SimulatorProcess, tmp_path: Path) -> None:
    random = Random(11)
    url = f"sqlite:///{tmp_path}/gateway.db"
    gateway = gateway_in(tmp_path / "one", provider, url)
    async with kept(url) as store:
        batch_id = await submit(store)
        try:
            for _ in range(KILLS):
                await asyncio.to_thread(gateway.start)
                await steps_taken(store, batch_id, (await find(store, batch_id)).version + random.randrange(1, 14))
                await asyncio.sleep(random.uniform(0, 0.02))
                await asyncio.to_thread(gateway.kill)
                await hand_over(store, batch_id)
            await asyncio.to_thread(gateway.start)
            await check(store, await ended(store, batch_id, gateway), provider)
        finally:
            gateway.close()


async def hand_over(store: BatchStore, batch_id: str) -> None:
    """As the end of the dead one's lease would, 15 s later."""
    batch = await find(store, batch_id)
    if not batch.ended:
        assert await store.update_batch(batch_id, batch.version, lease_until=0.0) is not None


@pytest.mark.timeout(120)
async def test_of_two_gateways_the_other_goes_on_with_what_one_has_at_providers(
    provider: SimulatorProcess, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = await fresh_url("postgres", request.config, tmp_path)
    first, second = (gateway_in(tmp_path / name, provider, url) for name in ("first", "second"))
    async with kept(url) as store:
        try:
            await asyncio.to_thread(first.start)
            batch_id = await submit(store)
            await steps_taken(store, batch_id, 12)
            await asyncio.to_thread(second.start)
            await asyncio.to_thread(first.kill)
            batch = await ended(store, batch_id, second)
            assert batch.lost_calls == 0
            await check(store, batch, provider)
        finally:
            first.close()
            second.close()
