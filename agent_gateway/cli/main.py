"""The entry point: finds the command and runs it; imports nothing that the command does not need.

A command is a module with `HELP` (one line), `EXAMPLE`, `configure(parser)` and `run(arguments)`, which gives the exit status:
0, 1 (the answer is no) or 2 (usage). What is costly to import, it imports in `run`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Protocol, cast

from agent_gateway import __version__

#: In the order of the help.
COMMANDS = {
    "serve": "agent_gateway.cli.serve",
    "demo": "agent_gateway.cli.demo",
    "check": "agent_gateway.cli.check",
    "import": "agent_gateway.cli.importing",
    "simulate": "agent_gateway.cli.simulate",
    "batch": "agent_gateway.cli.batch",
    "bench": "agent_gateway.cli.bench",
    "replay": "agent_gateway.cli.replay",
    "keys": "agent_gateway.cli.keys",
    "slo": "agent_gateway.cli.slo",
    "drill": "agent_gateway.cli.drill",
    "audit": "agent_gateway.cli.audit",
    "records": "agent_gateway.cli.records",
    "db": "agent_gateway.cli.db",
}

#: The status of a command that Ctrl-C or a closed pipe ended, as shells have it: 128 + the signal's number.
INTERRUPTED = 130
PIPE_CLOSED = 141


class Command(Protocol):
    HELP: str
    EXAMPLE: str

    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        print(_help(), file=sys.stderr)
        return 2
    name, *rest = words
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version"):
        print(f"agent-gateway {__version__}")
        return 0
    if name not in COMMANDS:
        print(_no_such(name), file=sys.stderr)
        return 2
    return _run(name, rest)


def parser_of(name: str) -> argparse.ArgumentParser:
    """What a command of `COMMANDS` understands."""
    command = _command(name)
    parser = argparse.ArgumentParser(
        prog=f"agent-gateway {name}",
        description=command.HELP,
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.configure(parser)
    return parser


def _run(name: str, words: list[str]) -> int:
    command = _command(name)
    arguments = parser_of(name).parse_args(words)
    try:
        status = command.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left; Python's own flush at exit must not fail on it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return status


def _command(name: str) -> Command:
    return cast(Command, import_module(COMMANDS[name]))


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {_command(name).HELP}" for name in COMMANDS]
    return "\n".join(
        [
            "usage: agent-gateway COMMAND …",
            "",
            "An API gateway for AI agents.",
            "",
            "commands:",
            *lines,
            "",
            "`agent-gateway COMMAND --help` shows a command's options; `--version` the version.",
            "",
            "example:",
            "  agent-gateway demo",
        ]
    )


def _no_such(name: str) -> str:
    if name.startswith("-"):
        return f"agent-gateway: {name} is not an option here; options follow the command (`agent-gateway --help`)"
    close = get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"agent-gateway: there is no command {name!r}; {hint}`agent-gateway --help` lists them"
