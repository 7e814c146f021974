"""A worker takes up one configuration after the other, as they were told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from agent_gateway.control.source import Source
from agent_gateway.record.family import Family
from agent_gateway.workers import messages
from agent_gateway.workers.member import Member


class Worker:
    """Takes as long for the first as it is let."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.has: str | None = None
        self.go_on = asyncio.Event()

    def figures(self) -> Sequence[Family]:
        return ()

    async def take_up(self, source: Source, *, is_first: bool) -> list[str]:
        self.begun.append(source.file or "")
        if source.file == "first":
            await self.go_on.wait()
        self.has = source.file
        return []

    def retire(self) -> None: ...


async def test_the_last_configuration_that_it_was_told_of_is_the_one_that_it_has() -> None:
    here, there = socket.socketpair()
    with here, there:
        worker, member = Worker(), Member(here)
        member.stand_for(worker)
        told = [
            asyncio.create_task(member._answer(messages.RELOAD, messages.pack(messages.Reload(Source(name, ""), is_first=False))))
            for name in ("first", "second")
        ]
        for _ in range(5):
            await asyncio.sleep(0)
        assert worker.begun == ["first"]
        worker.go_on.set()
        assert [messages.errors.decode(each) for each in await asyncio.gather(*told)] == [[], []]
        assert worker.has == "second"
