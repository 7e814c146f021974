"""What is told live goes on as long as it can be known, and ends with whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count

import pytest

from agent_gateway.control import live
from agent_gateway.control.live import LiveFeed

PATIENCE_S = 10.0


async def heard(events: AsyncGenerator[bytes, None], topic: bytes, times: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async for told in events:
            times -= b"event: %b\n" % topic in told
            if times == 0:
                return


async def test_a_topic_whose_store_does_not_answer_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.001)
    numbers, asked, given_up = count(), count(), asyncio.Event()

    async def now() -> int:
        return next(numbers)

    async def batches() -> int:
        next(asked)
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        return 0

    feed = LiveFeed({"now": now}, {"batches": batches}, begin=lambda: None, end=lambda: None, over=lambda: False)
    async with aclosing(feed.listen(["now", "batches"])) as events:
        await heard(events, b"now", times=3)
    async with asyncio.timeout(PATIENCE_S):
        await given_up.wait()
    assert next(asked) == 1, "it is not asked again before it has answered"
