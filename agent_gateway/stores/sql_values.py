"""Small things by kind and name, each until its time is over, in SQL."""

from __future__ import annotations

from collections.abc import Mapping

from agent_gateway.stores.operation import Database, Operation, rows

_FORGET = "DELETE FROM kept_values WHERE kind = ? AND expires_at <= ?"
_KEEP = """
    INSERT INTO kept_values (kind, name, body, expires_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body, expires_at = excluded.expires_at
"""
_CLAIM = f"{_KEEP} WHERE kept_values.body = excluded.body RETURNING 1"
_LIVE = "(expires_at IS NULL OR expires_at > ?)"


class SqlValues:
    database: Database

    async def keep_value(self, kind: str, name: str, body: bytes, *, now: float, expires_at: float | None = None) -> None:
        def keep() -> Operation[None]:
            yield _FORGET, (kind, now)
            yield _KEEP, (kind, name, body, expires_at)

        await self.database.write(keep())

    async def claim_value(self, kind: str, name: str, body: bytes, *, now: float, expires_at: float) -> bool:
        def claim() -> Operation[bool]:
            yield _FORGET, (kind, now)
            return bool((yield _CLAIM, (kind, name, body, expires_at)))

        return await self.database.write(claim())

    async def find_value(self, kind: str, name: str, now: float) -> bytes | None:
        select = f"SELECT body FROM kept_values WHERE kind = ? AND name = ? AND {_LIVE}"  # noqa: S608 – a name of this module
        found = await self.database.read(rows(select, (kind, name, now)))
        return bytes(found[0][0]) if found else None

    async def list_values(self, kind: str, now: float) -> Mapping[str, bytes]:
        select = f"SELECT name, body FROM kept_values WHERE kind = ? AND {_LIVE} ORDER BY name"  # noqa: S608 – as above
        return {name: bytes(body) for name, body in await self.database.read(rows(select, (kind, now)))}

    async def drop_value(self, kind: str, name: str) -> bool:
        return bool(await self.database.change("DELETE FROM kept_values WHERE kind = ? AND name = ? RETURNING 1", (kind, name)))
