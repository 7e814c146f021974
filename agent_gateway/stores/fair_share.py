"""Whose items are claimed next: pure, and the same for every store.

Promise: while several owners wait, the one with the fewest items running comes first, and none gets more than its share of what is free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import Claim, StoredBatch


class FairShares:
    """Iterate: of which batch and model how many items are wanted; say `got` how many there were before the next."""

    def __init__(self, batches: Iterable[StoredBatch], held: Mapping[str, int], claim: Claim) -> None:
        """`batches`: in progress, oldest first; `held`: of each batch the items that somebody holds."""
        self._waiting: dict[Owner, list[StoredBatch]] = {}
        self._running: dict[Owner, int] = {}
        self._room = dict(claim.room)
        self._left = claim.limit
        self._got = 0
        for batch in batches:
            running = held.get(batch.id, 0)
            self._running[batch.owner] = self._running.get(batch.owner, 0) + running
            if batch.unfinished > running and batch.id not in claim.without:
                self._waiting.setdefault(batch.owner, []).append(batch)

    def got(self, count: int) -> None:
        self._got = count

    def __iter__(self) -> Iterator[tuple[StoredBatch, str, int]]:
        owners = sorted(self._waiting, key=lambda owner: self._running[owner])
        models = {owner: {model for batch in self._waiting[owner] for model in batch.models} for owner in owners}
        wanting = Counter(model for owner in owners for model in models[owner])
        for place, owner in enumerate(owners):
            share = -(-self._left // (len(owners) - place))
            of_model = {model: -(-self._room.get(model, 0) // wanting[model]) for model in models[owner]}
            wanting.subtract(models[owner])
            for batch in self._waiting[owner]:
                for model in batch.models:
                    wanted = min(share, of_model[model])
                    if wanted > 0:
                        self._got = 0
                        yield batch, model, wanted
                        share -= self._got
                        of_model[model] -= self._got
                        self._left -= self._got
                        self._room[model] -= self._got
