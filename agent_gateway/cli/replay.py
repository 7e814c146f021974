"""`agent-gateway replay`: what the recorded traffic would come to under another configuration. Calls no provider."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent_gateway.cli.progress import progress
from agent_gateway.cli.store_command import answered, print_json, print_table, refuse

if TYPE_CHECKING:
    from agent_gateway.control.snapshot import Configuration
    from agent_gateway.rehearsal.figures import Figures
    from agent_gateway.rehearsal.replay import Column, Compile, Forecast
    from agent_gateway.rehearsal.traffic import Traffic
    from agent_gateway.stores.base import Key, Store, Team

HELP = "what the recorded traffic would cost, how it would be routed and how fast, under another configuration"
EXAMPLE = "agent-gateway replay --config new.yaml --since 24h"

_IN_MEMORY = (
    "state.database is in memory: its records end with the gateway. Name by --against a configuration whose database is kept, "
    "such as sqlite:///agent-gateway.db"
)
_ASSUMED = (
    "A deployment answers as it did at that time, however many calls it is given.",
    "An answer takes as many tokens wherever it is made, prompt caches included.",
    "Sessions, guards, the cache, merged calls and native batches are not rehearsed; clients neither come more often nor ask again.",
    "Budgets begin unspent; keys and teams are those of today.",
)
#: Of each model, the figures that are told beside those of all.
_OF_A_MODEL = ("requests", "cost_usd", "fallback_rate", "p95_s", "ttft_p95_s")
_NAMES = {
    "cost_usd": "cost (USD)",
    "refused_by_limits": "refused by limits",
    "fallback_rate": "fallback rate",
    "attempts_per_request": "attempts per request",
    "p50_s": "latency p50",
    "p95_s": "latency p95",
    "p99_s": "latency p99",
    "ttft_p95_s": "first token p95",
}
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
    import asyncio
    import logging
    import time

    from agent_gateway.control.load import load
    from agent_gateway.control.times import moment, told
    from agent_gateway.rehearsal.replay import NobodyAnswered, forecast
    from agent_gateway.rehearsal.traffic import REQUESTS_MAX, TooMany
    from agent_gateway.stores.base import is_in_memory

    new, recorded = load(arguments.config), load(arguments.against)
    if is_in_memory(recorded.settings.state.database):
        return refuse(_IN_MEMORY)
    now = time.time()
    since = moment(arguments.since, "--since", now)
    until = now if arguments.until is None else moment(arguments.until, "--until", now)
    span = f"from {told(since)} to {told(until)}"
    if until <= since:
        return refuse(f"--until: nothing lies {span}; --since comes first")
    try:
        traffic, keys, teams = asyncio.run(_read(recorded, since, until))
    except TooMany:
        return refuse(f"--since: there are more than {REQUESTS_MAX:,} requests {span}; ask for a shorter time")
    if not traffic.requests:
        return refuse(_nothing(recorded, span, traffic))
    logging.disable(logging.CRITICAL)  # what happens there has not happened
    try:
        with progress("rehearsing", shown=not arguments.json) as advance:
            made = forecast(
                traffic,
                keys,
                compiled(recorded, teams),
                compiled(new, teams),
                seed=arguments.seed,
                runs=arguments.runs,
                told=advance,
            )
    except NobodyAnswered:
        return refuse(f"--since: none of the {len(traffic.requests):,} requests {span} was answered: nothing tells how deployments behave")
    finally:
        logging.disable(logging.NOTSET)
    notes = [*_misses(made), *_notes(made, traffic, keys, new), *_ASSUMED]
    if arguments.json:
        print_json({"since": told(since), "until": told(until), "left_out": dict(traffic.left_out), **_as_json(made), "notes": notes})
    else:
        print_table(_COLUMNS, list(_rows(made)), fold=("model",))
        print("\n".join(notes))
    return 0


def compiled(configuration: Configuration, teams: Sequence[Team] = ()) -> Compile:
    from agent_gateway.app import Gateway

    async def compile_it(clock: Any, recorder: Any, provider: Any, random: Any) -> Any:
        providers = dict.fromkeys(configuration.settings.providers, provider)
        gateway = Gateway.rehearsal(configuration, clock, recorder=recorder, providers=providers, random=random)
        await gateway.meet(teams)
        return gateway.live.runtime

    return compile_it


async def _read(configuration: Configuration, since: float, until: float) -> tuple[Traffic, dict[str, Key], Sequence[Team]]:
    """The requests, and whose they were."""
    from agent_gateway.record.export import pages
    from agent_gateway.record.recorder import Recorder
    from agent_gateway.rehearsal.traffic import read
    from agent_gateway.stores.base import database_path, open_store

    archive = Recorder.for_settings(configuration.settings).archive
    assert archive is not None, "the gateway's own recorder has one"
    try:
        traffic = await read(pages(archive, int(since * 1000), int(until * 1000)))
    finally:
        await archive.close()
    url = configuration.settings.state.database
    path = database_path(url)
    if path is not None and not path.exists():
        return traffic, {}, ()
    store = open_store(url)
    try:
        return traffic, await _keys(store, {asked.key_id for asked in traffic.requests if asked.key_id}), await store.list_teams()
    finally:
        await store.close()


async def _keys(store: Store, ids: set[str]) -> dict[str, Key]:
    from agent_gateway.admission.keys import ADMIN, GATEWAY

    found = {key.id: key for key in (ADMIN, GATEWAY)}
    for key_id in sorted(ids - found.keys()):
        key = await store.find_key(key_id)
        if key is not None:
            found[key_id] = key
    return found


def _nothing(configuration: Configuration, span: str, traffic: Traffic) -> str:
    where = f"the database of {configuration.source or 'the environment'}"
    if traffic.left_out:
        return f"--since: of the requests {span} in {where}, none was decided by a configuration: {_counted(traffic.left_out)}"
    if configuration.settings.monitoring.mode == "off":
        return f"monitoring.mode: is off in {configuration.source}, so there are no records; full or minimal keeps them"
    return f"--since: no request {span} is in {where}; ask for a longer time, or name another configuration by --against"


# --- what it came to


def _rows(made: Forecast) -> Iterator[tuple[str, ...]]:
    for name in type(made.new.all).__struct_fields__:
        yield _row("all", name, made.recorded.all, made.replayed.all, made.new.all)
    for model in sorted(made.recorded.models):
        for name in _OF_A_MODEL:
            yield _row(model, name, *(column.models[model] for column in (made.recorded, made.replayed, made.new)))


def _row(model: str, name: str, *columns: Figures) -> tuple[str, ...]:
    values = [getattr(figures, name) for figures in columns]
    change = _change(values[1], values[2], name)
    return (model, _NAMES.get(name, name), *[_shown(value, name) for value in values], change)


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


def _change(before: float | None, after: float | None, name: str) -> str:
    """In percent; of a share, in points of it."""
    if before is None or after is None:
        return ""
    if name == "fallback_rate":
        return f"{round((after - before) * 100, 2) + 0.0:+.2f} points"
    return f"{round(after / before - 1, 3) + 0.0:+.1%}" if before else ""


def _misses(made: Forecast) -> Iterator[str]:
    """How sure it is: by what rehearsing what was recorded misses it, and by chance."""
    recorded, replayed = made.recorded.all, made.replayed.all
    missed = [f"{_NAMES[name]} {_change(getattr(recorded, name), getattr(replayed, name), name) or '–'}" for name in _JUDGED]
    yield f"Replaying the recorded configuration misses what was recorded by: {', '.join(missed)}."
    if made.runs > 1:
        spread = [f"{_NAMES[name]} ± {_relative(made.new, name)}" for name in _JUDGED]
        yield f"By chance alone, {made.runs} runs of the new one differ by (standard deviation): {', '.join(spread)}."


_JUDGED = ("cost_usd", "p95_s", "fallback_rate")


def _relative(column: Column, name: str) -> str:
    value, spread = getattr(column.all, name), getattr(column.spread, name)
    if name == "fallback_rate":
        return f"{spread * 100:.2f} points"
    return f"{spread / value:.1%}" if value and spread is not None else "–"


def _notes(made: Forecast, traffic: Traffic, keys: Mapping[str, Key], new: Configuration) -> Iterator[str]:
    for deployment, likes, share in _assumed(made):
        yield (
            f"{deployment}: {share:.1%} of all calls are of a kind (stream or whole answer) that no record of it tells of; it is taken to "
            f"be as fast as {likes}, and where it was never called at all, never to fail."
        )
    missing = sorted({asked.call.model for asked in traffic.requests if new.find(asked.call.model) is None})
    if missing:
        yield f"Models that were asked for, and that {new.source} does not have: {', '.join(missing)}. Their requests are errors there."
    keyless = sum(asked.key_id is not None and asked.key_id not in keys for asked in traffic.requests)
    if keyless:
        yield f"{keyless:,} requests came by keys that are not there any more; they are held to no key's limits."
    if traffic.without_body:
        yield (
            f"{traffic.without_body:,} requests were recorded without their bodies (monitoring.mode: minimal): what they need of a model "
            "(images, tools, …) is not known."
        )
    if traffic.left_out:
        yield f"Left out, for no configuration decides about them: {_counted(traffic.left_out)}."


def _assumed(made: Forecast) -> Iterator[tuple[str, str, float]]:
    """By deployment: like which others it is taken to be, and its share of all calls."""
    for deployment in sorted({assumed.deployment for assumed in made.assumed}):
        kinds = [assumed for assumed in made.assumed if assumed.deployment == deployment]
        yield deployment, " and ".join(sorted({assumed.like for assumed in kinds})), sum(assumed.share for assumed in kinds)


def _counted(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} × {why}" for why, count in sorted(left_out.items()))


def _as_json(made: Forecast) -> dict[str, Any]:
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(made)
    return told


def _runs(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MANY:
        raise argparse.ArgumentTypeError(f"expected 1 to {_MANY}; not {text!r}")
    return int(text)
