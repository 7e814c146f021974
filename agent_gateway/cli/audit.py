"""`agent-gateway audit`: checks the audit log's chain, shows its entries, prints its signed end to be kept elsewhere."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from agent_gateway.cli.store_command import add_action, answered, on_store, print_json, print_table, refuse

if TYPE_CHECKING:
    from agent_gateway.control.audit_chain import Entry, Head
    from agent_gateway.core.settings import Settings
    from agent_gateway.stores.base import Store

HELP = "checks or shows the log of what was done to the gateway"
EXAMPLE = "agent-gateway audit verify --config gateway.yaml"

_IN_MEMORY = "state.database is in memory: its audit log ends with the gateway. Use a file: sqlite:///agent-gateway.db"
#: Entries read at once.
_PAGE = 200
_LIMIT = 50
_COLUMNS = ("number", "at", "who", "from", "action", "target", "outcome")


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = add_action(actions, "verify", "finds what was changed, removed or reordered; exits 1 and names the first entry", EXAMPLE)
    verify.add_argument("--head", metavar="FILE", help="a head that `audit head` printed and that was kept elsewhere")
    listed = add_action(actions, "list", "shows entries, newest first", "agent-gateway audit list --since 24h")
    listed.add_argument("--since", metavar="24h", help="those since a moment (2025-01-31T08:00:00Z), or for so long back: 45m, 24h, 7d")
    listed.add_argument("--limit", type=_count, default=_LIMIT, metavar="N", help=f"at most so many (default: {_LIMIT})")
    add_action(actions, "head", "prints the log's signed end, which proves what was there", "agent-gateway audit head > head.json")


def run(arguments: argparse.Namespace) -> int:
    return answered(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from agent_gateway.control.load import load
    from agent_gateway.stores.base import database_path, is_in_memory

    settings = load(arguments.config).settings
    url = settings.state.database
    if is_in_memory(url):
        return refuse(_IN_MEMORY)
    path = database_path(url)
    if path is not None and not path.exists():
        return refuse(f"state.database: there is no file {path}; nothing was ever written")
    action = {"verify": _verify, "list": _list, "head": _head}[arguments.action]
    return on_store(url, lambda store: action(store, settings, arguments))


async def _verify(store: Store, settings: Settings, arguments: argparse.Namespace) -> int:
    from agent_gateway.control.audit import NoKey, key_path, signing_key
    from agent_gateway.control.audit_chain import verify

    anchor: Head | None = None
    has_signed = False
    try:
        if arguments.head is not None:
            anchor = _anchor(arguments.head)
        key = signing_key(settings, make=False)
        has_signed = settings.auth.audit_key is None  # its file is made when the first entry is signed
    except NoKey:
        if await store.audit_head() is not None:
            return refuse(f"The key that signs the log is not here: {key_path(settings)}. Give it back, or set auth.audit_key.")
        key = b""
    except OSError as error:
        return refuse(f"The key that signs the log cannot be read: {error}")
    except ValueError as error:
        return refuse(str(error))
    verdict = await verify(store, key, anchor, has_signed=has_signed)
    broken = verdict.broken
    if arguments.json:
        found = None if broken is None else {"number": broken.number, "why": broken.why}
        print_json({"whole": broken is None, "entries": verdict.entries, "broken": found})
    elif broken is None:
        print(f"The audit log is whole: {verdict.entries} entries, none changed, removed or reordered.")
    else:
        print(f"entry {broken.number}: {broken.why}")
    return 0 if broken is None else 1


def _anchor(file: str) -> Head:
    """Raises `OSError` or `ValueError`."""
    from pathlib import Path

    import msgspec

    from agent_gateway.control.audit_chain import Head

    try:
        return msgspec.json.decode(Path(file).read_bytes(), type=Head)
    except OSError as error:
        why = error.strerror or error
        raise ValueError(f"--head: {file} cannot be read: {why}; give the file that `agent-gateway audit head` wrote") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{file} is not a head that `agent-gateway audit head` printed: {error}") from None


async def _list(store: Store, settings: Settings, arguments: argparse.Namespace) -> int:
    from time import time

    import msgspec

    from agent_gateway.control.audit import AuditLog, signing_key
    from agent_gateway.control.audit_chain import Entry
    from agent_gateway.control.times import moment, told

    log = AuditLog(store, lambda: signing_key(settings))
    since = "" if arguments.since is None else told(moment(arguments.since, "--since", time()))
    entries: list[Entry] = []
    below: int | None = None
    while len(entries) < arguments.limit and (rows := await log.newest(min(_PAGE, arguments.limit - len(entries)), below)):
        try:
            page = [msgspec.json.decode(row.body, type=Entry) for row in rows]
        except msgspec.MsgspecError:
            return refuse("The log has entries that cannot be read; `agent-gateway audit verify` names the first.")
        entries += [entry for entry in page if entry.at >= since]
        below = rows[-1].number
        if page[-1].at < since:
            break
    if arguments.json:
        print_json({"data": entries, "next": str(below) if entries and below is not None and below > 1 else None})
    elif not entries:
        print("There are no entries.")
    else:
        print_table(_COLUMNS, [_cells(entry) for entry in entries], fold=("target",))
    return 0


async def _head(store: Store, settings: Settings, arguments: argparse.Namespace) -> int:
    from agent_gateway.control.audit import AuditLog, signing_key

    head = await AuditLog(store, lambda: signing_key(settings)).head()
    if head is None:
        return refuse("The audit log is empty: nothing was done yet.")
    print_json(head)
    return 0


def _cells(entry: Entry) -> tuple[str, ...]:
    actor = entry.actor.name or entry.actor.role
    words = (str(entry.number), entry.at, actor, entry.source or "-", entry.action, entry.target or "-", entry.outcome)
    return tuple(" ".join(word.split()) for word in words)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100000")
    return int(text)
