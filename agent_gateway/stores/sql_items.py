"""The items of batches in SQL: claimed, held by lease and fence, finished once. Nothing here waits for another's claim."""

# ruff: noqa: S608 – what is put into statements are names of this module; values never are

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, ClassVar, Literal, TypeVar

from agent_gateway.stores.batches import (
    BatchSums,
    Claim,
    ClaimedItem,
    FinishedItem,
    HeldItems,
    ItemResult,
    NewItem,
    ReturnedItem,
    StoredBatch,
    file_gone,
)
from agent_gateway.stores.fair_share import FairShares
from agent_gateway.stores.operation import VALUES_AT_ONCE, Database, Operation, Row, marks, rows
from agent_gateway.stores.sql_batches import BATCH, batch_of

#: Batches that are looked at for items to claim.
BATCHES_MAX = 1_000
#: Rows of one statement.
ROWS_AT_ONCE = 64
#: Items made due in one transaction.
HASTENED_AT_ONCE = 5_000

#: Twins are shown with the result of the item that was run for them.
_FINISHED = """
    SELECT item.number, item.custom_id, run.state, run.status_code, run.request_id, run.result
    FROM batch_items item JOIN batch_items run ON run.batch = item.batch AND run.number = coalesce(item.twin, item.number)
    WHERE item.batch = ? AND item.number > ? ORDER BY item.number LIMIT ?
"""
_FAILED = """
    SELECT number, custom_id, state, status_code, request_id, result FROM batch_items
    WHERE batch = ? AND state = 'failed' ORDER BY number LIMIT ?
"""
_HELD = """
    SELECT (SELECT count(*) FROM batch_items WHERE batch = ? AND state = 'running' AND due_at > ?),
        (SELECT count(*) FROM batch_items WHERE batch = ? AND state = 'sent')
"""
#: A twin is never due. The order is that of the index.
_DUE, _WAITING, _IN_TURN = "due_at <= ?", "due_at IS NOT NULL AND state = 'waiting'", "due_at, prefix, number"

_T = TypeVar("_T")
Place = tuple[str, int]


