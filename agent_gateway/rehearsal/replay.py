"""Recorded traffic, asked again of the real gateway in virtual time: under the configuration that it met, and under another.

Promise: no provider is called, and the same records, configurations and seed give the same forecast.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random

import msgspec

from agent_gateway.core.clock import Clock, new_request_id
from agent_gateway.core.exchange import Exchange
from agent_gateway.pipeline import Runtime
from agent_gateway.record.metrics import Metrics
from agent_gateway.record.recorder import Recorder
from agent_gateway.record.row import Record
from agent_gateway.rehearsal.behaviour import Behaviour
from agent_gateway.rehearsal.client import ask
from agent_gateway.rehearsal.figures import Figures, Tally, by_model, mean, spread
from agent_gateway.rehearsal.stand_in import NUMBER, StandIn, UnderWay
from agent_gateway.rehearsal.traffic import Asked, Traffic, with_body
from agent_gateway.rehearsal.virtual_time import run_virtually
from agent_gateway.stores.base import Key
from agent_gateway.upstream.base import Provider

#: A gateway of one configuration, made of nothing but what it is given; the provider answers in the place of all of them.
Compile = Callable[[Clock, Recorder, Provider, Random], Awaitable[Runtime]]

#: Hears how much is done, and of how much.
Told = Callable[[float, float], None]

#: How often a rehearsal tells how far it is.
STEPS = 50
#: When the last answer has come, its record is there within this time (s).
RECORDED_S = 10.0


class Column(msgspec.Struct, frozen=True):
    """What the requests come to. `spread`: the standard deviation over the seeds."""

    all: Figures
    models: dict[str, Figures]
    spread: Figures | None = None


class Assumed(msgspec.Struct, frozen=True):
    """A deployment whose calls of this kind are not in the records, and the one whose times it was given."""

    deployment: str
    stream: bool
    like: str
    #: Of all calls.
    share: float


class Forecast(msgspec.Struct, frozen=True):
    seed: int
    runs: int
    #: What was recorded; the same configuration, replayed; the other one, replayed.
    recorded: Column
    replayed: Column
    new: Column
    assumed: list[Assumed]


class NobodyAnswered(Exception):
    """No record tells how any deployment behaves."""


def forecasts(
    traffic: Traffic,
    keys: Mapping[str, Key],
    recorded: Compile,
    new: Sequence[Compile],
    *,
    seed: int,
    runs: int,
    told: Told = lambda done, of: None,
) -> list[Forecast]:
    """One for each of `new`. `keys` by their ids. Raises `NobodyAnswered`."""
    behaviour = Behaviour(traffic.done)
    if not behaviour.is_known:
        raise NobodyAnswered
    many = runs * (1 + len(new))

    def advance(done: int, share: float) -> None:
        told(done + share, many)

    def rehearsed(compiled: Compile, before: int) -> tuple[Column, list[Assumed]]:
        tallies: list[Tally] = []
        met: Counter[tuple[str, bool]] = Counter()
        for number in range(runs):
            tally, calls = rehearse(traffic, keys, behaviour, compiled, seed + number, partial(advance, before + number))
            tallies.append(tally)
            met += calls
        return _column(tallies), _assumed(behaviour, met)

    as_recorded = Column(traffic.then.all(), traffic.then.models())
    replayed, _ = rehearsed(recorded, 0)
    columns = [rehearsed(compiled, runs * place) for place, compiled in enumerate(new, start=1)]
    return [Forecast(seed, runs, as_recorded, replayed, column, assumed) for column, assumed in columns]


def rehearse(
    traffic: Traffic,
    keys: Mapping[str, Key],
    behaviour: Behaviour,
    compiled: Compile,
    seed: int,
    told: Callable[[float], None] = lambda share: None,
) -> tuple[Tally, Counter[tuple[str, bool]]]:
    """What they come to, and the calls that it took: by deployment, and whether they are streams. `told` hears how far it is (0–1)."""
    begins, many = traffic.requests[0].at, len(traffic.requests)
    step = max(1, many // STEPS)

    async def main(clock: Clock) -> tuple[Tally, Counter[tuple[str, bool]]]:
        tally = Tally()
        recorder = Recorder(Metrics(), [_Adding(tally)], clock)
        stand_in = StandIn(behaviour, clock)
        runtime = replace(await compiled(clock, recorder, stand_in, Random(seed)), guards=None)
        await recorder.start()
        asking: set[asyncio.Task[None]] = set()
        for place, asked in enumerate(traffic.requests, start=1):
            await asyncio.sleep(asked.at - clock.wall())
            task = asyncio.create_task(_ask(asked, keys.get(asked.key_id or ""), runtime, stand_in, seed))
            asking.add(task)
            task.add_done_callback(asking.discard)
            if place % step == 0:
                told(place / many)
        if asking:
            await asyncio.wait(asking)
        await recorder.close(RECORDED_S)
        return tally, stand_in.met

    return run_virtually(main, wall=begins)


async def _ask(asked: Asked, key: Key | None, runtime: Runtime, stand_in: StandIn, seed: int) -> None:
    clock = runtime.clock
    wall = clock.wall()
    exchange = Exchange(
        id=new_request_id(wall),
        call=with_body(asked.call, asked.body_bytes, {NUMBER: str(asked.number)}),
        started=clock.monotonic(),
        started_wall=wall,
        key=key,
        edge="batch" if asked.of_batch else "http",
        uses_cache=False,  # bodies of one size are all alike here
    )
    request = UnderWay(asked, exchange, Random(f"{seed}/{asked.number}"))
    stand_in.begin(request)
    try:
        await ask(exchange, runtime, leaves_after_s=asked.left_after_s)
    finally:
        stand_in.end(request)


def _column(tallies: Sequence[Tally]) -> Column:
    several = [tally.all() for tally in tallies]
    return Column(mean(several), by_model([tally.models() for tally in tallies], mean), spread(several))


def _assumed(behaviour: Behaviour, met: Counter[tuple[str, bool]]) -> list[Assumed]:
    total = sum(met.values())
    found = []
    for (deployment, stream), calls in sorted(met.items()):
        like = behaviour.stand_in(deployment, stream=stream)
        if like is not None:
            found.append(Assumed(deployment, stream, like, calls / total))
    return found


class _Adding:
    """A sink: records are added up, and gone."""

    name = "rehearsal"
    adopted = 0
    dropped = 0

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.written = 0

    def start(self) -> None:
        """Nothing runs."""

    def keep(self, retention_days: float) -> None:
        """Nothing stays."""

    def write(self, records: Sequence[Record]) -> None:
        self._tally.add(records)
        self.written += len(records)

    async def erase(self, user: str) -> int:
        """There is nobody in it."""
        return 0

    async def close(self, timeout_s: float) -> None:
        """Everything is added up already."""
