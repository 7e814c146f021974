"""`agent-gateway keys team`: teams, whose keys share a budget."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from agent_gateway.cli.store_command import add_action, print_json, print_table, refuse

if TYPE_CHECKING:
    from agent_gateway.core.settings import Budget, Settings
    from agent_gateway.stores.base import Store

HELP = "makes, lists and deletes teams, whose keys share a budget"

_PERIODS = ("day", "week", "month", "total")
_COLUMNS = ("id", "name", "budget")
_EXAMPLE = "agent-gateway keys team create search --budget 500 --per month"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="team_action", metavar="ACTION", required=True)
    create = add_action(actions, "create", "makes a team, or changes the one of that id", _EXAMPLE)
    create.add_argument("id", type=_id, metavar="ID", help="what keys (and tokens) call it")
    create.add_argument("--name", metavar="TEXT", help="in words (default: its id)")
    add_budget(create)
    add_action(actions, "list", "shows all teams", "agent-gateway keys team list")
    delete = add_action(actions, "delete", "deletes a team that has no keys any more", "agent-gateway keys team delete search")
    delete.add_argument("id", metavar="ID", help="as `keys team list` shows it")


def add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--budget", type=_usd, metavar="USD", help="what it may spend")
    parser.add_argument("--per", choices=_PERIODS, help="in each (default: month; calendar periods in UTC)")


def budget_of(arguments: argparse.Namespace) -> Budget | None:
    from agent_gateway.core.settings import Budget

    return None if arguments.budget is None else Budget(usd=arguments.budget, per=arguments.per or "month")


def budget_shown(budget: Budget) -> str:
    return f"${budget.usd:g} in all" if budget.per == "total" else f"${budget.usd:g} a {budget.per}"


async def _create(store: Store, arguments: argparse.Namespace, settings: Settings) -> int:
    import time

    from agent_gateway.control.admin.teams import team_shown
    from agent_gateway.control.audit import acting_locally
    from agent_gateway.stores.base import Team

    before = next((team for team in await store.list_teams() if team.id == arguments.id), None)
    made_at = time.time() if before is None else before.created_at
    team = Team(arguments.id, (arguments.name or "").strip() or arguments.id, made_at, budget_of(arguments))
    action = "teams.create" if before is None else "teams.update"
    shown = before and team_shown(before)
    async with acting_locally(store, settings, action, team.id, before=shown, after=team_shown(team)):
        await store.put_team(team)
    if arguments.json:
        print_json(team_shown(team))
    else:
        print(f"Team {team.id}: {'no budget' if team.budget is None else budget_shown(team.budget)}.")
    return 0


async def _list(store: Store, arguments: argparse.Namespace, _: Settings) -> int:
    from agent_gateway.control.admin.teams import team_shown

    teams = await store.list_teams()
    if arguments.json:
        print_json({"data": [team_shown(team) for team in teams], "next": None})
    elif not teams:
        print("There are no teams yet. Make one: agent-gateway keys team create ID")
    else:
        rows = [(team.id, " ".join(team.name.split()), "none" if team.budget is None else budget_shown(team.budget)) for team in teams]
        print_table(_COLUMNS, rows, fold=("name",))
    return 0


async def _delete(store: Store, arguments: argparse.Namespace, settings: Settings) -> int:
    from agent_gateway.control.admin.teams import team_shown
    from agent_gateway.control.audit import acting_locally

    team = next((team for team in await store.list_teams() if team.id == arguments.id), None)
    if team is None:
        return refuse(f"There is no team {arguments.id!r}; agent-gateway keys team list shows those there are")
    async with acting_locally(store, settings, "teams.delete", team.id, before=team_shown(team)):
        await store.delete_team(team.id)
    if arguments.json:
        print_json(team_shown(team))
    else:
        print(f"Team {team.id} is deleted.")
    return 0


ACTIONS = {"team create": _create, "team list": _list, "team delete": _delete}


def _id(text: str) -> str:
    from agent_gateway.control.admin.teams import TEAM_ID

    if not re.fullmatch(TEAM_ID, text):
        raise argparse.ArgumentTypeError(f"{text!r} is no id: letters, digits and . _ - such as search")
    return text


def _usd(text: str) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text, re.ASCII) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of USD, such as 20 or 0.5")
    return float(text)
