"""What the paths of files and batches have to do with: the batch room, as far as it is handed to the edge, and one request for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs

from agent_gateway.core.errors import BadRequest
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.pieces import taken
from agent_gateway.edge.request import Headers
from agent_gateway.edge.response import HeadLines
from agent_gateway.pipeline import Runtime
from agent_gateway.stores.base import Owner


class Upload(Protocol):
    """A file on its way in: its fields and content in the order in which they come."""

    def field(self, name: str, value: str) -> None: ...

    async def begin(self, filename: str) -> None: ...

    async def write(self, content: bytes) -> None: ...

    async def finish(self) -> Any:
        """The file as it is shown."""

    async def abandon(self) -> None: ...


class Files(Protocol):
    def upload(self, owner: Owner, bytes_max: int) -> Upload: ...

    async def listed(self, owner: Owner, *, limit: int, after: str | None, purpose: str | None) -> Any: ...

    async def find(self, owner: Owner, file_id: str) -> Any:
        """With its `id` and `bytes`."""

    async def delete(self, owner: Owner, file_id: str) -> Any: ...

    def content(self, file_id: str, size: int) -> AsyncGenerator[bytes, None]: ...


class Batches(Protocol):
    async def create(self, owner: Owner, key: Any, body: bytes, check_endpoint: Callable[[str], None]) -> Any: ...

    async def find(self, owner: Owner, batch_id: str) -> Any: ...

    async def listed(self, owner: Owner, *, limit: int, after: str | None) -> Any: ...

    async def cancel(self, owner: Owner | None, batch_id: str) -> Any:
        """Whoever's it is, where `owner` is None."""


class Group(Protocol):
    """Requests that came in one."""

    @property
    def stream(self) -> bool: ...

    def results(self) -> AsyncGenerator[tuple[int, Any], None]:
        """Each with its place among the requests, as they come."""

    def summary(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class BatchRoom:
    files: Files
    batches: Batches
    #: Of a body, the user that is named, the exchange that it came in, and the configuration that it sees.
    group: Callable[[bytes, str, Exchange, Runtime], Group]


class Outlet(Protocol):
    """The way back to the client."""

    async def whole(self, status: int, head: HeadLines, body: bytes) -> None: ...

    async def begin(self, head: HeadLines) -> None:
        """Of an answer that comes in pieces, with status 200."""

    async def write(self, data: bytes) -> None: ...

    async def end(self) -> None: ...

    def give_up(self) -> None: ...


@dataclass(frozen=True, slots=True)
class BatchAsk:
    """One request for the batch room."""

    room: BatchRoom
    owner: Owner
    exchange: Exchange
    runtime: Runtime
    limits: Limits
    headers: Headers
    method: str
    path: str
    query: bytes
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]]
    #: The whole body, held by the exchange.
    body: Callable[[], Awaitable[bytes]]
    outlet: Outlet

    @property
    def id_line(self) -> HeadLines:
        return f"x-request-id: {self.exchange.id}\r\n".encode()

    def asked(self, name: str) -> str | None:
        """Of names given twice the last."""
        return parse_qs(self.query.decode("latin-1")).get(name, [None])[-1]

    def limit(self, default: int, highest: int) -> int:
        """Raises `BadRequest`."""
        limit = self.asked("limit") or str(default)
        if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and 1 <= int(limit) <= highest):
            raise BadRequest(f"limit: expected a whole number from 1 to {highest}.", param="limit")
        return int(limit)

    async def taken(self, writing: Coroutine[Any, Any, None]) -> None:
        """`pieces.taken`."""
        await taken(writing, self.exchange, self.outlet, self.limits)
