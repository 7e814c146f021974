"""Items of a model are claimed for parts, each as much as goes to a provider at once; what is not claimed is run live.

Promise: a part is noted before anything is claimed for it, so whoever takes over goes on where this one stopped.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from math import inf

import msgspec

from agent_gateway.admission.limits import EXPECTED_OUTPUT_TOKENS
from agent_gateway.batch.native.plan import Part, Plan, Target
from agent_gateway.batch.native.planner import Place, due_at, stop_s
from agent_gateway.batch.native.results import item_call, not_run
from agent_gateway.batch.tenure import Tenure
from agent_gateway.core.clock import Clock
from agent_gateway.core.usage import Usage
from agent_gateway.stores.batches import BatchStore, Claim, ClaimedItem

#: A part is full with so many requests (OpenAI's bound, of inputs to be embedded too), or bytes: it is in memory while it is sent.
PART_REQUESTS = 50_000
PART_BYTES = 16 * 1024 * 1024
#: Items read in one transaction; and those claimed: as many, and then as many as are so large together (bytes).
ITEMS_AT_ONCE = 100
CLAIMED_BYTES = 256 * 1024
CLAIMED_MAX = 1_000
#: Beyond the time in which a part comes to an end at the latest, its items stay its own so long (s), to be taken in.
LEASE_SLACK_S = 120.0


class _Embedded(msgspec.Struct):
    input: list[msgspec.Raw] | str


_embedded = msgspec.json.Decoder(_Embedded)


async def gather(
    store: BatchStore, clock: Clock, tenure: Tenure, plan: Plan, target: Target, place: Place, give_up_at: float, left_usd: float
) -> None:
    """Until none are left, or what they may cost is as much as `left_usd`. The plan is noted as it grows."""
    fill = _Fill(store, clock, tenure, place, left_usd)
    more = left_usd > 0
    while more:
        part = next((part for part in plan.parts if part.stage == "gathering" and part.model == target.model), None)
        if part is None:
            part = Part(id=secrets.token_hex(8), model=target.model, deployment=target.deployment, give_up_at=give_up_at)
            plan.parts.append(part)
            await tenure.change(plan=plan.written())
        more = await fill.fill(part)
        if part.items:
            part.stage = "held"
        else:
            plan.parts.remove(part)
        await tenure.change(plan=plan.written())


async def held(store: BatchStore, batch_id: str, part: Part) -> AsyncIterator[list[ClaimedItem]]:
    """All that are the part's own still, some at a time."""
    after = 0
    while items := await store.held_items(batch_id, part.holder, after=after, limit=ITEMS_AT_ONCE):
        yield list(items)
        after = items[-1].number


class _Fill:
    def __init__(self, store: BatchStore, clock: Clock, tenure: Tenure, place: Place, left_usd: float) -> None:
        self._store = store
        self._clock = clock
        self._tenure = tenure
        self._place = place
        self._left_usd = left_usd

    async def fill(self, part: Part) -> bool:
        """Whether there may be more than it takes."""
        batch = self._tenure.batch
        lease_until = due_at(batch) + stop_s(batch) + LEASE_SLACK_S
        requests = size = 0
        async for items in held(self._store, batch.id, part):  # by another, who is gone
            requests, size = self._counted(part, items, requests, size)
        while requests < PART_REQUESTS and size < PART_BYTES and self._left_usd > 0:
            now, limit = self._clock.wall(), min(self._claimed_at_once(part.items, size), PART_REQUESTS - requests)
            claim = Claim(part.holder, {part.model: limit}, now, lease_until - now, limit, batch=batch.id, early=True)
            found = await self._store.claim_items(claim)
            if not found:
                return False
            requests, size = self._counted(part, found, requests, size)
            if self._left_usd <= 0:
                await self._give_back(part, found)
            await self._tenure.renew()
        return self._left_usd > 0

    @staticmethod
    def _claimed_at_once(items: int, size: int) -> int:
        return min(max(CLAIMED_BYTES * items // size, 1), CLAIMED_MAX) if size else ITEMS_AT_ONCE

    async def _give_back(self, part: Part, found: Sequence[ClaimedItem]) -> None:
        """Of those that were claimed last, what is beyond the budget."""
        beyond: list[ClaimedItem] = []
        for item in reversed(found[1:]):
            if self._left_usd + self._estimated_usd(item) > 0:
                break
            self._expect(part, -self._estimated_usd(item))
            beyond.append(item)
        if beyond:
            await self._store.return_items([not_run(item, attempted=False) for item in beyond])
            part.items -= len(beyond)

    def _counted(self, part: Part, items: Sequence[ClaimedItem], requests: int, size: int) -> tuple[int, int]:
        part.items += len(items)
        for item in items:
            requests += self._requests_of(item)
            size += len(item.body)
            if self._left_usd < inf:
                self._expect(part, self._estimated_usd(item))
        return requests, size

    def _expect(self, part: Part, usd: float) -> None:
        part.estimated_usd += usd
        self._left_usd -= usd

    def _requests_of(self, item: ClaimedItem) -> int:
        if self._place.dialect != "openai_embeddings":
            return 1
        inputs = _embedded.decode(item.body).input
        many = isinstance(inputs, list) and inputs and bytes(inputs[0]).lstrip()[:1] in (b'"', b"[")
        return len(inputs) if many else 1

    def _estimated_usd(self, item: ClaimedItem) -> float:
        """As a live call's reservation estimates it."""
        if self._place.price is None:
            return 0.0
        call = item_call(item)
        return self._place.price.cost_usd(Usage(input=call.estimated_input_tokens, output=call.max_output_tokens or EXPECTED_OUTPUT_TOKENS))
