"""What is kept of an answer, under which name, and what whoever keeps it promises."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from msgspec import Struct

from agent_gateway.core.usage import Usage

#: A longer answer is not kept (bytes).
ANSWER_MAX_BYTES = 1024 * 1024


class Place(NamedTuple):
    """Where an answer is kept: both are digests in hex, of the user's name and of all that the answer depends on."""

    user: str
    request: str


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """A whole answer. `body` is what the client got, or would have without guards; of a stream, all its frames."""

    body: bytes
    #: JSON of `protocols.transcript.Answer`, for the records of those who get it again.
    told: bytes | None
    #: Who gave it.
    deployment: str
    usage: Usage | None = None
    cost_usd: float | None = None
    finish_reason: str | None = None
    quality: float | None = None


class Entries(Protocol):
    """One a process. But for `erase`, nothing raises: what cannot be kept or found is counted in `failures`."""

    failures: int

    @property
    def kept_bytes(self) -> int:
        """In this process's memory."""

    def limit(self, bytes_max: int) -> None:
        """Of this process's memory, from now on."""

    async def find(self, place: Place) -> Entry | None: ...

    def keep(self, place: Place, entry: Entry, ttl_s: float) -> asyncio.Task[None] | None:
        """None: it is done."""

    async def erase(self, user: str) -> int:
        """All that is kept of a user, by its digest; how many there were. Raises `StoreDown`."""

    async def close(self, timeout_s: float) -> None: ...
