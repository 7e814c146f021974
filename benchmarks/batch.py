"""What a large batch costs: submitted, run against an instant model, read back; items a second on one core, and memory.

    python benchmarks/batch.py [--items 50000] [--store sqlite]

The simulated model answers at once, in this process: what is measured is the engine, the pipeline and the store.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from agent_gateway.app import Gateway
from agent_gateway.batch.file_writer import FileWriter
from agent_gateway.batch.identity import new_batch_id, new_file_id
from agent_gateway.control.load import compile_mapping
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import BatchStore, StoredBatch, StoredFile, batches_of
from tests.kit.servers import Postgres, own

OWNER = Owner("", "benchmark")
ENDPOINT = "/v1/chat/completions"
PROMPT = "Say in one sentence what the following note is about. " + "The quick brown fox jumps over the lazy dog. " * 8
#: How often memory and progress are looked at (s).
LOOK_S = 0.25
GOAL_SUBMIT_S, GOAL_ITEMS_A_SECOND = 10.0, 1_000


def configuration(url: str, concurrency: int = 32) -> dict[str, Any]:
    instant = {"kind": "simulated", "ttft_ms": 0, "tokens_per_s": 0, "jitter": 0, "output_tokens": 20, "output_spread": 0}
    price = {"input": 0.15, "output": 0.60}
    models = {"m": {"deployments": [{"provider": "sim", "model": "small", "price": price}]}}
    return {"state": {"database": url}, "providers": {"sim": instant}, "models": models}


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Gateway]:
    gateway = Gateway(compile_mapping(configuration(url)), environ={})
    await gateway._start()
    try:
        yield gateway
    finally:
        await gateway._stop()


async def upload(store: BatchStore, items: int) -> str:
    now = time.time()
    writer = FileWriter(store, StoredFile(new_file_id(), OWNER, "in.jsonl", "batch", now))
    for number in range(items):
        body = {"model": "m", "messages": [{"role": "user", "content": f"{PROMPT} ({number})"}], "max_tokens": 50}
        line = {"custom_id": f"item-{number}", "method": "POST", "url": ENDPOINT, "body": body}
        await writer.write(msgspec.json.encode(line) + b"\n")
    file = await writer.complete()
    assert file is not None
    return file.id


async def follow(store: BatchStore, batch_id: str, until: set[str]) -> StoredBatch:
    while (batch := await store.find_batch(None, batch_id)) is not None and batch.status not in until:
        assert batch.status != "failed", batch.errors
        await asyncio.sleep(LOOK_S)
    assert batch is not None
    return batch


async def measure(url: str, items: int) -> Mapping[str, float]:
    async with running(url) as gateway:
        store, engine = batches_of(gateway._store), gateway._batches
        assert engine is not None
        started = time.monotonic()
        file_id = await upload(store, items)
        now = time.time()
        batch = StoredBatch(new_batch_id(), OWNER, ENDPOINT, file_id, "24h", now, now + 86_400)
        await store.create_batch(batch)
        engine.wake()
        taken = await follow(store, batch.id, {"in_progress", "finalizing", "completed"})
        submitted = time.monotonic()
        early_bytes, cpu_s = resident_bytes(), time.process_time()
        ended = await follow(store, batch.id, {"completed"})
        run_s = time.monotonic() - submitted
        assert (ended.completed, ended.failed, taken.total) == (items, 0, items)
        return {
            "submitted_s": submitted - started,
            "run_s": run_s,
            "items_per_s": items / run_s,
            "cpu_us_per_item": (time.process_time() - cpu_s) / items * 1e6,
            "early_mb": early_bytes / 1e6,
            "end_mb": resident_bytes() / 1e6,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        }


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    server = own(Postgres) if arguments.store == "postgres" else None
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            if server is not None:
                server.start()
            url = f"sqlite:///{folder}/gateway.db" if server is None else server.url()
            figures = uvloop.run(measure(url, arguments.items))
        finally:
            if server is not None:
                server.remove()
    for name, value in figures.items():
        print(f"{name:>16} {value:10.2f}")
    good = figures["submitted_s"] < GOAL_SUBMIT_S and figures["items_per_s"] >= GOAL_ITEMS_A_SECOND
    print("goal:", "met" if good else "missed", f"(submitted in < {GOAL_SUBMIT_S:.0f} s, ≥ {GOAL_ITEMS_A_SECOND} items/s)")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
