"""Files in SQL: a row each, and their content in chunks beside it."""

# ruff: noqa: S608 – what is put into statements are names of this module; values never are

from __future__ import annotations

from typing import Any, ClassVar

from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import FilePage, StoredFile, file_gone, unknown_place
from agent_gateway.stores.operation import Database, Operation, Row, marks, rows

_FILE = "id, key_id, user_id, filename, purpose, created_at, expires_at, bytes, complete"
#: Complete, an owner's, and not expired.
_THERE = "key_id = ? AND user_id = ? AND complete AND (expires_at IS NULL OR expires_at > ?)"


class SqlFiles:
    database: Database
    #: At the end of a SELECT whose rows are changed next; SQLite has one writer anyway.
    row_lock: ClassVar[str] = ""

    async def begin_file(self, file: StoredFile) -> None:
        values = (file.id, file.owner.key, file.owner.user, file.filename, file.purpose, file.created_at, file.expires_at)
        insert = f"INSERT INTO files ({_FILE}) VALUES ({marks(9)})"
        await self.database.write(rows(insert, (*values, file.bytes, file.complete)))

    async def add_chunk(self, file_id: str, place: int, body: bytes) -> None:
        def add() -> Operation[None]:
            if not (yield f"SELECT 1 FROM files WHERE id = ?{self.row_lock}", (file_id,)):
                raise file_gone(file_id)
            insert = "INSERT INTO file_chunks (file, place, body) VALUES (?, ?, ?)"
            yield f"{insert} ON CONFLICT (file, place) DO UPDATE SET body = excluded.body", (file_id, place, body)

        await self.database.write(add())

    async def complete_file(self, file_id: str, size: int) -> StoredFile | None:
        update = f"UPDATE files SET bytes = ?, complete = TRUE WHERE id = ? RETURNING {_FILE}"
        found = await self.database.write(rows(update, (size, file_id)))
        return _file(found[0]) if found else None

    async def find_file(self, owner: Owner, file_id: str, now: float) -> StoredFile | None:
        select = f"SELECT {_FILE} FROM files WHERE id = ? AND {_THERE}"
        found = await self.database.read(rows(select, (file_id, owner.key, owner.user, now)))
        return _file(found[0]) if found else None

    async def list_files(self, owner: Owner, *, now: float, limit: int, cursor: str | None = None, purpose: str | None = None) -> FilePage:
        def select() -> Operation[list[Row]]:
            where, values = [_THERE], [owner.key, owner.user, now]
            if purpose is not None:
                where.append("purpose = ?")
                values.append(purpose)
            if cursor is not None:
                where.append("(created_at, id) < (?, ?)")
                values += yield from place_of("files", owner, cursor)
            text = f"SELECT {_FILE} FROM files WHERE {' AND '.join(where)} ORDER BY created_at DESC, id DESC LIMIT ?"
            return (yield text, (*values, limit + 1))

        found = [_file(row) for row in await self.database.read(select())]
        return FilePage(found[:limit], len(found) > limit)

    async def read_chunk(self, file_id: str, place: int) -> bytes | None:
        found = await self.database.read(rows("SELECT body FROM file_chunks WHERE file = ? AND place = ?", (file_id, place)))
        return bytes(found[0][0]) if found else None

    async def delete_file(self, owner: Owner, file_id: str) -> bool:
        delete = "DELETE FROM files WHERE id = ? AND key_id = ? AND user_id = ? RETURNING 1"
        return bool(await self.database.write(rows(delete, (file_id, owner.key, owner.user))))

    async def sweep_files(self, now: float, *, abandoned_before: float, limit: int) -> int:
        old = "expires_at <= ? OR (NOT complete AND created_at < ?)"
        delete = f"DELETE FROM files WHERE id IN (SELECT id FROM files WHERE {old} LIMIT ?) RETURNING 1"
        return len(await self.database.write(rows(delete, (now, abandoned_before, limit))))


def place_of(table: str, owner: Owner | None, cursor: str) -> Operation[list[Any]]:
    """Where in the list of an owner's, or of everybody's, the one stands that was shown last. Raises `BadRequest`."""
    mine, values = ("", ()) if owner is None else (" AND key_id = ? AND user_id = ?", (owner.key, owner.user))
    shown = yield f"SELECT created_at, id FROM {table} WHERE id = ?{mine}", (cursor, *values)
    if not shown:
        raise unknown_place(cursor)
    return list(shown[0])


def _file(row: Row) -> StoredFile:
    file_id, key, user, filename, purpose, created_at, expires_at, size, complete = row
    return StoredFile(file_id, Owner(key, user), filename, purpose, created_at, expires_at, size, bool(complete))
