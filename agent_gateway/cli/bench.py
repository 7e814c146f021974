"""`agent-gateway bench`: a load test of a gateway, or of anything that speaks its protocol, held against the targets."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_gateway.cli.progress import progress
from agent_gateway.cli.store_command import print_json, print_table, refuse

if TYPE_CHECKING:
    from agent_gateway.bench.client import Client
    from agent_gateway.bench.load import Load
    from agent_gateway.bench.report import Report
    from agent_gateway.bench.tally import Figures
    from agent_gateway.bench.targets import PresetName
    from agent_gateway.bench.times import Told
    from agent_gateway.cli.batch_client import BatchClient
    from agent_gateway.record.slo import Verdict
    from agent_gateway.upstream.transport import Transport

HELP = "load test: closed or open loop; a table against the targets, JSON, an HTML report; exits 1 where a target is missed"
EXAMPLE = "agent-gateway bench --model gpt-4o-mini --mode stream --rate 50 --duration 60 --html report.html"

URL = "http://127.0.0.1:8080"
PRESETS = ("support", "codegen")
#: Files that a load test has open beside its connections.
SPARE_FILES = 100
#: Options that are fields of `Load`: name, type, what the value is called, help.
_LOAD = (
    ("mode", str, "MODE", "unary, stream or batch (POST /v1/batch) (default: unary)"),
    ("rate", float, "R", "open loop: so many requests a second, whether those before them are back or not (default: a closed loop)"),
    ("arrivals", str, "HOW", "of an open loop: poisson (at random, like independent users) or even (default: poisson)"),
    ("concurrency", int, "N", "closed loop: users, each asking again when answered (16); open loop: most under way at once (10000)"),
    ("duration", float, "S", "how long it is measured (default: 30)"),
    ("warm-up", float, "S", "before it is measured (default: 5)"),
    ("ramp", float, "S", "the users of a closed loop begin one after the other, over so long (default: 0)"),
    ("prompt-tokens", int, "N", "about so long a prompt (default: 200)"),
    ("output-tokens", int, "N", "max_tokens of an answer (default: 100)"),
    ("batch-size", int, "N", "requests in one batch (default: 50)"),
    ("turns", int, "N", "questions of one conversation, under one session id (default: 1)"),
    ("timeout", float, "S", "an answer that takes longer has failed (default: 120)"),
    ("seed", int, "N", "of arrivals and words (default: 0)"),
)  # fmt: skip
#: Fields whose names say the unit, which options do not.
_SECONDS = ("duration", "warm_up", "ramp", "timeout")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", metavar="U", help=f"what is tested (default: GATEWAY_URL, else {URL})")
    parser.add_argument("--key", metavar="K", help="the key to show (default: GATEWAY_KEY)")
    parser.add_argument("--model", metavar="M", help="the model to ask (default: the first that GET /v1/models tells)")
    for name, kind, metavar, help_text in _LOAD:
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=help_text)
    parser.add_argument("--price", metavar="IN,OUT", help="USD per million tokens, for the cost of streams, which no answer tells")
    parser.add_argument("--preset", choices=PRESETS, help="asks what the preset is for, and judges by its targets too; options go before")
    parser.add_argument(
        "--simulated",
        action="store_true",
        help="of a preset: tests a gateway of its own, started with it before a simulated provider at which 2 %% of the calls fail",
    )
    parser.add_argument("--compare", type=Path, metavar="FILE.json", help="sets it beside an earlier test, written by --output")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="writes the report as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE.html", help="writes the report as one page with plots")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, and no progress bar")


def run(arguments: argparse.Namespace) -> int:
    from agent_gateway.bench.report import Unreadable, read_report
    from agent_gateway.cli.batch_client import Refused, Unreachable
    from agent_gateway.cli.bench_world import NotStarted

    try:
        fields = _fields(arguments)
        other = None if arguments.compare is None else read_report(arguments.compare)
    except (ValueError, Unreadable) as error:
        print(f"agent-gateway bench: {error}", file=sys.stderr)
        return 2
    try:
        report = _tested(arguments, fields)
    except (Refused, Unreachable, NotStarted) as error:
        return refuse(str(error))
    try:
        _write(arguments, report, other)
    except OSError as error:
        return refuse(f"{error.filename} cannot be written: {error.strerror}")
    if arguments.json:
        print_json(report)
    else:
        _show(report, other)
    return 0 if report.met else 1


# --- what is asked for ------------------------------------------------------------------------------------------------


def _fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """Of the load, as far as it is known before anybody is asked. Raises `ValueError` that says which option is wrong, and how."""
    from agent_gateway.bench.load import IN_FLIGHT_MAX, USERS
    from agent_gateway.bench.presets import MODEL, REHEARSALS
    from agent_gateway.core.pricing import Price

    if arguments.simulated and arguments.preset is None:
        raise ValueError("--simulated rehearses a preset: say which with --preset support or --preset codegen")
    if arguments.simulated and (arguments.url or arguments.key or arguments.model):
        raise ValueError("--simulated starts a gateway of its own: leave out --url, --key and --model")
    for path in (arguments.output, arguments.html):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise ValueError(f"{path} cannot be written: {'it is a folder' if path.is_dir() else f'there is no folder {path.parent}'}")
    fields: dict[str, Any] = {} if arguments.preset is None else dict(REHEARSALS[arguments.preset].load)
    for name, *_ in _LOAD:
        name = name.replace("-", "_")
        if (value := getattr(arguments, name)) is not None:
            fields[f"{name}_s" if name in _SECONDS else name] = value
    fields.setdefault("concurrency", USERS if fields.get("rate") is None else IN_FLIGHT_MAX)
    if arguments.simulated:
        fields |= {"model": MODEL, "price": REHEARSALS[arguments.preset].price}
    elif arguments.model is not None:
        fields["model"] = arguments.model
    if arguments.price is not None:
        try:
            price_in, price_out = map(float, arguments.price.split(","))
            fields["price"] = Price(input=price_in, output=price_out)
        except ValueError:
            raise ValueError(f"--price {arguments.price!r} is not two numbers such as 0.15,0.60 (USD per million tokens)") from None
    _load({"url": URL, "model": "any", **fields})
    return fields


def _load(fields: dict[str, Any]) -> Load:
    """Raises `ValueError`."""
    from typing import get_args, get_type_hints

    import msgspec

    from agent_gateway.bench.load import Load

    try:
        return msgspec.convert(msgspec.to_builtins(fields), Load)
    except msgspec.ValidationError as error:
        said, _, place = str(error).replace("`", "").partition(" - at $.")
        option = place.removesuffix("_s").replace("_", "-")
        if said.startswith("Invalid enum value"):
            known = ", ".join(get_args(get_type_hints(Load)[place]))
            raise ValueError(f"--{option} {fields[place]!r} is not one of {known}") from None
        raise ValueError(f"--{option} {fields.get(place)!r} is wrong: {said[:1].lower()}{said[1:]}") from None


# --- the test ---------------------------------------------------------------------------------------------------------


def _tested(arguments: argparse.Namespace, fields: dict[str, Any]) -> Report:
    """Raises `Unreachable`, `Refused` and `NotStarted`."""
    from contextlib import ExitStack

    from agent_gateway.bench.client import Client
    from agent_gateway.bench.presets import REHEARSALS
    from agent_gateway.bench.targets import judged
    from agent_gateway.cli.batch_client import BatchClient, Unreachable
    from agent_gateway.cli.bench_world import kept_by_the_gateway, running, saved_by_batches

    with ExitStack() as stack:
        if arguments.simulated:
            url, key = stack.enter_context(running(arguments.preset, REHEARSALS[arguments.preset])), None
        else:
            url = arguments.url or os.environ.get("GATEWAY_URL") or URL
            key = arguments.key or os.environ.get("GATEWAY_KEY")
        try:
            client = BatchClient(url, key)
            load = _load({**fields, "url": client.url, "model": _model(client, fields.get("model"))})
            transport = _transport(load)
            tester = Client(load, key, transport)
        except ValueError as error:
            raise Unreachable(str(error)) from None
        shown = progress("load test", shown=not arguments.json)
        figures = _run(load, tester, transport, stack.enter_context(shown))
        targets = judged(figures, load, arguments.preset)
        if arguments.simulated:
            targets = kept_by_the_gateway(client, targets)
            if arguments.preset == "codegen":
                targets.append(saved_by_batches(client, load))
    return _report(arguments.preset, load, figures, targets)


def _model(client: BatchClient, asked: str | None) -> str:
    """The one to ask; and somebody is there to be asked. Raises `Unreachable` and `Refused`."""
    from agent_gateway.cli.batch_client import Refused

    try:
        listed = [str(model["id"]) for model in client.get("/v1/models")["data"]]
    except Refused as refused:
        if asked is None or refused.status in (401, 403):
            raise
        return asked  # not everything that answers has a list
    except (KeyError, TypeError):
        listed = []
    if asked is None and not listed:
        raise Refused(200, f"{client.url} lists no models; name one with --model")
    return asked or listed[0]


def _run(load: Load, client: Client, transport: Transport, tell: Callable[[float, float], None]) -> Figures:
    """Ctrl-C ends it early; what was measured by then is told."""
    import asyncio
    import signal

    import uvloop

    from agent_gateway.bench.run import Run
    from agent_gateway.cli.calm import calm_collector

    async def go() -> Figures:
        run = Run(load, client, tell)
        calm_collector()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, run.stop)
        try:
            return await run.figures()
        finally:
            loop.remove_signal_handler(signal.SIGINT)  # or nobody would hear it any more: what follows may take minutes
            await transport.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(go())


def _transport(load: Load) -> Transport:
    """Raises `ValueError` where it may not have so many connections as there are users."""
    from agent_gateway.core.open_files import raise_open_files
    from agent_gateway.upstream.transport import Transport

    files = raise_open_files(load.concurrency + SPARE_FILES)
    if load.rate is None and files < load.concurrency + SPARE_FILES:
        raise ValueError(
            f"--concurrency {load.concurrency} needs as many connections, and this process may have {files} files open: "
            f"raise the limit with `ulimit -n {load.concurrency + SPARE_FILES}`, or ask with fewer users"
        )
    return Transport(max_connections=min(load.concurrency, files - SPARE_FILES))


# --- what is told -----------------------------------------------------------------------------------------------------


def _report(preset: PresetName | None, load: Load, figures: Figures, targets: Sequence[Verdict]) -> Report:
    import time

    from agent_gateway import __version__
    from agent_gateway.bench.report import Report
    from agent_gateway.core.clock import told

    return Report(version=__version__, at=told(time.time()), preset=preset, load=load, figures=figures, targets=targets)


def _write(arguments: argparse.Namespace, report: Report, other: Report | None) -> None:
    """Raises `OSError`."""
    import msgspec

    if arguments.output is not None:
        arguments.output.write_bytes(msgspec.json.encode(report))
    if arguments.html is not None:
        from agent_gateway.bench.page import page

        arguments.html.write_text(page(report, other), encoding="utf-8")


def _show(report: Report, other: Report | None) -> None:
    from agent_gateway.bench.report import LOOKED_AT, compared
    from agent_gateway.cli.slo import COLUMNS, row
    from agent_gateway.record.slo import told

    figures, load = report.figures, report.load
    loop = f"{load.concurrency} users" if load.rate is None else f"{load.rate:g} requests/s"
    print(f"{load.mode}, {load.model} at {load.url}: {loop}, {figures.measured_s:.0f} s measured")
    print(_summary(figures))
    times = [_times_row(title, times) for title, times in report.times()]
    if times:
        print_table(("", *LOOKED_AT, "most", "count"), times, fold=("",))
    if figures.errors:
        print_table(("error", "requests"), [(why, str(count)) for why, count in figures.errors.items()], fold=("error",))
    print_table(COLUMNS, [row(verdict) for verdict in report.targets], fold=("what",))
    if other is not None:
        rows = [
            (each.what, told(each.figure, each.unit), told(each.other, each.unit), "" if each.change is None else f"{each.change:+.1%}")
            for each in compared(report, other)
        ]
        print_table(("what", "now", other.at, "change"), rows, fold=("what",))


def _summary(figures: Figures) -> str:
    from agent_gateway.record.slo import told

    parts = [f"{figures.requests:,} requests, {figures.answered:,} answered ({figures.per_s:.1f}/s), {figures.failed:,} failed"]
    parts += [f"{count:,} {status}" for status, count in figures.statuses.items() if status != "success"]
    if figures.output_tokens:
        parts.append(f"{figures.input_tokens:,} tokens in, {figures.output_tokens:,} out")
    if figures.cost_usd is not None:
        parts.append(f"cost {told(figures.cost_usd, 'usd')}")
    return "; ".join(parts)


def _times_row(title: str, times: Told) -> tuple[str, ...]:
    from agent_gateway.bench.report import LOOKED_AT
    from agent_gateway.record.slo import told

    percentiles = [told(times[percentile], "s") for percentile in LOOKED_AT]
    return (title, *percentiles, told(times.max_s, "s"), str(times.count))
