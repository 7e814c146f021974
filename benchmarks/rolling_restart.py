"""Whether anybody is lost while all workers are replaced: 500 open streams and 200 requests a second, a reload in between.

    python benchmarks/rolling_restart.py [--workers 2] [--streams 500] [--rate 200] [--seconds 20] [--restarts 1]

A real gateway of several workers with a simulated provider in it. A stream takes about ten seconds and is begun anew when it has ended, on
the same connection as long as that is kept open. Anything counts as lost that is no whole answer: a refused or cut connection, another
status than 200, a stream without its end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.kit.client import chat_request
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.load import Load, complete_ratio

#: Clients of the requests: they wait for their turn, not for answers.
CLIENTS = 64
#: A restart of all workers is given up on after so long (s).
RESTART_TIMEOUT_S = 300.0
REPLACED = "all workers were replaced"


async def run(workers: int, streams: int, rate: float, seconds: float, restarts: int) -> bool:
    """Whether nobody was lost; prints what there is to know."""
    with tempfile.TemporaryDirectory(prefix="rolling-restart-") as folder:
        gateway = Gateway(Path(folder), configuration(workers), "fast lane").start()
        try:
            talking = Load(gateway.url, chat_request("talk", stream=True), clients=streams, rate=None)
            asking = Load(gateway.url, chat_request(), clients=CLIENTS, rate=rate)
            async with talking.running(), asking.running():
                await asyncio.sleep(seconds / 2)
                for number in range(1, restarts + 1):
                    before, began = gateway.workers, time.monotonic()
                    gateway.signal(signal.SIGUSR2)
                    await asyncio.sleep(1)
                    gateway.signal(signal.SIGHUP)
                    await eventually(partial(replaced, gateway, number), REPLACED, RESTART_TIMEOUT_S)
                    assert not set(before) & set(gateway.workers)
                    print(f"restart {number}: {workers} workers replaced in {time.monotonic() - began:.1f} s", flush=True)
                await asyncio.sleep(seconds / 2)
            await asyncio.to_thread(gateway.stop)
            recorded = complete_ratio([*talking.ids, *asking.ids], [record["id"] for record in gateway.records])
        finally:
            gateway.close()
            if trouble := [line for line in gateway.log.splitlines() if "ERROR" in line]:
                print("\n".join(trouble[:20]))
    for name, load in (("streams", talking), ("requests", asking)):
        statuses = ", ".join(f"{count} × {status}" for status, count in sorted(load.statuses.items()))
        print(f"{name:9} {len(load.ids):7} answered ({statuses}), {load.cut} cut, {load.unfinished} without their end")
    print(f"recorded  {recorded:.4%} of those that were answered (load {os.getloadavg()[0]:.1f})")
    return talking.failed == asking.failed == 0 and recorded == 1.0


def replaced(gateway: Gateway, times: int) -> bool:
    return gateway.log.count(REPLACED) >= times


def configuration(workers: int) -> dict[str, Any]:
    simulated = {"kind": "simulated", "ttft_ms": 100, "jitter": 0.1}
    return {
        "server": {"workers": workers, "drain_timeout_s": 60},
        "state": {"database": "sqlite:///agent-gateway.db"},
        "providers": {
            "sim": {**simulated, "tokens_per_s": 1000, "output_tokens": 20},
            "slow": {**simulated, "tokens_per_s": 5, "output_tokens": 50},
        },
        "models": {
            "chat": {"deployments": [{"provider": "sim", "model": "small", "price": {"input": 0.15, "output": 0.6}}]},
            "talk": {"deployments": [{"provider": "slow", "model": "small", "price": {"input": 0.15, "output": 0.6}}]},
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--streams", type=int, default=500, help="open at once")
    parser.add_argument("--rate", type=float, default=200, help="requests a second beside them")
    parser.add_argument("--seconds", type=float, default=20, help="before the first restart and after the last, together")
    parser.add_argument("--restarts", type=int, default=1)
    arguments = parser.parse_args()
    good = asyncio.run(run(arguments.workers, arguments.streams, arguments.rate, arguments.seconds, arguments.restarts))
    print("nobody was lost" if good else "SOMEBODY WAS LOST")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
