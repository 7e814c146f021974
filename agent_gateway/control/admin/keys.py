"""`/admin/v1/keys`: the virtual keys. A secret is in one answer only: that of the request that made it.

Promise: a change is known to every process within a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from agent_gateway.admission.keys import new_key, rotate_key
from agent_gateway.control.admin.spent import Spent, spent_of
from agent_gateway.control.admin_route import Asked, Listed, NoQuery, PageQuery, Route
from agent_gateway.control.audit import AuditLog
from agent_gateway.control.snapshot import Configuration
from agent_gateway.control.times import moment, told
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, Conflict, NotFound
from agent_gateway.core.settings import Budget
from agent_gateway.stores.base import Key, Role, Store

NAME_MAX = 200
SCOPES_MAX = 1_000
METADATA_MAX_BYTES = 4_096
OVERLAP_S = 86_400.0
OVERLAP_MAX_S = 90 * 86_400.0
_COUNT_MAX = 2**31 - 1

_Count = Annotated[int, Meta(ge=1, le=_COUNT_MAX)]
_Name = Annotated[str, Meta(min_length=1, max_length=NAME_MAX)]
_Models = Annotated[list[_Name], Meta(max_length=SCOPES_MAX)]
_Endpoint = Annotated[str, Meta(pattern="^/", max_length=NAME_MAX, extra={"told": "a path that begins with /, such as /v1/embeddings"})]
_Endpoints = Annotated[list[_Endpoint], Meta(max_length=SCOPES_MAX)]
_Team = Annotated[str, Meta(max_length=NAME_MAX)]


class KeysQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    team: str | None = None


class NewKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: _Name
    role: Role = "user"
    #: Null: all.
    models: _Models | None = None
    #: Paths such as /v1/chat/completions; a * at the end stands for any rest. Null: all.
    endpoints: _Endpoints | None = None
    owner: Annotated[str, Meta(max_length=NAME_MAX)] = ""
    team: _Team | None = None
    expires_at: str | None = None
    #: Null: what the configuration allows every key.
    requests_per_minute: _Count | None = None
    tokens_per_minute: _Count | None = None
    max_parallel: _Count | None = None
    budget: Budget | None = None
    metadata: dict[str, Any] | None = None


class KeyChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    name: _Name | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    models: _Models | UnsetType | None = UNSET
    endpoints: _Endpoints | UnsetType | None = UNSET
    owner: Annotated[str, Meta(max_length=NAME_MAX)] | UnsetType = UNSET
    team: _Team | UnsetType | None = UNSET
    expires_at: str | UnsetType | None = UNSET
    requests_per_minute: _Count | UnsetType | None = UNSET
    tokens_per_minute: _Count | UnsetType | None = UNSET
    max_parallel: _Count | UnsetType | None = UNSET
    budget: Budget | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET


class Rotation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: The secret before is good for so long.
    overlap_s: Annotated[float, Meta(ge=0, le=OVERLAP_MAX_S)] = OVERLAP_S


class KeyShown(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    #: active, expired or revoked.
    state: str
    role: Role
    models: list[str] | None
    endpoints: list[str] | None
    owner: str
    team: str | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_parallel: int | None
    budget: Budget | None
    metadata: Any
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    #: Until when the secret before the last rotation is good.
    previous_until: str | None


class KeyWithSpent(KeyShown, frozen=True, kw_only=True):
    spent: Spent | None


class KeyWithSecret(KeyShown, frozen=True, kw_only=True):
    #: What clients send. It cannot be had again.
    key: str


class KeyRoutes:
    def __init__(self, store: Store, audit: AuditLog, configuration: Callable[[], Configuration], clock: Clock) -> None:
        self._store = store
        self._audit = audit
        self._configuration = configuration
        self._clock = clock
        #: What is changed is read before: one at a time, or one change would undo the other.
        self._turn = asyncio.Lock()

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="keys",
                summary="All keys, or a team's, oldest first, without their secrets",
                query=KeysQuery,
                answer=Listed[KeyWithSpent],
                handler=self._list,
            ),
            Route(
                method="POST",
                path="keys",
                summary="Makes a key; its secret is in this answer only",
                role="admin",
                body=NewKey,
                answer=KeyWithSecret,
                handler=self._create,
                status=201,
            ),
            Route(method="GET", path="keys/{id}", summary="One key, without its secret", answer=KeyWithSpent, handler=self._show),
            Route(
                method="PATCH",
                path="keys/{id}",
                summary="Changes a key; what is left out stays",
                role="admin",
                body=KeyChange,
                answer=KeyShown,
                handler=self._change,
            ),
            Route(
                method="POST",
                path="keys/{id}/rotate",
                summary="Gives a key a new secret, in this answer only; the one before is good for a while",
                role="admin",
                body=Rotation,
                may_be_empty=True,
                answer=KeyWithSecret,
                handler=self._rotate,
            ),
            Route(
                method="POST",
                path="keys/{id}/revoke",
                summary="Ends a key for good",
                role="admin",
                answer=KeyShown,
                handler=self._revoke,
            ),
            Route(
                method="DELETE",
                path="keys/{id}",
                summary="Ends a key for good; it stays in the list",
                role="admin",
                answer=KeyShown,
                handler=self._revoke,
            ),
        )

    async def _list(self, asked: Asked[KeysQuery, None]) -> Listed[KeyWithSpent]:
        query = asked.query
        page = await self._store.list_keys(limit=query.limit, cursor=query.cursor, team=query.team)
        return Listed(await self._with_spent(page.keys), page.next)

    async def _show(self, asked: Asked[NoQuery, None]) -> KeyWithSpent:
        (shown,) = await self._with_spent([await self._found(asked.of)])
        return shown

    async def _create(self, asked: Asked[NoQuery, NewKey]) -> KeyWithSecret:
        now = self._clock.wall()
        fields = msgspec.structs.asdict(asked.body)
        key, secret, secret_hash = new_key(fields.pop("name"), self._clock, **await self._options(fields))
        async with self._audit.acting("keys.create", key.id, asked.by, after=key_shown(key, now)):
            await self._store.create_key(key, secret_hash)
        return KeyWithSecret(**_fields(key, now), key=secret)

    async def _change(self, asked: Asked[NoQuery, KeyChange]) -> KeyShown:
        async with self._turn:
            return await self._changed(asked)

    async def _changed(self, asked: Asked[NoQuery, KeyChange]) -> KeyShown:
        now = self._clock.wall()
        before = await self._found(asked.of)
        if before.revoked_at is not None:
            raise _revoked(before)
        changes = {name: value for name, value in msgspec.structs.asdict(asked.body).items() if value is not UNSET}
        after = replace(before, **await self._options(changes))
        said = {"before": key_shown(before, now), "after": key_shown(after, now)}
        async with self._audit.acting("keys.update", before.id, asked.by, **said):
            changed = await self._store.update_key(after)
        return key_shown(changed or after, now)

    async def _rotate(self, asked: Asked[NoQuery, Rotation]) -> KeyWithSecret:
        now = self._clock.wall()
        before = await self._found(asked.of)
        if before.revoked_at is not None:
            raise _revoked(before)
        overlap_s = asked.body.overlap_s
        said = {"before": key_shown(before, now), "after": key_shown(replace(before, previous_until=now + overlap_s), now)}
        async with self._audit.acting("keys.rotate", before.id, asked.by, **said):
            rotated = await rotate_key(self._store, before.id, overlap_s=overlap_s, clock=self._clock)
            if rotated is None:
                raise _revoked(before)
        return KeyWithSecret(**_fields(rotated[0], now), key=rotated[1])

    async def _revoke(self, asked: Asked[NoQuery, None]) -> KeyShown:
        now = self._clock.wall()
        before = await self._found(asked.of)
        if before.revoked_at is not None:
            return key_shown(before, now)
        said = {"before": key_shown(before, now), "after": key_shown(replace(before, revoked_at=now), now)}
        async with self._audit.acting("keys.revoke", before.id, asked.by, **said):
            after = await self._store.revoke_key(before.id, now)
        return key_shown(after or replace(before, revoked_at=now), now)

    async def _found(self, key_id: str) -> Key:
        if (key := await self._store.find_key(key_id)) is None:
            raise NotFound(f"There is no key {key_id[:100]!r}.")
        return key

    async def _options(self, changes: dict[str, Any]) -> dict[str, Any]:
        """The body's fields as a `Key` has them. Raises `BadRequest`."""
        if (expires_at := changes.get("expires_at")) is not None:
            now = self._clock.wall()
            changes["expires_at"] = moment(expires_at, "expires_at", now)
            if changes["expires_at"] <= now:
                raise BadRequest(f"expires_at: {expires_at[:40]!r} is over already.", param="expires_at")
        for name in ("models", "endpoints"):
            if changes.get(name) is not None:
                changes[name] = frozenset(changes[name])
        if changes.get("metadata") is not None:
            changes["metadata"] = msgspec.json.encode(changes["metadata"])
            if len(changes["metadata"]) > METADATA_MAX_BYTES:
                raise BadRequest(f"metadata: is over {METADATA_MAX_BYTES} bytes.", param="metadata")
        team = changes.get("team")
        if team is not None and all(known.id != team for known in await self._store.list_teams()):
            raise BadRequest(f"team: there is no team {team!r}; make it first.", param="team")
        return changes

    async def _with_spent(self, keys: Sequence[Key]) -> list[KeyWithSpent]:
        now = self._clock.wall()
        every = self._configuration().settings.limits.budget
        spent = await spent_of(self._store, {f"key:{key.id}": key.budget or every for key in keys}, now)
        return [KeyWithSpent(**_fields(key, now), spent=spent.get(f"key:{key.id}")) for key in keys]


def key_shown(key: Key, now: float) -> KeyShown:
    return KeyShown(**_fields(key, now))


def _fields(key: Key, now: float) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "state": _state(key, now),
        "role": key.role,
        "models": None if key.models is None else sorted(key.models),
        "endpoints": None if key.endpoints is None else sorted(key.endpoints),
        "owner": key.owner,
        "team": key.team,
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_minute": key.tokens_per_minute,
        "max_parallel": key.max_parallel,
        "budget": key.budget,
        "metadata": None if key.metadata is None else Raw(key.metadata),
        "created_at": told(key.created_at),
        "expires_at": told(key.expires_at),
        "revoked_at": told(key.revoked_at),
        "previous_until": told(key.previous_until),
    }


def _state(key: Key, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"


def _revoked(key: Key) -> Conflict:
    return Conflict(f"The key {key.id} was revoked; make a new one.")
