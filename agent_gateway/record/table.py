"""What the writer of records asks of the database that they lie in, whichever it is, and what whoever reads them back asks of it.

Promise of a table: a batch is in it whole or not at all, with what it adds to the figures; a request is in it once, ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from agent_gateway.core.errors import Overloaded, StoreDown
from agent_gateway.record.row import Record
from agent_gateway.stores.operation import Operation, T

#: Questions answered at once, and those that may wait for it; any more are turned away.
READERS = 2
WAITING_MAX = 16
#: Of one question (s): what takes longer is given up.
READ_TIMEOUT_S = 5.0


class Reader(Protocol):
    """Of any task of the event loop. Raises `StoreDown` and `Overloaded`."""

    async def rows(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """`?` stands for a value. Empty where no record was ever written."""

    async def close(self) -> None: ...


class RecordTable(Protocol):
    """Its methods are called in the writer's thread, and opened is what they need when first they need it."""

    #: What they raise when the database cannot be written at the moment, and for a value that it can never hold.
    down: tuple[type[Exception], ...]
    unwritable: tuple[type[Exception], ...]
    #: Locks a row that a statement of `change` reads.
    row_lock: str

    def insert(self, records: Sequence[Record]) -> int:
        """How many were new."""

    def sweep(self, records_before_ms: int, figures_before_ms: int, limit: int) -> bool:
        """Deletes what began before, the oldest first and of single records at most `limit`, so that the writer is not held up.
        Whether there may be more.
        """

    def change(self, operation: Operation[T]) -> T:
        """In one transaction (record/changes.py)."""

    def finish_erasing(self) -> None:
        """What was erased is nowhere in the database's files any more, as far as it lets us."""

    def set_aside_if_corrupt(self, error: BaseException) -> Path | None:
        """Where what is damaged beyond use lies now, so that a new table can be begun; None: it is not damaged."""

    def open_reader(self) -> Reader: ...

    def close(self) -> None: ...


def too_many() -> Overloaded:
    return Overloaded("Too many questions about records are being answered. Try again.", retry_after_s=1)


def took_too_long() -> Overloaded:
    return Overloaded("The search took too long and was given up; ask for a shorter time, or narrow it down.")


def unreadable(error: BaseException) -> StoreDown:
    return StoreDown("The records cannot be read at the moment.", detail=str(error) or repr(error))
