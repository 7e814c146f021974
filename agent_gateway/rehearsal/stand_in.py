"""In the place of every provider: calls meet what recorded calls met, and nothing leaves the process.

Promise: the answers' bytes are of the client's own protocol, so that all of the gateway's code reads them as it reads a provider's.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import msgspec

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import ProviderError, ProviderRefusedRequest, ProviderTimeout
from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.core.route import Deployment
from agent_gateway.core.usage import Usage
from agent_gateway.rehearsal.behaviour import FAILURES, Act, Behaviour
from agent_gateway.rehearsal.performance import ANSWERED, performed
from agent_gateway.rehearsal.traffic import Asked
from agent_gateway.simulator.player import Player
from agent_gateway.upstream.base import Answer
from agent_gateway.upstream.played import PlayedAnswer
from agent_gateway.upstream.transport import ReadTimeout

#: Tells a call's request, by a header as clients send them.
NUMBER = "x-rehearsed-request"

_FAILED = "The model provider failed, as it did when requests were recorded."


@dataclass(slots=True)
class UnderWay:
    """One request while it is asked again; what it draws depends on nothing but the seed and itself."""

    asked: Asked
    exchange: Exchange
    chance: Random
    #: Output tokens that its client has from streams that broke off.
    said_tokens: int = 0


class StandIn:
    """A `Provider`, and all of them. `met` counts calls by deployment and whether they are streams."""

    Settings: ClassVar[type[msgspec.Struct]] = msgspec.Struct

    def __init__(self, behaviour: Behaviour, clock: Clock) -> None:
        self._behaviour = behaviour
        self._clock = clock
        self._under_way: dict[str, UnderWay] = {}
        self.met: Counter[tuple[str, bool]] = Counter()

    def begin(self, request: UnderWay) -> None:
        self._under_way[str(request.asked.number)] = request

    def end(self, request: UnderWay) -> None:
        del self._under_way[str(request.asked.number)]

    def speaks(self, call: Call, deployment: Deployment) -> Dialect:
        return call.dialect

    def takes_several(self, dialect: Dialect) -> bool:
        """Each call meets what one did."""
        return False

    async def send(
        self, call: Call, deployment: Deployment, attempt: Attempt, *, dialect: Dialect, body: bytes, connect_until: float, until: float
    ) -> Answer:
        request = self._under_way[call.forward_headers[NUMBER]]
        began = self._clock.monotonic()
        self.met[deployment.id, call.stream] += 1
        act, usage = self._act(request, deployment, call)
        await self._connect(act, began, connect_until)
        attempt.connected = self._clock.monotonic()
        begins = call.stream and act.first_token_s is not None
        broken = None if act.outcome in ANSWERED else _failure(act)
        if broken is not None and begins:
            request.said_tokens += act.output_tokens
        elif broken is not None and act.outcome != ProviderTimeout.code:
            await self._wait(began, act.ended_s, until)
            raise broken
        reply = performed(act, call, usage, attempt.connected - began, int(self._clock.wall()))
        answer = PlayedAnswer(Player(reply, self._clock), broken)
        await answer.open(until)
        attempt.first_byte = self._clock.monotonic()
        attempt.provider_status = reply.status
        return answer

    def redact(self, text: str) -> str:
        """It is shown no key."""
        return text

    async def close(self) -> None:
        """Holds nothing between calls."""

    def _act(self, request: UnderWay, deployment: Deployment, call: Call) -> tuple[Act, Usage]:
        """What the call meets, and what answering it takes: of an answer that goes on, the rest."""
        asked = request.asked
        usage = asked.usage
        if request.exchange.answer_bytes and request.said_tokens:
            said = min(request.said_tokens, usage.output)
            usage = msgspec.structs.replace(usage, input=usage.input + said, output=usage.output - said)
        refused = asked.refused.get(deployment.id)
        if refused is None and asked.refused and not asked.answered:
            refused = next(iter(asked.refused.values()))  # whoever was asked, refused it
        if refused is not None:
            return Act(refused.outcome, refused.connected_s, None, refused.ended_s, refused.provider_status, 0), usage
        at, number = self._clock.wall(), asked.number
        return self._behaviour.act(deployment.id, at, usage, request.chance, stream=call.stream, request=number), usage

    async def _connect(self, act: Act, began: float, until: float) -> None:
        seconds = act.connected_s
        if seconds is None:
            seconds = math.inf if act.outcome == ProviderTimeout.code else act.ended_s
        try:
            await self._wait(began, seconds, until)
        except ReadTimeout:
            raise ProviderTimeout(_FAILED, kind="connect") from None
        if act.connected_s is None:
            raise _failure(act)

    async def _wait(self, began: float, seconds: float, until: float) -> None:
        """Raises `ReadTimeout` for what is not there at `until`."""
        due = began + seconds
        await asyncio.sleep(max(min(due, until) - self._clock.monotonic(), 0.0))
        if due > until:
            raise ReadTimeout


def _failure(act: Act) -> ProviderError:
    kind = FAILURES[act.outcome]
    if issubclass(kind, ProviderRefusedRequest):
        return kind(_FAILED, status=act.provider_status or kind.status, body=b"", content_type="application/json")
    if kind is ProviderTimeout:
        return ProviderTimeout(_FAILED, kind="idle")
    error = kind(_FAILED)
    error.provider_status = act.provider_status
    return error
