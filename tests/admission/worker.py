"""One of several processes that share limits: asks as often as it can, and tells what it was let in for.

    python -m tests.admission.worker '{"place": …, "database": …, "limits": {…}}'

Says `ready`, begins when a line comes, and prints the `Told` as JSON when its time is over. Times are the machine's monotonic seconds.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from agent_gateway.admission.lease import LEASE_S
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.errors import RateLimited
from agent_gateway.core.settings import Limits
from agent_gateway.stores.base import open_store
from tests.admission.desk import PATIENCE_S, Desk, spend, wait_long


class Task(msgspec.Struct):
    #: A Redis URL, or a file's path.
    place: str
    database: str
    limits: dict[str, Any]
    callers: int = 20
    for_s: float = 1.2
    #: Goes on beyond that until it was refused, however slow the machine is.
    until_refused: bool = False
    #: A request takes between nothing and twice this.
    takes_s: float = 0.01
    #: Estimated; what is used in the end is between nothing and this.
    tokens: int = 200
    lease_s: float = LEASE_S
    #: Takes what it gets, and never gives it back.
    hold: bool = False


class Told(msgspec.Struct):
    #: From when until when, tokens, USD.
    let_in: list[tuple[float, float, int, float]]
    refused: int
    unshared: int


async def work(task: Task) -> Told:
    wait_long(setattr)
    limits = msgspec.convert(task.limits, Limits)
    place = task.place if "://" in task.place else Path(task.place)
    desk = Desk(open_store(task.database), SYSTEM_CLOCK, place, task.lease_s)
    await desk.limiter.start()
    print("ready", flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.readline)
    told = Told([], 0, 0)
    until = time.monotonic() + task.for_s
    await asyncio.gather(*(_call(desk, limits, task, told, until) for _ in range(task.callers)))
    if task.hold:
        print("holding", flush=True)  # noqa: T201
        await asyncio.Event().wait()
    await desk.limiter.close(5)
    told.unshared = desk.limiter.unshared
    return told


async def _call(desk: Desk, limits: Limits, task: Task, told: Told, until: float) -> None:
    while (now := time.monotonic()) < until or (task.until_refused and not told.refused and now < until + PATIENCE_S):
        try:
            reservation = await desk.ask(limits, tokens=task.tokens)
        except RateLimited:
            told.refused += 1
            await asyncio.sleep(random.uniform(0.001, 0.01))
            continue
        if task.hold:
            return
        began = time.monotonic()
        await asyncio.sleep(random.uniform(0, 2 * task.takes_s))
        tokens, cost_usd = random.randint(0, task.tokens), random.uniform(0, 0.25)
        told.let_in.append((began, time.monotonic(), tokens, cost_usd))
        spend(reservation, tokens, cost_usd)


if __name__ == "__main__":
    print(msgspec.json.encode(asyncio.run(work(msgspec.json.decode(sys.argv[1], type=Task)))).decode())  # noqa: T201
