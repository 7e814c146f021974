"""Recorded traffic under other configurations: reading it, replaying it, and how sure that is; for the command and the admin API.

Promise: what cannot be replayed is refused with what is missing; no provider is called and nothing is changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from agent_gateway.admission.keys import ADMIN, GATEWAY, PLAYGROUND
from agent_gateway.control.snapshot import Configuration
from agent_gateway.control.times import told
from agent_gateway.record.export import pages
from agent_gateway.record.recorder import Recorder
from agent_gateway.rehearsal.replay import Column, Compile, Forecast, NobodyAnswered, Told, forecasts
from agent_gateway.rehearsal.traffic import REQUESTS_MAX, TooMany, Traffic, read
from agent_gateway.stores.base import Key, Store, Team, database_path, is_in_memory, open_store

#: How the figures are called in what is said of them.
NAMES = {
    "cost_usd": "cost (USD)",
    "refused_by_limits": "refused by limits",
    "fallback_rate": "fallback rate",
    "attempts_per_request": "attempts per request",
    "p50_s": "latency p50",
    "p95_s": "latency p95",
    "p99_s": "latency p99",
    "ttft_p95_s": "first token p95",
}
_JUDGED = ("cost_usd", "p95_s", "fallback_rate")
_ASSUMED = (
    "A deployment answers as it did at that time, however many calls it is given.",
    "An answer takes as many tokens wherever it is made, prompt caches included.",
    "Sessions, guards, the cache, merged calls and native batches are not rehearsed; clients neither come more often nor ask again.",
    "Budgets begin unspent; keys and teams are those of today.",
)
#: Of a configuration's warnings, those that speak of what is replayed: prices.
_OF_PRICES = ("models", "providers.")


class NotReplayed(Exception):
    """`field` is what should be asked otherwise: `since`, `until`, or a setting; `code` says why in a word."""

    def __init__(self, code: str, field: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.field = field
        self.text = text


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was asked in a time (Unix seconds), under the configuration that was in use, and whose it was."""

    configuration: Configuration
    since: float
    until: float
    traffic: Traffic
    keys: Mapping[str, Key]
    teams: Sequence[Team]


@dataclass(frozen=True, slots=True)
class Replayed:
    recorded: Recorded
    forecast: Forecast
    #: How sure it is, and what it assumes.
    notes: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        of = self.recorded
        made: dict[str, Any] = msgspec.to_builtins(self.forecast)
        span = {"since": told(of.since), "until": told(of.until)}
        return {**span, "left_out": dict(of.traffic.left_out), **made, "notes": list(self.notes)}


def recorded(configuration: Configuration, since: float, until: float) -> Recorded:
    """Raises `NotReplayed`, `StoreDown`."""
    if is_in_memory(configuration.settings.state.database):
        raise NotReplayed(
            "records_in_memory",
            "state.database",
            "is in memory: its records end with the gateway, and no other process sees them; keep them in a file, "
            "such as sqlite:///agent-gateway.db",
        )
    span = f"from {told(since)} to {told(until)}"
    if until <= since:
        raise NotReplayed("no_time", "until", f"nothing lies {span}; since comes first")
    try:
        traffic, keys, teams = asyncio.run(_read(configuration, since, until))
    except TooMany:
        too_many = f"there are more than {REQUESTS_MAX:,} requests {span}; ask for a shorter time"
        raise NotReplayed("too_many_records", "since", too_many) from None
    if not traffic.requests:
        raise _nothing(configuration, span, traffic)
    return Recorded(configuration, since, until, traffic, keys, teams)


def replayed(of: Recorded, new: Sequence[Configuration], *, seed: int, runs: int, advance: Told) -> list[Replayed]:
    """One for each of `new`; `advance` hears how far it is. Raises `NotReplayed`."""
    logging.disable(logging.CRITICAL)  # what happens there has not happened
    try:
        made = forecasts(
            of.traffic,
            of.keys,
            compiled(of.configuration, of.teams),
            [compiled(each, of.teams) for each in new],
            seed=seed,
            runs=runs,
            told=advance,
        )
    except NobodyAnswered:
        many, span = len(of.traffic.requests), f"from {told(of.since)} to {told(of.until)}"
        silent = f"none of the {many:,} requests {span} was answered: nothing tells how deployments behave"
        raise NotReplayed("nobody_answered", "since", silent) from None
    finally:
        logging.disable(logging.NOTSET)
    return [
        Replayed(of, forecast, [*_misses(forecast), *_notes(forecast, of, configuration), *_ASSUMED])
        for forecast, configuration in zip(made, new, strict=True)
    ]


