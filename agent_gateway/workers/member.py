"""A worker among others: what it asks of its siblings and of the supervisor, and what it tells them.

Promise: a worker without its supervisor ends what it has, and itself.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from agent_gateway.control.pulse import Now, Points
from agent_gateway.control.source import Source
from agent_gateway.core.errors import StoreDown
from agent_gateway.core.siblings import ANSWER_S, Answer, NoAnswer, Silence, Told
from agent_gateway.record.alerting.engine import Alert
from agent_gateway.record.family import Family, rendered
from agent_gateway.record.slo import Sums
from agent_gateway.record.whole import packed, unpacked
from agent_gateway.workers import messages
from agent_gateway.workers.channel import Channel

#: What the supervisor has to ask others for takes it `ANSWER_S`, and a little (s).
SUPERVISOR_S = ANSWER_S + 1.0
#: At the start, where there is much to do at once (s).
BEGIN_S = 10.0
#: For the others that begin at the same time (s).
READY_S = 60.0


class Worker(Protocol):
    """The gateway of this process."""

    def figures(self) -> Sequence[Family]: ...

    async def take_up(self, source: Source, *, is_first: bool) -> list[str]: ...

    def retire(self) -> None: ...


class Member:
    """`core.siblings.Siblings` and `control.oversight.Oversight`."""

    def __init__(self, line: socket.socket) -> None:
        self._answers: dict[str, Answer] = {}
        self._channel = Channel(line, self._answer, self._end)
        #: The supervisor is gone; called when it goes.
        self.is_orphan = False
        self.orphaned: Callable[[], None] = _nothing

    async def begin(self) -> messages.Begin:
        await self._channel.open()
        return messages.begin.decode(await self._ask(messages.BEGIN, timeout_s=BEGIN_S))

    def stand_for(self, worker: Worker) -> None:
        """Answers what the supervisor asks of it."""
        turn = asyncio.Lock()

        async def figures(_: bytes) -> bytes:
            return packed(worker.figures())

        async def take_up(body: bytes) -> bytes:
            asked = messages.reload.decode(body)
            async with turn:  # who was silent for long is told to take back what it may still be taking up: the last is what holds
                return messages.pack(await worker.take_up(asked.source, is_first=asked.is_first))

        async def retire(_: bytes) -> bytes:
            worker.retire()
            return b""

        self.answer(messages.FIGURES, figures)
        self.answer(messages.RELOAD, take_up)
        self.answer(messages.RETIRE, retire)

    async def ready(self) -> None:
        """Returns when it is to take requests."""
        with suppress(NoAnswer):  # it is gone, which is heard of otherwise
            await self._channel.ask(messages.READY, timeout_s=READY_S)

    async def leave(self, families: Sequence[Family]) -> None:
        """With the last figures there are."""
        with suppress(NoAnswer):
            await self._channel.ask(messages.LAST, packed(families), SUPERVISOR_S)
        self._channel.close()

    # --- of the siblings

    def answer(self, topic: str, answer: Answer) -> None:
        self._answers[topic] = answer

    async def gather(self, topic: str, body: bytes = b"", timeout_s: float = ANSWER_S, *, staying: bool = False) -> list[Told]:
        """Raises `StoreDown` where the supervisor is gone."""
        question = messages.Question(topic, body, timeout_s, staying=staying)
        return messages.tellings.decode(await self._ask(messages.GATHER, messages.pack(question), timeout_s + 1.0))

    async def ask(self, worker: int, topic: str, body: bytes = b"", timeout_s: float = ANSWER_S) -> bytes:
        question = messages.Question(topic, body, timeout_s, worker)
        told = messages.tellings.decode(await self._channel.ask(messages.GATHER, messages.pack(question), timeout_s + 1.0))
        if not told:
            raise NoAnswer(f"there is no worker {worker} any more")
        if told[0].body is None:
            raise Silence(f"worker {worker} does not answer")
        return told[0].body

    # --- of the whole

    async def scrape(self) -> tuple[bytes, str]:
        """The metrics of all workers. Raises `StoreDown`: less than all would be counters that go backwards."""
        return rendered(unpacked(await self._ask(messages.WHOLE)))

    async def alerts(self) -> tuple[list[Alert], list[Alert]]:
        told = messages.alerts.decode(await self._ask(messages.ALERTS))
        return told.firing, told.past

    async def silence(self, alert_id: str, until: float) -> Alert | None:
        return messages.alert.decode(await self._ask(messages.SILENCE, messages.pack(messages.Silence(alert_id, until))))

    async def sums(self, span_s: float) -> Sums:
        return Sums.unpacked(await self._ask(messages.SUMS, messages.pack(float(span_s))))

    async def now(self) -> Now:
        return messages.now.decode(await self._ask(messages.NOW))

    async def minutes(self, count: int, model: str | None) -> Points:
        return messages.points.decode(await self._ask(messages.MINUTES, messages.pack(messages.Minutes(count, model))))

    async def _ask(self, topic: str, body: bytes = b"", timeout_s: float = SUPERVISOR_S) -> bytes:
        try:
            return await self._channel.ask(topic, body, timeout_s)
        except NoAnswer as error:
            raise StoreDown("The gateway's supervisor does not answer at the moment. Ask again.", detail=str(error)) from error

    def _end(self) -> None:
        self.is_orphan = True
        self.orphaned()

    async def _answer(self, topic: str, body: bytes) -> bytes:
        answer = self._answers.get(topic)
        if answer is None:
            raise NoAnswer(f"{topic}: this worker has nothing to say to that")
        return await answer(body)


def _nothing() -> None:
    return None
