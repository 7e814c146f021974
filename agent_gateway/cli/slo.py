"""`agent-gateway slo`: every service level beside what the records say."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from agent_gateway.cli.store_command import answered, print_json, print_table, refuse

if TYPE_CHECKING:
    from agent_gateway.record.slo import Verdict

HELP = "every service level beside what the records say; exits 1 where one is missed"
EXAMPLE = "agent-gateway slo --config gateway.yaml --since 24h"

_IN_MEMORY = (
    "state.database is in memory: its records end with the gateway. Ask GET /admin/v1/slo, or use a file: sqlite:///agent-gateway.db"
)
COLUMNS = ("level", "of", "what", "target", "figure", "of how many", "")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="the configuration that names the database (default: as for serve)")
    parser.add_argument(
        "--since", default="1h", metavar="1h", help="a moment (2025-01-31T08:00:00Z), or so long back: 45m, 24h, 7d (default: 1h)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    return answered(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    import asyncio
    import time

    from agent_gateway.control.load import load
    from agent_gateway.control.times import moment
    from agent_gateway.record.recorder import Recorder
    from agent_gateway.record.slo import judged
    from agent_gateway.stores.base import is_in_memory

    settings = load(arguments.config).settings
    if is_in_memory(settings.state.database):
        return refuse(_IN_MEMORY)
    now = time.time()
    since = moment(arguments.since, "--since", now)

    async def ask() -> list[Verdict]:
        archive = Recorder.for_settings(settings).archive
        assert archive is not None, "the gateway's own recorder has one"
        try:
            return judged(await archive.sums(int(since * 1000), int((now + 1) * 1000)))
        finally:
            await archive.close()

    verdicts = asyncio.run(ask())
    if arguments.json:
        print_json({"data": verdicts})
    else:
        print_table(COLUMNS, [row(verdict) for verdict in verdicts], fold=("what",))
    return 1 if any(verdict.met is False for verdict in verdicts) else 0


def row(verdict: Verdict) -> tuple[str, ...]:
    from agent_gateway.record.slo import told

    sign = "<" if verdict.better == "below" else "≥"
    figure = "" if verdict.figure is None else told(verdict.figure, verdict.unit)
    judgement = {True: "met", False: "MISSED", None: "nothing to judge by"}[verdict.met]
    return (verdict.slo, verdict.of, verdict.text, f"{sign} {told(verdict.target, verdict.unit)}", figure, str(verdict.count), judgement)
