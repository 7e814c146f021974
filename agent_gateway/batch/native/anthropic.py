"""Anthropic's Message Batches: the requests in one call, the results as lines. A batch has no name of ours but in its requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import ClassVar
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from agent_gateway.batch.native.base import SEND_S, Desk, Job, Outcome, Progress, Unclear, is_told
from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import ProviderError
from agent_gateway.upstream.http_provider import HttpProvider

#: Batches looked through for ours: in pages of so many, back to this long before it was sent (s; clocks differ).
PAGE = 100
CLOCK_SLACK_S = 600.0
#: The status that a call by itself would have had, by the error's type; any other is the provider's fault.
#: Source: https://platform.claude.com/docs/en/api/errors
STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}

_NOTHING = Raw()
_json = msgspec.json.Encoder()


class _Counts(Struct):
    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


class _Batch(Struct):
    id: str
    processing_status: str
    created_at: datetime
    request_counts: _Counts = msgspec.field(default_factory=_Counts)


class _Page(Struct):
    data: list[_Batch]
    has_more: bool = False
    last_id: str | None = None


class _Error(Struct):
    type: str | None = None


class _ErrorBody(Struct):
    error: _Error


class _Result(Struct):
    type: str
    message: Raw = _NOTHING
    error: Raw = _NOTHING


class _Line(Struct):
    custom_id: str
    result: _Result


_line = msgspec.json.Decoder(_Line)
_error = msgspec.json.Decoder(_ErrorBody)


class AnthropicBatches:
    dialects: ClassVar[frozenset[Dialect]] = frozenset({"anthropic"})

    def __init__(self, provider: HttpProvider, clock: Clock) -> None:
        self._desk = Desk(provider, clock)

    def line(self, custom_id: str, body: bytes, dialect: Dialect) -> bytes:
        return _json.encode({"custom_id": custom_id, "params": Raw(body)})

    async def create(self, job: Job, lines: Sequence[bytes]) -> str:
        body = b"".join([b'{"requests":[', b",".join(lines), b"]}"])
        return (await self._desk.told("POST", "/messages/batches", job.account, _Batch, body, timeout_s=SEND_S)).id

    async def find(self, job: Job) -> str | None:
        """By the first request of those that may be it: of so many requests, and not older. Of one that runs, none can be seen."""
        unclear = False
        after = ""
        while True:
            page = await self._desk.told("GET", f"/messages/batches?limit={PAGE}{after}", job.account, _Page)
            for batch in page.data:
                if batch.created_at.timestamp() < job.sent_at - CLOCK_SLACK_S:
                    break
                if batch.request_counts.total != job.items:
                    continue
                if batch.processing_status != "ended":
                    unclear = True
                elif await self._is_of(job, batch.id):
                    return batch.id
            else:
                if page.has_more and page.last_id:
                    after = f"&after_id={quote(page.last_id, safe='')}"
                    continue
            if unclear:
                raise Unclear
            return None

    async def _is_of(self, job: Job, upstream: str) -> bool:
        lines = self._desk.lines(f"{self._desk.root}/messages/batches/{quote(upstream, safe='')}/results", job.account)
        try:
            async for line in lines:
                outcome = _outcome(line)
                return outcome is not None and outcome.custom_id.startswith(f"{job.id}-")
        finally:
            await lines.aclose()
        return False

    async def look(self, job: Job) -> Progress:
        batch = await self._desk.told("GET", self._path(job), job.account, _Batch)
        if batch.processing_status != "ended":
            return Progress("running")
        counts = batch.request_counts
        return Progress("ended", complete=not (counts.canceled or counts.expired), results=(batch.id,))

    async def outcomes(self, job: Job, progress: Progress) -> AsyncGenerator[Outcome | None, None]:
        lines = self._desk.lines(f"{self._desk.root}{self._path(job)}/results", job.account)
        try:
            async for line in lines:
                yield _outcome(line)
        finally:
            await lines.aclose()

    async def cancel(self, job: Job) -> None:
        await self._desk.told("POST", f"{self._path(job)}/cancel", job.account, Raw)

    async def discard(self, job: Job, progress: Progress) -> None:
        with suppress(ProviderError):
            await self._desk.told("DELETE", self._path(job), job.account, Raw)

    @staticmethod
    def _path(job: Job) -> str:
        assert job.upstream is not None
        return f"/messages/batches/{quote(job.upstream, safe='')}"


def _outcome(line: bytes) -> Outcome | None:
    try:
        read = _line.decode(line)
        match read.result:
            case _Result(type="succeeded", message=message) if is_told(message):
                return Outcome(read.custom_id, 200, bytes(message))
            case _Result(type="errored", error=error) if is_told(error):
                said = _error.decode(error).error.type or ""
                return Outcome(read.custom_id, STATUS.get(said, 500), bytes(error))
            case _:  # canceled, expired
                return Outcome(read.custom_id, None)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
