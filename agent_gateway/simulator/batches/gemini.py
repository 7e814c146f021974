"""Gemini's batches (https://ai.google.dev/api/batch-api), inline or by file, over the simulated jobs.

Promise: what the `google-genai` SDK sends is understood; as of Google's, a batch that did not succeed has no results.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.call import MODEL_PATHS, Dialect
from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.simulator.batches.desk import Desk, Route, failure, fault_of, limit_of, lines_of, page, rfc3339
from agent_gateway.simulator.batches.gemini_files import GeminiFiles
from agent_gateway.simulator.batches.jobs import Job, Request, Result
from agent_gateway.simulator.exchange import Answer, Ask, json_answer

#: Of a batch whose requests are inline.
BODY_BYTES_MAX = 20 * 1024 * 1024
_EMBEDDING_DIMENSIONS = 3072
_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1beta."
#: google/rpc/code.proto, by HTTP status.
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 429: 8, 499: 1, 503: 14, 504: 4}
_INTERNAL_CODE = 13
_EXPIRED = {"code": 4, "message": "The request was not processed in time (simulated)."}
_BASE = r"/v1(?:beta)?"


class _Inline(Struct):
    request: Raw
    metadata: dict[str, Any] | None = None


class _Inlines(Struct):
    requests: list[_Inline]


class _InputConfig(Struct):
    requests: _Inlines | None = None
    file_name: str | None = None
    fileName: str | None = None


class _Batch(Struct):
    """In both spellings that Google's JSON has."""

    display_name: str | None = None
    displayName: str | None = None
    input_config: _InputConfig | None = None
    inputConfig: _InputConfig | None = None


class _NewBatch(Struct):
    batch: _Batch


class _Line(Struct):
    request: Raw
    key: str = ""


class _Part(Struct):
    text: str = ""


class _Content(Struct):
    parts: list[_Part]


class _EmbedRequest(Struct):
    content: _Content
    output_dimensionality: int | None = None
    outputDimensionality: int | None = None


class _Embedding(Struct):
    embedding: list[float]


class _EmbeddingUsage(Struct):
    prompt_tokens: int


class _Embedded(Struct):
    data: list[_Embedding]
    usage: _EmbeddingUsage


class _ErrorDetail(Struct):
    message: str


class _ErrorBody(Struct):
    error: _ErrorDetail


_new_batch = msgspec.json.Decoder(_NewBatch)
_line = msgspec.json.Decoder(_Line)
_embed_request = msgspec.json.Decoder(_EmbedRequest)
_embedded = msgspec.json.Decoder(_Embedded)
_error_body = msgspec.json.Decoder(_ErrorBody)
_any: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_json = msgspec.json.Encoder()


@dataclass(slots=True)
class _Shown:
    display_name: str
    embeds: bool
    is_inline: bool
    #: Of inline requests, by their ids.
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    output: dict[str, Any] | None = None


