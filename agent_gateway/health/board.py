"""What processes tell each other of deployments: breakers that opened or closed, probes under way, providers that want to be left alone.

Promise: no request waits for it, and what one process saw the others know within two `LOOK_S` and a round trip. While the place cannot
be asked, each goes by what it sees itself.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import StoreDown
from agent_gateway.health.board_file import Answer, Change, exchange
from agent_gateway.health.breaker import Breaker
from agent_gateway.health.registry import DeploymentHealth, Health
from agent_gateway.stores.meeting import Script
from agent_gateway.stores.meeting_place import Place, open_meeting

#: So often it is told what is new here, and asked what is new elsewhere (s).
LOOK_S = 0.25
#: One exchange, and the rest after one that failed.
ANSWER_TIMEOUT_S = 1.0
RETRY_S = 1.0
#: A process, or a probe, that is not heard of for so long is gone.
LIFE_S = 4 * LOOK_S
#: What nobody has changed for so long is forgotten.
HISTORY_S = 3600.0
#: When a breaker is half open the processes have their turns at the probe so long after each other, longer than news take; a process
#: without traffic lets its turn pass. After so many turns it is everybody's.
TURN_S = 1.0
TURNS_MAX = 10
#: Two clocks and a round trip tell the same time up to this (s).
_SAME_S = 0.1

_NAMES = [b"agent-gateway:health:%b" % name for name in (b"breakers", b"processes", b"cooldowns", b"probes")]
_SCRIPT: Script[Answer] = Script(Path(__file__).with_suffix(".lua"), exchange, Answer)
_log = logging.getLogger("agent_gateway.health")


@dataclass(slots=True)
class _Told:
    """What the board knows of a deployment from here, or is known here from the board."""

    #: Of the breaker's own changes, those that were told.
    changes: int = 0
    #: The name of the change that holds.
    change: str = ""
    cooldown_until: float = 0.0


class Board:
    """One a process; outlives every reload."""

    def __init__(self, place: Place, health: Health, clock: Clock) -> None:
        self._meeting = open_meeting(place, _SCRIPT)
        self._health = health
        self._clock = clock
        self._process = secrets.token_hex(8)
        self._told: dict[str, _Told] = {}
        self._task: asyncio.Task[None] | None = None
        #: The last exchange was answered.
        self.up = False
        #: A place that comes back may have forgotten what it was told.
        self._tell_again = False

    async def start(self) -> None:
        """What others know is known here before the first request, if the place is quick."""
        with suppress(StoreDown, TimeoutError):
            await self._exchange(ANSWER_TIMEOUT_S / 2)
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._meeting.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(RETRY_S if self._tell_again else LOOK_S)
            try:
                await self._exchange(ANSWER_TIMEOUT_S)
            except Exception as error:  # whatever it is: the next one may be answered
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.up = False
        if not self._tell_again:
            self._tell_again = True
            why = error.detail if isinstance(error, StoreDown) else str(error) or type(error).__name__
            _log.warning("Breakers go by what this process sees until %s is back: %s", self._meeting.place, why)

    async def _exchange(self, timeout_s: float) -> None:
        """What fails on its way is told again: the change keeps its name."""
        known = {_spelled(name): one for name, one in self._health.deployments()}
        for deployment in self._told.keys() - known.keys():
            del self._told[deployment]
        now = self._clock.monotonic()
        changes = [change for name, one in known.items() if (change := self._change(name, one.breaker, now)) is not None]
        cooldowns = [(name, (one.cooldown_until - now) * 1000) for name, one in known.items() if self._is_new_cooldown(name, one, now)]
        probing = [name for name, one in known.items() if one.breaker.probing]
        said = {name: known[name].breaker.changes for name, *_ in changes}
        message = (self._process, LIFE_S * 1000, HISTORY_S * 1000, changes, probing, cooldowns)
        answer = await self._meeting.exchange(_NAMES, message, within_s=timeout_s)
        for name, count in said.items():
            self._told[name].changes = count
        self._hear(known, answer)
        self.up = True
        if self._tell_again:
            self._tell_again = False
            _log.warning("Breakers are shared by %s again", self._meeting.place)

    def _change(self, name: str, breaker: Breaker, now: float) -> Change | None:
        told = self._told.setdefault(name, _Told())
        if breaker.changes != told.changes:
            told.change = f"{self._process}-{breaker.changes}"
        elif not self._tell_again or breaker.state == "closed":
            return None
        return name, told.change, (now - breaker.changed_at) * 1000, breaker.ejections

    def _is_new_cooldown(self, name: str, health: DeploymentHealth, now: float) -> bool:
        return health.cooldown_until > max(now, self._told[name].cooldown_until + _SAME_S)

    # --- what others say

    def _hear(self, known: dict[str, DeploymentHealth], answer: Answer) -> None:
        now = self._clock.monotonic()
        place, processes, changes, probed, cooldowns = answer
        for name, change, age_ms, ejections in changes:
            if name in known:
                self._follow(name, known[name].breaker, change, now - age_ms / 1000, ejections)
        for name, left_ms in cooldowns:
            if name in known:
                until = now + left_ms / 1000
                if until > known[name].cooldown_until + _SAME_S:
                    known[name].cool_down(now, left_ms / 1000)
                self._told[name].cooldown_until = max(until, known[name].cooldown_until)
        elsewhere = set(probed)
        for name, one in known.items():
            if one.breaker.state != "closed":
                turn = min((place + crc32(name.encode())) % max(processes, 1), TURNS_MAX)
                until = now + LIFE_S if name in elsewhere else 0.0
                one.breaker.waits_until = max(one.breaker.reopens_at + turn * TURN_S, until)

    def _follow(self, name: str, breaker: Breaker, change: str, at: float, ejections: int) -> None:
        told = self._told[name]
        if change == told.change or breaker.changes != told.changes:  # known; or something has happened here meanwhile
            return
        told.change = change
        if ejections == 0:
            if breaker.closed_elsewhere(at):
                _log.warning("%s answers again, as another process found", name)
        elif breaker.opened_elsewhere(at, ejections):
            wait_s = max(breaker.reopens_at - self._clock.monotonic(), 0.0)
            _log.warning("%s is passed by for %.0f s: its breaker opened in another process", name, wait_s)


def _spelled(name: str) -> str:
    """Clients make up names, too: half a surrogate pair cannot be sent."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()
