"""Workers of one gateway in one process: what one asks, the others answer, without a supervisor in between."""

from __future__ import annotations

from agent_gateway.core.siblings import ANSWER_S, Answer, NoAnswer, Silence, Told


class Family:
    def __init__(self) -> None:
        self.members: dict[int, Sibling] = {}

    def member(self) -> Sibling:
        number = len(self.members) + 1
        self.members[number] = Sibling(self, number)
        return self.members[number]


class Sibling:
    """`core.siblings.Siblings`."""

    def __init__(self, family: Family, number: int) -> None:
        self._family = family
        self._number = number
        self._answers: dict[str, Answer] = {}
        self.leaving = self.gone = False
        #: It does not answer so many of the next questions.
        self.silent = 0

    def answer(self, topic: str, answer: Answer) -> None:
        self._answers[topic] = answer

    async def gather(self, topic: str, body: bytes = b"", timeout_s: float = ANSWER_S, *, staying: bool = False) -> list[Told]:
        others = [
            number
            for number, other in self._family.members.items()
            if other is not self and not other.gone and not (staying and other.leaving)
        ]
        return [Told(number, await self._asked(number, topic, body)) for number in others]

    async def ask(self, worker: int, topic: str, body: bytes = b"", timeout_s: float = ANSWER_S) -> bytes:
        told = await self._asked(worker, topic, body)
        if told is None:
            raise NoAnswer(f"worker {worker} is gone") if self._family.members[worker].gone else Silence(f"worker {worker} says nothing")
        return told

    async def _asked(self, worker: int, topic: str, body: bytes) -> bytes | None:
        other = self._family.members[worker]
        if other.silent:
            other.silent -= 1
            return None
        return None if other.gone else await other._answers[topic](body)