class GeminiBatches:
    dialect: ClassVar[Dialect] = "gemini"

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._files = GeminiFiles(desk)
        self.routes: Sequence[Route] = (
            Route("POST", re.compile(_BASE + r"/models/(.+):(batchGenerateContent|asyncBatchEmbedContent)"), self._create),
            Route("GET", re.compile(_BASE + r"/batches"), self._list),
            Route("GET", re.compile(_BASE + r"/batches/([^/:]+)"), self._show),
            Route("DELETE", re.compile(_BASE + r"/batches/([^/:]+)"), self._delete),
            Route("POST", re.compile(_BASE + r"/batches/([^/:]+):cancel"), self._cancel),
            Route("POST", re.compile(_BASE + r"/batches/([^/:]+):delete"), self._delete),
            *self._files.routes,
        )

    async def _create(self, ask: Ask, model: str, method: str) -> Answer:
        batch = _read(await ask.body(BODY_BYTES_MAX))
        fault = fault_of(ask, model)
        if fault and fault.kind == "refuse":
            return failure(fault.number, self.dialect)
        config = batch.inputConfig or batch.input_config or _InputConfig()
        reading = _Reading(model, embeds=method == "asyncBatchEmbedContent")
        shown = _Shown(batch.displayName or batch.display_name or "", reading.embeds, config.requests is not None)
        if config.requests is not None:
            requests = reading.inline(config.requests.requests, shown)
        else:
            file = self._files.found(ask, config.fileName or config.file_name or "")
            requests = [reading.line(line) async for _, line in lines_of(file.data)]
        if not requests:
            raise BadRequest("batch.input_config: has no requests.", param="batch.input_config")
        job = Job(
            id=self._desk.new_id(32),
            key=ask.key,
            model=model,
            fault=fault,
            shown=shown,
            requests=requests,
            total=len(requests),
            keep=self._keep,
            created_at=self._desk.clock.wall(),
        )
        self._desk.jobs.start(job)
        return json_answer(_operation(job))

    async def _list(self, ask: Ask) -> Answer:
        limit = limit_of(ask, "pageSize", 10, 1000)
        jobs, more = page(self._desk.jobs.of_key(ask.key), limit, ask.query("pageToken") or None)
        next_page = {"nextPageToken": jobs[-1].id} if more else {}
        return json_answer({"operations": [_operation(job) for job in jobs], **next_page})

    async def _show(self, ask: Ask, job_id: str) -> Answer:
        return json_answer(_operation(self._job(ask, job_id)))

    async def _cancel(self, ask: Ask, job_id: str) -> Answer:
        self._desk.jobs.cancel(self._job(ask, job_id))
        return json_answer({})

    async def _delete(self, ask: Ask, job_id: str) -> Answer:
        self._desk.jobs.forget(self._job(ask, job_id))
        return json_answer({})

    def _keep(self, job: Job, results: list[Result]) -> None:
        shown: _Shown = job.shown
        if job.outcome != "completed":
            return
        if shown.is_inline:
            told = [{**_told(result, embeds=shown.embeds, is_inline=True), **_metadata(result, shown)} for result in results]
            gone = job.fault is not None and job.fault.kind == "gone"
            shown.output = {"inlinedResponses": {"inlinedResponses": [] if gone else told}}
            return
        lines = [_json.encode({"key": result.id, **_told(result, embeds=shown.embeds, is_inline=False)}) for result in results]
        name = self._files.write(job, b"".join([line + b"\n" for line in lines]))
        shown.output = {"responsesFile": name}

    def _job(self, ask: Ask, job_id: str) -> Job:
        job = self._desk.jobs.find(ask.key, job_id)
        if job is None:
            raise NotFound(f"Requested entity batches/{job_id[:100]} was not found.")
        return job


class _Reading:
    """Requests of one batch, each as a live call of `model` would have come."""

    def __init__(self, model: str, *, embeds: bool) -> None:
        self.embeds = embeds
        self._model = model

    def inline(self, asked: list[_Inline], shown: _Shown) -> list[Request]:
        """Their ids are their places."""
        shown.metadata = {str(place): one.metadata for place, one in enumerate(asked) if one.metadata is not None}
        return [self._request(str(place), bytes(one.request)) for place, one in enumerate(asked)]

    def line(self, line: bytes) -> Request:
        """One that is no request fails for itself."""
        try:
            read = _line.decode(line)
        except msgspec.MsgspecError:
            return self._request("", line)
        return self._request(read.key, bytes(read.request))

    def _request(self, request_id: str, body: bytes) -> Request:
        if not self.embeds:
            return Request(request_id, "gemini", body, f"/v1beta/models/{self._model}:generateContent")
        return Request(request_id, "openai_embeddings", self._embedding(body), MODEL_PATHS["openai_embeddings"])

    def _embedding(self, body: bytes) -> bytes:
        """The simulated model embeds in OpenAI's protocol."""
        try:
            asked = _embed_request.decode(body)
        except msgspec.MsgspecError:  # has no content; what is made of it has no input, and is refused
            return _json.encode({"model": self._model})
        dimensions = asked.outputDimensionality or asked.output_dimensionality or _EMBEDDING_DIMENSIONS
        text = "\n".join([part.text for part in asked.content.parts])
        return _json.encode({"model": self._model, "input": text, "dimensions": dimensions})


