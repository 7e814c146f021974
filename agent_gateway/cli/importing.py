"""`agent-gateway import`: another gateway's configuration as one of ours, and what of it could not be carried over."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_gateway.control.litellm.conversion import Conversion

HELP = "converts another gateway's configuration (LiteLLM's)"
EXAMPLE = "agent-gateway import litellm config.yaml --output gateway.yaml"


def configure(parser: argparse.ArgumentParser) -> None:
    sources = parser.add_subparsers(dest="source", metavar="SOURCE", required=True)
    litellm = sources.add_parser(
        "litellm",
        help="a configuration of LiteLLM's proxy",
        description=(
            "Converts a configuration of LiteLLM's proxy. What could not be carried over is told on standard error, "
            "and in comments at the top of the result."
        ),
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    litellm.add_argument("file", metavar="CONFIG.yaml", type=Path, help="LiteLLM's configuration")
    litellm.add_argument("--output", metavar="FILE", type=Path, help="where the result goes (default: standard output)")
    litellm.add_argument("--force", action="store_true", help="write over a FILE that is there")
    litellm.add_argument(
        "--json", action="store_true", help="print JSON: the configuration, the variables it reads, what could not be carried over"
    )


def run(arguments: argparse.Namespace) -> int:
    from agent_gateway.control.errors import ConfigurationError
    from agent_gateway.control.litellm.conversion import NotLiteLLM, convert, read

    try:
        conversion = convert(read(arguments.file))
    except ConfigurationError as error:
        return _refuse("\n".join(error.errors))
    except NotLiteLLM as error:
        return _refuse(f"{arguments.file}: {error}")
    if arguments.json:
        _print_json(conversion)
        return 0
    for note in conversion.notes:
        print(note, file=sys.stderr)
    return _write(conversion, arguments.file, arguments.output, force=arguments.force)


def _write(conversion: Conversion, source: Path, output: Path | None, *, force: bool) -> int:
    from agent_gateway.control.litellm.writing import yaml_text

    text = yaml_text(conversion, source.name)
    if output is None:
        print(text, end="")
        return 0
    try:
        # It may hold keys, as the file did that it was made of.
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
        with open(os.open(output, flags, 0o600), "w") as file:
            file.write(text)
    except FileExistsError:
        return _refuse(f"{output}: is there already; name another file, or write over it with --force")
    except OSError as error:
        return _refuse(f"{output}: cannot be written: {error.strerror}")
    print(f"{output}: {_counted(conversion)}", file=sys.stderr)
    if conversion.variables:
        print(f"it reads {', '.join(conversion.variables)} from the environment", file=sys.stderr)
    print(f"next: agent-gateway check --config {output}", file=sys.stderr)
    return 0


def _counted(conversion: Conversion) -> str:
    models, notes = len(conversion.configuration.get("models", {})), len(conversion.notes)
    told = (
        "everything was carried over"
        if not notes
        else f"{notes} {'setting' if notes == 1 else 'settings'} not carried over as it was (above)"
    )
    return f"{models} {'model' if models == 1 else 'models'}; {told}"


def _print_json(conversion: Conversion) -> None:
    import msgspec

    told = {"configuration": conversion.configuration, "variables": conversion.variables, "notes": conversion.notes}
    print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())


def _refuse(why: str) -> int:
    print(why, file=sys.stderr)
    return 1
