"""What the batch APIs have in common: where things are kept, who asks to go wrong, how long lists and files are read.

Promise: a key or a model that steers is obeyed in every API alike, and live calls have their turn while a file is read.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import ClassVar, Protocol, TypeVar

from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest
from agent_gateway.simulator.batches.faults import BatchFault, steered, steered_batch
from agent_gateway.simulator.batches.jobs import Job, Jobs
from agent_gateway.simulator.batches.shelf import File, Shelf
from agent_gateway.simulator.exchange import Answer, Ask
from agent_gateway.simulator.manners import manners_of

_Kept = TypeVar("_Kept", File, Job)

#: So many lines of a file are read in one go.
_LINES_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Desk:
    jobs: Jobs
    shelf: Shelf
    clock: Clock
    #: Of so many hex digits.
    new_id: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    #: Of the whole path; what its groups hold the handler is given.
    path: re.Pattern[str]
    handler: Callable[..., Awaitable[Answer]]


class BatchApi(Protocol):
    #: In which its errors are told.
    dialect: ClassVar[Dialect]

    routes: Sequence[Route]


def fault_of(ask: Ask, model: str) -> BatchFault | None:
    """What its key, or its model, makes of a batch."""
    return steered_batch(ask.key) or steered(model)[1]


def failure(status: int, dialect: Dialect, wait_s: float = 1) -> Answer:
    """As a live call of the `dialect` fails."""
    manners = manners_of(dialect)
    headers = manners.headers("0", 0, wait_s) if status == 429 else ()
    encoded = [(name.encode(), value.encode()) for name, value in headers if name == "retry-after"]
    return Answer(status, manners.error(status, "0", wait_s), ((b"content-type", b"application/json"), *encoded))


def page(kept: Iterable[_Kept], limit: int, after: str | None) -> tuple[list[_Kept], bool]:
    """What follows the one of that id, and whether there is more. Raises `BadRequest` where there is none."""
    left = iter(kept)
    if after is not None and not any(one.id == after for one in left):
        raise BadRequest(f"{after[:100]!r} is not in this list.", param="after")
    found = list(islice(left, limit + 1))
    return found[:limit], len(found) > limit


def limit_of(ask: Ask, name: str, default: int, most: int) -> int:
    """Raises `BadRequest`."""
    given = ask.query(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= most):
        raise BadRequest(f"{name}: {given[:20]!r} is not a number from 1 to {most}.", param=name)
    return int(given)


async def lines_of(data: bytes) -> AsyncGenerator[tuple[int, bytes], None]:
    """Those that are not blank, with their numbers from 1."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if number % _LINES_AT_ONCE == 0:
            await asyncio.sleep(0)
        if line.strip():
            yield number, line


def rfc3339(wall: float | None) -> str | None:
    """Unix seconds as Anthropic and Google tell times."""
    return None if wall is None else datetime.fromtimestamp(wall, UTC).isoformat().replace("+00:00", "Z")