def compiled(configuration: Configuration, teams: Sequence[Team] = ()) -> Compile:
    from agent_gateway.app import Gateway

    async def compile_it(clock: Any, recorder: Any, provider: Any, random: Any) -> Any:
        providers = dict.fromkeys(configuration.settings.providers, provider)
        gateway = Gateway.rehearsal(configuration, clock, recorder=recorder, providers=providers, random=random)
        await gateway.meet(teams)
        return gateway.live.runtime

    return compile_it


def change(before: float | None, after: float | None, name: str) -> str:
    """In percent; of a share, in points of it."""
    if before is None or after is None:
        return ""
    if name == "fallback_rate":
        return f"{round((after - before) * 100, 2) + 0.0:+.2f} points"
    return f"{round(after / before - 1, 3) + 0.0:+.1%}" if before else ""


# --- reading


async def _read(configuration: Configuration, since: float, until: float) -> tuple[Traffic, Mapping[str, Key], Sequence[Team]]:
    """The requests, and whose they were."""
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


async def _keys(store: Store, ids: set[str]) -> Mapping[str, Key]:
    found = {key.id: key for key in (ADMIN, GATEWAY, PLAYGROUND)}
    for key_id in sorted(ids - found.keys()):
        key = await store.find_key(key_id)
        if key is not None:
            found[key_id] = key
    return found


def _nothing(configuration: Configuration, span: str, traffic: Traffic) -> NotReplayed:
    where = f"the database of {configuration.source or 'the environment'}"
    if traffic.left_out:
        undecided = f"of the requests {span} in {where}, none was decided by a configuration: {_counted(traffic.left_out)}"
        return NotReplayed("nothing_to_decide", "since", undecided)
    if configuration.settings.monitoring.mode == "off":
        off = f"is off in {configuration.source}, so there are no records; full or minimal keeps them"
        return NotReplayed("no_records", "monitoring.mode", off)
    return NotReplayed("no_records", "since", f"no request {span} is in {where}; ask for a longer time")


# --- how sure it is


def _misses(made: Forecast) -> Iterator[str]:
    """By what rehearsing what was recorded misses it, and by chance."""
    then, again = made.recorded.all, made.replayed.all
    missed = [f"{NAMES[name]} {change(getattr(then, name), getattr(again, name), name) or '–'}" for name in _JUDGED]
    yield f"Replaying the recorded configuration misses what was recorded by: {', '.join(missed)}."
    if made.runs > 1:
        spread = [f"{NAMES[name]} ± {_relative(made.new, name)}" for name in _JUDGED]
        yield f"By chance alone, {made.runs} runs of the new one differ by (standard deviation): {', '.join(spread)}."


def _relative(column: Column, name: str) -> str:
    value, spread = getattr(column.all, name), getattr(column.spread, name)
    if name == "fallback_rate":
        return f"{spread * 100:.2f} points"
    return f"{spread / value:.1%}" if value and spread is not None else "–"


def _notes(made: Forecast, of: Recorded, new: Configuration) -> Iterator[str]:
    traffic = of.traffic
    for deployment, likes, share in _assumed(made):
        yield (
            f"{deployment}: {share:.1%} of all calls are of a kind (stream or whole answer) that it never answered in the records; it is "
            f"taken to be as fast as {likes}, and where it was never called at all, never to fail."
        )
    missing = sorted({asked.call.model for asked in traffic.requests if new.find(asked.call.model) is None})
    if missing:
        yield f"Models that were asked for, and that {new.source} does not have: {', '.join(missing)}. Their requests are errors there."
    yield from (warning for warning in new.warnings if warning.startswith(_OF_PRICES))
    keyless = sum(asked.key_id is not None and asked.key_id not in of.keys for asked in traffic.requests)
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
