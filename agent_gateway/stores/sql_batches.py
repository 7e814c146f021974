"""Batches in SQL: a row each, changed by compare-and-swap, but for what is counted as items finish (`sql_items.py`)."""

# ruff: noqa: S608 – what is put into statements are names of this module; values never are

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, Unpack

import msgspec

from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import ENDED, OPEN, BatchChanges, BatchPage, BatchStatus, StoredBatch
from agent_gateway.stores.operation import Database, Operation, Row, marks, rows
from agent_gateway.stores.sql_files import place_of

_NAMES = [field.name for field in fields(StoredBatch)]
#: Those that a row has as they are.
_PLAIN = [name for name in _NAMES if name not in ("owner", "models")]
BATCH = ", ".join(["key_id", "user_id", "models", *_PLAIN])
_BYTES = frozenset({"metadata", "key", "errors", "plan"})
#: Named one by one, so that the index on the status is of use.
_ENDED, _OPEN = (", ".join(f"'{status}'" for status in sorted(some)) for some in (ENDED, OPEN))
_ended_at = "coalesce(completed_at, failed_at, expired_at, cancelled_at)"
_models = msgspec.json.Decoder(tuple[str, ...])


class SqlBatches:
    database: Database

    async def create_batch(self, batch: StoredBatch) -> None:
        values = [batch.owner.key, batch.owner.user, _column("models", batch.models), *(getattr(batch, name) for name in _PLAIN)]
        await self.database.write(rows(f"INSERT INTO batches ({BATCH}) VALUES ({marks(len(values))})", values))

    async def find_batch(self, owner: Owner | None, batch_id: str) -> StoredBatch | None:
        found = await self.database.read(rows(f"SELECT {BATCH} FROM batches WHERE id = ?", (batch_id,)))
        batch = batch_of(found[0]) if found else None
        return batch if batch is not None and owner in (None, batch.owner) else None

    async def list_batches(
        self, owner: Owner | None, *, limit: int, cursor: str | None = None, statuses: Collection[BatchStatus] | None = None
    ) -> BatchPage:
        def select() -> Operation[list[Row]]:
            where, values = ["1 = 1"], list[Any]()
            if owner is not None:
                where.append("key_id = ? AND user_id = ?")
                values += [owner.key, owner.user]
            if statuses is not None:
                where.append(f"status IN ({marks(len(statuses))})")
                values += statuses
            if cursor is not None:
                where.append("(created_at, id) < (?, ?)")
                values += yield from place_of("batches", owner, cursor)
            text = f"SELECT {BATCH} FROM batches WHERE {' AND '.join(where)} ORDER BY created_at DESC, id DESC LIMIT ?"
            return (yield text, (*values, limit + 1))

        found = [batch_of(row) for row in await self.database.read(select())]
        return BatchPage(found[:limit], len(found) > limit)

    async def update_batch(self, batch_id: str, expected_version: int, **changes: Unpack[BatchChanges]) -> StoredBatch | None:
        columns = "".join(f", {name} = ?" for name in changes)
        values = [_column(name, value) for name, value in changes.items()]
        update = f"UPDATE batches SET version = version + 1{columns} WHERE id = ? AND version = ? RETURNING {BATCH}"
        found = await self.database.write(rows(update, (*values, batch_id, expected_version)))
        return batch_of(found[0]) if found else None

    async def open_batches(self, *, limit: int) -> Sequence[StoredBatch]:
        select = f"SELECT {BATCH} FROM batches WHERE status IN ({_OPEN}) ORDER BY created_at, id LIMIT ?"
        return [batch_of(row) for row in await self.database.read(rows(select, (limit,)))]

    async def sweep_batches(self, *, ended_before: float, limit: int) -> int:
        old = f"SELECT id FROM batches WHERE status IN ({_ENDED}) AND {_ended_at} < ? LIMIT ?"
        return len(await self.database.write(rows(f"DELETE FROM batches WHERE id IN ({old}) RETURNING 1", (ended_before, limit))))


def batch_of(row: Row) -> StoredBatch:
    key, user, models, *plain = row
    values = dict(zip(_PLAIN, plain, strict=True))
    for name in _BYTES:
        if values[name] is not None:
            values[name] = bytes(values[name])
    if values["deduplicate"] is not None:
        values["deduplicate"] = bool(values["deduplicate"])
    return StoredBatch(owner=Owner(key, user), models=_models.decode(models), **values)


def _column(name: str, value: Any) -> Any:
    return msgspec.json.encode(value).decode() if name == "models" else value
