"""What operators decided about deployments: kept in the store, and followed by the routing of every process.

Promise: it survives a restart, reaches every process within a second, and ends by itself when its time is over. While the store is down
what was known goes on.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Literal

import msgspec
from msgspec import Struct

from agent_gateway.control.times import told
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import StoreDown
from agent_gateway.health.registry import Health
from agent_gateway.stores.base import ValueStore

Mode = Literal["auto", "drain", "prefer"]
#: How often the store is asked (s).
POLL_S = 0.5
#: So long a start waits for it (s).
START_MAX_S = 1.0
_KIND = "intervention"

_log = logging.getLogger("agent_gateway.control")


class InterventionShown(Struct, frozen=True, kw_only=True):
    mode: Mode
    #: Null: until it is ended.
    until: str | None
    by: str
    reason: str


class Intervention(Struct, frozen=True, kw_only=True):
    mode: Mode
    #: Unix seconds; None: until it is ended.
    until: float | None
    by: str
    reason: str

    def shown(self) -> InterventionShown:
        return InterventionShown(mode=self.mode, until=told(self.until), by=self.by, reason=self.reason)


_decoder = msgspec.json.Decoder(Intervention)


class Interventions:
    """One a process; belongs to the event loop."""

    def __init__(self, store: ValueStore, health: Health, clock: Clock) -> None:
        self._store = store
        self._health = health
        self._clock = clock
        self._known: dict[str, Intervention] = {}
        #: At the store, numbered as they begin; and the one that is followed.
        self._looks = self._followed = 0
        self._task: asyncio.Task[None] | None = None
        self._failed = False
        self._looked = asyncio.Event()

    def shown(self, deployment: str) -> InterventionShown | None:
        """None: there is none."""
        found = self._known.get(deployment)
        return None if found is None else found.shown()

    async def put(self, deployment: str, made: Intervention) -> None:
        """In force here when it returns. Raises `StoreDown`."""
        if made.mode == "auto":
            await self._store.drop_value(_KIND, deployment)
        else:
            body = msgspec.json.encode(made)
            await self._store.keep_value(_KIND, deployment, body, now=self._clock.wall(), expires_at=made.until)
        await self.refresh()

    async def refresh(self) -> None:
        """Raises `StoreDown`."""
        self._looks += 1
        look = self._looks
        found = await self._store.list_values(_KIND, self._clock.wall())
        if look < self._followed:  # what was decided since is in force already
            return
        self._followed = look
        self._follow({name: _decoder.decode(body) for name, body in found.items()})

    async def start(self) -> None:
        """What was decided before is in force when it returns, unless the store keeps it waiting."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        with suppress(TimeoutError):
            async with asyncio.timeout(START_MAX_S):
                await self._looked.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                await self.refresh()
            except StoreDown:
                now = self._clock.wall()
                self._follow({name: each for name, each in self._known.items() if each.until is None or each.until > now})
            except Exception:  # of a later version of this program, say
                if not self._failed:
                    self._failed = True
                    _log.exception("What operators decided about deployments cannot be read; what was known goes on.")
            self._looked.set()
            await asyncio.sleep(POLL_S)

    def _follow(self, found: dict[str, Intervention]) -> None:
        if found != self._known:
            self._known = found
            self._health.interventions = {name: each.mode for name, each in found.items() if each.mode != "auto"}
