"""A provider of scripts, an event loop whose time is virtual, and around them the real planner, health and attempt loop."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random
from typing import Any, Self, TypeVar, cast

import msgspec

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.event import Chunk, Event, Failure, Whole
from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.core.plan import Candidate, Plan
from agent_gateway.core.pricing import Price
from agent_gateway.core.route import Deployment, Route
from agent_gateway.health.registry import Health
from agent_gateway.protocols.openai_chat.client import read_call
from agent_gateway.protocols.several import SEVERAL
from agent_gateway.routing.base import STRATEGIES, Strategy
from agent_gateway.routing.planner import Planner
from agent_gateway.upstream.base import Provider
from agent_gateway.upstream.loop import AttemptLoop
from agent_gateway.upstream.transport import ReadTimeout
from agent_gateway.wire.sse import DONE, FrameSplitter, data_frame, frame_data

Result = TypeVar("Result")
WALL = 1_700_000_000.0
encode = msgspec.json.encode


# --- virtual time -----------------------------------------------------------------------------------------------------


class _Selector(selectors.SelectSelector):
    """Waits for nothing: the time that the loop would have slept has passed at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everything waits, and nothing would ever wake it"
            self.now += timeout and max(timeout, 1e-6)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = _Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


def now() -> float:
    return asyncio.get_running_loop().time()


CLOCK = Clock(monotonic=now, wall=lambda: WALL + now())


def play(story: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Runs it in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story())


# --- what a provider does ---------------------------------------------------------------------------------------------

#: Seconds that pass, bytes that arrive, an error that is raised.
Step = float | bytes | Exception


@dataclass(frozen=True)
class Script:
    """`before` is played until the status is there, `after` is the body."""

    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()


def fails(error: Exception, after_s: float = 0.0) -> Script:
    return Script((after_s, error))


def hangs() -> Script:
    return Script((float("inf"),))


