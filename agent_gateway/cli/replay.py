"""`agent-gateway replay`: what the recorded traffic would come to under another configuration. Calls no provider."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent_gateway.cli.progress import progress
from agent_gateway.cli.store_command import answered, print_json, print_table, refuse

if TYPE_CHECKING:
    from agent_gateway.cli.replaying import NotReplayed
    from agent_gateway.control.snapshot import Configuration
    from agent_gateway.rehearsal.figures import Figures
    from agent_gateway.rehearsal.replay import Forecast

HELP = "what the recorded traffic would cost, how it would be routed and how fast, under another configuration"
EXAMPLE = "agent-gateway replay --config new.yaml --since 24h"

#: Beyond what is wrong, what a command can do about it.
_OTHERWISE = {
    "records_in_memory": ", or name by --against a configuration whose database is kept",
    "no_records": ", or name another configuration by --against",
}
#: Of each model, the figures that are told beside those of all.
_OF_A_MODEL = ("requests", "cost_usd", "fallback_rate", "p95_s", "ttft_p95_s")
_COLUMNS = ("model", "figure", "recorded", "replayed", "new", "new : replayed")
#: Decimals of counts end here.
_MANY = 100


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="NEW.yaml", required=True, help="the configuration to rehearse")
    parser.add_argument(
        "--against", metavar="OLD.yaml", help="the one that the records were made under, in whose database they are (default: as for serve)"
    )
    parser.add_argument(
        "--since", default="24h", metavar="24h", help="requests since a moment (2025-01-31T08:00:00Z), or for so long back (default: 24h)"
    )
    parser.add_argument("--until", metavar="1h", help="and before another (default: now)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed gives the same forecast (default: 0)")
    parser.add_argument("--runs", type=_runs, default=3, metavar="N", help="rehearse so often, with one seed after the other (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    return answered(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    import time

    from agent_gateway.cli.replaying import NotReplayed, recorded, replayed
    from agent_gateway.control.times import moment

    new, old = _loaded("--config", arguments.config), _loaded("--against", arguments.against)
    now = time.time()
    since = moment(arguments.since, "--since", now)
    until = now if arguments.until is None else moment(arguments.until, "--until", now)
    try:
        traffic = recorded(old, since, until)
        with progress("rehearsing", shown=not arguments.json) as advance:
            (made,) = replayed(traffic, [new], seed=arguments.seed, runs=arguments.runs, advance=advance)
    except NotReplayed as error:
        return refuse(_told(error))
    if arguments.json:
        print_json(made.as_json())
    else:
        print_table(_COLUMNS, list(_rows(made.forecast)), fold=("model",))
        print("\n".join(made.notes))
    return 0


def _loaded(option: str, file: str | None) -> Configuration:
    """Raises `ConfigurationError` that says in which of the two the mistakes are."""
    from agent_gateway.control.errors import ConfigurationError
    from agent_gateway.control.load import load

    try:
        return load(file)
    except ConfigurationError as error:
        raise ConfigurationError([f"{option}: {line}" for line in error.errors]) from None


def _told(error: NotReplayed) -> str:
    field = f"--{error.field}" if error.field in ("since", "until") else error.field
    return f"{field}: {error.text}{_OTHERWISE.get(error.code, '')}"


# --- what it came to


def _rows(made: Forecast) -> Iterator[tuple[str, ...]]:
    for name in type(made.new.all).__struct_fields__:
        yield _row("all", name, made.recorded.all, made.replayed.all, made.new.all)
    for model in sorted(made.recorded.models):
        for name in _OF_A_MODEL:
            yield _row(model, name, *(column.models[model] for column in (made.recorded, made.replayed, made.new)))


def _row(model: str, name: str, *columns: Figures) -> tuple[str, ...]:
    from agent_gateway.cli.replaying import NAMES, change

    values = [getattr(figures, name) for figures in columns]
    return (model, NAMES.get(name, name), *[_shown(value, name) for value in values], change(values[1], values[2], name))


def _shown(value: float | None, name: str) -> str:
    if value is None:
        return ""
    if name.endswith("_s"):
        return f"{value:.2f} s"
    if name == "fallback_rate":
        return f"{value:.2%}"
    if name == "cost_usd":
        return f"{value:,.4f}" if value < _MANY else f"{value:,.2f}"
    if name == "attempts_per_request":
        return f"{value:.3f}"
    return f"{value:,.0f}" if value >= _MANY else f"{value:.4g}"


def _runs(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MANY:
        raise argparse.ArgumentTypeError(f"expected 1 to {_MANY}; not {text!r}")
    return int(text)
