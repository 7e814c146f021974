"""Where processes meet that share something small and quick to change: Redis, or a file of the machine's workers.

Promise: what one exchange changes, it changes in one step; it raises `StoreDown` where that cannot be known to have happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Entries(Protocol):
    """What lies in a file: by the names that an exchange is about, texts by field. What it writes is written at its end."""

    #: In milliseconds, by a clock that all who meet there share.
    now: float

    def of(self, names: Sequence[bytes]) -> list[dict[str, str]]: ...

    def put(self, name: bytes, field: str, value: str, life_ms: float) -> None: ...

    def drop(self, name: bytes, field: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Script(Generic[T]):
    """One kind of exchange, for either place: `lua` is sent its message as msgpack and answers so, `here` does the same in a file."""

    lua: Path
    here: Callable[[Entries, Sequence[bytes], Any], T]
    answer: Any


class Meeting(Protocol[T_co]):
    @property
    def place(self) -> str:
        """As operators are told."""

    async def exchange(self, names: Sequence[bytes], message: Any, *, within_s: float) -> T_co:
        """Raises `StoreDown`, or `TimeoutError`."""

    async def close(self) -> None: ...
