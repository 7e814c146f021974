"""The end of a part: what the provider says of each request becomes its result, and what it says nothing of is given back.

Promise: done again after a crash, it goes on with what is not settled yet; of a request that is told twice the first telling counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from agent_gateway.admission.keys import KeyRing
from agent_gateway.batch.figures import BatchFigures
from agent_gateway.batch.identity import key_of
from agent_gateway.batch.native.base import Job, Outcome, Progress
from agent_gateway.batch.native.gathering import held
from agent_gateway.batch.native.plan import Part
from agent_gateway.batch.native.planner import Place
from agent_gateway.batch.native.results import Buyer, not_run, record, settled
from agent_gateway.batch.tenure import Tenure
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import Unauthenticated
from agent_gateway.core.exchange import Exchange
from agent_gateway.pipeline import Live
from agent_gateway.stores.batches import BatchStore, ItemResult, ReturnedItem, StoredBatch

#: Results settled in one transaction: so many, or bytes.
TAKEN_AT_ONCE = 100
TAKEN_BYTES_AT_ONCE = 4 * 1024 * 1024
#: After so many others get their turn on the event loop (one takes some 100 µs).
READ_AT_ONCE = 10

_log = logging.getLogger("agent_gateway.batch")


class TakingIn:
    def __init__(self, store: BatchStore, live: Live, keys: KeyRing, figures: BatchFigures, clock: Clock) -> None:
        self._store = store
        self._live = live
        self._keys = keys
        self._figures = figures
        self._clock = clock

    async def take_in(self, tenure: Tenure, part: Part, place: Place, job: Job, progress: Progress) -> None:
        """Nothing is the part's own afterwards. Raises `ProviderError` and `Overtaken`."""
        buyer = await self._buyer(tenure.batch)
        strange = 0
        async with aclosing(place.api.outcomes(job, progress)) as outcomes:
            while group := await tenure.during(_some(outcomes)):
                ours, others = _numbered(group, part)
                strange += others
                if ours:
                    await self._settle(tenure.batch, part, place, buyer, ours)
                await tenure.renew()
        # Where all was run, or lines could not be read, what has no result may have been run.
        lost = progress.complete or strange > 0
        missing = await self.release(tenure, part, lost=lost)
        if strange or missing:
            _log.warning(
                "%s: of a batch of %d requests it has told nothing of %d, and %d results cannot be read or are not of it; those requests "
                "are run live",
                *(part.deployment, part.items, missing, strange),
            )

    async def release(self, tenure: Tenure, part: Part, *, attempted: bool = True, lost: bool = False) -> int:
        """What is its own still is run live; how many those were."""
        released = 0
        async for items in held(self._store, tenure.batch.id, part):
            await self._store.return_items([not_run(item, attempted=attempted, lost=lost) for item in items])
            released += len(items)
            await tenure.renew()
        return released

    async def _settle(self, batch: StoredBatch, part: Part, place: Place, buyer: Buyer, outcomes: dict[int, Outcome]) -> None:
        """What was heard is recorded, and paid for: neither what another has settled meanwhile, nor twice what is settled again."""
        runtime = self._live.runtime
        items = await self._store.held_items(batch.id, part.holder, limit=len(outcomes), among=outcomes.keys())
        finished: list[tuple[ItemResult, Exchange]] = []
        returned: list[tuple[ReturnedItem, Exchange | None]] = []
        for count, item in enumerate(items):
            if count % READ_AT_ONCE == 0:
                await asyncio.sleep(0)
            outcome = outcomes[item.number]
            if outcome.status is None:
                returned.append((not_run(item), None))
                continue
            match settled(item, outcome, part, place, buyer, runtime):
                case (ItemResult() as result, exchange):
                    finished.append((result, exchange))
                case (ReturnedItem() as again, exchange):
                    returned.append((again, exchange))
        if finished:
            accepted = await self._store.finish_items([result for result, _ in finished])
            for result, exchange in finished:
                if ended := accepted.get((result.batch, result.number)):
                    self._figures.items[result.state] += ended
                    record(exchange, place, buyer, runtime)
        if returned:
            await self._store.return_items([again for again, _ in returned])
            for _, failed in returned:
                if failed is not None:
                    record(failed, place, buyer, runtime)

    async def _buyer(self, batch: StoredBatch) -> Buyer:
        """What was bought is delivered, though its key may be gone by now."""
        try:
            return Buyer(await key_of(self._keys, batch.owner.key, batch.key), charged=True)
        except Unauthenticated:
            return Buyer(None, charged=False)


async def _some(outcomes: AsyncGenerator[Outcome | None, None]) -> list[Outcome | None]:
    """The next ones; none at the end."""
    group: list[Outcome | None] = []
    size = 0
    async for outcome in outcomes:
        group.append(outcome)
        size += len(outcome.body) if outcome is not None else 0
        if len(group) >= TAKEN_AT_ONCE or size >= TAKEN_BYTES_AT_ONCE:
            break
    return group


def _numbered(group: list[Outcome | None], part: Part) -> tuple[dict[int, Outcome], int]:
    """By the numbers of their items; and how many are none of the part's, or cannot be read."""
    ours: dict[int, Outcome] = {}
    for outcome in group:
        if outcome is None:
            continue
        name, _, number = outcome.custom_id.rpartition("-")
        if name == part.id and number.isdecimal() and number.isascii():
            ours.setdefault(int(number), outcome)
    strange = sum(outcome is None or not outcome.custom_id.startswith(f"{part.id}-") for outcome in group)
    return ours, strange
