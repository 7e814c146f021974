"""How SQL is written once for SQLite and PostgreSQL.

An operation is a generator: it yields statements and is sent their rows. So it never waits itself: SQLite runs all of it in one
hop to a thread, PostgreSQL awaits each statement. What one statement does whole goes by `change`, without a transaction around it.
Values are marked with `?`; both know `RETURNING` and `ON CONFLICT`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")
Row: TypeAlias = Sequence[Any]
Statement: TypeAlias = tuple[str, Sequence[Any]]
Operation: TypeAlias = Generator[Statement, list[Row], T]

#: Values of one statement: databases bound them (SQLite: 32,766).
VALUES_AT_ONCE = 500
#: Different statements kept translated: of each, the lengths that lists come in.
STATEMENTS_MAX = 1_000


class Database(Protocol):
    """Raises `StoreDown`, and `BadRequest` for text that it cannot hold."""

    async def read(self, operation: Operation[T]) -> T:
        """None of its statements writes."""

    async def write(self, operation: Operation[T]) -> T:
        """In one transaction: all of it or, after any error, nothing."""

    async def change(self, text: str, values: Sequence[Any]) -> list[Row]:
        """One statement, in a transaction of its own."""

    async def revision(self) -> str | None:
        """Of its schema (`stores/revision.py`), None where there is none yet. Changes nothing."""

    async def close(self) -> None: ...


def rows(text: str, values: Sequence[Any] = ()) -> Operation[list[Row]]:
    """The operation of a single statement."""
    return (yield text, values)


@lru_cache(STATEMENTS_MAX)
def numbered(text: str) -> str:
    """`?, ?` → `$1, $2`, as PostgreSQL has it: no statement has a question mark elsewhere."""
    first, *rest = text.split("?")
    return first + "".join(f"${number}{piece}" for number, piece in enumerate(rest, 1))


@lru_cache(VALUES_AT_ONCE)
def marks(count: int) -> str:
    return ", ".join("?" * count)
