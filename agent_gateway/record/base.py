"""What a sink promises: records go in at any rate, nothing waits for it, and what it loses it counts.

A sink is one file in `record/sinks`; the recorder hands each of them every record, batch by batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent_gateway.core.plugins import Seat
from agent_gateway.record.row import Record

SINKS = Seat("sinks", {"database": "agent_gateway.record.sinks.database:DatabaseSink"})


class Sink(Protocol):
    """All methods are called on the event loop; those that are not awaited return at once and never raise."""

    #: The label of `records_total`.
    name: str

    @property
    def written(self) -> int:
        """Records that are safe where this sink puts them, each counted once."""

    @property
    def dropped(self) -> int:
        """Records that this sink was given and lost."""

    def start(self) -> None:
        """Called before the first `write`, more than once without harm."""

    def keep(self, retention_days: float) -> None:
        """Records older than this may go."""

    def write(self, records: Sequence[Record]) -> None: ...

    async def erase(self, user: str) -> int:
        """Takes out of all records written so far what this user said, was told and is known by; figures stay. How many there were.

        Raises `StoreDown` when it cannot be done now.
        """

    async def close(self, timeout_s: float) -> None:
        """Everything written is safe when it returns, or `timeout_s` is over. Nothing is written after it."""
