"""Batches as operators are shown them: whose they are, how far, what they cost; of one also what providers have and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Raw, Struct

from agent_gateway.control.times import told
from agent_gateway.stores.batches import BatchStatus, BatchStore, Cause, FinishedItem, HeldItems, StoredBatch, StoredFile

#: Of what went wrong, so much is shown; the rest is in the file of errors.
FAILURES_MAX = 20
MESSAGE_MAX_CHARS = 500


class BatchCounts(Struct, frozen=True):
    """Of requests. `total` is 0 until the file is read."""

    total: int
    completed: int
    failed: int


class BatchShown(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["batch"] = "batch"
    #: The key's id.
    key: str | None
    user: str | None
    endpoint: str
    models: Sequence[str]
    status: BatchStatus
    completion_window: str
    created_at: str
    #: When its window is over.
    expires_at: str
    ended_at: str | None
    counts: BatchCounts
    #: Requests that came to an end, on average since it is in progress; null: it was not yet.
    rate_per_s: float | None
    #: What is left, at that rate; null: it is not in progress, nothing has ended yet, or providers have some of it, who do not say.
    eta_s: float | None
    cost_usd: float
    #: What the same answers would have cost one by one.
    single_call_cost_usd: float
    #: Of that, the share that was saved; null: it would have cost nothing.
    saved_ratio: float | None
    #: USD.
    saved_by: Mapping[Cause, float]
    #: Calls that may have been made twice, because the process that made them was lost.
    duplicated_calls: int


class ResultFile(Struct, frozen=True, kw_only=True):
    id: str
    bytes: int
    expires_at: str | None


class PartShown(Struct, frozen=True, kw_only=True):
    """Requests of one model that a provider runs in a batch of its own."""

    model: str
    #: `provider/model`.
    deployment: str
    #: `gathering`, `held`: not sent yet. `sending`: it may be there. `waiting`: the provider has it. `stopping`: it was cancelled there.
    stage: str
    requests: int
    sent_at: str | None
    #: When it is looked at again.
    next_at: str | None
    #: As the provider calls it.
    upstream: str | None


class FailureShown(Struct, frozen=True, kw_only=True):
    #: Of a line that cannot be run, its number.
    line: int | None = None
    custom_id: str | None = None
    #: What the request was answered; null: it was not run.
    status_code: int | None = None
    #: Of its record.
    request_id: str | None = None
    code: str | None = None
    message: str


class BatchWhole(BatchShown, frozen=True, kw_only=True):
    in_progress_at: str | None
    #: Whether identical requests are run once; null: those whose answers would be the same anyway.
    deduplicate: bool | None
    #: The client's own.
    metadata: Any
    #: Requests in calls of the gateway's, and in providers' own batches or on their way there.
    running: int
    at_providers: int
    parts: Sequence[PartShown]
    #: Null: there is none, or it is not kept any more.
    output: ResultFile | None
    errors: ResultFile | None
    #: Some of what went wrong.
    failures: Sequence[FailureShown]


class Part(Protocol):
    """As the batch room remembers it. Times: Unix seconds, 0 where there is none yet."""

    model: str
    deployment: str
    items: int
    sent_at: float
    next_at: float
    upstream: str | None

    @property
    def stage(self) -> str: ...


def batch_shown(batch: StoredBatch, now: float) -> BatchShown:
    return BatchShown(**_figures(batch, now))


def batch_whole(
    batch: StoredBatch,
    now: float,
    *,
    held: HeldItems,
    parts: Sequence[Part],
    files: tuple[StoredFile | None, StoredFile | None],
    failures: Sequence[FailureShown],
) -> BatchWhole:
    """`files`: of the output and of the errors."""
    output, errors = files
    return BatchWhole(
        **_figures(batch, now),
        in_progress_at=told(batch.in_progress_at),
        deduplicate=batch.deduplicate,
        metadata=None if batch.metadata is None else Raw(batch.metadata),
        running=held.running,
        at_providers=held.sent,
        parts=[_part(part) for part in parts],
        output=_file(output),
        errors=_file(errors),
        failures=failures,
    )


async def failures_of(store: BatchStore, batch: StoredBatch) -> list[FailureShown]:
    """From where they are: of a file that was refused with the batch, of one that has ended in its file of errors, else with its items."""
    if batch.errors is not None:
        return [_refused_line(error) for error in msgspec.json.decode(batch.errors, type=list[_LineError])[:FAILURES_MAX]]
    if batch.error_file is not None:
        beginning = await store.read_chunk(batch.error_file, 0) or b""
        return [_failed_line(line) for line in beginning.split(b"\n", FAILURES_MAX)[:-1]]
    if batch.ended or not batch.failed:
        return []
    return [_failed_item(item) for item in await store.failed_items(batch.id, limit=FAILURES_MAX)]


# --- one batch


def _figures(batch: StoredBatch, now: float) -> dict[str, Any]:
    rate_per_s = _rate_per_s(batch, now)
    knows_end = batch.status == "in_progress" and batch.plan is None
    return {
        "id": batch.id,
        "key": batch.owner.key or None,
        "user": batch.owner.user or None,
        "endpoint": batch.endpoint,
        "models": batch.models,
        "status": batch.status,
        "completion_window": batch.completion_window,
        "created_at": told(batch.created_at),
        "expires_at": told(batch.expires_at),
        "ended_at": told(batch.ended_at),
        "counts": BatchCounts(batch.total, batch.completed, batch.failed),
        "rate_per_s": rate_per_s,
        "eta_s": batch.unfinished / rate_per_s if knows_end and rate_per_s else None,
        "cost_usd": batch.cost_usd,
        "single_call_cost_usd": batch.single_cost_usd,
        "saved_ratio": batch.saved_ratio,
        "saved_by": batch.saved_by,
        "duplicated_calls": batch.lost_calls,
    }


def _rate_per_s(batch: StoredBatch, now: float) -> float | None:
    """Until its requests had ended, or now."""
    if batch.in_progress_at is None:
        return None
    seconds = (batch.finalizing_at or batch.ended_at or now) - batch.in_progress_at
    return (batch.completed + batch.failed) / seconds if seconds > 0 else None


def _file(file: StoredFile | None) -> ResultFile | None:
    return None if file is None else ResultFile(id=file.id, bytes=file.bytes, expires_at=told(file.expires_at))


def _part(part: Part) -> PartShown:
    return PartShown(
        model=part.model,
        deployment=part.deployment,
        stage=part.stage,
        requests=part.items,
        sent_at=told(part.sent_at or None),
        next_at=told(part.next_at or None),
        upstream=part.upstream,
    )


# --- what went wrong


class _LineError(Struct):
    code: str
    message: str
    line: int | None = None


class _Error(Struct):
    message: str = ""
    code: str | int | None = None
    type: str | None = None


class _ErrorBody(Struct):
    error: _Error


class _Response(Struct):
    body: Raw
    status_code: int | None = None
    request_id: str | None = None


class _ResultLine(Struct):
    """Of a file of errors."""

    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


def _refused_line(error: _LineError) -> FailureShown:
    return FailureShown(line=error.line, code=error.code, message=error.message[:MESSAGE_MAX_CHARS])


def _failed_line(line: bytes) -> FailureShown:
    read = msgspec.json.decode(line, type=_ResultLine)
    if read.response is None:
        return _failure(read.error or _Error(), custom_id=read.custom_id)
    response = read.response
    return _failure(_error_in(response.body), custom_id=read.custom_id, status_code=response.status_code, request_id=response.request_id)


def _failed_item(item: FinishedItem) -> FailureShown:
    return _failure(_error_in(item.body or b""), custom_id=item.custom_id, status_code=item.status_code, request_id=item.request_id)


def _error_in(body: bytes | Raw) -> _Error:
    """In the protocol of whichever endpoint; of what has no error as they have it, the text."""
    try:
        return msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Error(message=bytes(body).decode("utf-8", "replace"))


def _failure(error: _Error, **about: Any) -> FailureShown:
    code = error.code or error.type
    return FailureShown(code=None if code is None else str(code), message=error.message[:MESSAGE_MAX_CHARS], **about)
