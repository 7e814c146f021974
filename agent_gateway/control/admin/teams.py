"""`/admin/v1/teams`: keys that share a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from agent_gateway.control.admin.keys import NAME_MAX
from agent_gateway.control.admin.spent import Spent, spent_of
from agent_gateway.control.admin_route import Asked, Listed, NoQuery, PageQuery, Route
from agent_gateway.control.audit import AuditLog
from agent_gateway.control.times import told
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import Conflict, NotFound
from agent_gateway.core.settings import Budget
from agent_gateway.stores.base import Store, Team

TEAM_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_Name = Annotated[str, Meta(min_length=1, max_length=NAME_MAX)]


class NewTeam(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Annotated[str, Meta(pattern=f"^{TEAM_ID}$", extra={"told": "up to 64 letters, digits and . _ -, a letter or digit first"})]
    #: Left out: the id.
    name: _Name | None = None
    budget: Budget | None = None


class TeamChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    name: _Name | UnsetType = UNSET
    budget: Budget | UnsetType | None = UNSET


class TeamShown(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    budget: Budget | None
    created_at: str


class TeamWithSpent(TeamShown, frozen=True, kw_only=True):
    spent: Spent | None


class TeamRoutes:
    def __init__(self, store: Store, audit: AuditLog, clock: Clock) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        #: Whether there is one, and how it is, is read before it is put: one at a time.
        self._turn = asyncio.Lock()

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="teams",
                summary="All teams, by their ids",
                query=PageQuery,
                answer=Listed[TeamWithSpent],
                handler=self._list,
            ),
            Route(
                method="POST",
                path="teams",
                summary="Makes a team",
                role="admin",
                body=NewTeam,
                answer=TeamShown,
                handler=self._create,
                status=201,
            ),
            Route(method="GET", path="teams/{id}", summary="One team", answer=TeamWithSpent, handler=self._show),
            Route(
                method="PATCH",
                path="teams/{id}",
                summary="Changes a team; what is left out stays",
                role="admin",
                body=TeamChange,
                answer=TeamShown,
                handler=self._change,
            ),
            Route(
                method="DELETE",
                path="teams/{id}",
                summary="Removes a team that has no keys any more but revoked ones",
                role="admin",
                answer=TeamShown,
                handler=self._delete,
            ),
        )

    async def _list(self, asked: Asked[PageQuery, None]) -> Listed[TeamWithSpent]:
        limit, cursor = asked.query.limit, asked.query.cursor
        teams = [team for team in await self._store.list_teams() if cursor is None or team.id > cursor]
        page = teams[:limit]
        return Listed(await self._with_spent(page), page[-1].id if len(teams) > limit else None)

    async def _show(self, asked: Asked[NoQuery, None]) -> TeamWithSpent:
        (shown,) = await self._with_spent([await self._found(asked.of)])
        return shown

    async def _create(self, asked: Asked[NoQuery, NewTeam]) -> TeamShown:
        body = asked.body
        team = Team(body.id, body.name or body.id, self._clock.wall(), body.budget)
        async with self._turn:
            if any(known.id == team.id for known in await self._store.list_teams()):
                raise Conflict(f"There is a team {team.id!r} already.", param="id")
            async with self._audit.acting("teams.create", team.id, asked.by, after=team_shown(team)):
                await self._store.put_team(team)
        return team_shown(team)

    async def _change(self, asked: Asked[NoQuery, TeamChange]) -> TeamShown:
        body = asked.body
        async with self._turn:
            before = await self._found(asked.of)
            name = before.name if body.name is UNSET else body.name
            after = replace(before, name=name, budget=before.budget if body.budget is UNSET else body.budget)
            said = {"before": team_shown(before), "after": team_shown(after)}
            async with self._audit.acting("teams.update", before.id, asked.by, **said):
                await self._store.put_team(after)
        return team_shown(after)

    async def _delete(self, asked: Asked[NoQuery, None]) -> TeamShown:
        team = await self._found(asked.of)
        async with self._audit.acting("teams.delete", team.id, asked.by, before=team_shown(team)):
            if not await self._store.delete_team(team.id):
                raise _unknown(team.id)
        return team_shown(team)

    async def _found(self, team_id: str) -> Team:
        for team in await self._store.list_teams():
            if team.id == team_id:
                return team
        raise _unknown(team_id)

    async def _with_spent(self, teams: Sequence[Team]) -> list[TeamWithSpent]:
        spent = await spent_of(self._store, {f"team:{team.id}": team.budget for team in teams}, self._clock.wall())
        return [TeamWithSpent(**_fields(team), spent=spent.get(f"team:{team.id}")) for team in teams]


def team_shown(team: Team) -> TeamShown:
    return TeamShown(**_fields(team))


def _fields(team: Team) -> dict[str, Any]:
    return {"id": team.id, "name": team.name, "budget": team.budget, "created_at": told(team.created_at)}


def _unknown(team_id: str) -> NotFound:
    return NotFound(f"There is no team {team_id[:100]!r}.")
