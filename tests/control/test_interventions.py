"""A gateway that starts follows what operators decided before it takes its first request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
import pytest

from agent_gateway.control import interventions
from agent_gateway.control.interventions import Intervention, Interventions
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.health.registry import Health
from agent_gateway.stores.backends.memory import MemoryStore

DRAINED = msgspec.json.encode(Intervention(mode="drain", until=None, by="ann", reason="it is slow"))


class Slow(MemoryStore):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def list_values(self, kind: str, now: float) -> dict[str, bytes]:
        await self.answers.wait()
        return {"scripted/first": DRAINED}


async def test_what_was_decided_before_is_in_force_from_the_start() -> None:
    store, health = Slow(), Health()
    followed = Interventions(store, health, SYSTEM_CLOCK)
    starting = asyncio.create_task(followed.start())
    await asyncio.sleep(0)
    assert not starting.done()
    store.answers.set()
    await starting
    assert health.interventions == {"scripted/first": "drain"}
    await followed.close()


async def test_a_look_that_began_before_a_decision_does_not_undo_it() -> None:
    store, health = MemoryStore(), Health()
    followed, look, go_on = Interventions(store, health, SYSTEM_CLOCK), store.list_values, asyncio.Event()

    async def late(kind: str, now: float) -> Mapping[str, bytes]:
        found = await look(kind, now)
        await go_on.wait()
        return found

    store.list_values = late  # type: ignore[method-assign]
    looking = asyncio.create_task(followed.refresh())
    await asyncio.sleep(0)
    store.list_values = look  # type: ignore[method-assign]
    await followed.put("scripted/first", Intervention(mode="drain", until=None, by="ann", reason="it is slow"))
    go_on.set()
    await looking
    assert health.interventions == {"scripted/first": "drain"}


async def test_a_store_that_does_not_answer_keeps_no_gateway_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interventions, "START_MAX_S", 0.01)
    followed = Interventions(Slow(), Health(), SYSTEM_CLOCK)
    await followed.start()
    await followed.close()