class SqlItems:
    database: Database
    row_lock: ClassVar[str] = ""
    skip_locked: ClassVar[str] = ""
    blob: ClassVar[str] = "BLOB"

    async def add_items(self, batch_id: str, items: Sequence[NewItem]) -> None:
        def add() -> Operation[None]:
            if not (yield f"SELECT 1 FROM batches WHERE id = ?{self.row_lock}", (batch_id,)):
                raise file_gone(batch_id)
            for some in _slices(items, ROWS_AT_ONCE):
                columns = "batch, number, custom_id, model, body, prefix, due_at, twin, state, fence, attempts"
                values = f"({marks(8)}, 'waiting', 0, 0)"
                insert = f"INSERT INTO batch_items ({columns}) VALUES {', '.join([values] * len(some))} ON CONFLICT DO NOTHING"
                yield insert, [value for item in some for value in (batch_id, *_new_row(item))]

        await self.database.write(add())

    async def delete_items(self, batch_id: str, limit: int) -> int:
        some = "SELECT number FROM batch_items WHERE batch = ? LIMIT ?"
        delete = f"DELETE FROM batch_items WHERE batch = ? AND number IN ({some}) RETURNING 1"
        return len(await self.database.write(rows(delete, (batch_id, batch_id, limit))))

    async def claim_items(self, claim: Claim) -> Sequence[ClaimedItem]:
        return await self.database.write(self._claim(claim))

    async def held_items(
        self, batch_id: str, holder: str, *, after: int = 0, limit: int, among: Collection[int] | None = None
    ) -> Sequence[ClaimedItem]:
        of_these, numbers = ("", ()) if among is None else (f" AND number IN ({marks(len(among))})", tuple(among))

        def select() -> Operation[list[ClaimedItem]]:
            found = yield f"SELECT {BATCH} FROM batches WHERE id = ?", (batch_id,)
            if not found:
                return []
            batch = batch_of(found[0])
            held = f"""
                SELECT number, custom_id, model, body, fence, attempts FROM batch_items
                WHERE batch = ? AND state = 'sent' AND holder = ? AND number > ?{of_these} ORDER BY number LIMIT ?
            """
            return [_claimed(batch, row) for row in (yield held, (batch_id, holder, after, *numbers, limit))]

        return await self.database.read(select())

    async def hasten_items(self, batch_id: str, model: str | None, *, now: float) -> int:
        of_model, values = ("", ()) if model is None else (" AND model = ?", (model,))
        late = f"SELECT number FROM batch_items WHERE batch = ?{of_model} AND due_at > ? AND state = 'waiting' LIMIT ?"
        update = f"UPDATE batch_items SET due_at = ? WHERE batch = ? AND state = 'waiting' AND number IN ({late}) RETURNING 1"
        total = 0
        while hastened := await self.database.write(rows(update, (now, batch_id, batch_id, *values, now, HASTENED_AT_ONCE))):
            total += len(hastened)
        return total

    async def extend_leases(self, holder: str, items: Sequence[tuple[str, int, int]], *, now: float, lease_s: float) -> set[Place]:
        return await self.database.write(self._change(items, "due_at = ?, holder = ?", (now + lease_s, holder)))

    async def finish_items(self, results: Sequence[ItemResult]) -> dict[Place, int]:
        return await self.database.write(self._finish(results))

    async def return_items(self, items: Sequence[ReturnedItem]) -> None:
        await self.database.write(self._return(items))

    async def close_items(self, batch_id: str, state: Literal["cancelled", "expired"], *, now: float, limit: int) -> tuple[int, bool]:
        return await self.database.write(self._close(batch_id, state, now, limit))

    async def read_items(self, batch_id: str, *, after: int, limit: int) -> Sequence[FinishedItem]:
        return [_finished(row) for row in await self.database.read(rows(_FINISHED, (batch_id, after, limit)))]

    async def failed_items(self, batch_id: str, *, limit: int) -> Sequence[FinishedItem]:
        return [_finished(row) for row in await self.database.read(rows(_FAILED, (batch_id, limit)))]

    async def count_held(self, batch_id: str, *, now: float) -> HeldItems:
        ((running, sent),) = await self.database.read(rows(_HELD, (batch_id, now, batch_id)))
        return HeldItems(running, sent)

    # --- operations

    def _claim(self, claim: Claim) -> Operation[list[ClaimedItem]]:
        this_one, its_id = ("", ()) if claim.batch is None else (" AND id = ?", (claim.batch,))
        select = f"""
            SELECT {BATCH} FROM batches
            WHERE status = 'in_progress' AND expires_at > ? AND total > completed + failed{this_one} ORDER BY created_at, id LIMIT ?
        """
        batches = [batch_of(row) for row in (yield select, (claim.now, *its_id, BATCHES_MAX))]
        if not batches:
            return []
        running = yield "SELECT batch, count(*) FROM batch_items WHERE state = 'running' AND due_at > ? GROUP BY batch", (claim.now,)
        claimed: list[ClaimedItem] = []
        lost: Counter[str] = Counter()
        shares = FairShares(batches, {batch_id: count for batch_id, count in running}, claim)  # noqa: C416
        for batch, model, wanted in shares:
            found = yield from self._take(claim, batch.id, model, wanted)
            shares.got(len(found))
            claimed += [_claimed(batch, row) for row in found]
            lost[batch.id] += sum(state != "waiting" for *_, state in found)
        yield from _count_lost(lost)
        return claimed

    def _take(self, claim: Claim, batch_id: str, model: str, wanted: int) -> Operation[list[Row]]:
        state, which, values = ("sent", _WAITING, ()) if claim.early else ("running", _DUE, (claim.now,))
        found = yield (
            f"""
            SELECT number, custom_id, model, body, fence + 1, attempts + 1, state FROM batch_items
            WHERE batch = ? AND model = ? AND {which} ORDER BY {_IN_TURN} LIMIT ?{self.row_lock}{self.skip_locked}
            """,
            (batch_id, model, *values, wanted),
        )
        for some in _slices(found, VALUES_AT_ONCE):
            yield (
                f"""
                UPDATE batch_items SET state = '{state}', holder = ?, due_at = ?, fence = fence + 1, attempts = attempts + 1
                WHERE batch = ? AND number IN ({marks(len(some))})
                """,
                (claim.holder, claim.now + claim.lease_s, batch_id, *(row[0] for row in some)),
            )
        return found

    def _finish(self, results: Sequence[ItemResult]) -> Operation[dict[Place, int]]:
        """The request's body goes: the input file has it still."""
        values = [(item.batch, item.number, item.fence, item.state, item.status_code, item.request_id, item.body) for item in results]
        changes = """
            state = given.column4, status_code = given.column5, request_id = given.column6, result = given.column7,
            due_at = NULL, holder = NULL, body = ?
        """
        accepted = yield from self._change(values, changes, (b"",), types=("TEXT", "BIGINT", "TEXT", self.blob))
        twins = yield from _count_twins(accepted)
        sums: defaultdict[str, BatchSums] = defaultdict(BatchSums)
        for item in results:
            if (place := (item.batch, item.number)) in accepted:
                sums[item.batch].add_result(item, twins[place])
        yield from _grow(sums)
        return {place: 1 + twins[place] for place in accepted}

    def _return(self, items: Sequence[ReturnedItem]) -> Operation[None]:
        values = [(item.batch, item.number, item.fence, item.due_at, 0 if item.attempted else 1) for item in items]
        changes = "state = 'waiting', holder = NULL, due_at = given.column4, attempts = attempts - given.column5"
        returned = yield from self._change(values, changes, types=("DOUBLE PRECISION", "BIGINT"))
        sums: defaultdict[str, BatchSums] = defaultdict(BatchSums)
        for item in items:
            if (item.batch, item.number) in returned:
                sums[item.batch].add_returned(item)
        yield from _grow(sums)

    def _change(
        self, items: Sequence[tuple[Any, ...]], changes: str, values: tuple[Any, ...] = (), types: tuple[str, ...] = ()
    ) -> Operation[set[Place]]:
        """Of items (batch, number, fence, …) those that are held with that fence; which they were. In one order for all, as `_grow`."""
        casts = ", ".join(f"CAST(? AS {name})" for name in ("TEXT", "BIGINT", "BIGINT", *types))
        changed: set[Place] = set()
        for some in _slices(sorted(items, key=itemgetter(0, 1)), ROWS_AT_ONCE):
            given = ", ".join([f"({casts})", *[f"({marks(3 + len(types))})"] * (len(some) - 1)])
            found = yield (
                f"""
                UPDATE batch_items SET {changes} FROM (VALUES {given}) AS given
                WHERE batch = given.column1 AND number = given.column2 AND fence = given.column3
                    AND state IN ('running', 'sent')
                RETURNING batch, number
                """,
                (*values, *(value for item in some for value in item)),
            )
            changed.update((batch, number) for batch, number in found)
        return changed

    def _close(self, batch_id: str, state: str, now: float, limit: int) -> Operation[tuple[int, bool]]:
        found = yield (
            f"""
            SELECT number, state FROM batch_items
            WHERE batch = ? AND due_at IS NOT NULL AND (state = 'waiting' OR due_at <= ?)
            ORDER BY model, {_IN_TURN} LIMIT ?{self.row_lock}
            """,
            (batch_id, now, limit),
        )
        twins = yield from _count_twins({(batch_id, number) for number, _ in found})
        for some in _slices(found, VALUES_AT_ONCE):
            update = "UPDATE batch_items SET state = ?, due_at = NULL, holder = NULL, body = ? WHERE batch = ? AND number"
            yield f"{update} IN ({marks(len(some))})", (state, b"", batch_id, *(number for number, _ in some))
        yield from _count_lost(Counter({batch_id: sum(was != "waiting" for _, was in found)}))
        held = yield "SELECT 1 FROM batch_items WHERE batch = ? AND due_at > ? AND state IN ('running', 'sent') LIMIT 1", (batch_id, now)
        return len(found) + twins.total(), bool(held)


