"""How many series there are when there are many keys and clients make up the names of models: those of the first hundreds stay.

    python benchmarks/cardinality.py [--keys 10000]

A real gateway with a simulated provider in it. Every key has a budget, asks a model that there is, one of its provider that nobody has
configured, and one that there is not; its user and session are its own too.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.kit.client import Wire, ask, chat_request, connect, request
from tests.kit.gateway import Gateway

ADMIN_KEY = "an-admin-key-of-the-benchmark"
CLIENTS = 8
CONFIGURATION = {
    "auth": {"admin_key": ADMIN_KEY},
    "state": {"database": "sqlite:///agent-gateway.db"},
    "providers": {"sim": {"kind": "simulated", "ttft_ms": 1, "output_tokens": 5, "tokens_per_s": 10000}},
    "models": {"chat": {"deployments": [{"provider": "sim", "model": "small", "price": {"input": 0.15, "output": 0.6}}]}},
}


async def run(keys: int) -> bool:
    """Whether the second half of the keys added no series; prints how many there are."""
    with tempfile.TemporaryDirectory(prefix="cardinality-") as folder:
        gateway = Gateway(Path(folder), CONFIGURATION, "fast lane").start()
        try:
            statuses: Counter[int] = Counter()

            async def client(numbers: Iterator[int]) -> None:
                async with connect(gateway.url) as wire:
                    for number in numbers:
                        statuses.update(await asks(wire, number))

            seen = []
            for first, last in ((0, keys // 4), (keys // 4, keys // 2), (keys // 2, keys)):
                numbers = iter(range(first, last))
                await asyncio.gather(*(client(numbers) for _ in range(CLIENTS)))
                began = time.perf_counter()
                scrape = (await ask(gateway.url, "/metrics")).body
                took_ms = (time.perf_counter() - began) * 1000
                seen.append(sum(not line.startswith(b"#") for line in scrape.splitlines()))
                print(f"{last:6} keys: {seen[-1]} series, {len(scrape) / 1e3:.0f} KB, told in {took_ms:.0f} ms", flush=True)
        finally:
            gateway.close()
    print("answers: " + ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items())))
    return seen[-1] == seen[-2] and statuses == {201: keys, 200: 2 * keys, 404: keys}


async def asks(wire: Wire, number: int) -> list[int]:
    """One key's life: how its creation and its three requests were answered."""
    named = msgspec.json.encode({"name": f"key {number}", "budget": {"usd": 100, "per": "month"}})
    await wire.send(request("POST", "/admin/v1/keys", named, {"authorization": f"Bearer {ADMIN_KEY}"}))
    created = await wire.reply()
    secret = msgspec.json.decode(created.content)["key"]
    statuses = [created.status]
    for model in ("chat", f"sim/made-up-{number}", f"no-such-{number}"):
        headers = {"authorization": f"Bearer {secret}", "x-session-id": f"session-{number}", "x-user-id": f"user-{number}"}
        await wire.send(chat_request(model, headers=headers))
        statuses.append((await wire.reply()).status)
    return statuses


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=10_000)
    return 0 if asyncio.run(run(parser.parse_args().keys)) else 1


if __name__ == "__main__":
    sys.exit(main())
