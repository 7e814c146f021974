"""What batches save on a stated workload: asked one by one, in the provider's own batch, and with what is the same asked once.

    python benchmarks/batch_cost.py [--requests 1000] [--providers openai anthropic gemini]

The workload: tickets of a support are sorted at temperature 0. Each request is a system prompt of 1.6 KB that all share, and a ticket of 60
words; a fifth of the requests repeat another, a tenth had been asked by themselves before. Prices are those of gpt-4o-mini; the provider is
`agent-gateway simulate` in a process of its own, which bills half of them in batches and tells no cached tokens. Gateway and provider are
new for each way. What the batch reports, what the gateway's records say and what the provider bills have to be the same, to the cent.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.kit.costs import ALL, NATIVE, NATIVE_ONCE, SINGLE, Cost, Way, trial, workload
from tests.kit.crossing import BASE

WAYS = (SINGLE, NATIVE, NATIVE_ONCE, ALL)
GOAL_NATIVE_SAVES = 0.30
CENT_USD = 0.01
#: The simulator's: an answer's length is what matters, not its speed.
OPTIONS = ("--ttft-ms", "5", "--output-tokens", "60", "--batch-ms", "1500")


async def measure(kind: str, way: Way, requests: int) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        async with trial(Path(folder), kind, way, *OPTIONS) as one:
            return await one.cost(workload(requests))


async def compare(kind: str, requests: int) -> bool:
    """Prints a table; whether the goals are met."""
    print(f"{kind}, {requests} requests (USD)")
    print(f"{'':28} {'report':>11} {'records':>11} {'bill':>11} {'live':>6} {'batch':>6} {'saved':>6}")
    shares: list[float] = []
    single_usd, agrees = 0.0, True
    for way in WAYS:
        cost = await measure(kind, way, requests)
        single_usd = single_usd or cost.bill
        shares.append(1 - cost.bill / single_usd)
        agrees = agrees and max(abs(cost.report - cost.records), abs(cost.report - cost.bill)) < CENT_USD / 2
        amounts = f"{cost.report:11.6f} {cost.records:11.6f} {cost.bill:11.6f}"
        print(f"{way.name:28} {amounts} {cost.live_calls:6} {cost.batch_calls:6} {shares[-1]:6.1%}")
    return agrees and shares[1] >= GOAL_NATIVE_SAVES and all(more > less for less, more in pairwise(shares))


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--providers", nargs="+", choices=sorted(BASE), default=sorted(BASE))
    arguments = parser.parse_args()
    met = [await compare(kind, arguments.requests) for kind in arguments.providers]
    told = f"native saves ≥ {GOAL_NATIVE_SAVES:.0%}, each way more than the one before, and all three sums are the same to the cent"
    print("goal:", "met" if all(met) else "missed", f"({told})")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