def _read(body: bytes) -> _Batch:
    try:
        return _new_batch.decode(body).batch
    except msgspec.MsgspecError as error:
        raise BadRequest(f"The request is no batch: {error}.", param="batch") from None


def _metadata(result: Result, shown: _Shown) -> dict[str, Any]:
    """As it was given; of a result that nobody asked for, something else."""
    if result.id in shown.metadata:
        return {"metadata": shown.metadata[result.id]}
    return {} if result.id.isdigit() else {"metadata": {"key": result.id}}


def _told(result: Result, *, embeds: bool, is_inline: bool) -> dict[str, Any]:
    if not result.status:
        return {"error": _EXPIRED}
    if result.status != 200:
        return {"error": {"code": _CODES.get(result.status, _INTERNAL_CODE), "message": _error_body.decode(result.body).error.message}}
    try:
        return {"response": _embedding_of(result.body) if embeds else _any.decode(result.body) if is_inline else Raw(result.body)}
    except msgspec.MsgspecError:  # garbled: in a file the line is no JSON, inline it is no answer
        return {"response": result.body.decode("utf-8", "replace") if is_inline else Raw(result.body)}


def _embedding_of(body: bytes) -> dict[str, Any]:
    embedded = _embedded.decode(body)
    tokens = embedded.usage.prompt_tokens
    usage = {"promptTokenCount": tokens, "totalTokenCount": tokens}
    return {"embedding": {"values": embedded.data[0].embedding}, "tokenCount": tokens, "usageMetadata": usage}


def _operation(job: Job) -> dict[str, Any]:
    """A batch is shown as a long-running operation (google/longrunning/operations.proto)."""
    shown: _Shown = job.shown
    name = f"batches/{job.id}"
    metadata = {
        "@type": _TYPE + ("EmbedContentBatch" if shown.embeds else "GenerateContentBatch"),
        "model": f"models/{job.model}",
        "displayName": shown.display_name,
        "createTime": rfc3339(job.created_at),
        "updateTime": rfc3339(job.ended_at or job.cancelling_at or job.started_at or job.created_at),
        "batchStats": _stats(job),
        "state": _state(job),
        "name": name,
    }
    operation: dict[str, Any] = {"name": name, "metadata": metadata}
    if job.state != "ended":
        return operation
    metadata["endTime"] = rfc3339(job.ended_at)
    operation["done"] = True
    if job.outcome == "completed":
        metadata["output"] = shown.output
        kind = "AsyncBatchEmbedContentResponse" if shown.embeds else "BatchGenerateContentResponse"
        operation["response"] = {"@type": _TYPE + kind, **(shown.output or {})}
    else:
        operation["error"] = {"code": _INTERNAL_CODE, "message": f"The batch has {job.outcome} (simulated)."}
    return operation


def _state(job: Job) -> str:
    match job.state, job.outcome:
        case "waiting", _:
            return "BATCH_STATE_PENDING"
        case (("running" | "cancelling"), _):
            return "BATCH_STATE_RUNNING"
        case _, "completed":
            return "BATCH_STATE_SUCCEEDED"
        case _, outcome:
            return f"BATCH_STATE_{str(outcome).upper()}"


def _stats(job: Job) -> dict[str, str]:
    """Numbers of 64 bits are strings in Google's JSON; those that are 0 are left out."""
    succeeded = job.counts["succeeded"]
    failed = sum(job.counts.values()) - succeeded
    counts = {
        "requestCount": job.total,
        "pendingRequestCount": job.total - succeeded - failed,
        "successfulRequestCount": succeeded,
        "failedRequestCount": failed,
    }
    return {name: str(count) for name, count in counts.items() if count}
