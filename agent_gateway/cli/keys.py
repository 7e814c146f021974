"""`agent-gateway keys`: creates, lists and revokes keys, straight in the database; a running gateway knows within a second."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_gateway.control.snapshot import Configuration
    from agent_gateway.stores.base import Key, KeyStore

HELP = "creates, lists and revokes the keys that clients show"
EXAMPLE = "agent-gateway keys create my-agent --models gpt-4o-mini --expires 30d"

_IN_MEMORY = "state.database is in memory: a key made here would end with this command. Use a file: sqlite:///agent-gateway.db"
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
#: Of the list; times in UTC.
_COLUMNS = ("id", "name", "state", "models", "limits", "created", "expires")
#: Options that parse, so that the answer is better than "unrecognized arguments".
_LATER = ("budget", "per")


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = _action(actions, "create", "makes a key; its secret is shown once", EXAMPLE)
    create.add_argument("name", type=_name, metavar="NAME", help="who or what it is for")
    create.add_argument("--models", type=_models, metavar="A,B", help="the models it may use (default: all)")
    create.add_argument("--expires", type=_duration_s, metavar="30d", help="it ends after 45m, 12h, 30d, 4w (default: never)")
    create.add_argument("--rpm", type=_count, metavar="N", help="requests a minute (default: as limits in the configuration)")
    create.add_argument("--tpm", type=_count, metavar="N", help="tokens a minute, in and out")
    create.add_argument("--max-parallel", type=_count, metavar="N", help="requests at once")
    for option, metavar in (("--budget", "USD"), ("--per", "day")):
        create.add_argument(option, metavar=metavar, help=argparse.SUPPRESS)
    _action(actions, "list", "shows all keys, without their secrets", "agent-gateway keys list")
    revoke = _action(actions, "revoke", "ends a key for good", "agent-gateway keys revoke 4f7kq2mz81xc")
    revoke.add_argument("id", metavar="ID", help="as `keys list` shows it")


def run(arguments: argparse.Namespace) -> int:
    from agent_gateway.control.errors import ConfigurationError
    from agent_gateway.control.load import load
    from agent_gateway.core.errors import GatewayError
    from agent_gateway.stores.base import UnknownStore, database_path, is_in_memory

    for name in _LATER:
        if getattr(arguments, name, None) is not None:
            print(f"--{name.replace('_', '-')} is not available yet; leave it out", file=sys.stderr)
            return 2
    try:
        configuration = load(arguments.config)
        url = configuration.settings.state.database
        if is_in_memory(url):
            return _refuse(_IN_MEMORY)
        path = database_path(url)
        if path is not None and not path.parent.is_dir():
            return _refuse(f"state.database: there is no folder {path.parent}; make it, or name another file")
        if arguments.action == "create":
            _warn_of_models(arguments.models or (), configuration)
        elif path is not None and not path.exists():
            url = "sqlite:///:memory:"  # a file that is not there holds no keys, and a look at it must not make it
        return _with_store(url, {"create": _create, "list": _list, "revoke": _revoke}[arguments.action], arguments)
    except ConfigurationError as error:
        return _refuse("\n".join(error.errors))
    except UnknownStore as error:
        return _refuse(f"state.database: {error}")
    except GatewayError as error:
        return _refuse(f"{error.message} {error.detail or ''}".rstrip())


def _action(actions: Any, name: str, text: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=text,
        description=text.capitalize() + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="the configuration that names the database (default: as for serve)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _warn_of_models(names: Iterable[str], configuration: Configuration) -> None:
    """A key may be made before its model is; more often the name is mistyped."""
    from difflib import get_close_matches

    for name in names:
        if configuration.find(name) is None:
            close = get_close_matches(name, configuration.listed, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            print(f"warning: --models: {name!r} is not a model of this configuration{hint}", file=sys.stderr)


def _with_store(url: str, action: Callable[[KeyStore, argparse.Namespace], Awaitable[int]], arguments: argparse.Namespace) -> int:
    import asyncio

    from agent_gateway.stores.base import open_store

    async def work() -> int:
        store = open_store(url)
        try:
            return await action(store, arguments)
        finally:
            await store.close()

    return asyncio.run(work())


async def _create(store: KeyStore, arguments: argparse.Namespace) -> int:
    import time

    from agent_gateway.admission.keys import create_key

    expires_at = None if arguments.expires is None else time.time() + arguments.expires
    limits = (arguments.rpm, arguments.tpm, arguments.max_parallel)
    key, secret = await create_key(store, arguments.name, models=arguments.models, expires_at=expires_at, limits=limits)
    if arguments.json:
        _print_json({"id": key.id, "key": secret, **_described(key)})
    else:
        print(secret)
        print(f"Key {key.id} for {key.name}. This is the only time that it is shown; keep it safe.", file=sys.stderr)
    return 0


async def _list(store: KeyStore, arguments: argparse.Namespace) -> int:
    keys = await store.list_keys()
    if arguments.json:
        _print_json({"data": [{"id": key.id, **_described(key)} for key in keys], "next": None})
    elif not keys:
        print("There are no keys yet. Make one: agent-gateway keys create NAME")
    else:
        _print_table(keys)
    return 0


async def _revoke(store: KeyStore, arguments: argparse.Namespace) -> int:
    import time

    key = await store.revoke_key(arguments.id, time.time())
    if key is None:
        return _refuse(f"There is no key {arguments.id!r}; agent-gateway keys list shows those there are")
    if arguments.json:
        _print_json({"id": key.id, **_described(key)})
    else:
        print(f"Key {key.id} for {key.name} is revoked.")
    return 0


def _described(key: Key) -> dict[str, Any]:
    return {
        "name": key.name,
        "models": None if key.models is None else sorted(key.models),
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_minute": key.tokens_per_minute,
        "max_parallel": key.max_parallel,
        "state": _state(key),
        "created_at": _shown(key.created_at),
        "expires_at": _shown(key.expires_at),
        "revoked_at": _shown(key.revoked_at),
    }


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC).timestamp() else "active"


def _print_table(keys: Any) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    rows = [_cells(key) for key in keys]
    if not console.is_terminal:
        print("\n".join("\t".join(row) for row in (_COLUMNS, *rows)))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in _COLUMNS:
        folds = title in ("name", "models")
        table.add_column(title, overflow="fold", no_wrap=not folds)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _cells(key: Key) -> tuple[str, ...]:
    models = "all" if key.models is None else ", ".join(sorted(key.models))
    told = ((key.requests_per_minute, "rpm"), (key.tokens_per_minute, "tpm"), (key.max_parallel, "at once"))
    limits = ", ".join([f"{limit} {what}" for limit, what in told if limit is not None]) or "default"
    created, expires = _minute(key.created_at), "never" if key.expires_at is None else _minute(key.expires_at)
    return key.id, " ".join(key.name.split()), _state(key), models, limits, created, expires


def _minute(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"


def _print_json(value: dict[str, Any]) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _refuse(why: str) -> int:
    print(why, file=sys.stderr)
    return 1


def _shown(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; say who or what the key is for, such as my-agent")
    return text.strip()


def _models(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of models: names with commas between, such as gpt-4o-mini,backup")
    return names


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


def _duration_s(text: str) -> int:
    match = re.fullmatch(r"([1-9]\d{0,4})([smhdw])", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time: a whole number and s, m, h, d or w, such as 30d")
    return int(match[1]) * _UNIT_S[match[2]]
