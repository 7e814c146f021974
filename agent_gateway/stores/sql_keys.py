"""Keys and teams in SQL; the half of `SqlStore` that the key ring asks. Triggers count `keys_version` up, whoever writes."""

# ruff: noqa: S608 – what is put into statements are names of this module; values never are

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from agent_gateway.core.settings import Budget
from agent_gateway.stores.base import Key, KeyPage, Team, before_rotation, key_exists, team_in_use, unknown_cursor
from agent_gateway.stores.operation import VALUES_AT_ONCE, Database, Operation, Row, marks, rows

#: What `update_key` changes, and the rest of a key's row, but for the hashes of its secrets.
_CHANGEABLE = (
    "name, models, expires_at, requests_per_minute, tokens_per_minute, max_parallel, role, endpoints, owner, team, budget, metadata"
)
_KEY = f"id, created_at, revoked_at, previous_until, {_CHANGEABLE}"
_TEAM = "id, name, created_at, budget"
_names = msgspec.json.Decoder(frozenset[str])
_budget = msgspec.json.Decoder(Budget)


class SqlKeys:
    database: Database

    async def create_key(self, key: Key, secret_hash: bytes) -> None:
        values = (key.id, key.created_at, key.revoked_at, key.previous_until, *_changeable(key), secret_hash)
        insert = f"INSERT INTO keys ({_KEY}, secret_hash) VALUES ({marks(len(values))}) ON CONFLICT DO NOTHING RETURNING id"
        if not await self.database.write(rows(insert, values)):
            raise key_exists(key.id)

    async def list_keys(self, *, limit: int, cursor: str | None = None, team: str | None = None) -> KeyPage:
        return await self.database.read(_list_keys(limit, cursor, team))

    async def find_key(self, key_id: str) -> Key | None:
        return _first(await self.database.read(rows(f"SELECT {_KEY} FROM keys WHERE id = ?", (key_id,))))

    async def update_key(self, key: Key) -> Key | None:
        changes = ", ".join(f"{column} = ?" for column in _CHANGEABLE.split(", "))
        update = f"UPDATE keys SET {changes} WHERE id = ? RETURNING {_KEY}"
        return _first(await self.database.write(rows(update, (*_changeable(key), key.id))))

    async def rotate_key(self, key_id: str, secret_hash: bytes, *, previous_until: float) -> Key | None:
        update = f"""
            UPDATE keys SET previous_hash = secret_hash, previous_until = ?, secret_hash = ?
            WHERE id = ? AND revoked_at IS NULL RETURNING {_KEY}
        """
        return _first(await self.database.write(rows(update, (previous_until, secret_hash, key_id))))

    async def revoke_key(self, key_id: str, at: float) -> Key | None:
        def revoke() -> Operation[Key | None]:
            yield "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (at, key_id)
            return _first((yield f"SELECT {_KEY} FROM keys WHERE id = ?", (key_id,)))

        return await self.database.write(revoke())

    async def find_keys(self, secret_hashes: Collection[bytes]) -> Mapping[bytes, Key]:
        return await self.database.read(_find_keys(secret_hashes))

    async def put_team(self, team: Team) -> None:
        put = f"""
            INSERT INTO teams ({_TEAM}) VALUES ({marks(4)})
            ON CONFLICT (id) DO UPDATE SET name = excluded.name, created_at = excluded.created_at, budget = excluded.budget
        """
        await self.database.write(rows(put, (team.id, team.name, team.created_at, _json(team.budget))))

    async def list_teams(self) -> Sequence[Team]:
        found = await self.database.read(rows(f"SELECT {_TEAM} FROM teams"))
        teams = [Team(team_id, name, created_at, _budget_of(budget)) for team_id, name, created_at, budget in found]
        return sorted(teams, key=lambda team: team.id)  # here, since databases sort text by their own rules

    async def delete_team(self, team_id: str) -> bool:
        def delete() -> Operation[bool]:
            if (yield "SELECT 1 FROM keys WHERE team = ? AND revoked_at IS NULL LIMIT 1", (team_id,)):
                raise team_in_use(team_id)
            return bool((yield "DELETE FROM teams WHERE id = ? RETURNING 1", (team_id,)))

        return await self.database.write(delete())

    async def keys_version(self) -> int:
        ((version,),) = await self.database.read(rows("SELECT version FROM keys_version"))
        return int(version)


def _list_keys(limit: int, cursor: str | None, team: str | None) -> Operation[KeyPage]:
    wheres: list[tuple[str, tuple[Any, ...]]] = []
    if team is not None:
        wheres.append(("team = ?", (team,)))
    if cursor is not None:
        shown = yield "SELECT created_at, id FROM keys WHERE id = ?", (cursor,)
        if not shown:
            raise unknown_cursor()
        wheres.append(("(created_at, id) > (?, ?)", (*shown[0],)))
    where = " AND ".join(text for text, _ in wheres) or "1 = 1"
    values = [value for _, some in wheres for value in some]
    found = yield f"SELECT {_KEY} FROM keys WHERE {where} ORDER BY created_at, id LIMIT ?", (*values, limit)
    return KeyPage.of([_key(row) for row in found], limit)


def _find_keys(secret_hashes: Collection[bytes]) -> Operation[dict[bytes, Key]]:
    """Every hash is two values: of a secret that is good, and of one that was rotated away."""
    found = {}
    left = iter(secret_hashes)
    while some := list(islice(left, VALUES_AT_ONCE // 2)):
        asked, among = set(some), marks(len(some))
        select = f"SELECT {_KEY}, secret_hash, previous_hash FROM keys WHERE secret_hash IN ({among}) OR previous_hash IN ({among})"
        for row in (yield select, (*some, *some)):
            key, current, previous = _key(row[:-2]), bytes(row[-2]), row[-1]
            if current in asked:
                found[current] = key
            if previous is not None and bytes(previous) in asked:
                found[bytes(previous)] = before_rotation(key)
    return found


# --- rows -------------------------------------------------------------------------------------------------------------


def _changeable(key: Key) -> tuple[Any, ...]:
    """In the order of `_CHANGEABLE`."""
    limits = (key.requests_per_minute, key.tokens_per_minute, key.max_parallel)
    scopes = (key.role, _json_names(key.endpoints), key.owner, key.team)
    return key.name, _json_names(key.models), key.expires_at, *limits, *scopes, _json(key.budget), key.metadata


def _first(found: Sequence[Row]) -> Key | None:
    return _key(found[0]) if found else None


def _key(row: Row) -> Key:
    key_id, created_at, revoked_at, previous_until, name, models, expires_at = row[:7]
    requests_per_minute, tokens_per_minute, max_parallel, role, endpoints, owner, team, budget, metadata = row[7:]
    return Key(
        id=key_id,
        name=name,
        models=_names_of(models),
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        max_parallel=max_parallel,
        role=role,
        endpoints=_names_of(endpoints),
        owner=owner,
        team=team,
        budget=_budget_of(budget),
        metadata=None if metadata is None else bytes(metadata),
        previous_until=previous_until,
    )


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _json_names(names: frozenset[str] | None) -> str | None:
    return None if names is None else _json(sorted(names))


def _names_of(text: str | None) -> frozenset[str] | None:
    return None if text is None else _names.decode(text)


def _budget_of(text: str | None) -> Budget | None:
    return None if text is None else _budget.decode(text)
