"""What is remembered of a batch's parts at providers: `StoredBatch.plan`, as JSON; and when it is to be looked at again."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec
from msgspec import Struct

from agent_gateway.stores.batches import StoredBatch

#: `gathering`: items are claimed for it. `held`: they are all its own, and nobody has been told. `sending`: the provider may have been
#: told or not. `waiting`: the provider has it. `stopping`: it was cancelled there.
Stage = Literal["gathering", "held", "sending", "waiting", "stopping"]


class Part(Struct, kw_only=True, omit_defaults=True):
    """Items of one model that go to a provider together; forgotten when all of them have come to something."""

    id: str
    model: str
    #: `provider/model`.
    deployment: str
    #: Unix seconds: from then on it is not waited for any more.
    give_up_at: float
    stage: Stage = "gathering"
    items: int = 0
    #: What they are expected to cost (USD), where a budget is to pay for them.
    estimated_usd: float = 0.0
    account: str = ""
    #: For the first time (Unix s).
    sent_at: float = 0.0
    upstream: str | None = None
    stopping_at: float | None = None
    #: In a row, and since when (Unix s).
    failures: int = 0
    failing_since: float = 0.0
    next_at: float = 0.0

    @property
    def can_stop(self) -> bool:
        """It need not be waited for: nobody has told it to stop, and nothing is in the way of that."""
        return self.stage in ("gathering", "held", "waiting") and not self.failures

    @property
    def is_unsent(self) -> bool:
        """Nobody has been told of it."""
        return self.stage in ("gathering", "held")

    @property
    def holder(self) -> str:
        """Of its items."""
        return f"native:{self.id}"


class Target(Struct, kw_only=True):
    """Where items of a model are to go; until they have been claimed for it."""

    model: str
    deployment: str


class Plan(Struct, kw_only=True, omit_defaults=True):
    targets: list[Target] = []
    parts: list[Part] = []

    def written(self) -> bytes | None:
        return _encoder.encode(self) if self.targets or self.parts else None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Plan)


def plan_of(batch: StoredBatch) -> Plan:
    """A copy of one's own."""
    return Plan() if batch.plan is None else _decoder.decode(batch.plan)


def parts_of(batch: StoredBatch) -> list[Part]:
    return plan_of(batch).parts


def next_at(batch: StoredBatch) -> float:
    """When the parts of a batch that has a plan are to be looked at (Unix s). What is to be stopped is looked at now."""
    assert batch.plan is not None
    targets, parts = _seen(batch.plan)
    if targets or (batch.status == "cancelling" and any(can_stop for can_stop, _ in parts)):
        return 0.0
    return min((at for _, at in parts), default=0.0)


@lru_cache(1_000)
def _seen(plan: bytes) -> tuple[bool, tuple[tuple[bool, float], ...]]:
    """Looked at every second, for every batch."""
    read = _decoder.decode(plan)
    return bool(read.targets), tuple((part.can_stop, part.next_at) for part in read.parts)