def body(text: str = "hello", *, finish: str = "stop", usage: tuple[int, int] | None = (10, 5), model: str = "m", **message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    answer: dict[str, Any] = {"id": "a", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    return encode(answer | ({"usage": wire_usage(*usage)} if usage else {}))


def wire_usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def answers(text: str = "hello", *, after_s: float = 0.0, **details: Any) -> Script:
    return Script((after_s,), (body(text, **details),))


def frame(delta: dict[str, Any] | None, *, finish: str | None = None, usage: dict[str, int] | None = None, answer_id: str = "a") -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk: dict[str, Any] = {"id": answer_id, "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return data_frame(encode(chunk | ({"usage": usage} if usage else {})))


def frames(pieces: list[str], *, finish: str = "stop", usage: tuple[int, int] | None = (10, 5), answer_id: str = "a") -> list[bytes]:
    """A whole stream, a frame each."""
    texts = [frame({"content": piece}, answer_id=answer_id) for piece in pieces]
    told = [frame(None, usage=wire_usage(*usage), answer_id=answer_id)] if usage else []
    end = frame({}, finish=finish, answer_id=answer_id)
    return [frame({"role": "assistant", "content": ""}, answer_id=answer_id), *texts, end, *told, DONE]


def streams(*pieces: str, after_s: float = 0.0, **details: Any) -> Script:
    return Script((after_s,), tuple(frames(list(pieces), **details)))


class FakeAnswer:
    def __init__(self, steps: tuple[Step, ...]) -> None:
        self._steps = list(steps)
        self.ended = False
        self.closed = False

    async def read(self, until: float) -> bytes:
        pieces = []
        while piece := await self.next(until):
            pieces.append(piece)
        return b"".join(pieces)

    async def next(self, until: float) -> bytes:
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, bytes):
                return step
            await take(step, until)
        self.ended = True
        return b""

    def close(self) -> None:
        self.closed = True


async def take(step: float | Exception, until: float) -> None:
    if isinstance(step, Exception):
        raise step
    if now() + step > until:
        await asyncio.sleep(max(until - now(), 0))
        raise ReadTimeout
    await asyncio.sleep(step)


@dataclass(frozen=True)
class Received:
    deployment: str
    call: Call
    at: float
    until: float


Scripts = Script | list[Script] | Callable[[Call], Script]


class FakeProvider:
    """Plays each deployment's script, or its scripts one after the other, the last of them for ever."""

    def __init__(self) -> None:
        self.scripts: dict[str, Scripts] = {}
        self.merges = True
        self.calls: list[Received] = []
        self.answers: list[FakeAnswer] = []

    def speaks(self, call: Call, deployment: Deployment) -> Dialect:
        return call.dialect if call.dialect in SEVERAL else "openai_chat"

    def takes_several(self, dialect: Dialect) -> bool:
        return self.merges

    async def send(
        self, call: Call, deployment: Deployment, attempt: Attempt, *, dialect: Dialect, body: bytes, connect_until: float, until: float
    ) -> FakeAnswer:
        self.calls.append(Received(deployment.id, call, now(), until))
        scripts = self.scripts[deployment.id]
        if isinstance(scripts, list):
            script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
        else:
            script = scripts if isinstance(scripts, Script) else scripts(call)
        attempt.connected = now()
        for step in script.before:
            assert not isinstance(step, bytes), "a status is no body"
            await take(step, until)
        answer = FakeAnswer(script.after)
        self.answers.append(answer)
        return answer

    def redact(self, text: str) -> str:
        return text

    async def close(self) -> None:
        """Nothing is held."""


# --- around it --------------------------------------------------------------------------------------------------------


def deployment(name: str, **fields: Any) -> Deployment:
    return Deployment(f"fake/{name}", "fake", name, **{"price": Price(input=1, output=2), **fields})


def route(*names: str | Deployment, name: str = "chat", **policies: Any) -> Route:
    deployments = tuple(deployment(item) if isinstance(item, str) else item for item in names)
    return Route(name=name, deployments=deployments, **{"strategy": "priority", **policies})


def call(*, stream: bool = False, **members: Any) -> Call:
    request = {"model": "chat", "messages": [{"role": "user", "content": "hi there"}], "stream": stream, **members}
    return read_call(encode(request), {})


@dataclass
class Outcome:
    exchange: Exchange
    events: list[Event] = field(default_factory=list)
    error: GatewayError | None = None

    @property
    def data(self) -> bytes:
        return b"".join([event.data if isinstance(event, Chunk) else event.body for event in self.events if not isinstance(event, Failure)])

    @property
    def failure(self) -> GatewayError | None:
        return next((event.error for event in self.events if isinstance(event, Failure)), None)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        told = [frame_data(item) for item in FrameSplitter.split(self.data)]
        return [msgspec.json.decode(item) for item in told if item is not None and item != b"[DONE]"]

    @property
    def text(self) -> str:
        if any(isinstance(event, Whole) for event in self.events):
            return str(msgspec.json.decode(self.data)["choices"][0]["message"]["content"])
        return "".join([choice["delta"].get("content") or "" for chunk in self.chunks for choice in chunk["choices"]])

    @property
    def done(self) -> bool:
        return self.data.endswith(DONE)

    @property
    def tried(self) -> list[str]:
        return [attempt.deployment.removeprefix("fake/") for attempt in self.exchange.attempts]

    @property
    def outcomes(self) -> list[str | None]:
        return [attempt.outcome for attempt in self.exchange.attempts]


class Stage:
    """The first route is the one that is asked for."""

    def __init__(self, *routes: Route, seed: int = 1) -> None:
        self.routes = {route.name: route for route in routes}
        self.asked = routes[0]
        self.provider = FakeProvider()
        self.health = Health(Random(seed))
        for known in routes:
            self.health.follow(known)
        self.waits: list[float] = []
        self.planner = Planner(self.routes.get, _strategy_of, self.health, CLOCK, Random(seed))
        self.loop = AttemptLoop({"fake": cast(Provider, self.provider)}, self.health, CLOCK, random=Random(seed), sleep=self._sleep)

    def script(self, **scripts: Scripts) -> Self:
        self.provider.scripts |= {f"fake/{name}": script for name, script in scripts.items()}
        return self

    def exchange(self, call: Call, *, timeout_s: float | None = None) -> Exchange:
        exchange = Exchange(id="req_1", call=call, started=now(), started_wall=CLOCK.wall(), timeout_s=timeout_s, attempts=[], answer=[])
        exchange.deadline = now() + (timeout_s or self.asked.timeouts.total_s)
        return exchange

    async def ask(self, call: Call, *, timeout_s: float | None = None, plan: Plan | None = None) -> Outcome:
        """A whole request, planned and answered; what must be true after any of them is checked."""
        exchange = self.exchange(call, timeout_s=timeout_s)
        outcome = Outcome(exchange)
        try:
            async with aclosing(self.loop.answer(exchange, plan or self.planner.plan(exchange, self.asked))) as events:
                async for event in events:
                    outcome.events.append(event)
        except GatewayError as error:
            outcome.error = error
        finally:
            self.assert_nothing_leaks(exchange)
        return outcome

    def tell(self, call: Call, *, timeout_s: float | None = None) -> Outcome:
        return play(lambda: self.ask(call, timeout_s=timeout_s))

    def assert_nothing_leaks(self, exchange: Exchange) -> None:
        assert {(known.load.in_flight, known.load.of_batches) for _, known in self.health.deployments()} == {(0, 0)}
        assert all(answer.closed for answer in self.provider.answers)
        assert all(attempt.ended is not None and attempt.outcome is not None for attempt in exchange.attempts)
        assert len(exchange.attempts) <= self.asked.retries.max_attempts

    def _sleep(self, seconds: float) -> Awaitable[None]:
        self.waits.append(seconds)
        return asyncio.sleep(seconds)


def plan_of(*routes: Route) -> Plan:
    """All deployments in the order in which they are written."""
    candidates = [Candidate(item, known, fallback=known is not routes[0]) for known in routes for item in known.deployments]
    return Plan(routes[0], tuple(candidates))


def _strategy_of(route: Route) -> Strategy:
    plugin: type[Strategy] = STRATEGIES.load(route.strategy)
    return plugin(plugin.Settings())
