"""The demo's past: before it serves, its gateway lives through half an hour in virtual time, asked by the same clients.

Promise: whatever the dashboard tells of that time (records, minutes, alerts that came and went) is what this gateway did in it.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import msgspec

from agent_gateway.admission.budgets import period_of
from agent_gateway.app import Gateway
from agent_gateway.cli.demo_clients import LEAVE_SHARE, RATE_PER_S, TEAMS, Asked, Clients
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.clock import SYSTEM_CLOCK, Clock, new_request_id
from agent_gateway.core.exchange import Exchange
from agent_gateway.protocols.base import codec_of
from agent_gateway.rehearsal.client import ask
from agent_gateway.rehearsal.virtual_time import run_virtually
from agent_gateway.stores.base import Key

#: Four times the six minutes in which `shaky` is down once, and most of a sixth: it is about to be.
LENGTH_S = 4 * 360.0 + 270.0
#: Every token of a stream is waited for, and this past is to be over soon.
_STREAMING = 0.3
#: The first requests come at this share of the rate; it rises to the present's.
_FIRST_SHARE = 0.3
#: How often alerts and figures look (s): often enough for the shortest window.
_LOOK_EVERY_S = 30.0
#: Before the present, for the last requests to end (s).
_LAST_S = 8.0
#: Whoever leaves does so within this time (s).
_LEAVES_S = 0.8

#: By account (`key:ID`, `team:ID`) and the beginning of the budget's period (Unix s), in USD.
Spent = Mapping[tuple[str, float], float]


def gateway_with_past(
    configuration: Configuration, options: Mapping[str, Any], clients: Clients, keys: Mapping[str, Key], chance: Random
) -> tuple[Gateway, Spent]:
    """The gateway, ready to serve, and what its keys have spent. Takes a second; no loop may run."""
    time_is = _Time()
    until, wall = time.monotonic(), time.time()

    async def live(virtual: Clock) -> tuple[Gateway, Spent]:
        time_is.of = virtual
        clients.streaming = _STREAMING
        past = _Past(Gateway(configuration, environ={}, options=options, clock=time_is.clock), virtual, keys, chance)
        await past.live(clients, until)
        clients.streaming = 1.0
        return past.gateway, past.spent()

    made = run_virtually(live, wall=wall - LENGTH_S, monotonic=until - LENGTH_S)
    time_is.of = SYSTEM_CLOCK
    return made


class _Time:
    """The gateway's clock, first the virtual one and then the machine's; it never goes back."""

    def __init__(self) -> None:
        self.of = SYSTEM_CLOCK
        self.clock = Clock(monotonic=lambda: self.of.monotonic(), wall=lambda: self.of.wall())


class _Past:
    def __init__(self, gateway: Gateway, clock: Clock, keys: Mapping[str, Key], chance: Random) -> None:
        self.gateway = gateway
        self._clock = clock
        self._chance = chance
        # The ledger of budgets writes in real time: what is spent is added up here.
        self._keys = keys
        self._unbound = {name: replace(key, team=None, budget=None) for name, key in keys.items()}
        self._exchanges: list[tuple[str, Exchange]] = []

    async def live(self, clients: Clients, until: float) -> None:
        looking = asyncio.create_task(self._look())
        with suppress(TimeoutError):  # whoever has no answer by then gets none
            async with asyncio.timeout_at(until), asyncio.TaskGroup() as asking:
                for at in self._times(until - _LAST_S):
                    await asyncio.sleep(at - self._clock.monotonic())
                    asking.create_task(self._ask(clients.next()))
        await asyncio.sleep(until - self._clock.monotonic())
        looking.cancel()
        self._look_once()

    def _times(self, until: float) -> Iterator[float]:
        """A Poisson process whose rate rises."""
        at = begin = self._clock.monotonic()
        while (at := at + self._chance.expovariate(RATE_PER_S)) < until:
            if self._chance.random() < _FIRST_SHARE + (1 - _FIRST_SHARE) * (at - begin) / LENGTH_S:
                yield at

    async def _ask(self, asked: Asked) -> None:
        """Without its session: that is the store's, which knows no virtual time."""
        call = codec_of(asked.dialect).read_call(asked.body, {}, asked.target)
        call = msgspec.structs.replace(call, user=asked.user)
        wall = self._clock.wall()
        exchange = Exchange(
            id=new_request_id(wall), call=call, started=self._clock.monotonic(), started_wall=wall, key=self._unbound[asked.key]
        )
        self._exchanges.append((asked.key, exchange))
        leaves_after_s = self._chance.uniform(0, _LEAVES_S) if self._chance.random() < LEAVE_SHARE else None
        await ask(exchange, self.gateway.live.runtime, leaves_after_s=leaves_after_s)

    async def _look(self) -> None:
        while True:
            self._look_once()
            await asyncio.sleep(_LOOK_EVERY_S)

    def _look_once(self) -> None:
        self.gateway.live.runtime.recorder.fold()
        self.gateway.watch.take_stock()

    def spent(self) -> Spent:
        budgets = {f"team:{team.id}": team.budget for team in TEAMS}
        budgets |= {f"key:{key.id}": key.budget for key in self._keys.values()}
        spent: dict[tuple[str, float], float] = defaultdict(float)
        for name, exchange in self._exchanges:
            key = self._keys[name]
            for account in (f"key:{key.id}", f"team:{key.team}"):
                if (budget := budgets.get(account)) is not None:
                    began, _ = period_of(budget.per, exchange.started_wall)
                    spent[account, began] += exchange.cost_usd or 0.0
        return spent
