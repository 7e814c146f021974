"""Anthropic's message batches (https://docs.anthropic.com/en/api/creating-message-batches), over the simulated jobs.

Promise: what the `anthropic` SDK sends is understood, and each request is answered or fails for itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from agent_gateway.core.call import MODEL_PATHS, Dialect
from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.simulator.batches.desk import Desk, Route, failure, fault_of, limit_of, page, rfc3339
from agent_gateway.simulator.batches.jobs import Job, Request, Result, shuffled
from agent_gateway.simulator.batches.shelf import File
from agent_gateway.simulator.exchange import Answer, Ask, json_answer

ITEMS_MAX = 100_000
BODY_BYTES_MAX = 256 * 1024 * 1024
_WINDOW_S = 86400.0
#: Results can be read so long after a batch was made.
_RESULTS_TTL_S = 29 * 86400.0
_CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BASE = r"/v1/messages/batches"
_JSON_LINES = ((b"content-type", b"application/x-jsonl"),)


class _Asked(Struct):
    custom_id: str
    params: msgspec.Raw


class _NewBatch(Struct):
    requests: list[_Asked]


class _Params(Struct):
    model: str


_new_batch = msgspec.json.Decoder(_NewBatch)
_params = msgspec.json.Decoder(_Params)
_json = msgspec.json.Encoder()


class AnthropicBatches:
    dialect: ClassVar[Dialect] = "anthropic"

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.routes: Sequence[Route] = (
            Route("POST", re.compile(_BASE), self._create),
            Route("GET", re.compile(_BASE), self._list),
            Route("GET", re.compile(_BASE + r"/([^/]+)"), self._show),
            Route("DELETE", re.compile(_BASE + r"/([^/]+)"), self._delete),
            Route("POST", re.compile(_BASE + r"/([^/]+)/cancel"), self._cancel),
            Route("GET", re.compile(_BASE + r"/([^/]+)/results"), self._results),
        )

    async def _create(self, ask: Ask) -> Answer:
        requests = _read(await ask.body(BODY_BYTES_MAX))
        model = _model(requests[0])
        fault = fault_of(ask, model)
        if fault and fault.kind == "refuse":
            return failure(fault.number, self.dialect)
        job = Job(
            id=f"msgbatch_{self._desk.new_id(24)}",
            key=ask.key,
            model=model,
            fault=fault,
            shown=None,
            requests=requests,
            total=len(requests),
            keep=self._keep,
            created_at=self._desk.clock.wall(),
        )
        self._desk.jobs.start(job)
        return json_answer(_shown(job, ask))

    async def _list(self, ask: Ask) -> Answer:
        limit = limit_of(ask, "limit", 20, 1000)
        jobs = list(self._desk.jobs.of_key(ask.key))
        if before := ask.query("before_id"):
            shown, more = page(reversed(jobs), limit, before)
            shown.reverse()
        else:
            shown, more = page(jobs, limit, ask.query("after_id"))
        ids = [job.id for job in shown]
        told = {"data": [_shown(job, ask) for job in shown], "has_more": more}
        return json_answer({**told, "first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None})

    async def _show(self, ask: Ask, job_id: str) -> Answer:
        return json_answer(_shown(self._job(ask, job_id), ask))

    async def _cancel(self, ask: Ask, job_id: str) -> Answer:
        job = self._job(ask, job_id)
        if job.state == "ended":
            raise BadRequest(f"Batch {job_id} cannot be canceled because it has ended.")
        self._desk.jobs.cancel(job)
        return json_answer(_shown(job, ask))

    async def _delete(self, ask: Ask, job_id: str) -> Answer:
        job = self._job(ask, job_id)
        if job.state != "ended":
            raise BadRequest(f"Batch {job_id} cannot be deleted while it is processing; cancel it first.")
        self._desk.shelf.drop(ask.key, job_id)
        self._desk.jobs.forget(job)
        return json_answer({"id": job_id, "type": "message_batch_deleted"})

    async def _results(self, ask: Ask, job_id: str) -> Answer:
        job = self._job(ask, job_id)
        if job.state != "ended":
            raise NotFound(f"Batch {job_id} has no results yet.")
        file = self._desk.shelf.find(ask.key, job_id, self._desk.clock.wall())
        if file is None:
            raise NotFound(f"The results of batch {job_id} are no longer available.")
        return Answer(200, file.data, _JSON_LINES)

    def _keep(self, job: Job, results: list[Result]) -> None:
        if job.fault and job.fault.kind == "gone":
            return
        data = b"".join([_line(result) for result in shuffled(results, job)])
        expires_at = job.created_at + _RESULTS_TTL_S
        self._desk.shelf.put(File(job.id, job.key, f"{job.id}_results.jsonl", "results", self._desk.clock.wall(), expires_at, data))

    def _job(self, ask: Ask, job_id: str) -> Job:
        job = self._desk.jobs.find(ask.key, job_id)
        if job is None:
            raise NotFound(f"No message batch found with ID {job_id[:100]}.")
        return job


def _read(body: bytes) -> list[Request]:
    try:
        asked = _new_batch.decode(body).requests
    except msgspec.MsgspecError as error:
        raise BadRequest(f"{error}.") from None
    if not 1 <= len(asked) <= ITEMS_MAX:
        raise BadRequest(f"requests: expected 1 to {ITEMS_MAX} of them, not {len(asked)}.", param="requests")
    seen: set[str] = set()
    for number, one in enumerate(asked):
        if not _CUSTOM_ID.fullmatch(one.custom_id):
            place = f"requests.{number}.custom_id"
            raise BadRequest(f"{place}: {one.custom_id[:100]!r} should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'.", param=place)
        if one.custom_id in seen:
            raise BadRequest(f"requests: custom_id {one.custom_id!r} is used more than once.", param="requests")
        seen.add(one.custom_id)
    return [Request(one.custom_id, "anthropic", bytes(one.params), MODEL_PATHS["anthropic"]) for one in asked]


def _model(request: Request) -> str:
    try:
        return _params.decode(request.body).model
    except msgspec.MsgspecError:  # its request then fails for itself
        return ""


def _line(result: Result) -> bytes:
    told: dict[str, Any]
    match result.kind:
        case "succeeded":
            told = {"type": "succeeded", "message": msgspec.Raw(result.body)}
        case "errored":
            told = {"type": "errored", "error": msgspec.Raw(result.body)}
        case "expired":
            told = {"type": "expired"}
        case "cancelled":
            told = {"type": "canceled"}
    return _json.encode({"custom_id": result.id, "result": told}) + b"\n"


def _shown(job: Job, ask: Ask) -> dict[str, Any]:
    """Counts are told once it has ended: until then all of them are being processed."""
    ended = job.state == "ended"
    counts = job.counts if ended else {}
    return {
        "id": job.id,
        "type": "message_batch",
        "processing_status": "ended" if ended else "canceling" if job.state == "cancelling" else "in_progress",
        "request_counts": {
            "processing": 0 if ended else job.total,
            "succeeded": counts.get("succeeded", 0),
            "errored": counts.get("errored", 0),
            "canceled": counts.get("cancelled", 0),
            "expired": counts.get("expired", 0),
        },
        "created_at": rfc3339(job.created_at),
        "expires_at": rfc3339(job.created_at + _WINDOW_S),
        "ended_at": rfc3339(job.ended_at),
        "cancel_initiated_at": rfc3339(job.cancelling_at),
        "archived_at": None,
        "results_url": f"{ask.origin}{_BASE}/{job.id}/results" if ended else None,
    }
