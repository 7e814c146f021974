"""OpenAI's batches, as it and those who speak its API have them: a file of requests, and files of answers and of errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import ClassVar
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from agent_gateway.batch.native.base import SEND_S, Desk, Job, Outcome, Progress
from agent_gateway.core.call import MODEL_PATHS, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import ProviderError
from agent_gateway.upstream.http_provider import HttpProvider

#: The member of the batch's metadata that has our name of it.
NAME = "agent_gateway_part"
#: A file that nothing came of goes by itself after so long (s); no batch takes longer.
FILE_TTL_S = 3 * 86_400
#: Batches looked through for ours: in pages of so many, back to this long before it was sent (s; clocks differ).
PAGE = 100
CLOCK_SLACK_S = 600.0

_json = msgspec.json.Encoder()


class _File(Struct):
    id: str


class _Error(Struct):
    code: str | None = None
    message: str | None = None


class _Errors(Struct):
    data: list[_Error] | None = None


class _Batch(Struct):
    id: str
    status: str
    created_at: float = 0.0
    metadata: dict[str, str] | None = None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: _Errors | None = None


class _Page(Struct):
    data: list[_Batch]
    has_more: bool = False


class _Response(Struct):
    status_code: int
    body: Raw


class _LineError(Struct):
    code: str | None = None


class _Line(Struct):
    custom_id: str
    response: _Response | None = None
    error: _LineError | None = None


_line = msgspec.json.Decoder(_Line)


#: Of a batch that failed because an organization's tokens that wait for batches are as many as it may have.
TOO_MUCH_WAITS = "token_limit_exceeded"


class OpenAIBatches:
    dialects: ClassVar[frozenset[Dialect]] = frozenset({"openai_chat", "openai_completions", "openai_embeddings", "openai_responses"})

    def __init__(self, provider: HttpProvider, clock: Clock) -> None:
        self._desk = Desk(provider, clock)

    def line(self, custom_id: str, body: bytes, dialect: Dialect) -> bytes:
        return _json.encode({"custom_id": custom_id, "method": "POST", "url": MODEL_PATHS[dialect], "body": Raw(body)})

    async def create(self, job: Job, lines: Sequence[bytes]) -> str:
        content_type, form = _upload(job.id, lines)
        file = await self._desk.told("POST", "/files", job.account, _File, form, headers={"content-type": content_type}, timeout_s=SEND_S)
        asked = {
            "input_file_id": file.id,
            "endpoint": MODEL_PATHS[job.dialect],
            "completion_window": "24h",
            "metadata": {NAME: job.id},
        }
        return (await self._desk.told("POST", "/batches", job.account, _Batch, _json.encode(asked))).id

    async def find(self, job: Job) -> str | None:
        after = ""
        while True:
            page = await self._desk.told("GET", f"/batches?limit={PAGE}{after}", job.account, _Page)
            for batch in page.data:
                if (batch.metadata or {}).get(NAME) == job.id:
                    return batch.id
            if not page.has_more or not page.data or page.data[-1].created_at < job.sent_at - CLOCK_SLACK_S:
                return None
            after = f"&after={quote(page.data[-1].id, safe='')}"

    async def look(self, job: Job) -> Progress:
        batch = await self._desk.told("GET", self._path(job), job.account, _Batch)
        results = tuple(file for file in (batch.output_file_id, batch.error_file_id) if file)
        files = (*results, batch.input_file_id) if batch.input_file_id else results
        match batch.status:
            case "completed":
                return Progress("ended", complete=True, results=results, files=files)
            case "expired" | "cancelled":
                return Progress("ended", results=results, files=files)
            case "failed":
                errors = (batch.errors and batch.errors.data) or []
                said = "; ".join([error.message or "" for error in errors[:3]])
                may_pass = bool(errors) and all(error.code == TOO_MUCH_WAITS for error in errors)
                return Progress("failed", files=files, detail=said, may_pass=may_pass)
            case _:
                return Progress("running")

    async def outcomes(self, job: Job, progress: Progress) -> AsyncGenerator[Outcome | None, None]:
        for file in progress.results:
            lines = self._desk.lines(f"{self._desk.root}/files/{quote(file, safe='')}/content", job.account)
            try:
                async for line in lines:
                    yield _outcome(line)
            finally:
                await lines.aclose()

    async def cancel(self, job: Job) -> None:
        await self._desk.told("POST", f"{self._path(job)}/cancel", job.account, Raw)

    async def discard(self, job: Job, progress: Progress) -> None:
        for file in progress.files:
            with suppress(ProviderError):
                await self._desk.told("DELETE", f"/files/{quote(file, safe='')}", job.account, Raw)

    @staticmethod
    def _path(job: Job) -> str:
        assert job.upstream is not None
        return f"/batches/{quote(job.upstream, safe='')}"


def _outcome(line: bytes) -> Outcome | None:
    try:
        read = _line.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    # `error` alone: `batch_expired`, `batch_cancelled` and their likes.
    return (
        Outcome(read.custom_id, None)
        if read.response is None
        else Outcome(read.custom_id, read.response.status_code, bytes(read.response.body))
    )


def _upload(name: str, lines: Sequence[bytes]) -> tuple[str, bytes]:
    """A `multipart/form-data` (RFC 7578), and its content type. JSON on one line holds no boundary that begins a line."""
    boundary = f"part-{name}"
    fields = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": str(FILE_TTL_S)}
    opening = "".join(
        f'--{boundary}\r\ncontent-disposition: form-data; name="{field}"\r\n\r\n{value}\r\n' for field, value in fields.items()
    )
    opening += (
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{name}.jsonl"\r\ncontent-type: application/jsonl\r\n\r\n'
    )
    return f"multipart/form-data; boundary={boundary}", b"".join(
        [opening.encode("ascii"), b"\n".join(lines), f"\n\r\n--{boundary}--\r\n".encode("ascii")]
    )
