"""Whatever becomes of a batch's items in whatever order, every store answers as the one in memory does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import Owner, open_store
from agent_gateway.stores.batches import (
    BatchStore,
    Cause,
    Claim,
    ClaimedItem,
    ItemResult,
    NewItem,
    ReturnedItem,
    StoredBatch,
    batches_of,
)
from tests.stores.stores import fresh_url

LIMIT = 100
_HOLDERS = ["one", "native:two"]
_MOMENTS = st.integers(0, 40)
_MODELS = st.sampled_from("mn")
#: Of an item: model, prefix, when it is due, and which of those before it is its twin.
_ITEMS = st.tuples(_MODELS, st.sampled_from(["", "a", "b"]), st.sampled_from([0.0, 20.0]), st.none() | st.integers(0, 9))
#: Any of what has been claimed so far, whoever holds it now.
_SOME = st.lists(st.integers(0, 20), min_size=1, max_size=4, unique=True)
_COSTS = st.sampled_from([0.0, 0.25, 0.5])
_STEPS = st.one_of(
    st.tuples(st.just("claim"), st.sampled_from(_HOLDERS), _MOMENTS, st.booleans(), st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.just("finish"), _SOME, st.sampled_from(["done", "failed"]), st.sampled_from(get_args(Cause)), _COSTS, _COSTS),
    st.tuples(st.just("return"), _SOME, _MOMENTS, st.booleans(), _COSTS),
    st.tuples(st.just("extend"), _SOME, st.sampled_from(_HOLDERS), _MOMENTS),
    st.tuples(st.just("hasten"), st.none() | _MODELS, _MOMENTS),
    st.tuples(st.just("close"), st.sampled_from(["cancelled", "expired"]), _MOMENTS),
)


class Worked:
    """One store with one batch, and what has been claimed of it."""

    def __init__(self, store: BatchStore, batch: StoredBatch) -> None:
        self._store = store
        self._batch = batch
        self._claimed: list[ClaimedItem] = []

    async def begin(self, items: Sequence[NewItem]) -> None:
        await self._store.create_batch(self._batch)
        await self._store.add_items(self._batch.id, items)

    async def do(self, step: tuple[Any, ...]) -> Any:
        batch_id = self._batch.id
        match step:
            case "claim", holder, now, early, limit, room:
                claim = Claim(holder, {"m": room, "n": 2}, now, 15.0, limit, batch=batch_id, early=early)
                items = list(await self._store.claim_items(claim))
                self._claimed += items
                return items
            case "finish", places, state, cause, cost_usd, single_usd:
                held = [(one.batch, one.number, one.fence) for one in self._some(places)]
                return await self._store.finish_items(
                    [ItemResult(*hold, state, 200, f"r{hold[1]}", b"%d" % hold[2], cost_usd, single_usd, cause) for hold in held]
                )
            case "return", places, due_at, attempted, cost_usd:
                held = [(one.batch, one.number, one.fence) for one in self._some(places)]
                return await self._store.return_items([ReturnedItem(*hold, due_at, attempted, cost_usd) for hold in held])
            case "extend", places, holder, now:
                held = [(one.batch, one.number, one.fence) for one in self._some(places)]
                return await self._store.extend_leases(holder, held, now=now, lease_s=15.0)
            case "hasten", model, now:
                return await self._store.hasten_items(batch_id, model, now=now)
            case "close", state, now:
                return await self._store.close_items(batch_id, state, now=now, limit=LIMIT)
        raise AssertionError(step)

    async def seen(self) -> Any:
        held = [await self._store.held_items(self._batch.id, holder, after=0, limit=LIMIT) for holder in _HOLDERS]
        items = await self._store.read_items(self._batch.id, after=0, limit=LIMIT)
        overseen = await self._store.failed_items(self._batch.id, limit=LIMIT), await self._store.count_held(self._batch.id, now=20.0)
        return await self._store.find_batch(None, self._batch.id), items, held, overseen

    def _some(self, places: Sequence[int]) -> list[ClaimedItem]:
        """Each number once: of several tellings of one item in one call, which one counts is not said."""
        chosen = [self._claimed[place % len(self._claimed)] for place in places] if self._claimed else []
        return list({one.number: one for one in chosen}.values())


def _new_items(drawn: Sequence[tuple[str, str, float, int | None]]) -> list[NewItem]:
    """A twin's twin is the first of them, as it is in a file that is read."""
    items: list[NewItem] = []
    for number, (model, prefix, due_at, place) in enumerate(drawn, 1):
        original = items[place % len(items)] if items and place is not None else None
        twin = None if original is None else original.twin or original.number
        items.append(NewItem(number, f"c{number}", model, b"%d" % number, prefix, due_at, twin))
    return items


async def _agree(store: BatchStore, batch_id: str, items: list[NewItem], steps: list[tuple[Any, ...]]) -> None:
    plain = StoredBatch(batch_id, Owner("key", "ann"), "/v1/embeddings", "file-1", "1h", 0.0, 3600.0)
    batch = replace(plain, status="in_progress", models=("m", "n"), total=len(items))
    one, oracle = Worked(store, batch), Worked(MemoryStore(), batch)
    await one.begin(items)
    await oracle.begin(items)
    for step in steps:
        assert await one.do(step) == await oracle.do(step), step
        assert await one.seen() == await oracle.seen(), step


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_stores_agree(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        store = open_store(runner.run(fresh_url(kind, request.config, tmp_path)))
        numbers = count()

        @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(drawn=st.lists(_ITEMS, min_size=1, max_size=12), steps=st.lists(_STEPS, min_size=1, max_size=15))
        def agree(drawn: list[tuple[str, str, float, int | None]], steps: list[tuple[Any, ...]]) -> None:
            runner.run(_agree(batches_of(store), f"batch {next(numbers)}", _new_items(drawn), steps))

        try:
            agree()
        finally:
            runner.run(store.close())
