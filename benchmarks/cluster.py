"""Two gateways, each of several workers, on one Redis and one PostgreSQL, under load; one is killed with SIGKILL, and comes back.

    python benchmarks/cluster.py [--seconds 40] [--workers 2]

Everything runs on this machine's ports. What was let in is what the provider was asked, which nobody but the gateways can tell it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.kit import cluster
from tests.kit.client import ask
from tests.kit.cluster import TOKENS, Listener, Talk, Upstream
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.servers import Postgres, Redis, own

REQUESTS_A_MINUTE, TOKENS_A_MINUTE, AT_ONCE = 900, 30_000, 10
LIMITS = {
    "requests": {"requests_per_minute": REQUESTS_A_MINUTE},
    "tokens": {"tokens_per_minute": TOKENS_A_MINUTE},
    "parallel": {"max_parallel": AT_ONCE},
}
#: Requests a second of each gateway: of the limited models more than both may let in.
RATES = {"requests": 40, "tokens": 40, "parallel": 160, "open": 40}
TALKS, LISTENERS, ITEMS = 10, 10, 1_000
#: A batch's items are taken over when the lease of who had them is over (15 s).
BATCH_S = 120.0


async def run(seconds: float, workers: int) -> None:
    redis, postgres = own(Redis), own(Postgres)
    with tempfile.TemporaryDirectory(prefix="cluster-") as folder:
        try:
            redis.start()
            postgres.start()
            async with ScriptedProvider() as provider:
                config = cluster.configuration(provider, postgres.url(), redis.url(), LIMITS, workers)
                async with cluster.cluster(Path(folder), config) as gateways:
                    await _told(gateways, Upstream(provider), seconds)
        finally:
            redis.remove()
            postgres.remove()


async def _told(gateways: list[Gateway], upstream: Upstream, seconds: float) -> None:
    one, other = gateways
    ended = asyncio.Event()
    talks = [Talk(f"talk-{number}") for number in range(TALKS)]
    talking = [asyncio.create_task(talk.go_on(gateways, ended)) for talk in talks]
    listeners = [Listener(here, there) for here, there in ((one, other), (other, one)) for _ in range(LISTENERS)]
    async with cluster.pressure(gateways, RATES) as loads:
        batch = await cluster.submit(other, ITEMS)
        await asyncio.sleep(seconds / 3)
        listening = [asyncio.create_task(listener.listen()) for listener in listeners]
        await asyncio.sleep(cluster.WORDS * cluster.WORD_S / 2)
        await asyncio.to_thread(other.kill)
        await asyncio.sleep(seconds / 3)
        began = time.monotonic()
        await asyncio.to_thread(other.start)
        back_s = time.monotonic() - began
        before = loads["open"][1].statuses[200]
        await asyncio.sleep(seconds / 3)
        ended.set()
        await asyncio.gather(*talking, *listening)
        rejoined = loads["open"][1].statuses[200] - before
    lines = await cluster.results(one, batch, BATCH_S)
    for talk in talks:
        await talk.check(one)
        await talk.check(other)
    for line in _limits(upstream):
        print(line)
    answered = sum(load.statuses[200] for load in loads["open"]) + sum(len(talk.told) for talk in talks)
    lost = len(upstream.asked["open"]) - answered - 2 * LISTENERS
    failed = {status: count for status, count in loads["open"][0].statuses.items() if status != 200}
    stayed = loads["open"][0]
    print(f"the gateway that stayed: {stayed.statuses[200]} answers, {stayed.cut} cut off, others: {failed or 'none'}")
    print(f"the one that was killed: {lost} requests under way lost; ready {back_s:.1f} s after its start, {rejoined} answers since")
    told, unanswered = (sum(len(getattr(talk, name)) for talk in talks) for name in ("told", "lost"))
    print(f"sessions: {told} turns answered, all of them kept, in order; {unanswered} asked of a gateway that was not there")
    for name, some in (("stayed", listeners[:LISTENERS]), ("was killed", listeners[LISTENERS:])):
        words = sum(listener.words for listener in some) / len(some)
        outcomes = dict(Counter(listener.outcome for listener in some))
        print(f"resumable streams of the one that {name}: {outcomes}, {words:.1f} of {cluster.WORDS} words each")
    names = {line["custom_id"] for line in lines}
    assert len(lines) == len(names) == ITEMS, (len(lines), len(names))
    twice = len(upstream.asked["batched"]) - ITEMS
    print(f"batch: {ITEMS} items, one result each; {twice} were asked twice")
    name = 'agent_gateway_limits_failed_open_total{reason="redis_down"} '
    texts = [(await ask(gateway.url, "/metrics")).body.decode() for gateway in gateways]
    alone = [line.removeprefix(name) for text in texts for line in text.splitlines() if line.startswith(name)]
    print(f"let in without Redis, for it was not quick enough: {' and '.join(alone)} (load {os.getloadavg()[0]:.1f})")


def _limits(upstream: Upstream) -> list[str]:
    requests = upstream.rate_over("requests", REQUESTS_A_MINUTE)
    tokens = upstream.rate_over("tokens", TOKENS_A_MINUTE / TOKENS)
    told = ", ".join(f"{name} {len(upstream.asked[name])}" for name in LIMITS)
    return [
        f"let in: {told}",
        f"{REQUESTS_A_MINUTE} requests a minute: {requests:.1%} of what is allowed",
        f"{TOKENS_A_MINUTE} tokens a minute: {tokens:.1%}",
        f"{AT_ONCE} at once: {upstream.most['parallel']} at most",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40, help="of the whole run; a third each before the kill, without it, and after")
    parser.add_argument("--workers", type=int, default=2, help="of each gateway")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.seconds, arguments.workers))


if __name__ == "__main__":
    main()
