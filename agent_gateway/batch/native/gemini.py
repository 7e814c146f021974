"""Gemini's batches: a file of requests by the resumable upload, an operation that runs, and a file of responses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import ClassVar
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Raw, Struct, field

from agent_gateway.batch.native.base import SEND_S, Desk, Job, Outcome, Progress, Unclear, is_told
from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import MalformedReply, ProviderError
from agent_gateway.upstream.http_provider import HttpProvider

#: Batches looked through for ours, in no order that is documented: so many pages of so many.
PAGE = 100
PAGES_MAX = 100
#: The status of a call by itself, by the code of google.rpc.Code; any other is the provider's fault.
#: Source: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
STATUS = {3: 400, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 14: 503, 16: 401}

_NOTHING = Raw()
_json = msgspec.json.Encoder()


class _File(Struct):
    name: str


class _Uploaded(Struct):
    file: _File


class _Output(Struct, rename="camel"):
    responses_file: str | None = None


class _InputConfig(Struct, rename="camel"):
    file_name: str | None = None


class _Metadata(Struct, rename="camel"):
    display_name: str = ""
    state: str = ""
    input_config: _InputConfig = field(default_factory=_InputConfig)
    output: _Output = field(default_factory=_Output)


class _Error(Struct):
    code: int = 0
    message: str = ""


class _Operation(Struct):
    #: `batches/…`
    name: str
    metadata: _Metadata = field(default_factory=_Metadata)
    done: bool = False
    error: _Error | None = None
    response: _Output | None = None


class _Page(Struct, rename="camel"):
    operations: list[_Operation] = []
    next_page_token: str | None = None


class _Line(Struct):
    key: str
    response: Raw = _NOTHING
    error: Raw = _NOTHING


_line = msgspec.json.Decoder(_Line)
_error = msgspec.json.Decoder(_Error)


class GeminiBatches:
    dialects: ClassVar[frozenset[Dialect]] = frozenset({"gemini"})

    def __init__(self, provider: HttpProvider, clock: Clock) -> None:
        self._desk = Desk(provider, clock)

    def line(self, custom_id: str, body: bytes, dialect: Dialect) -> bytes:
        return _json.encode({"key": custom_id, "request": Raw(body)})

    async def create(self, job: Job, lines: Sequence[bytes]) -> str:
        file = await self._upload(job, b"\n".join(lines))
        model = quote(job.deployment.model.removeprefix("models/"), safe="")
        asked = {"batch": {"displayName": job.id, "inputConfig": {"fileName": file}}}
        path = f"/models/{model}:batchGenerateContent"
        return (await self._desk.told("POST", path, job.account, _Operation, _json.encode(asked))).name

    async def _upload(self, job: Job, content: bytes) -> str:
        start = {
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(len(content)),
            "x-goog-upload-header-content-type": "application/jsonl",
            "content-type": "application/json",
        }
        about = _json.encode({"file": {"displayName": job.id, "mimeType": "application/jsonl"}})
        reply = await self._desk.reply("POST", f"/upload{self._desk.root}/files", job.account, about, headers=start)
        where = urlsplit(reply.headers.get(b"x-goog-upload-url", b"").decode("latin-1"))
        reply.close()
        if not where.path.startswith("/"):
            raise MalformedReply("The model provider did not say where a file is to be uploaded to.")
        # Only the path is taken: the key is shown to nobody but the configured host.
        path = where.path + (f"?{where.query}" if where.query else "")
        finish = {"x-goog-upload-offset": "0", "x-goog-upload-command": "upload, finalize"}
        said = await self._desk.said("POST", path, job.account, content, headers=finish, timeout_s=SEND_S)
        return self._desk.read(said, _Uploaded).file.name

    async def find(self, job: Job) -> str | None:
        token = ""
        for _ in range(PAGES_MAX):
            page = await self._desk.told("GET", f"/batches?pageSize={PAGE}{token}", job.account, _Page)
            for operation in page.operations:
                if operation.metadata.display_name == job.id:
                    return operation.name
            if not page.next_page_token:
                return None
            token = f"&pageToken={quote(page.next_page_token, safe='')}"
        raise Unclear

    async def look(self, job: Job) -> Progress:
        operation = await self._desk.told("GET", self._path(job), job.account, _Operation)
        metadata = operation.metadata
        output = metadata.output.responses_file or (operation.response and operation.response.responses_file)
        results = (output,) if output else ()
        files = tuple(file for file in (output, metadata.input_config.file_name) if file)
        match metadata.state.rpartition("_STATE_")[2]:  # BATCH_STATE_…, JOB_STATE_…
            case "SUCCEEDED" | "PARTIALLY_SUCCEEDED":
                return Progress("ended", complete=True, results=results, files=files)
            case "CANCELLED" | "EXPIRED":
                return Progress("ended", results=results, files=files)
            case "FAILED":
                return Progress("failed", files=files, detail=operation.error.message if operation.error else "")
            case _:
                return Progress("running")

    async def outcomes(self, job: Job, progress: Progress) -> AsyncGenerator[Outcome | None, None]:
        for file in progress.results:
            lines = self._desk.lines(f"{self._desk.root}/{_name(file)}:download?alt=media", job.account)
            try:
                async for line in lines:
                    yield _outcome(line)
            finally:
                await lines.aclose()

    async def cancel(self, job: Job) -> None:
        await self._desk.told("POST", f"{self._path(job)}:cancel", job.account, Raw)

    async def discard(self, job: Job, progress: Progress) -> None:
        for name in (*progress.files, job.upstream or ""):
            with suppress(ProviderError):
                await self._desk.told("DELETE", f"/{_name(name)}", job.account, Raw)

    @staticmethod
    def _path(job: Job) -> str:
        assert job.upstream is not None
        return f"/{_name(job.upstream)}"


def _name(name: str) -> str:
    """`files/…`, `batches/…`"""
    return quote(name, safe="/")


def _outcome(line: bytes) -> Outcome | None:
    try:
        read = _line.decode(line)
        if is_told(read.response):
            return Outcome(read.key, 200, bytes(read.response))
        if is_told(read.error):
            return Outcome(read.key, STATUS.get(_error.decode(read.error).code, 500), _json.encode({"error": read.error}))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return Outcome(read.key, None)
