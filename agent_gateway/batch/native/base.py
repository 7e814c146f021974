"""What a provider's batch API is asked, whichever it is, and the seat that those who know one sit in.

Promise: a plug-in only asks; what is to become of a batch, and what is remembered of it, is decided in `driver.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeVar

import msgspec

from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import MalformedReply, ProviderError, ProviderTimeout
from agent_gateway.core.plugins import Seat
from agent_gateway.core.route import Deployment
from agent_gateway.upstream.http_provider import HttpProvider
from agent_gateway.upstream.reply import ReadTimeout, Reply

BATCH_APIS = Seat(
    "batch_apis",
    {
        "openai": "agent_gateway.batch.native.openai:OpenAIBatches",
        "anthropic": "agent_gateway.batch.native.anthropic:AnthropicBatches",
        "gemini": "agent_gateway.batch.native.gemini:GeminiBatches",
    },
)

#: An answer that is no file has this long (s), and so many bytes.
ASK_S = 30.0
SAID_MAX_BYTES = 4 * 1024 * 1024
#: To send a part, and to be told that it is there (s).
SEND_S = 300.0
#: Of results: until the next piece comes, and until all of a file has (s); and one line (bytes).
IDLE_S = 60.0
FILE_S = 3_600.0
LINE_MAX_BYTES = 64 * 1024 * 1024

_Said = TypeVar("_Said")


@dataclass(frozen=True, slots=True)
class Job:
    """A part of a batch, as the provider is told of it."""

    #: Ours: letters and digits, found in what the provider lists.
    id: str
    deployment: Deployment
    #: What its requests are written in.
    dialect: Dialect
    #: Of the provider's keys (`HttpProvider.account`).
    account: str
    items: int
    #: When it was sent for the first time (Unix s).
    sent_at: float
    #: The provider's; None: not known.
    upstream: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """`running`: come again later. `ended`: there are results. `failed`: there are none, and nothing was run."""

    state: Literal["running", "ended", "failed"]
    #: Everything was run: what has no result has lost it.
    complete: bool = False
    #: Files at the provider: those that hold results, and those that it keeps because of this batch.
    results: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    #: Why it failed, in the provider's words; and whether that is only because too much waits there already.
    detail: str = ""
    may_pass: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one request. `status` as it would have been for a call by itself; None: it was not run."""

    custom_id: str
    status: int | None
    #: The answer, or the error, in the job's dialect.
    body: bytes = b""


class Unclear(Exception):
    """Whether the job is there cannot be said yet."""


class BatchApi(Protocol):
    """Built for one question or many; keeps nothing. Every method but `line` raises `ProviderError`."""

    #: What a batch of it may hold.
    dialects: ClassVar[frozenset[Dialect]]

    def __init__(self, provider: HttpProvider, clock: Clock) -> None: ...

    def line(self, custom_id: str, body: bytes, dialect: Dialect) -> bytes:
        """One request; `body` is what a call by itself would send."""

    async def create(self, job: Job, lines: Sequence[bytes]) -> str:
        """The provider's name of it."""

    async def find(self, job: Job) -> str | None:
        """Of a job that may have been created or not. Raises `Unclear`."""

    async def look(self, job: Job) -> Progress:
        """`job.upstream` is known, here and below."""

    def outcomes(self, job: Job, progress: Progress) -> AsyncGenerator[Outcome | None, None]:
        """Of a job that has `ended`, in any order, as they come; None for a line that cannot be read."""

    async def cancel(self, job: Job) -> None:
        """It ends soon, with what was run by then."""

    async def discard(self, job: Job, progress: Progress) -> None:
        """Its results are not needed any more."""


class Desk:
    """Asks a provider, and reads what it says."""

    def __init__(self, provider: HttpProvider, clock: Clock) -> None:
        self.provider = provider
        self.root = provider.root.path
        self._clock = clock

    async def told(
        self,
        method: str,
        path: str,
        account: str,
        kind: type[_Said],
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        timeout_s: float = ASK_S,
    ) -> _Said:
        """What it answers, read as `kind`; `path` below the root."""
        headers = {"content-type": "application/json"} if headers is None and body else headers or {}
        return self.read(await self.said(method, self.root + path, account, body, headers=headers, timeout_s=timeout_s), kind)

    async def said(self, method: str, path: str, account: str, body: bytes, *, headers: dict[str, str], timeout_s: float = ASK_S) -> bytes:
        """`path`: whole."""
        until = self._clock.monotonic() + timeout_s
        reply = await self.provider.ask(method, path, account, body=body, headers=headers, until=until)
        try:
            return await reply.read(until, SAID_MAX_BYTES)
        except ReadTimeout:
            raise _slow() from None
        finally:
            reply.close()

    async def reply(self, method: str, path: str, account: str, body: bytes = b"", *, headers: dict[str, str] | None = None) -> Reply:
        """Whose head is what matters; to be closed."""
        return await self.provider.ask(method, path, account, body=body, headers=headers or {}, until=self._clock.monotonic() + ASK_S)

    async def lines(self, path: str, account: str) -> AsyncGenerator[bytes, None]:
        """Of a file, as they come, without the empty ones; `path`: whole."""
        reply = await self.reply("GET", path, account)
        until = self._clock.monotonic() + FILE_S
        pieces: list[bytes] = []
        size = 0
        try:
            while data := await reply.next(min(self._clock.monotonic() + IDLE_S, until)):
                first, *rest = data.split(b"\n")
                pieces.append(first)
                size += len(first)
                for piece in rest:
                    if line := b"".join(pieces).strip():
                        yield line
                    pieces, size = [piece], len(piece)
                if size > LINE_MAX_BYTES:
                    raise MalformedReply("A result of the model provider's batch is over the size limit.", detail=f"over {size} bytes")
            if line := b"".join(pieces).strip():
                yield line
        except ReadTimeout:
            raise _slow() from None
        finally:
            reply.close()

    def read(self, said: bytes, kind: type[_Said]) -> _Said:
        try:
            return msgspec.json.decode(said, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            detail = self.provider.redact(f"{error}: {said[:200].decode('utf-8', 'replace')}")
            raise MalformedReply("The model provider's batch API said something else than it documents.", detail=detail) from None


def is_told(member: msgspec.Raw) -> bool:
    """It is there, and not null."""
    return bytes(member) not in (b"", b"null")


def _slow() -> ProviderError:
    return ProviderTimeout("The model provider did not answer in time.", kind="attempt")
