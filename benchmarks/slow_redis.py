"""What requests wait for a Redis that is slow, gone, or comes and goes. Each asks it for its limits and for a cached answer, and every
other one can be resumed.

    python benchmarks/slow_redis.py [--seconds 15] [--rate 60]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.kit.batches import asked
from tests.kit.client import CHAT, ask
from tests.kit.gateway import Gateway
from tests.kit.servers import Redis, own
from tests.kit.slow_line import SlowLine

#: So many users; below a hundred requests a minute a process keeps nothing of a limit at hand.
USERS, REQUESTS_A_MINUTE = 100, 99
SLOW_S, FLAP_S = 2.0, 1.5

_numbers = itertools.count()


async def well(line: SlowLine, seconds: float) -> None:
    await asyncio.sleep(seconds)


async def slow(line: SlowLine, seconds: float) -> None:
    line.delay_s = SLOW_S
    await asyncio.sleep(seconds)
    line.delay_s = 0.0


async def gone(line: SlowLine, seconds: float) -> None:
    await line.cut()
    await asyncio.sleep(seconds)
    await line.mend()


async def flapping(line: SlowLine, seconds: float) -> None:
    """By turns cut, there, slow, and there."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for trouble in (gone, well, slow, well):
            await trouble(line, FLAP_S)


PHASES: tuple[Callable[[SlowLine, float], Awaitable[None]], ...] = (well, slow, well, gone, well, flapping, well)


async def run(seconds: float, rate: float) -> None:
    redis = own(Redis)
    try:
        redis.start()
        async with SlowLine(redis.port) as line:
            with tempfile.TemporaryDirectory(prefix="slow-redis-") as folder:
                gateway = Gateway(Path(folder), configuration(line.port), "fast lane")
                try:
                    await asyncio.to_thread(gateway.start)
                    for phase in PHASES:
                        print(await row(gateway, line, phase, seconds, rate), flush=True)
                finally:
                    gateway.close()
    finally:
        redis.remove()


async def row(gateway: Gateway, line: SlowLine, phase: Callable[[SlowLine, float], Awaitable[None]], seconds: float, rate: float) -> str:
    took: list[float] = []
    before = await failed_open(gateway)
    trouble = asyncio.ensure_future(phase(line, seconds))
    async with asyncio.TaskGroup() as requests:
        at = time.monotonic()
        while not trouble.done():
            requests.create_task(one(gateway, took))
            at += 1 / rate
            await asyncio.sleep(max(at - time.monotonic(), 0))
    took.sort()
    p50, p99 = (took[int(share * len(took))] * 1000 for share in (0.5, 0.99))
    alone = await failed_open(gateway) - before
    times = f"p50 {p50:6.1f} ms, p99 {p99:6.1f} ms, longest {took[-1] * 1000:6.1f} ms"
    return f"{phase.__name__:9} {len(took):5} requests: {times}; {alone:5.0f} let in without Redis"


async def one(gateway: Gateway, took: list[float]) -> None:
    number = next(_numbers)
    is_stream = number % 2 == 1
    body = asked(f"question {number}", "chat", user=str(number % USERS), stream=is_stream)
    began = time.monotonic()
    reply = await ask(gateway.url, CHAT, body, headers={"x-gateway-resumable": "true"} if is_stream else {})
    took.append(time.monotonic() - began)
    assert reply.status == 200, reply.body


async def failed_open(gateway: Gateway) -> float:
    metrics = (await ask(gateway.url, "/metrics")).body.decode()
    name = 'agent_gateway_limits_failed_open_total{reason="redis_down"} '
    return next(float(line.removeprefix(name)) for line in metrics.splitlines() if line.startswith(name))


def configuration(redis_port: int) -> dict[str, Any]:
    return {
        "state": {"database": "sqlite:///agent-gateway.db", "redis": f"redis://127.0.0.1:{redis_port}/0"},
        "providers": {"sim": {"kind": "simulated", "ttft_ms": 0, "tokens_per_s": 0, "jitter": 0, "output_tokens": 10}},
        "models": {"chat": {"deployments": [{"provider": "sim", "model": "small", "price": {"input": 1, "output": 1}}]}},
        "limits": {"per_user": {"requests_per_minute": REQUESTS_A_MINUTE, "max_parallel": 20}},
        "cache": {"exact": {"enabled": True}},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="of each phase")
    parser.add_argument("--rate", type=float, default=60, help="requests a second")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.seconds, arguments.rate))


if __name__ == "__main__":
    main()
