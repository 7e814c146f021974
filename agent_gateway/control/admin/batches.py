"""`/admin/v1/batches`: everybody's batches, what becomes of them as it does, their results to be downloaded, and how to end one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from agent_gateway.control.admin_route import Asked, Listed, NoQuery, PageQuery, Route
from agent_gateway.control.audit import AuditLog
from agent_gateway.control.batch_view import BatchShown, BatchWhole, Part, batch_shown, batch_whole, failures_of
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.core.streamed import Streamed
from agent_gateway.stores.base import Owner, unknown_cursor
from agent_gateway.stores.batches import ENDED, OPEN, BatchStatus, BatchStore, StoredBatch, StoredFile, batches_of

#: Open ones that are told of live, the newest.
TOLD_MAX = 100

_MEDIA = "application/jsonl"


@dataclass(frozen=True, slots=True)
class BatchHands:
    """The batch room, as far as it is lent to the admin API."""

    #: Of everybody where there is no owner. Raises `NotFound` and `Conflict`.
    cancel: Callable[[Owner | None, str], Awaitable[object]]
    #: What providers have of it, or will.
    parts: Callable[[StoredBatch], Sequence[Part]]
    #: Of a file of so many bytes. Raises `NotFound` where it goes meanwhile.
    content: Callable[[str, int], AsyncGenerator[bytes, None]]


class BatchesQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: `open` and `ended` stand for all that are so.
    status: BatchStatus | Literal["open", "ended"] | None = None


class BatchRoutes:
    """`store`: the gateway's; where it keeps no batches everything raises `BadRequest`."""

    def __init__(self, store: object, hands: BatchHands, audit: AuditLog, clock: Clock) -> None:
        self._store = store
        self._hands = hands
        self._audit = audit
        self._clock = clock
        #: Those that were open when it was looked at last, as they were told.
        self._told: dict[str, BatchShown] = {}

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="batches",
                summary="Everybody's batches, youngest first",
                query=BatchesQuery,
                answer=Listed[BatchShown],
                handler=self._list,
            ),
            Route(
                method="GET",
                path="batches/{id}",
                summary="One batch: how far it is, what it costs and saves, what providers have of it, and what went wrong",
                answer=BatchWhole,
                handler=self._one,
            ),
            Route(
                method="POST",
                path="batches/{id}/cancel",
                summary="Cancels a batch: calls under way may end, no other is begun",
                role="admin",
                answer=BatchWhole,
                handler=self._cancel,
            ),
            Route(
                method="GET",
                path="batches/{id}/output",
                summary="The answers of a batch that has ended, as a file",
                answer=str,
                media=_MEDIA,
                handler=self._output,
            ),
            Route(
                method="GET",
                path="batches/{id}/errors",
                summary="The requests of a batch that failed or were not run, as a file",
                answer=str,
                media=_MEDIA,
                handler=self._errors,
            ),
        )

    async def news(self) -> Listed[BatchShown] | None:
        """What is to be told live: open ones that are not as they were, and once more those that have ended since; None: nothing."""
        store, now = batches_of(self._store), self._clock.wall()
        page = await store.list_batches(None, limit=TOLD_MAX, statuses=OPEN)
        found = {batch.id: batch_shown(batch, now) for batch in page.batches}
        ended = [await store.find_batch(None, batch_id) for batch_id in self._told.keys() - found.keys()]
        changed = [shown for batch_id, shown in found.items() if shown != self._told.get(batch_id)]
        self._told = found
        changed += [batch_shown(batch, now) for batch in ended if batch is not None]
        return Listed(changed) if changed else None

    # --- handlers

    async def _list(self, asked: Asked[BatchesQuery, None]) -> Listed[BatchShown]:
        store, query, now = batches_of(self._store), asked.query, self._clock.wall()
        try:
            page = await store.list_batches(None, limit=query.limit, cursor=query.cursor, statuses=_statuses(query))
        except BadRequest:
            raise unknown_cursor() from None
        shown = [batch_shown(batch, now) for batch in page.batches]
        return Listed(shown, shown[-1].id if page.has_more else None)

    async def _one(self, asked: Asked[NoQuery, None]) -> BatchWhole:
        return await self._whole(batches_of(self._store), asked.of)

    async def _cancel(self, asked: Asked[NoQuery, None]) -> BatchWhole:
        store = batches_of(self._store)
        batch = await _found(store, asked.of)
        before = {"status": batch.status, "key": batch.owner.key}
        async with self._audit.acting("batches.cancel", batch.id, asked.by, before=before):
            await self._hands.cancel(None, batch.id)
        return await self._whole(store, batch.id)

    async def _output(self, asked: Asked[NoQuery, None]) -> Streamed:
        store = batches_of(self._store)
        batch = await _found(store, asked.of)
        return await self._download(store, batch, batch.output_file, "output")

    async def _errors(self, asked: Asked[NoQuery, None]) -> Streamed:
        store = batches_of(self._store)
        batch = await _found(store, asked.of)
        return await self._download(store, batch, batch.error_file, "errors")

    # --- what they have in common

    async def _whole(self, store: BatchStore, batch_id: str) -> BatchWhole:
        batch, now = await _found(store, batch_id), self._clock.wall()
        held, failures, output, errors = await asyncio.gather(
            store.count_held(batch.id, now=now),
            failures_of(store, batch),
            self._file(store, batch, batch.output_file),
            self._file(store, batch, batch.error_file),
        )
        return batch_whole(batch, now, held=held, parts=self._hands.parts(batch), files=(output, errors), failures=failures)

    async def _file(self, store: BatchStore, batch: StoredBatch, file_id: str | None) -> StoredFile | None:
        return None if file_id is None else await store.find_file(batch.owner, file_id, self._clock.wall())

    async def _download(self, store: BatchStore, batch: StoredBatch, file_id: str | None, what: str) -> Streamed:
        if file_id is None:
            why = "it has none" if batch.ended else f"it is {batch.status}; its files are written when it ends"
            raise NotFound(f"There are no {what} of the batch {batch.id}: {why}.")
        file = await self._file(store, batch, file_id)
        if file is None:
            raise NotFound(f"There are no {what} of the batch {batch.id} any more: its file was deleted or has expired.")
        head = {"content-length": str(file.bytes), "content-disposition": f'attachment; filename="{file.filename}"'}
        return Streamed(self._hands.content(file.id, file.bytes), _MEDIA, head)


def _statuses(query: BatchesQuery) -> frozenset[BatchStatus] | None:
    match query.status:
        case None:
            return None
        case "open":
            return OPEN
        case "ended":
            return ENDED
        case status:
            return frozenset({status})


async def _found(store: BatchStore, batch_id: str) -> StoredBatch:
    batch = await store.find_batch(None, batch_id)
    if batch is None:
        raise NotFound(f"There is no batch {batch_id[:100]!r}. GET /admin/v1/batches lists those that there are.")
    return batch
