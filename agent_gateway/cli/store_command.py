"""What the commands have in common that work straight on the gateway's database."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_gateway.stores.base import Store


def add_action(actions: Any, name: str, text: str, example: str) -> argparse.ArgumentParser:
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


def answered(work: Callable[[], int]) -> int:
    """The exit status; an error of the world is told as it is, on standard error."""
    from agent_gateway.control.errors import ConfigurationError
    from agent_gateway.core.errors import GatewayError
    from agent_gateway.stores.base import UnknownStore

    try:
        return work()
    except ConfigurationError as error:
        return refuse("\n".join(error.errors))
    except UnknownStore as error:
        return refuse(f"state.database: {error}")
    except GatewayError as error:
        return refuse(f"{error.message} {error.detail or ''}".rstrip())


def on_store(url: str, work: Callable[[Store], Coroutine[Any, Any, int]]) -> int:
    """The exit status of what is done with the store, which is closed after it."""
    import asyncio

    from agent_gateway.stores.base import open_store

    async def run() -> int:
        store = open_store(url)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def refuse(why: str) -> int:
    print(why, file=sys.stderr)
    return 1


def print_json(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, fold: tuple[str, ...]) -> None:
    """Tab-separated where nobody looks; on a terminal in columns, of which those that `fold` may break their lines."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        print("\n".join("\t".join(row) for row in (columns, *rows)))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title in columns:
        table.add_column(title, overflow="fold", no_wrap=title not in fold)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
