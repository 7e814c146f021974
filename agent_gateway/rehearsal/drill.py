"""A scenario, played: the real gateway meets it in virtual time, and what its alerts, breakers and controllers did is written down.

Promise: nobody who judges knows what is wrong; it is compared afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import msgspec

from agent_gateway.core.clock import Clock, new_request_id
from agent_gateway.core.exchange import Exchange
from agent_gateway.health.registry import Health
from agent_gateway.pipeline import Runtime
from agent_gateway.record.alerting.engine import EVERY_S, Alert, AlertEngine
from agent_gateway.record.metrics import Metrics
from agent_gateway.record.recorder import Recorder
from agent_gateway.rehearsal.client import ask
from agent_gateway.rehearsal.scenario import LENGTH_S, Scenario
from agent_gateway.rehearsal.virtual_time import run_virtually
from agent_gateway.rehearsal.world import SPENDER, Ask, Disk, Faults, asks, store_of
from agent_gateway.stores.base import Store
from agent_gateway.upstream.base import Provider

#: Unix time at which a scenario begins: a Thursday morning, so that no budget's day ends in it.
BEGINS = 1_760_000_400.0
#: What begins so soon after an incident is over is still about it (s): the short windows reach back as far.
AFTER_S = 300.0
#: When the last request has come, what is under way has this long to end (s).
_LAST_S = 900.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a drill needs of one."""

    runtime: Runtime
    alerts: AlertEngine
    health: Health


#: Makes one of nothing but what it is given; `providers` makes each from a seed.
Make = Callable[[Clock, Recorder, Callable[[int], Provider], Store, Random], Gateway]


class Told(msgspec.Struct, frozen=True):
    """An alert; `at_s` since the scenario began. `right`: it is about what is wrong."""

    rule: str
    label: str
    at_s: float
    text: str
    right: bool


class Guarded(msgspec.Struct, frozen=True):
    """What breakers, or controllers, did: how often one left its usual state, how soon after the incident began, and how soon after it
    was over all were back (s; negative: before). None: not at all.
    """

    times: int = 0
    after_s: float | None = None
    back_after_s: float | None = None


class Played(msgspec.Struct, frozen=True):
    name: str
    kind: str
    requests: int
    #: Of what is wrong; None: nothing is.
    began_s: float | None
    ended_s: float | None
    #: How long after it began the first alert that was expected was told; None: none was.
    detected_after_s: float | None
    alerts: list[Told]
    breakers: Guarded
    controllers: Guarded


def play(scenario: Scenario, make: Make) -> Played:
    return run_virtually(lambda clock: _Play(scenario, make, clock).run(), wall=BEGINS)


class _Play:
    def __init__(self, scenario: Scenario, make: Make, clock: Clock) -> None:
        self._scenario = scenario
        self._clock = clock
        self._disk = Disk(scenario, clock)
        self._recorder = Recorder(Metrics(), [self._disk], clock)
        faults = Faults(scenario, clock, Random(f"{scenario.seed}/faults"))
        self._gateway = make(clock, self._recorder, faults.provider, store_of(scenario, clock), Random(scenario.seed))
        self._breakers, self._controllers = _Watched(), _Watched()

    async def run(self) -> Played:
        await self._recorder.start()
        requests = 0
        asking: set[asyncio.Task[None]] = set()
        looking = asyncio.create_task(self._look())
        for asked in asks(self._scenario, Random(f"{self._scenario.seed}/clients"), LENGTH_S):
            await asyncio.sleep(asked.at - self._clock.monotonic())
            requests += 1
            task = asyncio.create_task(_ask(asked, self._gateway.runtime))
            asking.add(task)
            task.add_done_callback(asking.discard)
        await asyncio.sleep(max(LENGTH_S - self._clock.monotonic(), 0.0))
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking  # what it failed by is to be seen
        if asking:
            await asyncio.wait(asking, timeout=_LAST_S)
        await self._recorder.close(0.0)
        return self._played(requests)

    async def _look(self) -> None:
        gateway = self._gateway
        while True:
            gateway.alerts.evaluate()
            now = self._clock.monotonic()
            self._breakers.see({name for name, one in gateway.health.deployments() if one.breaker.state != "closed"}, now)
            away = {name for name, one in gateway.health.controllers() if one.state in ("tripped", "recovering")}
            self._controllers.see(away, now)
            await asyncio.sleep(EVERY_S)

    def _played(self, requests: int) -> Played:
        scenario, alerts = self._scenario, self._gateway.alerts
        began_s, ended_s = self._when()
        told = sorted((*alerts.past(), *alerts.firing()), key=lambda alert: (alert.began, alert.rule, alert.label))
        detected = [
            alert.began - BEGINS - began_s
            for alert in told
            if began_s is not None and alert.rule in scenario.kind.expected and self._is_right(alert, began_s, ended_s)
        ]
        return Played(
            name=scenario.name,
            kind=scenario.kind.name,
            requests=requests,
            began_s=began_s,
            ended_s=ended_s,
            detected_after_s=detected[0] if detected else None,
            alerts=[
                Told(alert.rule, alert.label, alert.began - BEGINS, alert.text, self._is_right(alert, began_s, ended_s)) for alert in told
            ],
            breakers=self._breakers.since(began_s, ended_s),
            controllers=self._controllers.since(began_s, ended_s),
        )

    def _when(self) -> tuple[float | None, float | None]:
        """Of what is wrong. A budget is so from when it is spent; one that was not is no incident."""
        scenario = self._scenario
        if scenario.kind.quiet:
            return None, None
        if scenario.budget is not None:
            return self._disk.soft_spent_s, None if self._disk.soft_spent_s is None else LENGTH_S
        return scenario.begins_s, scenario.ends_s

    def _is_right(self, alert: Alert, began_s: float | None, ended_s: float | None) -> bool:
        """It is of a rule that may tell of it, of what is hit, and of that time."""
        scenario = self._scenario
        if began_s is None or ended_s is None or alert.rule not in scenario.kind.expected | scenario.kind.besides:
            return False
        labels = {"", self._disk.name, f"key:{SPENDER}"} | scenario.models | scenario.deployments
        return alert.label in labels and began_s <= alert.began - BEGINS < ended_s + AFTER_S


class _Watched:
    """Of breakers or controllers, when any was not in its usual state."""

    def __init__(self) -> None:
        self._away: set[str] = set()
        self._times = 0
        self._first_s: float | None = None
        self._back_s: float | None = None

    def see(self, away: set[str], now: float) -> None:
        if new := away - self._away:
            self._times += len(new)
            self._first_s = now if self._first_s is None else self._first_s
        if self._away and not away:
            self._back_s = now
        self._away = away

    def since(self, began_s: float | None, ended_s: float | None) -> Guarded:
        after_s = None if self._first_s is None or began_s is None else self._first_s - began_s
        back_s = None if self._away or self._back_s is None or ended_s is None else self._back_s - ended_s
        return Guarded(self._times, after_s, back_s)


async def _ask(asked: Ask, runtime: Runtime) -> None:
    clock = runtime.clock
    wall = clock.wall()
    exchange = Exchange(
        id=new_request_id(wall), call=asked.call, started=clock.monotonic(), started_wall=wall, key=asked.key, session=asked.session
    )
    await ask(exchange, runtime, leaves_after_s=asked.leaves_after_s)
