"""The workers of one gateway, as one of them sees the others: what only one process knows is asked of all.

Promise: nobody waits for a worker that does not answer longer than it says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

#: For an answer of another worker (s).
ANSWER_S = 1.0

#: Takes the body of what is asked, gives the body of the answer.
Answer = Callable[[bytes], Awaitable[bytes]]


class Told(NamedTuple):
    #: Of the worker that was asked.
    worker: int
    #: None: it did not answer.
    body: bytes | None


class NoAnswer(Exception):
    """The worker is gone, does not answer in time, or cannot tell."""


class Refusal(NoAnswer):
    """It has answered, and cannot tell."""


class Silence(NoAnswer):
    """It is there as far as anyone knows, and has not answered in time."""


class Siblings(Protocol):
    """`topic` names what is asked; both sides have agreed on the bodies."""

    def answer(self, topic: str, answer: Answer) -> None:
        """From now on, what others ask of this worker under that topic is answered so."""

    async def gather(self, topic: str, body: bytes = b"", timeout_s: float = ANSWER_S, *, staying: bool = False) -> list[Told]:
        """Of all other workers; `staying`: of those that are not about to go. Raises `StoreDown` where they cannot be asked."""

    async def ask(self, worker: int, topic: str, body: bytes = b"", timeout_s: float = ANSWER_S) -> bytes:
        """Of one. Raises `NoAnswer`."""


class Alone:
    """`Siblings` of a gateway of one process."""

    def answer(self, topic: str, answer: Answer) -> None:
        return None

    async def gather(self, topic: str, body: bytes = b"", timeout_s: float = ANSWER_S, *, staying: bool = False) -> list[Told]:
        return []

    async def ask(self, worker: int, topic: str, body: bytes = b"", timeout_s: float = ANSWER_S) -> bytes:
        raise NoAnswer(f"there is no worker {worker}")


ALONE = Alone()
