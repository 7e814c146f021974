"""What has expired is deleted in small batches."""

from __future__ import annotations

import asyncio

import pytest

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import StoreDown
from agent_gateway.session.sweeper import BATCH_MAX, SWEEP_EVERY_S, Sweeper
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import Owner, StoredTurn, Swept

TURN = StoredTurn("openai_chat", b"{}")


class Watched(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.is_down = False

    async def sweep(self, now: float, limit: int) -> Swept:
        if self.is_down:
            raise StoreDown("down")
        swept = await super().sweep(now, limit)
        self.batches.append(swept.sessions)
        return swept


async def test_many_are_deleted_in_small_batches_and_those_that_live_are_counted() -> None:
    store, naps = Watched(), []
    for n in range(3 * BATCH_MAX - 1):
        await store.append(Owner(), f"s{n}", [TURN], expected_version=0, now=0, ttl_s=10)
    await store.append(Owner(), "alive", [TURN], expected_version=0, now=0, ttl_s=100)

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    sweeper = Sweeper(store, Clock(wall=lambda: 50.0), sleep=nap)
    await sweeper.sweep()
    assert store.batches == [BATCH_MAX, BATCH_MAX, BATCH_MAX - 1]
    assert len(naps) == 2
    assert (sweeper.active, sweeper.expired) == (1, 3 * BATCH_MAX - 1)


async def test_a_store_that_is_down_is_swept_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    store = Watched()
    await store.append(Owner(), "s", [TURN], expected_version=0, now=0, ttl_s=10)
    store.is_down = True
    turns: asyncio.Queue[float] = asyncio.Queue()
    go_on = asyncio.Semaphore(0)

    async def nap(seconds: float) -> None:
        turns.put_nowait(seconds)
        await go_on.acquire()

    sweeper = Sweeper(store, Clock(wall=lambda: 50.0), sleep=nap)
    sweeper.start()
    assert await turns.get() == SWEEP_EVERY_S
    go_on.release()
    await turns.get()
    assert "not swept: down" in caplog.text
    store.is_down = False
    go_on.release()
    await turns.get()
    assert sweeper.expired == 1
    await sweeper.close()
