"""A gateway in this process and the simulated provider with its batch APIs, over sockets: batches are submitted, and the bill compared."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from agent_gateway.app import Gateway
from agent_gateway.batch.engine import Engine
from agent_gateway.batch.file_writer import FileWriter
from agent_gateway.batch.identity import new_batch_id, new_file_id
from agent_gateway.batch.native.plan import Part, plan_of
from agent_gateway.control.load import compile_mapping
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import BatchStore, NewItem, StoredBatch, StoredFile, batches_of
from tests.kit.records import Record, read_records
from tests.simulator.serving import Provider

DAY_S = 86_400.0
NOBODY = Owner()
ENDPOINTS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
#: USD per million tokens: what the simulated provider bills.
PRICE = {"input": 0.15, "output": 0.60}
KINDS = ("openai", "anthropic", "gemini")
MODEL = "gpt-4o-mini"


class Bill(msgspec.Struct):
    calls: int
    failed_calls: int
    usd: float


class Bench:
    def __init__(self, gateway: Gateway, simulated: Provider, folder: Path) -> None:
        assert gateway._batches is not None
        self.gateway = gateway
        self.engine: Engine = gateway._batches
        self.store: BatchStore = batches_of(gateway._store)
        self.simulated = simulated
        self._folder = folder

    async def create(
        self,
        *models: str,
        items: int = 6,
        endpoint: str = "chat",
        owner: Owner = NOBODY,
        window_s: float = DAY_S,
        already: Sequence[NewItem] = (),
        **more: Any,
    ) -> str:
        """Its id; the models take turns. `already`: what another has read of it."""
        now = time.time()
        writer = FileWriter(self.store, StoredFile(new_file_id(), owner, "in.jsonl", "batch", now))
        for number in range(items):
            await writer.write(line(f"item {number}", models[number % len(models)], endpoint, **more))
        file = await writer.complete()
        assert file is not None
        until = time.time() + 1e6 if already else 0.0
        batch = StoredBatch(new_batch_id(), owner, ENDPOINTS[endpoint], file.id, "24h", now, now + window_s, lease_until=until)
        await self.store.create_batch(batch)
        if already:
            await self.store.add_items(batch.id, already)
            await self.store.update_batch(batch.id, batch.version, lease_until=0.0)  # as its end would
        self.engine.wake()
        return batch.id

    async def find(self, batch_id: str) -> StoredBatch:
        batch = await self.store.find_batch(None, batch_id)
        assert batch is not None
        return batch

    async def until(self, batch_id: str, *statuses: str) -> StoredBatch:
        async with asyncio.timeout(20):
            while (batch := await self.find(batch_id)).status not in statuses:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.01)
            return batch

    async def part(self, batch_id: str, *stages: str) -> Part:
        """The first one, once it has come so far."""
        async with asyncio.timeout(20):
            while True:
                parts = plan_of(await self.find(batch_id)).parts
                if parts and parts[0].stage in stages:
                    return parts[0]
                await asyncio.sleep(0.005)

    async def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        if file_id is None:
            return []
        content, place = b"", 0
        while (chunk := await self.store.read_chunk(file_id, place)) is not None:
            content, place = content + chunk, place + 1
        return [msgspec.json.decode(text) for text in content.splitlines()]

    async def bill(self) -> dict[str, Bill]:
        """By mode: `live`, `batch`."""
        data = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{self.simulated.url}/billing", timeout=5).read())
        bills = {mode: Bill(0, 0, 0.0) for mode in ("live", "batch")}
        for told in msgspec.json.decode(data)["lines"]:
            bill = bills[told["mode"]]
            bill.calls += told["calls"]
            bill.failed_calls += told["failed_calls"]
            bill.usd += told["usd"]
        return bills

    def records(self) -> list[Record]:
        self.gateway._recorder.fold()
        return read_records(self._folder / "gateway.records.db")


def line(custom_id: str, model: str, endpoint: str = "chat", **more: Any) -> bytes:
    text = f"Say something about {custom_id}"
    asked: dict[str, Any] = {"model": model, **more}
    match endpoint:
        case "completions":
            asked["prompt"] = text
        case "embeddings" | "responses":
            asked["input"] = text
        case _:
            asked.setdefault("messages", [{"role": "user", "content": text}])
    if endpoint == "messages":
        asked.setdefault("max_tokens", 50)
    return msgspec.json.encode({"custom_id": custom_id, "method": "POST", "url": ENDPOINTS[endpoint], "body": asked}) + b"\n"


def configuration(simulated: Provider, folder: Path, faults: Sequence[str] = (), **sections: Any) -> dict[str, Any]:
    """A model of each kind, `openai` and so on; and of each for every fault, `openai:batch-fail`."""
    urls = {"openai": f"{simulated.url}/v1", "anthropic": simulated.url, "gemini": simulated.url}
    models = {
        f"{kind}{fault}": {"deployments": [{"provider": kind, "model": f"{MODEL}{fault}", "price": PRICE}]}
        for kind in KINDS
        for fault in ("", *(f":{fault}" for fault in faults))
    }
    return {
        "state": {"database": f"sqlite:///{folder}/gateway.db"},
        "retries": {"max_attempts": 1},
        "fallback": {"reply": None},
        "batching": {"native": "on"},
        "providers": {kind: {"kind": kind, "base_url": url, "api_key": "sk-x"} for kind, url in urls.items()},
        "models": models | sections.pop("models", {}),
        **sections,
    }


@asynccontextmanager
async def running(raw: dict[str, Any], simulated: Provider, folder: Path) -> AsyncIterator[Bench]:
    gateway = Gateway(compile_mapping(raw), environ={})
    await gateway._start()
    try:
        yield Bench(gateway, simulated, folder)
    finally:
        await gateway._stop()
