"""What a stated workload costs by each way through a real gateway: by the gateway's report, by its records, and by the provider's bill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx2

from tests.kit.batches import CHAT, jsonl, line
from tests.kit.crossing import BASE
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.simulator import SimulatorProcess

#: Of the requests of a workload: as many ask what an earlier one does, …
DUPLICATES_SHARE = 0.2
#: … and so many had been asked, by themselves, before.
KNOWN_SHARE = 0.1
MODEL = "gpt-4o-mini"
#: USD per million tokens, at the gateway and on the provider's bill.
PRICE = {"input": 0.15, "output": 0.60}
_RULES = "You sort tickets of a shop's support. Answer with the department, how urgent it is, and one sentence that says why. " * 14
_WORDS = ("the parcel", "arrived late", "is broken", "no invoice", "I paid twice", "my money back", "another colour", "call me")
#: Single calls under way at a time; how often and how long a batch is looked at (s).
_AT_ONCE = 16
_LOOK_S = 0.1
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Way:
    name: str
    batch: bool = True
    native: bool = False
    duplicates: bool = False
    cache: bool = False


SINGLE = Way("single calls", batch=False)
NATIVE = Way("native", native=True)
NATIVE_ONCE = Way("native + duplicates", native=True, duplicates=True)
ALL = Way("native + duplicates + cache", native=True, duplicates=True, cache=True)


@dataclass(frozen=True, slots=True)
class Cost:
    """USD. `report`: what the batch says, or the answers' heads do."""

    report: float
    records: float
    bill: float
    #: At the provider.
    live_calls: int
    batch_calls: int
    #: The batch; empty for single calls.
    told: Mapping[str, Any] = field(default_factory=dict)


def workload(requests: int) -> list[dict[str, Any]]:
    """Bodies: a long system prompt that all share and a ticket each, at temperature 0; the last fifth repeats the first."""
    words = Random(7)
    distinct = requests - int(requests * DUPLICATES_SHARE)
    tickets = [f"Ticket {number}: " + " ".join(words.choices(_WORDS, k=24)) for number in range(distinct)]
    return [_asked(tickets[number % distinct]) for number in range(requests)]


@asynccontextmanager
async def trial(folder: Path, kind: str, way: Way, *options: str) -> AsyncIterator[Trial]:
    """A simulated provider and a gateway before it, fresh for one way. `options`: the simulator's."""
    price = ("--price-input", str(PRICE["input"]), "--price-output", str(PRICE["output"]))
    simulator = SimulatorProcess(*price, "--jitter", "0", "--tokens-per-s", "0", *options)
    try:
        await asyncio.to_thread(simulator.wait_until_ready)
        gateway = Gateway(folder, _configuration(simulator.url + BASE[kind], kind, way), "fast lane")
        try:
            await asyncio.to_thread(gateway.start)
            async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
                yield Trial(simulator, gateway, client, way)
        finally:
            gateway.close()
    finally:
        simulator.close()


class Trial:
    def __init__(self, simulator: SimulatorProcess, gateway: Gateway, client: httpx2.AsyncClient, way: Way) -> None:
        self.gateway = gateway
        self._simulator = simulator
        self._client = client
        self._way = way

    async def cost(self, bodies: Sequence[dict[str, Any]]) -> Cost:
        """Of having all answered; what was asked before is asked first, and is not in it."""
        await self._singly(bodies[: int(len(bodies) * KNOWN_SHARE)])
        before, asked_before = await self._bill(), int(len(bodies) * KNOWN_SHARE)
        await self._recorded(asked_before)
        told: dict[str, Any] = {}
        if self._way.batch:
            told = await self._batch(bodies)
            report = told["cost_usd"]
            run = len(bodies) - (int(len(bodies) * DUPLICATES_SHARE) if self._way.duplicates else 0)
        else:
            report, run = await self._singly(bodies), len(bodies)
        records = (await self._recorded(asked_before + run))[asked_before:]
        after = await self._bill()
        calls = {mode: _calls(after, mode) - _calls(before, mode) for mode in ("live", "batch")}
        bill = after["total"]["usd"] - before["total"]["usd"]
        return Cost(report, sum(record["cost_usd"] or 0.0 for record in records), bill, calls["live"], calls["batch"], told)

    async def _singly(self, bodies: Sequence[dict[str, Any]]) -> float:
        free = asyncio.Semaphore(_AT_ONCE)

        async def ask(body: dict[str, Any]) -> float:
            async with free:
                reply = await self._client.post(CHAT, json=body)
            assert reply.status_code == 200, reply.text
            return float(reply.headers["x-gateway-cost-usd"])

        return sum(await asyncio.gather(*map(ask, bodies)))

    async def _batch(self, bodies: Sequence[dict[str, Any]]) -> dict[str, Any]:
        lines = jsonl(line(f"ticket-{number}", body) for number, body in enumerate(bodies))
        file = (await self._client.post("/v1/files", files={"file": ("tickets.jsonl", lines)}, data={"purpose": "batch"})).json()
        asked = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
        batch = (await self._client.post("/v1/batches", json=asked | {"deduplicate": self._way.duplicates})).json()
        async with asyncio.timeout(_PATIENCE_S):
            while batch["status"] in ("validating", "in_progress", "finalizing"):
                await asyncio.sleep(_LOOK_S)
                batch = (await self._client.get(f"/v1/batches/{batch['id']}")).json()
        counts = {"total": len(bodies), "completed": len(bodies), "failed": 0}
        assert (batch["status"], batch["request_counts"]) == ("completed", counts), batch
        return dict(batch)

    async def _bill(self) -> dict[str, Any]:
        async with httpx2.AsyncClient() as client:
            return dict((await client.get(f"{self._simulator.url}/billing")).json())

    async def _recorded(self, count: int) -> list[dict[str, Any]]:
        """All records, as soon as there are so many."""

        def look() -> tuple[list[dict[str, Any]]] | None:
            records = self.gateway.records
            return (records,) if len(records) == count else None

        return (await eventually(look, f"{count} records"))[0]


def _configuration(url: str, kind: str, way: Way) -> dict[str, Any]:
    deployment = {"provider": "provider", "model": MODEL, "price": PRICE}
    model: dict[str, Any] = {"deployments": [deployment], "batching": {"native": "on" if way.native else "off"}}
    if way.cache:
        model["cache"] = {"exact": {"enabled": True}}
    return {
        "state": {"database": "sqlite:///agent-gateway.db"},
        "providers": {"provider": {"kind": kind, "base_url": url, "api_key": "sk-provider"}},
        "models": {MODEL: model},
    }


def _asked(ticket: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": _RULES}, {"role": "user", "content": ticket}]
    return {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 200}


def _calls(bill: Mapping[str, Any], mode: str) -> int:
    return sum(entry["calls"] for entry in bill["lines"] if entry["mode"] == mode)
