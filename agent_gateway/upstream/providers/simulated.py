"""A provider that needs no network: the simulated model, in this process.

Promise: the same bytes at the same times as the simulator over HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar
from urllib.parse import quote

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.exchange import Attempt
from agent_gateway.core.route import Deployment
from agent_gateway.simulator.player import Player, Sleep
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.simulator.simulator import Simulator
from agent_gateway.upstream.base import Answer
from agent_gateway.upstream.played import PlayedAnswer
from agent_gateway.upstream.refusal import refusal
from agent_gateway.upstream.transport import Transport


class SimulatedProvider:
    Settings: ClassVar[type[SimulatorSettings]] = SimulatorSettings

    def __init__(
        self,
        settings: SimulatorSettings,
        transport: Transport | None,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
        *,
        steering: Callable[[Deployment], str] = lambda deployment: "",
    ) -> None:
        """`transport` is what the seat hands to every plug-in; there is no network here to use it for. `steering` may name a fault
        (see `simulator.faults`) for a call of a deployment.
        """
        self._simulator = Simulator(settings, clock)
        self._clock = clock
        self._sleep = sleep
        self._steering = steering

    def speaks(self, call: Call, deployment: Deployment) -> Dialect:
        return call.dialect

    def takes_several(self, dialect: Dialect) -> bool:
        return True

    async def send(
        self, call: Call, deployment: Deployment, attempt: Attempt, *, dialect: Dialect, body: bytes, connect_until: float, until: float
    ) -> Answer:
        path = _gemini_path(call, deployment) if dialect == "gemini" else ""
        reply = self._simulator.reply(dialect, body, self._steering(deployment), path)
        answer = PlayedAnswer(Player(reply, self._clock, self._sleep))
        attempt.connected = self._clock.monotonic()
        await answer.open(until)
        attempt.first_byte = self._clock.monotonic()
        attempt.provider_status = reply.status
        if reply.status != 200:
            headers = {name.encode(): value.encode() for name, value in reply.headers}
            raise refusal(reply.status, headers, await answer.read(until), self._clock.wall(), dialect)
        return answer

    def redact(self, text: str) -> str:
        """It is shown no key."""
        return text

    async def close(self) -> None:
        """Holds nothing between calls."""


def _gemini_path(call: Call, deployment: Deployment) -> str:
    """That protocol says the model, and whether it is to stream, in the path."""
    return f"/v1beta/models/{quote(deployment.model)}:{'streamGenerateContent?alt=sse' if call.stream else 'generateContent'}"
