"""`agent-gateway records`: hands out what was recorded, for other tools to read."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from agent_gateway.cli.store_command import add_action, answered, print_json, refuse

if TYPE_CHECKING:
    from typing import BinaryIO

    from agent_gateway.record.export import Writer

HELP = "exports the records of requests"
EXAMPLE = "agent-gateway records export --since 24h --format parquet --output records.parquet"

_IN_MEMORY = "state.database is in memory: its records end with the gateway. Use a file: sqlite:///agent-gateway.db"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    export = add_action(actions, "export", "writes records to a file, oldest first, with what was asked and answered", EXAMPLE)
    export.add_argument("--format", choices=("jsonl", "parquet"), default="jsonl", help="default: jsonl, one JSON object a line")
    export.add_argument("--since", metavar="24h", help="those since a moment (2025-01-31T08:00:00Z), or for so long back: 45m, 24h, 7d")
    export.add_argument("--until", metavar="1h", help="those before a moment; default: now")
    export.add_argument("--output", metavar="FILE", default="-", help="default: standard output")


def run(arguments: argparse.Namespace) -> int:
    return answered(lambda: _export(arguments))


def _export(arguments: argparse.Namespace) -> int:
    from pathlib import Path
    from time import time

    from agent_gateway.control.load import load
    from agent_gateway.control.times import span
    from agent_gateway.record.export import NoParquet, WholeFile
    from agent_gateway.stores.base import is_in_memory, is_postgres, records_path

    url = load(arguments.config).settings.state.database
    path = records_path(url)
    if is_in_memory(url) or path is None:
        return refuse(_IN_MEMORY)
    if not is_postgres(url) and not path.exists():
        return refuse(f"there is no file {path}; nothing was ever recorded")
    now = time()
    since, until = span(arguments.since, arguments.until, now)
    since_ms, until_ms = int((since or 0.0) * 1000), int((now if until is None else until) * 1000)
    if arguments.output == "-":
        if arguments.format == "parquet":
            return refuse("--format parquet: needs a file; give --output FILE")
        _written(url, sys.stdout.buffer, arguments.format, since_ms, until_ms)
        return 0
    try:
        with WholeFile(Path(arguments.output)) as out:
            count = _written(url, out, arguments.format, since_ms, until_ms)
    except NoParquet as error:
        return refuse(str(error))
    except OSError as error:
        return refuse(f"--output: {arguments.output} cannot be written: {error.strerror or error}")
    if arguments.json:
        print_json({"records": count, "output": arguments.output})
    else:
        print(f"{count} records are in {arguments.output}.")
    return 0


def _written(url: str, out: BinaryIO, kind: str, since_ms: int, until_ms: int) -> int:
    import asyncio

    from agent_gateway.record.archive import Archive
    from agent_gateway.record.base import SINKS
    from agent_gateway.record.export import export, write_lines, write_parquet

    writer: Writer = write_parquet(out) if kind == "parquet" else write_lines(out)

    async def work() -> int:
        archive = Archive(SINKS.load("database").for_url(url).table.open_reader())
        try:
            return await export(archive, writer, since_ms, until_ms)
        finally:
            await archive.close()

    return asyncio.run(work())
