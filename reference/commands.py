"""docs/reference/cli.md: every command, action and option, as its own parser has them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from agent_gateway.cli.main import COMMANDS, parser_of

_OPENING = """# Commands

Made from the commands themselves by `python -m reference`. `agent-gateway COMMAND --help` says the same. Every command exits with 0, with 1 where the
answer is no or something failed, and with 2 where it was not understood; `--json` has it print JSON.
"""


def page() -> str:
    return "\n".join([_OPENING, *(line for name in COMMANDS for line in _command(parser_of(name), 2))]).rstrip() + "\n"


def _command(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    actions = [action for action in parser._actions if action.help is not argparse.SUPPRESS and action.dest != "help"]
    groups = [action for action in actions if isinstance(action, argparse._SubParsersAction)]
    yield f"{'#' * level} `{parser.prog}`"
    yield ""
    yield _sentence(parser.description or "")
    yield ""
    told = [action for action in actions if action not in groups]
    if told:
        yield "| | |"
        yield "|---|---|"
        yield from (f"| {_named(action)} | {_meaning(action)} |" for action in told)
        yield ""
    if example := (parser.epilog or "").partition("example:\n")[2].strip():
        yield from ("```bash", example, "```", "")
    for group in groups:
        for child in group.choices.values():
            yield from _command(child, level + 1)


def _named(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = _value(action)
    return ", ".join(f"`{name}{f' {value}' if value else ''}`" for name in action.option_strings)


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    return str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())


def _meaning(action: argparse.Action) -> str:
    text = (action.help or "").replace("%%", "%")
    said = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    return said + ("; required" if action.option_strings and action.required else "")


def _sentence(text: str) -> str:
    said = " ".join(text.split())
    return said[:1].upper() + said[1:].rstrip(".") + "." if said else ""
