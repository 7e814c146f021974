"""Files and batches that end with the process; the half of `MemoryStore` that demos and tests use."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Literal, TypeVar, Unpack

from agent_gateway.core.errors import TooLarge
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import (
    BatchChanges,
    BatchPage,
    BatchStatus,
    BatchSums,
    Claim,
    ClaimedItem,
    FilePage,
    FinishedItem,
    HeldItems,
    ItemResult,
    ItemState,
    NewItem,
    ReturnedItem,
    StoredBatch,
    StoredFile,
    file_gone,
    unknown_place,
)
from agent_gateway.stores.fair_share import FairShares

#: Of all files together.
FILES_BYTES_MAX = 1024 * 1024 * 1024

_Listed = TypeVar("_Listed", StoredFile, StoredBatch)


@dataclass(slots=True)
class _Item:
    number: int
    custom_id: str
    model: str
    body: bytes
    prefix: str
    twin: int | None
    state: ItemState = "waiting"
    due_at: float | None = None
    holder: str | None = None
    fence: int = 0
    attempts: int = 0
    status_code: int | None = None
    request_id: str | None = None
    result: bytes | None = None

    def is_held(self, now: float) -> bool:
        return self.state in ("running", "sent") and self.due_at is not None and self.due_at > now


@dataclass(slots=True)
class _Items:
    by_number: dict[int, _Item] = field(default_factory=dict)
    #: How many have an item's result for their own, by its number.
    twins: Counter[int] = field(default_factory=Counter)
    #: Of each model those that may be claimed one day, as (due at, prefix, number).
    due: dict[str, list[tuple[float, str, int]]] = field(default_factory=dict)
    running: dict[int, _Item] = field(default_factory=dict)

    def change(self, item: _Item, state: ItemState, due_at: float | None, holder: str | None = None) -> None:
        if item.due_at is not None:
            due = self.due[item.model]
            del due[bisect_left(due, (item.due_at, item.prefix, item.number))]
        self.running.pop(item.number, None)
        item.state, item.due_at, item.holder = state, due_at, holder
        if due_at is not None:
            insort(self.due.setdefault(item.model, []), (due_at, item.prefix, item.number))
        if state == "running":
            self.running[item.number] = item

    def claimable(self, model: str, wanted: int, now: float, early: bool) -> list[_Item]:
        """In the order of their turns."""
        in_turn = (self.by_number[number] for _, _, number in self.due.get(model, ()))
        if early:
            return list(islice((item for item in in_turn if item.state == "waiting"), wanted))
        return list(islice(takewhile(lambda item: item.due_at is not None and item.due_at <= now, in_turn), wanted))


class MemoryBatches:
    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}
        self._chunks: dict[str, dict[int, bytes]] = {}
        self._files_bytes = 0
        self._batches: dict[str, StoredBatch] = {}
        self._items: dict[str, _Items] = {}

    # --- files

    async def begin_file(self, file: StoredFile) -> None:
        self._files[file.id] = file
        self._chunks[file.id] = {}

    async def add_chunk(self, file_id: str, place: int, body: bytes) -> None:
        chunks = self._chunks.get(file_id)
        if chunks is None:
            raise file_gone(file_id)
        more = len(body) - len(chunks.get(place, b""))
        if self._files_bytes + more > FILES_BYTES_MAX:
            raise TooLarge("There is no memory for more files: delete some, or keep them in a file (state.database).")
        self._files_bytes += more
        chunks[place] = body

    async def complete_file(self, file_id: str, size: int) -> StoredFile | None:
        file = self._files.get(file_id)
        if file is None:
            return None
        file = self._files[file_id] = replace(file, bytes=size, complete=True)
        return file

    async def find_file(self, owner: Owner, file_id: str, now: float) -> StoredFile | None:
        file = self._files.get(file_id)
        return file if file is not None and file.owner == owner and _is_there(file, now) else None

    async def list_files(self, owner: Owner, *, now: float, limit: int, cursor: str | None = None, purpose: str | None = None) -> FilePage:
        fitting = [
            file for file in self._files.values() if file.owner == owner and _is_there(file, now) and purpose in (None, file.purpose)
        ]
        found = _page(fitting, _shown(self._files, owner, cursor), limit)
        return FilePage(found[:limit], len(found) > limit)

    async def read_chunk(self, file_id: str, place: int) -> bytes | None:
        return self._chunks.get(file_id, {}).get(place)

    async def delete_file(self, owner: Owner, file_id: str) -> bool:
        file = self._files.get(file_id)
        if file is None or file.owner != owner:
            return False
        self._drop_file(file_id)
        return True

    async def sweep_files(self, now: float, *, abandoned_before: float, limit: int) -> int:
        old = [
            file.id
            for file in self._files.values()
            if (file.expires_at is not None and file.expires_at <= now) or (not file.complete and file.created_at < abandoned_before)
        ]
        for file_id in old[:limit]:
            self._drop_file(file_id)
        return min(len(old), limit)

    def _drop_file(self, file_id: str) -> None:
        del self._files[file_id]
        self._files_bytes -= sum(map(len, self._chunks.pop(file_id).values()))

    # --- batches

    async def create_batch(self, batch: StoredBatch) -> None:
        self._batches[batch.id] = batch
        self._items[batch.id] = _Items()

    async def find_batch(self, owner: Owner | None, batch_id: str) -> StoredBatch | None:
        batch = self._batches.get(batch_id)
        return batch if batch is not None and owner in (None, batch.owner) else None

    async def list_batches(
        self, owner: Owner | None, *, limit: int, cursor: str | None = None, statuses: Collection[BatchStatus] | None = None
    ) -> BatchPage:
        theirs = [batch for batch in self._batches.values() if owner in (None, batch.owner)]
        fitting = [batch for batch in theirs if statuses is None or batch.status in statuses]
        found = _page(fitting, _shown(self._batches, owner, cursor), limit)
        return BatchPage(found[:limit], len(found) > limit)

    async def update_batch(self, batch_id: str, expected_version: int, **changes: Unpack[BatchChanges]) -> StoredBatch | None:
        batch = self._batches.get(batch_id)
        if batch is None or batch.version != expected_version:
            return None
        batch = self._batches[batch_id] = replace(batch, version=expected_version + 1, **changes)
        return batch

    async def open_batches(self, *, limit: int) -> Sequence[StoredBatch]:
        return sorted((batch for batch in self._batches.values() if not batch.ended), key=_age)[:limit]

    async def sweep_batches(self, *, ended_before: float, limit: int) -> int:
        old = [batch.id for batch in self._batches.values() if batch.ended and (batch.ended_at or 0.0) < ended_before]
        for batch_id in old[:limit]:
            self._drop_batch(batch_id)
        return min(len(old), limit)

    def delete_batches_of(self, user: str) -> int:
        """And files; how many."""
        files = [file.id for file in self._files.values() if file.owner.user == user]
        batches = [batch.id for batch in self._batches.values() if batch.owner.user == user]
        for file_id in files:
            self._drop_file(file_id)
        for batch_id in batches:
            self._drop_batch(batch_id)
        return len(files) + len(batches)

    def _drop_batch(self, batch_id: str) -> None:
        del self._batches[batch_id], self._items[batch_id]

    def _grow(self, batch_id: str, grown: Mapping[str, float]) -> None:
        batch = self._batches[batch_id]
        changes: dict[str, object] = {name: getattr(batch, name) + more for name, more in grown.items()}
        self._batches[batch_id] = replace(batch, **changes)  # type: ignore[arg-type]

    # --- items

    async def add_items(self, batch_id: str, items: Sequence[NewItem]) -> None:
        kept = self._items.get(batch_id)
        if kept is None:
            raise file_gone(batch_id)
        for new in items:
            if new.number not in kept.by_number:
                body, due_at = (new.body, new.due_at) if new.twin is None else (b"", None)
                item = kept.by_number[new.number] = _Item(new.number, new.custom_id, new.model, body, new.prefix, new.twin)
                kept.change(item, "waiting", due_at)
                if new.twin is not None:
                    kept.twins[new.twin] += 1

    async def delete_items(self, batch_id: str, limit: int) -> int:
        kept = self._items.get(batch_id, _Items())
        some = list(kept.by_number.values())[:limit]
        for item in some:
            kept.change(item, item.state, None)
            kept.running.pop(item.number, None)
            del kept.by_number[item.number]
        return len(some)

    async def claim_items(self, claim: Claim) -> Sequence[ClaimedItem]:
        now = claim.now
        open_ones = (batch for batch in self._batches.values() if batch.status == "in_progress" and batch.expires_at > now)
        batches = sorted((batch for batch in open_ones if claim.batch in (None, batch.id)), key=_age)
        held = {batch.id: sum(item.is_held(now) for item in self._items[batch.id].running.values()) for batch in batches}
        claimed: list[ClaimedItem] = []
        shares = FairShares(batches, held, claim)
        for batch, model, wanted in shares:
            kept = self._items[batch.id]
            due = kept.claimable(model, wanted, now, claim.early)
            shares.got(len(due))
            self._grow(batch.id, {"lost_calls": sum(item.state != "waiting" for item in due)})
            for item in due:
                kept.change(item, "sent" if claim.early else "running", now + claim.lease_s, claim.holder)
                item.fence += 1
                item.attempts += 1
                claimed.append(_claimed(batch, item))
        return claimed

    async def held_items(
        self, batch_id: str, holder: str, *, after: int = 0, limit: int, among: Collection[int] | None = None
    ) -> Sequence[ClaimedItem]:
        held = (item for item in self._items.get(batch_id, _Items()).by_number.values() if item.state == "sent" and item.holder == holder)
        wanted = (item for item in held if item.number > after and (among is None or item.number in among))
        found = sorted(wanted, key=lambda item: item.number)
        return [_claimed(self._batches[batch_id], item) for item in found[:limit]]

    async def hasten_items(self, batch_id: str, model: str | None, *, now: float) -> int:
        kept = self._items.get(batch_id, _Items())
        waiting = [item for item in kept.by_number.values() if item.state == "waiting" and model in (None, item.model)]
        late = [item for item in waiting if item.due_at is not None and item.due_at > now]
        for item in late:
            kept.change(item, "waiting", now)
        return len(late)

    async def extend_leases(
        self, holder: str, items: Sequence[tuple[str, int, int]], *, now: float, lease_s: float
    ) -> set[tuple[str, int]]:
        extended = set()
        for batch_id, number, fence in items:
            if (item := self._held(batch_id, number, fence)) is not None:
                self._items[batch_id].change(item, item.state, now + lease_s, holder)
                extended.add((batch_id, number))
        return extended

    async def finish_items(self, results: Sequence[ItemResult]) -> dict[tuple[str, int], int]:
        accepted = {}
        for result in results:
            item = self._held(result.batch, result.number, result.fence)
            if item is None:
                continue
            self._items[result.batch].change(item, result.state, None)
            item.body = b""
            item.status_code, item.request_id, item.result = result.status_code, result.request_id, result.body
            counted, twins = BatchSums(), self._items[result.batch].twins[result.number]
            counted.add_result(result, twins)
            self._grow(result.batch, counted.grown())
            accepted[result.batch, result.number] = 1 + twins
        return accepted

    async def return_items(self, items: Sequence[ReturnedItem]) -> None:
        for returned in items:
            if (item := self._held(returned.batch, returned.number, returned.fence)) is not None:
                self._items[returned.batch].change(item, "waiting", returned.due_at)
                item.attempts -= not returned.attempted
                counted = BatchSums()
                counted.add_returned(returned)
                self._grow(returned.batch, counted.grown())

    async def close_items(self, batch_id: str, state: Literal["cancelled", "expired"], *, now: float, limit: int) -> tuple[int, bool]:
        kept = self._items.get(batch_id, _Items())
        open_ones = [item for item in kept.by_number.values() if item.due_at is not None and not item.is_held(now)][:limit]
        if open_ones:
            self._grow(batch_id, {"lost_calls": sum(item.state != "waiting" for item in open_ones)})
        for item in open_ones:
            kept.change(item, state, None)
            item.body = b""
        closed = sum(1 + kept.twins[item.number] for item in open_ones)
        return closed, any(item.is_held(now) for item in kept.by_number.values())

    async def read_items(self, batch_id: str, *, after: int, limit: int) -> Sequence[FinishedItem]:
        kept = self._items.get(batch_id, _Items()).by_number
        some = sorted(number for number in kept if number > after)[:limit]
        found = [(kept[number], kept[kept[number].twin or number]) for number in some]
        return [FinishedItem(item.number, item.custom_id, run.state, run.status_code, run.request_id, run.result) for item, run in found]

    async def failed_items(self, batch_id: str, *, limit: int) -> Sequence[FinishedItem]:
        kept = self._items.get(batch_id, _Items()).by_number
        failed = [kept[number] for number in sorted(kept) if kept[number].state == "failed"][:limit]
        return [FinishedItem(item.number, item.custom_id, item.state, item.status_code, item.request_id, item.result) for item in failed]

    async def count_held(self, batch_id: str, *, now: float) -> HeldItems:
        kept = self._items.get(batch_id, _Items())
        sent = sum(item.state == "sent" for item in kept.by_number.values())
        return HeldItems(sum(item.is_held(now) for item in kept.running.values()), sent)

    def _held(self, batch_id: str, number: int, fence: int) -> _Item | None:
        item = self._items.get(batch_id, _Items()).by_number.get(number)
        return item if item is not None and item.state in ("running", "sent") and item.fence == fence else None


def _claimed(batch: StoredBatch, item: _Item) -> ClaimedItem:
    held = (batch.id, item.number, item.fence, item.custom_id, item.model, item.body, item.attempts)
    return ClaimedItem(*held, batch.owner, batch.endpoint, batch.expires_at, batch.key)


def _is_there(file: StoredFile, now: float) -> bool:
    return file.complete and (file.expires_at is None or file.expires_at > now)


def _age(listed: StoredFile | StoredBatch) -> tuple[float, str]:
    return listed.created_at, listed.id


def _shown(table: Mapping[str, _Listed], owner: Owner | None, cursor: str | None) -> _Listed | None:
    if cursor is None:
        return None
    shown = table.get(cursor)
    if shown is None or owner not in (None, shown.owner):
        raise unknown_place(cursor)
    return shown


def _page(fitting: Sequence[_Listed], shown: _Listed | None, limit: int) -> list[_Listed]:
    """One more than `limit`, where there is one."""
    older = [listed for listed in fitting if shown is None or _age(listed) < _age(shown)]
    return sorted(older, key=_age, reverse=True)[: limit + 1]
