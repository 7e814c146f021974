"""OpenAI's batches (https://platform.openai.com/docs/api-reference/batch), over the simulated jobs.

Promise: what the `openai` SDK sends is understood, and a file with a line that cannot run fails its batch with the line's number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Struct

from agent_gateway.core.call import MODEL_PATHS, Dialect
from agent_gateway.core.errors import BadRequest, Conflict, NotFound
from agent_gateway.protocols.base import codec_of
from agent_gateway.simulator.batches.desk import Desk, Route, failure, fault_of, limit_of, lines_of, page
from agent_gateway.simulator.batches.faults import BatchFault, steered
from agent_gateway.simulator.batches.jobs import Job, Request, Result, shuffled
from agent_gateway.simulator.batches.openai_files import BASE, FILE_TTL_S, OpenAIFiles, checked_ttl_s, listed, second
from agent_gateway.simulator.exchange import Answer, Ask, json_answer

ENDPOINTS: dict[str, Dialect] = {path: dialect for dialect, path in MODEL_PATHS.items() if dialect.startswith("openai_")}
ITEMS_MAX = 50_000
_BODY_BYTES_MAX = 64 * 1024
_WINDOW_S = 86400.0
_ERRORS_MAX = 100
#: Why an item was not answered.
_UNANSWERED = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired (simulated)."),
    "cancelled": ("batch_cancelled", "This request was not executed, because the batch was cancelled (simulated)."),
}


class _Expiry(Struct):
    anchor: Literal["created_at"]
    seconds: int


class _NewBatch(Struct):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: _Expiry | None = None


class _Line(Struct):
    custom_id: str
    url: str
    body: msgspec.Raw
    method: str


class _LineError(Struct, frozen=True):
    code: str
    message: str
    line: int | None = None
    param: str | None = None


_new_batch = msgspec.json.Decoder(_NewBatch)
_line = msgspec.json.Decoder(_Line)
_json = msgspec.json.Encoder()


@dataclass(slots=True)
class _Shown:
    endpoint: str
    input_file: str
    metadata: dict[str, str] | None
    output_ttl_s: float
    errors: list[_LineError]
    output_file: str | None = None
    error_file: str | None = None


class OpenAIBatches:
    dialect: ClassVar[Dialect] = "openai_chat"

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._files = OpenAIFiles(desk)
        self.routes: Sequence[Route] = (
            Route("POST", re.compile(BASE + r"/batches"), self._create),
            Route("GET", re.compile(BASE + r"/batches"), self._list),
            Route("GET", re.compile(BASE + r"/batches/([^/]+)"), self._show),
            Route("POST", re.compile(BASE + r"/batches/([^/]+)/cancel"), self._cancel),
            *self._files.routes,
        )

    async def _create(self, ask: Ask) -> Answer:
        asked = _read(await ask.body(_BODY_BYTES_MAX))
        file = self._files.found(ask, asked.input_file_id)
        if file.purpose != "batch":
            raise BadRequest(f"input_file_id: the file's purpose is {file.purpose!r}, not 'batch'.", param="input_file_id")
        submission = _Submission(asked.endpoint)
        async for number, line in lines_of(file.data):
            submission.take(number, line)
        submission.finish()
        fault = fault_of(ask, submission.model)
        if fault and fault.kind == "refuse":
            return failure(fault.number, self.dialect)
        expiry = asked.output_expires_after
        output_ttl_s = checked_ttl_s("output_expires_after", str(expiry.seconds)) if expiry else FILE_TTL_S
        requests = () if submission.errors else submission.requests
        job = Job(
            id=f"batch_{self._desk.new_id(32)}",
            key=ask.key,
            model=submission.model,
            fault=BatchFault("fail") if submission.errors else fault,
            shown=_Shown(asked.endpoint, file.id, asked.metadata, output_ttl_s, submission.errors),
            requests=requests,
            total=len(requests),
            keep=self._keep,
            created_at=self._now,
        )
        self._desk.jobs.start(job)
        return json_answer(_shown(job))

    async def _list(self, ask: Ask) -> Answer:
        after = ask.query("after")
        limit = limit_of(ask, "limit", 20, 100)
        jobs, more = page(self._desk.jobs.of_key(ask.key), limit, after)
        return json_answer(listed([_shown(job) for job in jobs], more))

    async def _show(self, ask: Ask, job_id: str) -> Answer:
        return json_answer(_shown(self._job(ask, job_id)))

    async def _cancel(self, ask: Ask, job_id: str) -> Answer:
        job = self._job(ask, job_id)
        if job.state == "ended":
            raise Conflict(f"Cannot cancel a batch with status '{job.outcome}'.")
        self._desk.jobs.cancel(job)
        return json_answer(_shown(job))

    def _keep(self, job: Job, results: list[Result]) -> None:
        if job.outcome == "failed":
            return
        lines: dict[bool, list[bytes]] = {True: [], False: []}
        for result in shuffled(results, job):
            lines[result.kind == "succeeded"].append(self._line(result))
        job.shown.output_file = self._written(job, "output", lines[True])
        job.shown.error_file = self._written(job, "error", lines[False])

    def _line(self, result: Result) -> bytes:
        response = error = None
        if result.status:
            response = {"status_code": result.status, "request_id": result.request_id, "body": msgspec.Raw(result.body)}
        else:
            code, message = _UNANSWERED[result.kind]
            error = {"code": code, "message": message}
        line = {"id": f"batch_req_{self._desk.new_id(32)}", "custom_id": result.id, "response": response, "error": error}
        return _json.encode(line) + b"\n"

    def _written(self, job: Job, name: str, lines: list[bytes]) -> str | None:
        if not lines:
            return None
        file = self._files.put(job.key, f"{job.id}_{name}.jsonl", "batch_output", b"".join(lines), job.shown.output_ttl_s)
        if job.fault and job.fault.kind == "gone":
            self._desk.shelf.drop(job.key, file.id)
        return file.id

    @property
    def _now(self) -> float:
        return self._desk.clock.wall()

    def _job(self, ask: Ask, job_id: str) -> Job:
        job = self._desk.jobs.find(ask.key, job_id)
        if job is None:
            raise NotFound(f"No batch found with id '{job_id[:100]}'.", param="id")
        return job


class _Submission:
    """The lines of an input file, read into requests of one model."""

    def __init__(self, endpoint: str) -> None:
        self.model = ""
        self.requests: list[Request] = []
        self.errors: list[_LineError] = []
        self._endpoint = endpoint
        self._ids: set[str] = set()

    def take(self, number: int, line: bytes) -> None:
        if len(self.errors) >= _ERRORS_MAX:
            return
        try:
            self.requests.append(self._request(_line.decode(line)))
        except _UnfitLine as error:
            self.errors.append(_LineError(error.code, error.message, number, error.param))
        except BadRequest as error:
            self.errors.append(_LineError("invalid_request", error.message, number, f"body.{error.param}" if error.param else "body"))
        except msgspec.ValidationError as error:
            self.errors.append(_LineError("invalid_request", f"{error}.", number))
        except msgspec.DecodeError:
            self.errors.append(_LineError("invalid_json_line", "This line is not parseable as valid JSON.", number))

    def finish(self) -> None:
        if len(self.requests) > ITEMS_MAX:
            self.errors.append(_LineError("too_many_requests", f"The file has more than {ITEMS_MAX} requests."))
        if not self.requests and not self.errors:
            self.errors.append(_LineError("empty_file", "The input file has no requests."))

    def _request(self, line: _Line) -> Request:
        if line.method != "POST":
            raise _UnfitLine("invalid_method", f"The method {line.method[:20]!r} is not POST.", "method")
        if line.url != self._endpoint:
            raise _UnfitLine("mismatched_url", f"The URL {line.url[:100]!r} is not the batch's endpoint {self._endpoint!r}.", "url")
        if line.custom_id in self._ids:
            raise _UnfitLine("duplicate_custom_id", f"The custom_id {line.custom_id[:100]!r} was used before.", "custom_id")
        body = bytes(line.body)
        call = codec_of(ENDPOINTS[self._endpoint]).read_call(body, {}, self._endpoint)
        if call.stream:
            raise _UnfitLine("invalid_request", "A batch cannot stream.", "body.stream")
        self.model = self.model or call.model
        if steered(call.model)[0] != steered(self.model)[0]:
            raise _UnfitLine("mismatched_model", f"The model {call.model[:100]!r} is not that of the first line.", "body.model")
        self._ids.add(line.custom_id)
        return Request(line.custom_id, ENDPOINTS[self._endpoint], body, self._endpoint)


class _UnfitLine(Exception):
    def __init__(self, code: str, message: str, param: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def _read(body: bytes) -> _NewBatch:
    try:
        asked = _new_batch.decode(body)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"The request is no batch: {error}.") from None
    if asked.endpoint not in ENDPOINTS:
        raise BadRequest(f"endpoint: {asked.endpoint[:100]!r} is not one of {', '.join(ENDPOINTS)}.", param="endpoint")
    if asked.completion_window != "24h":
        raise BadRequest(f"completion_window: {asked.completion_window[:20]!r} is not '24h'.", param="completion_window")
    return asked


def _shown(job: Job) -> dict[str, Any]:
    shown: _Shown = job.shown
    ended = {outcome: second(job.ended_at) for outcome in [job.outcome]}
    return {
        "id": job.id,
        "object": "batch",
        "endpoint": shown.endpoint,
        "model": job.model or None,
        "errors": {"object": "list", "data": _errors(job)} if job.outcome == "failed" else None,
        "input_file_id": shown.input_file,
        "completion_window": "24h",
        "status": _status(job),
        "output_file_id": shown.output_file,
        "error_file_id": shown.error_file,
        "created_at": int(job.created_at),
        "in_progress_at": None if job.outcome == "failed" else second(job.started_at),
        "expires_at": int(job.created_at + _WINDOW_S),
        "finalizing_at": ended.get("completed"),
        "completed_at": ended.get("completed"),
        "failed_at": ended.get("failed"),
        "expired_at": ended.get("expired"),
        "cancelling_at": second(job.cancelling_at),
        "cancelled_at": ended.get("cancelled"),
        "request_counts": {
            "total": job.total,
            "completed": job.counts["succeeded"],
            "failed": job.counts["errored"],
        },
        "usage": _usage(job),
        "metadata": shown.metadata,
    }


def _status(job: Job) -> str:
    match job.state:
        case "waiting":
            return "validating"
        case "running":
            return "validating" if job.shown.errors else "in_progress"
        case "cancelling":
            return "cancelling"
        case "ended":
            return job.outcome or ""


def _errors(job: Job) -> list[_LineError]:
    return job.shown.errors or [_LineError("server_error", "The batch could not be processed (simulated).")]


def _usage(job: Job) -> dict[str, Any]:
    usage = job.usage
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cache_read},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }
