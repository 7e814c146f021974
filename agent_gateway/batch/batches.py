"""Batches as OpenAI's API has them: made, shown, listed, cancelled. What becomes of them is the engine's.

Promise: what could never run is refused as it is made; what can only be seen from the file's lines is told by the batch itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from agent_gateway.admission.keys import Key
from agent_gateway.batch.engine import Engine
from agent_gateway.batch.files import FILE_TTL_BOUNDS_S, PURPOSE, ObjectPage, unknown_file
from agent_gateway.batch.identity import kept_key, new_batch_id
from agent_gateway.batch.submission import ENDPOINTS
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.protocols.decoding import decode
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import BatchStatus, Cause, StoredBatch, batches_of

#: What may be asked for, and how long that is (s); OpenAI itself has 24h only.
WINDOWS_S = {"10m": 600.0, "1h": 3600.0, "24h": 86400.0}

#: As OpenAI bounds it.
Metadata = Annotated[dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]


class OutputExpiresAfter(Struct, frozen=True):
    #: Of the files, not of the batch.
    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=FILE_TTL_BOUNDS_S[0], le=FILE_TTL_BOUNDS_S[1])]


class NewBatch(Struct, frozen=True, kw_only=True):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Metadata | None = None
    output_expires_after: OutputExpiresAfter | None = None
    #: The gateway's own: see `StoredBatch.deduplicate`.
    deduplicate: bool | None = None


class Errors(Struct, frozen=True):
    data: msgspec.Raw
    object: Literal["list"] = "list"


class RequestCounts(Struct, frozen=True):
    total: int
    completed: int
    failed: int


class BatchObject(Struct, frozen=True, kw_only=True):
    """As OpenAI's API shows a batch; what it cost, and what that saved, is the gateway's own."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: Errors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: msgspec.Raw | None
    cost_usd: float
    #: What the same answers would have cost one by one.
    single_call_cost_usd: float
    #: Of that, the share that was saved; None: it would have cost nothing.
    saved_ratio: float | None
    saved_by: dict[Cause, float]
    #: Calls that may have been made twice, because the process that made them was lost.
    duplicated_calls: int


_new_batch = msgspec.json.Decoder(NewBatch)


class Batches:
    """`store`: the gateway's; where it keeps no batches there is no engine, and every method raises `BadRequest`."""

    def __init__(self, store: object, engine: Engine | None, clock: Clock) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock

    async def create(self, owner: Owner, key: Key | None, body: bytes, check_endpoint: Callable[[str], None]) -> BatchObject:
        """`check_endpoint` raises where the key may not ask there. Raises `BadRequest` and `NotFound`."""
        store = batches_of(self._store)
        asked = _read(body)
        check_endpoint(asked.endpoint)
        now = self._clock.wall()
        file = await store.find_file(owner, asked.input_file_id, now)
        if file is None:
            raise unknown_file(asked.input_file_id)
        if file.purpose != PURPOSE:
            raise BadRequest(f"input_file_id: the file's purpose is {file.purpose!r}; expected {PURPOSE!r}.", param="input_file_id")
        batch = StoredBatch(
            id=new_batch_id(),
            owner=owner,
            endpoint=asked.endpoint,
            input_file=file.id,
            completion_window=asked.completion_window,
            created_at=now,
            expires_at=now + WINDOWS_S[asked.completion_window],
            metadata=None if asked.metadata is None else msgspec.json.encode(asked.metadata),
            key=kept_key(key),
            deduplicate=asked.deduplicate,
            output_ttl_s=None if asked.output_expires_after is None else asked.output_expires_after.seconds,
        )
        await store.create_batch(batch)
        self._running().wake()
        return shown_batch(batch)

    async def find(self, owner: Owner, batch_id: str) -> BatchObject:
        """Raises `NotFound`."""
        return _found(await batches_of(self._store).find_batch(owner, batch_id), batch_id)

    async def listed(self, owner: Owner, *, limit: int, after: str | None) -> ObjectPage:
        """Youngest first."""
        page = await batches_of(self._store).list_batches(owner, limit=limit, cursor=after)
        return ObjectPage.of([shown_batch(batch) for batch in page.batches], has_more=page.has_more)

    async def cancel(self, owner: Owner | None, batch_id: str) -> BatchObject:
        """Whoever's it is, where `owner` is None. Raises `NotFound`, and `Conflict` where it has ended."""
        return _found(await self._running().cancel(owner, batch_id), batch_id)

    def _running(self) -> Engine:
        batches_of(self._store)
        assert self._engine is not None, "who keeps batches runs them"
        return self._engine


def shown_batch(batch: StoredBatch) -> BatchObject:
    return BatchObject(
        id=batch.id,
        endpoint=batch.endpoint,
        model=batch.models[0] if len(batch.models) == 1 else None,
        errors=None if batch.errors is None else Errors(msgspec.Raw(batch.errors)),
        input_file_id=batch.input_file,
        completion_window=batch.completion_window,
        status=batch.status,
        output_file_id=batch.output_file,
        error_file_id=batch.error_file,
        created_at=int(batch.created_at),
        in_progress_at=_second(batch.in_progress_at),
        expires_at=int(batch.expires_at),
        finalizing_at=_second(batch.finalizing_at),
        completed_at=_second(batch.completed_at),
        failed_at=_second(batch.failed_at),
        expired_at=_second(batch.expired_at),
        cancelling_at=_second(batch.cancelling_at),
        cancelled_at=_second(batch.cancelled_at),
        request_counts=RequestCounts(batch.total, batch.completed, batch.failed),
        metadata=None if batch.metadata is None else msgspec.Raw(batch.metadata),
        cost_usd=batch.cost_usd,
        single_call_cost_usd=batch.single_cost_usd,
        saved_ratio=batch.saved_ratio,
        saved_by=batch.saved_by,
        duplicated_calls=batch.lost_calls,
    )


def _read(body: bytes) -> NewBatch:
    asked = decode(_new_batch, body)
    if asked.endpoint not in ENDPOINTS:
        raise BadRequest(f"endpoint: {asked.endpoint[:100]!r} is not one of {', '.join(ENDPOINTS)}.", param="endpoint")
    if asked.completion_window not in WINDOWS_S:
        window = asked.completion_window[:40]
        raise BadRequest(f"completion_window: {window!r} is not one of {', '.join(WINDOWS_S)}.", param="completion_window")
    return asked


def _found(batch: StoredBatch | None, batch_id: str) -> BatchObject:
    if batch is None:
        raise NotFound(f"There is no batch {batch_id[:100]!r}.")
    return shown_batch(batch)


def _second(time: float | None) -> int | None:
    return None if time is None else int(time)
