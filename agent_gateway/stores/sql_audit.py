"""The audit log in SQL. Triggers refuse to change or delete a row; its head is one row, whose lock has appends wait for each other."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from agent_gateway.stores.base import NO_ROW, SECRET_BYTES, AuditRow
from agent_gateway.stores.operation import Database, Operation, Row, rows


class SqlAudit:
    database: Database

    async def append_audit(self, chain: Callable[[AuditRow | None], AuditRow], sign: Callable[[AuditRow], bytes]) -> AuditRow:
        def append() -> Operation[AuditRow]:
            yield "UPDATE audit_head SET signature = signature", ()  # takes the lock
            last = yield "SELECT number, body, hash FROM audit ORDER BY number DESC LIMIT 1", ()
            row = chain(_row(last[0]) if last else None)
            yield "INSERT INTO audit (number, body, hash) VALUES (?, ?, ?)", (row.number, row.body, row.hash)
            yield "UPDATE audit_head SET signature = ?", (sign(row),)
            return row

        return await self.database.write(append())

    async def read_audit(self, *, after: int, limit: int) -> Sequence[AuditRow]:
        select = "SELECT number, body, hash FROM audit WHERE number > ? ORDER BY number LIMIT ?"
        return [_row(row) for row in await self.database.read(rows(select, (after, limit)))]

    async def audit_head(self) -> tuple[AuditRow, bytes] | None:
        # In one statement: an append in between would be half seen.
        select = """
            SELECT audit.number, audit.body, audit.hash, audit_head.signature
            FROM (SELECT 1) AS one LEFT JOIN audit_head ON 1 = 1 LEFT JOIN audit ON 1 = 1 ORDER BY audit.number DESC LIMIT 1
        """
        ((*row, signature),) = await self.database.read(rows(select))
        if row[0] is None and signature is None:
            return None
        return NO_ROW if row[0] is None else _row(row), _bytes(signature)

    async def secret(self, name: str) -> bytes:
        def find() -> Operation[bytes]:
            made = secrets.token_bytes(SECRET_BYTES)
            yield "INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, made)
            ((value,),) = yield "SELECT value FROM secrets WHERE name = ?", (name,)
            return bytes(value)

        return await self.database.write(find())


def _row(row: Row) -> AuditRow:
    return AuditRow(row[0], _bytes(row[1]), _bytes(row[2]))


def _bytes(value: object) -> bytes:
    """SQLite lets whoever tampers with it put anything there; the chain tells that it is wrong."""
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b"" if value is None else str(value).encode()
