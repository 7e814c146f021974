"""What the session room does for one request: memory goes in front of its call, and what it adds is kept before its last byte.

Promise: whatever was attached is let go of when the exchange ends, however it ends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from agent_gateway.core.event import Event
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import Settings
from agent_gateway.session.attached import Attached
from agent_gateway.session.kept_response import KeptResponse
from agent_gateway.session.memory import Memory
from agent_gateway.session.responses import Responses


@dataclass(frozen=True, slots=True)
class Kept:
    """Of one exchange. `response`: what is kept under an id of its own; `attached`: its turn of a session."""

    memory: Memory
    exchange: Exchange
    response: KeptResponse | None
    attached: Attached | None

    def keep(self, answer: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        if self.attached is not None:
            answer = self.attached.keep(answer)
        return answer if self.response is None else self.response.keep(answer)

    def end(self) -> None:
        if self.attached is not None:
            self.memory.end(self.exchange, self.attached)
        if self.response is not None:
            self.response.leave()


async def attach(exchange: Exchange, memory: Memory, responses: Responses, settings: Settings) -> Kept:
    """Raises what `Responses.attach` and `Memory.attach` do."""
    response = None if exchange.call.keeping is None else await responses.attach(exchange, settings)
    try:
        attached = None if exchange.session is None else await memory.attach(exchange, settings.monitoring.mode)
    except BaseException:
        if response is not None:
            response.leave()
        raise
    return Kept(memory, exchange, response, attached)
