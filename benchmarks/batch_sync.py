"""Bulk work at a provider as slow as real ones are: batches that are waited for, and what a batch of the engine does to conversations.

    python benchmarks/batch_sync.py [--only batches|slots|core] [--seconds 40] [--rate 125] [--rounds 3]

`batches`: groups of 50 through `POST /v1/batch`, sent at a steady rate whether those before them are back or not. A call takes 2 s in
the median; 2 % of them fail: 1 % with 5xx, 0.5 % with 429, 0.4 % cut off, 0.1 % never answered. The model has two deployments and hedging.

`slots`: streams come at random to a deployment that takes 60 calls at once, first by themselves, then while the engine has a batch for
all that is left of it. The provider's first token takes 300 ms to the tenth, so that every difference is the gateway's (and the machine's).

`core`: the same, but what the batch saturates is the gateway's core: its model answers at once, in the process, and costs nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from openai import AsyncOpenAI

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.kit.batches import asked, chats, jsonl
from tests.kit.client import ask, chat_request, connect
from tests.kit.gateway import Gateway
from tests.kit.simulator import SimulatorProcess

#: Requests of one group.
SIZE = 50
FAULTS = ("--error-rate", "0.01", "--rate-limit-rate", "0.005", "--cut-rate", "0.004", "--hang-rate", "0.001")
#: 300 ms and 100 tokens at 59 a second: 2 s.
PACE = ("--ttft-ms", "300", "--tokens-per-s", "59", "--output-tokens", "100")
SLOTS = 60
STREAMS_A_SECOND = 10.0
#: Together more than can be run while it is looked at, of a model that answers at once.
BATCHES, ITEMS = 3, 50_000
WARM_S = 5.0
INSTANT = {"kind": "simulated", "ttft_ms": 0, "tokens_per_s": 0, "jitter": 0, "output_tokens": 20}
BULK: dict[str, Any] = {"names": ["small", "other"], "timeouts": {"attempt_s": 8}, "hedging": {"enabled": True, "after": "p99"}}
SHARED: dict[str, Any] = {"concurrency": {"max": SLOTS}, "batching": {"concurrency": SLOTS}}
GOALS = {"requests/s": (100.0, "over"), "batch P95 s": (8.0, "under"), "batch P99 s": (15.0, "under"), "errors %": (0.5, "under")}
GOAL_RISE = 0.10


def configuration(simulator: SimulatorProcess, names: Sequence[str] = ("small",), **model: Any) -> dict[str, Any]:
    deployments = [{"provider": "sim", "model": name, "price": {"input": 0.15, "output": 0.60}} for name in names]
    return {
        "state": {"database": "sqlite:///agent-gateway.db"},
        "fallback": {"reply": None},
        "providers": {"sim": {"kind": "openai", "base_url": f"{simulator.url}/v1", "api_key": "x"}, "instant": INSTANT},
        "models": {"chat": {"deployments": deployments, **model}, "bulk": {"deployments": [{"provider": "instant", "model": "small"}]}},
    }


@contextmanager
def running(*options: str, **model: Any) -> Iterator[Gateway]:
    simulator = SimulatorProcess(*PACE, *options)
    with tempfile.TemporaryDirectory() as folder:
        try:
            gateway = Gateway(Path(folder), configuration(simulator.wait_until_ready(), **model), "fast lane")
            try:
                yield gateway.start()
            finally:
                gateway.close()
        finally:
            simulator.close()


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def cpu_s(gateway: Gateway) -> float:
    user, system = Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def at_times(times: Iterator[float], seconds: float, do: Callable[[int], Any]) -> list[Any]:
    """`do` at each of these times (s from now), in tasks; what they return."""
    began = time.monotonic()
    tasks: list[asyncio.Task[Any]] = []
    for at in times:
        if at > seconds:
            break
        await asyncio.sleep(max(began + at - time.monotonic(), 0))
        tasks.append(asyncio.create_task(do(len(tasks))))
    return await asyncio.gather(*tasks)


# --- groups that are waited for ---------------------------------------------------------------------------------------


async def batches(gateway: Gateway, rate: float, seconds: float) -> dict[str, float]:
    async def group(number: int) -> tuple[float, float, int]:
        requests = [{"custom_id": str(place), "body": asked(f"What is {number} plus {place}?")} for place in range(SIZE)]
        began = time.monotonic()
        reply = await ask(gateway.url, "/v1/batch", {"requests": requests})
        results = msgspec.json.decode(reply.content)["results"]
        assert [result["custom_id"] for result in results] == [str(place) for place in range(SIZE)]
        ended = time.monotonic()
        return ended, ended - began, sum(result["status_code"] != 200 for result in results)

    started, cpu_before = time.monotonic(), cpu_s(gateway)
    told = await at_times((number * SIZE / rate for number in count()), seconds, group)
    took_s = [took for _, took, _ in told]
    requests = len(told) * SIZE
    # Sustained: those that were answered between the time when answers come as fast as they ever will, and the last that was sent.
    sustained = [ended for ended, _, _ in told if WARM_S < ended - started <= seconds]
    return {
        "requests/s": len(sustained) * SIZE / (seconds - WARM_S),
        "batch P50 s": quantile(took_s, 0.5),
        "batch P95 s": quantile(took_s, 0.95),
        "batch P99 s": quantile(took_s, 0.99),
        "errors %": 100 * sum(failed for _, _, failed in told) / requests,
        "CPU ms/request": 1e3 * (cpu_s(gateway) - cpu_before) / requests,
    }


# --- conversations beside a batch -------------------------------------------------------------------------------------


async def streamed(gateway: Gateway, seconds: float, seed: int) -> list[float]:
    """Times to first token of streams that come at random (s)."""
    chance = random.Random(seed)

    def arrivals() -> Iterator[float]:
        at = 0.0
        while True:
            at += chance.expovariate(STREAMS_A_SECOND)
            yield at

    async def one(number: int) -> float:
        async with connect(gateway.url) as wire:
            began = time.monotonic()
            await wire.send(chat_request(stream=True))
            head = await wire.head()
            assert head.status == 200, head
            piece = await wire.piece()
            first_s = time.monotonic() - began
            assert b'"content"' in piece
            await wire.pieces()
            return first_s

    return await at_times(arrivals(), seconds, one)


async def beside_a_batch(gateway: Gateway, model: str, seconds: float, seed: int) -> dict[str, float]:
    alone = await streamed(gateway, seconds, seed)
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none") as client:
        file = await client.files.create(file=("requests.jsonl", jsonl(chats(ITEMS, model))), purpose="batch")
        for _ in range(BATCHES):
            await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        await asyncio.sleep(WARM_S)
        done = await completed(client)
        began = time.monotonic()
        beside = await streamed(gateway, seconds, seed)
        now_done = await completed(client)
        assert now_done < BATCHES * ITEMS, "the batches have ended before they were looked at for long enough"
        items_per_s = (now_done - done) / (time.monotonic() - began)
    return {
        "streams": len(alone),
        "p50 alone ms": 1e3 * quantile(alone, 0.5),
        "p50 beside ms": 1e3 * quantile(beside, 0.5),
        "p99 alone ms": 1e3 * quantile(alone, 0.99),
        "p99 beside ms": 1e3 * quantile(beside, 0.99),
        "p99 rises by %": 100 * (quantile(beside, 0.99) / quantile(alone, 0.99) - 1),
        "items/s": items_per_s,
    }


async def completed(client: AsyncOpenAI) -> int:
    return sum(batch.request_counts.completed for batch in (await client.batches.list()).data if batch.request_counts is not None)


# --- the table --------------------------------------------------------------------------------------------------------


def show(name: str, figures: Mapping[str, float]) -> None:
    print(f"{name} (load {os.getloadavg()[0]:.1f}):", ", ".join(f"{name} {value:.2f}" for name, value in figures.items()), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("batches", "slots", "core"))
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--rate", type=float, default=125, help="requests a second, in groups of 50")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    good = True
    for number in range(arguments.rounds):
        if arguments.only in (None, "batches"):
            with running(*FAULTS, **BULK) as gateway:
                figures = uvloop.run(batches(gateway, arguments.rate, arguments.seconds))
            show("batches", figures)
            good &= all((figures[name] > goal) == (side == "over") for name, (goal, side) in GOALS.items())
        for only, model in (("slots", "chat"), ("core", "bulk")):
            if arguments.only in (None, only):
                with running("--jitter", "0", **SHARED) as gateway:
                    figures = uvloop.run(beside_a_batch(gateway, model, arguments.seconds, seed=number))
                show(only, figures)
                good &= figures["p99 rises by %"] < 100 * GOAL_RISE
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
