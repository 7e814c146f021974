"""Clients that ask all the time, whatever happens to the gateway, and remember every answer they got."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.kit.client import connect

#: After a connection that failed (s).
_PAUSE_S = 0.05
_DONE = b"data: [DONE]\n\n"


class Load:
    """`rate`: requests a second of all clients together; None: each asks again as soon as it has its answer."""

    def __init__(self, url: str, request: bytes, *, clients: int, rate: float | None) -> None:
        self.statuses: Counter[int] = Counter()
        #: Of every whole answer.
        self.ids: list[str] = []
        #: Streams that ended, but with no `[DONE]`.
        self.unfinished = 0
        #: Connections that failed, or were closed where an answer was due.
        self.cut = 0
        self._url = url
        self._request = request
        self._clients = clients
        self._every_s = 0.0 if rate is None else clients / rate

    @property
    def failed(self) -> int:
        return self.cut + self.unfinished + sum(count for status, count in self.statuses.items() if status != 200)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """From here to the end; what is under way then is waited for."""
        self._stopping = asyncio.Event()
        tasks = [asyncio.create_task(self._client(number / self._clients)) for number in range(self._clients)]
        try:
            yield self
        finally:
            self._stopping.set()
            await asyncio.gather(*tasks)

    async def _client(self, place: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + place * self._every_s
        while not self._stopping.is_set():
            try:
                async with connect(self._url) as wire:
                    while not self._stopping.is_set():
                        await asyncio.sleep(max(at - loop.time(), 0.0))
                        at = max(at + self._every_s, loop.time() - 1.0)  # what a second's standstill left out is not made up for
                        await wire.send(self._request)
                        reply = await wire.reply()
                        if not reply.complete:
                            raise ConnectionResetError
                        self.statuses[reply.status] += 1
                        if reply.headers.get("content-type", "").startswith("text/event-stream"):
                            self.unfinished += not reply.body.endswith(_DONE)
                        self.ids.append(reply.headers["x-request-id"])
                        if reply.headers.get("connection") == "close":
                            break
            except (OSError, EOFError, TimeoutError):
                self.cut += 1
                await asyncio.sleep(_PAUSE_S)


def complete_ratio(answered: Sequence[str], recorded: Sequence[str]) -> float:
    """Of those who were answered, for whom there is a record; nobody may have two."""
    assert len(recorded) == len(set(recorded)), "a request has two records"
    return len(set(answered) & set(recorded)) / len(answered)
