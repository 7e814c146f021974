"""`agent-gateway db`: which schema the database has, and today's for it; a gateway that starts does the same by itself."""

from __future__ import annotations

import argparse

from agent_gateway.cli.store_command import add_action, answered, print_json, refuse

HELP = "shows or upgrades the database's schema"
EXAMPLE = "agent-gateway db upgrade --config gateway.yaml"

_ACTIONS = {
    "upgrade": ("brings the schema up to date; does nothing where it is", EXAMPLE),
    "status": ("shows which schema the database has; exits 1 where an upgrade is due", "agent-gateway db status --json"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (text, example) in _ACTIONS.items():
        add_action(actions, name, text, example)


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from agent_gateway.control.load import load

    def work() -> int:
        url = load(arguments.config).settings.state.database
        return asyncio.run(_run(url, upgrade=arguments.action == "upgrade", as_json=arguments.json))

    return answered(work)


async def _run(url: str, *, upgrade: bool, as_json: bool) -> int:
    from agent_gateway.control.masking import masked
    from agent_gateway.stores.base import open_store
    from agent_gateway.stores.revision import HEAD, is_head
    from agent_gateway.stores.sql import SqlStore

    store, database = open_store(url), masked(url, "database")
    try:
        if not isinstance(store, SqlStore):
            return refuse(f"state.database: {database} has no schema; nothing is to be done")
        before = found = await store.database.revision()
        if upgrade and not is_head(before):
            await store.keys_version()  # whatever is asked first makes the tables
            found = await store.database.revision()
        is_up_to_date = is_head(found)
    finally:
        await store.close()
    shown = {"database": database, "schema": found, "newest": HEAD, "up_to_date": is_up_to_date, "before": before}
    if as_json:
        print_json(shown)
    elif is_up_to_date:
        print(f"{shown['database']} has schema {found}" + ("." if before == found else f"; it had {before or 'none'}."))
    else:
        has = "no schema yet" if found is None else f"schema {found}"
        print(f"{shown['database']} has {has}; the newest is {HEAD}: agent-gateway db upgrade")
    return 0 if is_up_to_date else 1