def _grow(sums: Mapping[str, BatchSums]) -> Operation[None]:
    """In one order for all, so that nobody waits in a circle."""
    for batch_id, counted in sorted(sums.items()):
        if grown := counted.grown():
            changed = ", ".join(f"{name} = {name} + ?" for name in grown)
            yield f"UPDATE batches SET {changed} WHERE id = ?", (*grown.values(), batch_id)


def _count_lost(lost: Counter[str]) -> Operation[None]:
    for batch_id, calls in sorted(lost.items()):
        if calls:
            yield "UPDATE batches SET lost_calls = lost_calls + ? WHERE id = ?", (calls, batch_id)


def _count_twins(places: Collection[Place]) -> Operation[Counter[Place]]:
    """Of each item those that have its result for their own."""
    twins: Counter[Place] = Counter()
    for batch, of_batch in groupby(sorted(places), key=lambda place: place[0]):
        for some in _slices((number for _, number in of_batch), VALUES_AT_ONCE):
            select = f"SELECT twin, count(*) FROM batch_items WHERE batch = ? AND twin IN ({marks(len(some))}) GROUP BY twin"
            twins.update({(batch, number): count for number, count in (yield select, (batch, *some))})
    return twins


def _new_row(item: NewItem) -> tuple[Any, ...]:
    about = (item.number, item.custom_id, item.model)
    return (*about, item.body, item.prefix, item.due_at, None) if item.twin is None else (*about, b"", item.prefix, None, item.twin)


def _claimed(batch: StoredBatch, row: Row) -> ClaimedItem:
    number, custom_id, model, body, fence, attempts, *_ = row
    held = (batch.id, number, fence, custom_id, model, bytes(body), attempts)
    return ClaimedItem(*held, batch.owner, batch.endpoint, batch.expires_at, batch.key)


def _finished(row: Row) -> FinishedItem:
    number, custom_id, state, status_code, request_id, body = row
    return FinishedItem(number, custom_id, state, status_code, request_id, None if body is None else bytes(body))


def _slices(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
