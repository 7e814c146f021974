"""`agent-gateway keys`: makes, lists, rotates and revokes keys, straight in the database; a running gateway knows within a second."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent_gateway.cli import teams
from agent_gateway.cli.store_command import add_action, answered, on_store, print_json, print_table, refuse

if TYPE_CHECKING:
    from agent_gateway.admission.keys import KeyOptions
    from agent_gateway.control.snapshot import Configuration
    from agent_gateway.core.settings import Settings
    from agent_gateway.stores.base import Key, Store

HELP = "makes, lists, rotates and revokes the keys that clients show"
EXAMPLE = "agent-gateway keys create my-agent --models gpt-4o-mini --expires 30d"

_IN_MEMORY = "state.database is in memory: a key made here would end with this command. Use a file: sqlite:///agent-gateway.db"
_NO_AUDIT_KEY = (
    "auth.audit_key: is not set, while the database is on a server: what this command does would be signed in the audit log with "
    "another key than the gateway's. Set it to the same for all who use the database: openssl rand -hex 32"
)
_DAY_S = 86400
_COUNT_MAX = 2**31 - 1
#: Keys read from the store at once.
_PAGE = 500
#: Of the list, as many as fit into 80 characters; --json tells the rest. Times in UTC.
_COLUMNS = ("id", "name", "state", "role", "team", "models", "limits", "expires")
_ROLES = ("user", "auditor", "admin")


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = add_action(actions, "create", "makes a key; its secret is shown once", EXAMPLE)
    create.add_argument("name", type=_name, metavar="NAME", help="who or what it is for")
    _add_scopes(create)
    _add_limits(create)
    listing = add_action(actions, "list", "shows keys, without their secrets, oldest first", "agent-gateway keys list --team search")
    listing.add_argument("--team", metavar="ID", help="of this team only")
    listing.add_argument("--limit", type=_count, metavar="N", help="so many at most (default: all)")
    listing.add_argument("--cursor", metavar="ID", help="what follows this key: `next` of the answer before")
    rotate = add_action(actions, "rotate", "gives a key a new secret, shown once", "agent-gateway keys rotate 4f7kq2mz81xc --overlap 1h")
    rotate.add_argument("id", metavar="ID", help="as `keys list` shows it")
    overlap = "the old secret is good for so long still (default: 24h; 0: not at all)"
    rotate.add_argument("--overlap", type=_overlap_s, default=_DAY_S, metavar="24h", help=overlap)
    revoke = add_action(actions, "revoke", "ends a key for good", "agent-gateway keys revoke 4f7kq2mz81xc")
    revoke.add_argument("id", metavar="ID", help="as `keys list` shows it")
    teams.configure(actions.add_parser("team", help=teams.HELP, description=teams.HELP.capitalize() + ".", allow_abbrev=False))


def run(arguments: argparse.Namespace) -> int:
    if getattr(arguments, "per", None) is not None and arguments.budget is None:
        print("--per needs a --budget, such as --budget 20 --per day", file=sys.stderr)
        return 2
    return answered(lambda: _run(arguments))


def _add_scopes(create: argparse.ArgumentParser) -> None:
    create.add_argument("--models", type=_names, metavar="A,B", help="the models it may use (default: all)")
    create.add_argument("--endpoints", type=_endpoints, metavar="/A,/B*", help="the paths it may ask; * stands for any rest (default: all)")
    create.add_argument("--role", choices=_ROLES, default="user", help="in the admin API an auditor may read, an admin all (default: user)")
    create.add_argument("--expires", type=_duration_s, metavar="30d", help="it ends after 45m, 12h, 30d, 4w (default: never)")
    create.add_argument("--team", metavar="ID", help="whose budget it shares")
    create.add_argument("--owner", type=str.strip, default="", metavar="TEXT", help="who answers for it")
    create.add_argument("--metadata", type=_metadata, metavar="JSON", help="an object of your own, kept with it")


def _add_limits(create: argparse.ArgumentParser) -> None:
    create.add_argument("--rpm", type=_count, metavar="N", help="requests a minute (default: as limits in the configuration)")
    create.add_argument("--tpm", type=_count, metavar="N", help="tokens a minute, in and out")
    create.add_argument("--max-parallel", type=_count, metavar="N", help="requests at once")
    teams.add_budget(create)


def _run(arguments: argparse.Namespace) -> int:
    from agent_gateway.control.load import load
    from agent_gateway.stores.base import database_path, is_in_memory

    configuration = load(arguments.config)
    url = configuration.settings.state.database
    if is_in_memory(url):
        return refuse(_IN_MEMORY)
    path = database_path(url)
    if path is not None and not path.parent.is_dir():
        return refuse(f"state.database: there is no folder {path.parent}; make it, or name another file")
    action = f"team {arguments.team_action}" if arguments.action == "team" else arguments.action
    if path is None and configuration.settings.auth.audit_key is None and action not in _READS:
        return refuse(_NO_AUDIT_KEY)
    if action == "create":
        _warn_of_models(arguments.models or (), configuration)
        _warn_of_endpoints(arguments.endpoints or ())
    elif action != "team create" and path is not None and not path.exists():
        url = "sqlite:///:memory:"  # a file that is not there holds no keys, and a look at it must not make it
    return on_store(url, lambda store: _ACTIONS[action](store, arguments, configuration.settings))


def _warn_of_models(names: Iterable[str], configuration: Configuration) -> None:
    """A key may be made before its model is; more often the name is mistyped."""
    from difflib import get_close_matches

    for name in names:
        if configuration.find(name) is None:
            close = get_close_matches(name, configuration.listed, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            print(f"warning: --models: {name!r} is not a model of this configuration{hint}", file=sys.stderr)


def _warn_of_endpoints(places: Iterable[str]) -> None:
    for place in sorted(places):
        if not _is_served(place):
            print(f"warning: --endpoints: {place!r} is no path of the gateway; its /openapi.json names them all", file=sys.stderr)


def _is_served(place: str) -> bool:
    from agent_gateway.control.openapi import OPERATIONS

    if place.startswith("/admin/"):  # its paths are known once it runs
        return True
    paths = [re.split(r"\{\w+\}", operation.path) for operation in OPERATIONS]  # in pieces, of which anything may stand between
    if place.endswith("*"):
        start = place[:-1]
        return any(pieces[0].startswith(start) or (len(pieces) > 1 and start.startswith(pieces[0])) for pieces in paths)
    return any(re.fullmatch(".+".join(map(re.escape, pieces)), place.rstrip("/")) for pieces in paths)


# --- the actions: in the audit log first, then in effect --------------------------------------------------------------


async def _create(store: Store, arguments: argparse.Namespace, settings: Settings) -> int:
    import time

    from agent_gateway.admission.keys import new_key
    from agent_gateway.control.admin.keys import key_shown
    from agent_gateway.control.audit import acting_locally
    from agent_gateway.core.clock import Clock

    if arguments.team is not None and all(team.id != arguments.team for team in await store.list_teams()):
        return refuse(f"There is no team {arguments.team!r}; make it first: agent-gateway keys team create {arguments.team}")
    now = time.time()
    key, secret, secret_hash = new_key(arguments.name, Clock(wall=lambda: now), **_options(arguments, now))
    shown = key_shown(key, now)
    async with acting_locally(store, settings, "keys.create", key.id, after=shown):
        await store.create_key(key, secret_hash)
    return _tell_secret(key, secret, shown, arguments)


async def _list(store: Store, arguments: argparse.Namespace, _: Settings) -> int:
    import time

    from agent_gateway.control.admin.keys import key_shown

    keys: list[Key] = []
    cursor, limit = arguments.cursor, arguments.limit
    while True:
        page = await store.list_keys(limit=_PAGE if limit is None else min(_PAGE, limit - len(keys)), cursor=cursor, team=arguments.team)
        keys.extend(page.keys)
        cursor = page.next
        if cursor is None or len(keys) == limit:
            break
    now = time.time()
    if arguments.json:
        print_json({"data": [key_shown(key, now) for key in keys], "next": cursor})
    elif not keys:
        whose, option = ("", "") if arguments.team is None else (f" of the team {arguments.team!r}", f" --team {arguments.team}")
        print(f"There are no keys{whose} yet. Make one: agent-gateway keys create NAME{option}")
    else:
        print_table(_COLUMNS, [_cells(key, now) for key in keys], fold=("name", "team", "models"))
        if cursor is not None:
            print(f"There may be more: --cursor {cursor}", file=sys.stderr)
    return 0


async def _rotate(store: Store, arguments: argparse.Namespace, settings: Settings) -> int:
    import time
    from dataclasses import replace

    from agent_gateway.admission.keys import rotate_key
    from agent_gateway.control.admin.keys import key_shown
    from agent_gateway.control.audit import acting_locally
    from agent_gateway.core.errors import Conflict

    before, now = await store.find_key(arguments.id), time.time()
    if before is None:
        return _no_such(arguments.id)
    revoked = Conflict(f"The key {before.id} for {before.name} was revoked; make a new one: agent-gateway keys create NAME")
    if before.revoked_at is not None:
        raise revoked
    after = key_shown(replace(before, previous_until=now + arguments.overlap), now)
    async with acting_locally(store, settings, "keys.rotate", before.id, before=key_shown(before, now), after=after):
        rotated = await rotate_key(store, before.id, overlap_s=arguments.overlap)
        if rotated is None:
            raise revoked
    key, secret = rotated
    status = _tell_secret(key, secret, key_shown(key, now), arguments)
    if not arguments.json:
        old = "is good no more" if arguments.overlap == 0 else f"is good until {_minute(key.previous_until or now)} UTC"
        print(f"The secret before {old}.", file=sys.stderr)
    return status


async def _revoke(store: Store, arguments: argparse.Namespace, settings: Settings) -> int:
    import time
    from dataclasses import replace

    from agent_gateway.control.admin.keys import key_shown
    from agent_gateway.control.audit import acting_locally

    key, now = await store.find_key(arguments.id), time.time()
    if key is None:
        return _no_such(arguments.id)
    if key.revoked_at is None:
        after = key_shown(replace(key, revoked_at=now), now)
        async with acting_locally(store, settings, "keys.revoke", key.id, before=key_shown(key, now), after=after):
            key = await store.revoke_key(key.id, now) or key
    if arguments.json:
        print_json(key_shown(key, now))
    else:
        print(f"Key {key.id} for {key.name} is revoked.")
    return 0


_ACTIONS = {"create": _create, "list": _list, "rotate": _rotate, "revoke": _revoke, **teams.ACTIONS}
_READS = ("list", "team list")


def _options(arguments: argparse.Namespace, now: float) -> KeyOptions:
    return {
        "models": arguments.models,
        "expires_at": None if arguments.expires is None else now + arguments.expires,
        "requests_per_minute": arguments.rpm,
        "tokens_per_minute": arguments.tpm,
        "max_parallel": arguments.max_parallel,
        "role": arguments.role,
        "endpoints": arguments.endpoints,
        "owner": arguments.owner,
        "team": arguments.team,
        "budget": teams.budget_of(arguments),
        "metadata": arguments.metadata,
    }


# --- what is printed --------------------------------------------------------------------------------------------------


def _tell_secret(key: Key, secret: str, shown: Any, arguments: argparse.Namespace) -> int:
    """Alone on standard output, so that a script takes it as it is."""
    import msgspec

    if arguments.json:
        print_json({"id": key.id, "key": secret, **msgspec.structs.asdict(shown)})
    else:
        print(secret)
        print(f"Key {key.id} for {key.name}. This is the only time that it is shown; keep it safe.", file=sys.stderr)
    return 0


def _cells(key: Key, now: float) -> tuple[str, ...]:
    from agent_gateway.control.admin.keys import key_shown

    models = "all" if key.models is None else ", ".join(sorted(key.models))
    told = [(key.requests_per_minute, "rpm"), (key.tokens_per_minute, "tpm"), (key.max_parallel, "at once")]
    limits = [f"{limit} {what}" for limit, what in told if limit is not None]
    if key.budget is not None:
        limits.append(teams.budget_shown(key.budget))
    expires = "never" if key.expires_at is None else _minute(key.expires_at)
    name, state = " ".join(key.name.split()), key_shown(key, now).state
    return key.id, name, state, key.role, key.team or "-", models, ", ".join(limits) or "default", expires


def _minute(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"


def _no_such(key_id: str) -> int:
    return refuse(f"There is no key {key_id!r}; agent-gateway keys list shows those there are")


# --- what is typed ----------------------------------------------------------------------------------------------------


def _name(text: str) -> str:
    from agent_gateway.control.admin.keys import NAME_MAX

    name = text.strip()
    if not name:
        raise argparse.ArgumentTypeError("it is empty; say who or what the key is for, such as my-agent")
    if len(name) > NAME_MAX:
        raise argparse.ArgumentTypeError(f"it has {len(name)} characters; {NAME_MAX} at most")
    if not name.isprintable():
        raise argparse.ArgumentTypeError(f"{name!r} holds what cannot be shown in a line, such as a line break")
    return name


def _names(text: str) -> frozenset[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is no list: names with commas between, such as gpt-4o-mini,backup")
    return frozenset(names)


def _endpoints(text: str) -> frozenset[str]:
    places = _names(text)
    for place in places:
        if not place.startswith("/") or "*" in place[:-1]:
            raise argparse.ArgumentTypeError(f"{place!r} is no path: it begins with /, and a * stands at its end, such as /v1/batches*")
    return places


def _metadata(text: str) -> bytes:
    import msgspec

    from agent_gateway.control.admin.keys import METADATA_MAX_BYTES

    try:
        metadata = msgspec.json.encode(msgspec.json.decode(text, type=dict[str, Any]))
    except msgspec.MsgspecError:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object, such as {{\"project\": \"search\"}}") from None
    if len(metadata) > METADATA_MAX_BYTES:
        raise argparse.ArgumentTypeError(f"it is over {METADATA_MAX_BYTES} bytes")
    return metadata


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= _COUNT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {_COUNT_MAX}")
    return int(text)


def _overlap_s(text: str) -> int:
    return 0 if re.fullmatch(r"0[smhdw]?", text.strip()) else _duration_s(text)


def _duration_s(text: str) -> int:
    from agent_gateway.control.times import UNIT_S

    match = re.fullmatch(r"([1-9]\d{0,4})([smhdw])", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time: 1 to 99999 and s, m, h, d or w, such as 30d")
    return int(match[1]) * UNIT_S[match[2]]
