"""A provider that can only do so much at once: what is more is turned away, or makes all of it slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.errors import ProviderRateLimited
from agent_gateway.core.exchange import Attempt
from agent_gateway.core.route import Deployment
from tests.upstream.stage import FakeAnswer, FakeProvider, Step, body, frames, now

#: A refusal takes so long (s).
REFUSAL_S = 0.05


class CappedProvider(FakeProvider):
    """Answers take `answer_s` in the median, some of them many times as long. `slow`: it turns nobody away, but the first token takes as
    many times as long as it has too much to do. `wait_s`: what a 429 asks for.
    """

    def __init__(
        self, capacity: int, answer_s: float = 2.0, *, first_token_s: float = 0.3, wait_s: float | None = None, slow: bool = False
    ) -> None:
        super().__init__()
        self.capacity = capacity
        self.under_way = 0
        self.most_under_way = 0
        self.served = 0
        self.refused: list[float] = []
        self._answer_s = answer_s
        self._first_token_s = first_token_s
        self._wait_s = wait_s
        self._slow = slow
        self._random = Random(5)

    async def send(
        self, call: Call, deployment: Deployment, attempt: Attempt, *, dialect: Dialect, body: bytes, connect_until: float, until: float
    ) -> FakeAnswer:
        attempt.connected = now()
        if self.under_way >= self.capacity and not self._slow:
            await asyncio.sleep(REFUSAL_S)
            self.refused.append(now())
            raise ProviderRateLimited("too many at once", retry_after_s=self._wait_s)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.served += 1
        answer = _Counted(self._steps(call), self._over)
        self.answers.append(answer)
        return answer

    def _steps(self, call: Call) -> tuple[Step, ...]:
        load = max(1.0, self.under_way / self.capacity) if self._slow else 1.0
        first_token_s = self._first_token_s * self._random.lognormvariate(0, 0.3) * load
        rest_s = self._answer_s * min(self._random.lognormvariate(0, 1), 10)
        if not call.stream:
            return (first_token_s + rest_s, body())
        told = frames(["hello", " there"])
        return (first_token_s, *told[:2], rest_s, *told[2:])

    def _over(self) -> None:
        self.under_way -= 1


class _Counted(FakeAnswer):
    def __init__(self, steps: tuple[Step, ...], over: Callable[[], None]) -> None:
        super().__init__(steps)
        self._over = over

    def close(self) -> None:
        if not self.closed:
            self._over()
        super().close()
