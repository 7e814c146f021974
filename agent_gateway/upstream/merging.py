"""Calls of one deployment that differ in their inputs alone, merged into one: a call that finds none under way goes out at once, and
those that come meanwhile gather behind it, like bytes behind Nagle's algorithm.

Promise: each request has its own deadline, answer, error and share of what was used; the deployment's health hears of what was called.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.delta import Used
from agent_gateway.core.errors import MalformedReply, NotExpressible, ProviderRefusedRequest
from agent_gateway.core.exchange import Attempt, Edge, Exchange
from agent_gateway.core.plan import Candidate
from agent_gateway.core.usage import Usage
from agent_gateway.health.registry import DeploymentHealth, Health
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.estimate import estimate_input_tokens
from agent_gateway.protocols.several import ALONE_WITH, SEVERAL, Inputs, merged, read_inputs, split
from agent_gateway.upstream.attempt import Running
from agent_gateway.upstream.base import Answer, Provider, ReadyAnswer
from agent_gateway.upstream.transport import ReadTimeout

_log = logging.getLogger("agent_gateway.upstream")

#: With these a provider refuses a request for what is in it.
_REFUSED_FOR_CONTENT = (400, 413, 422)
#: How many inputs a deployment was found to take at once is believed for so long (s).
LEARNT_S = 600.0
#: To a call with so much in it, nothing is added (bytes): providers bound the tokens of all inputs together too (OpenAI: 300,000).
SHARED_MAX_BYTES = 512 * 1024


class Merging:
    """Of one configuration. `providers` by their configured names."""

    def __init__(self, providers: Mapping[str, Provider], health: Health, clock: Clock) -> None:
        self._providers = providers
        self._health = health
        self._clock = clock
        #: Where calls are under way; what may be merged shares one.
        self._lanes: dict[Any, _Lane] = {}
        #: Inputs that a deployment was found to take at once, and until when that is believed.
        self._learnt: dict[tuple[str, Dialect], tuple[int, float]] = {}

    def begin(self, exchange: Exchange, call: Call, candidate: Candidate) -> Running | None:
        """None: the call is one that never is merged."""
        asked = self._asked(call, candidate)
        if asked is None:
            return None
        key, inputs = asked
        lane = self._lanes.get(key)
        if lane is not None:
            return lane.join(exchange, call, candidate, inputs)
        lane = self._lanes[key] = _Lane(self, key)
        return lane.lead(exchange, call, candidate)

    def has_place(self, call: Call, candidate: Candidate) -> bool:
        """It would be part of a call that has its slot already."""
        asked = self._asked(call, candidate)
        lane = None if asked is None else self._lanes.get(asked[0])
        return asked is not None and lane is not None and lane.has_place(asked[1])

    # --- for its lanes ---

    def around(self, candidate: Candidate) -> tuple[Provider, DeploymentHealth, Clock]:
        deployment = candidate.deployment
        return self._providers[deployment.provider], self._health.of(deployment.id), self._clock

    def most(self, candidate: Candidate, dialect: Dialect) -> int:
        """Inputs of one call."""
        configured = candidate.route.batching.max_size
        learnt, until = self._learnt.get((candidate.deployment.id, dialect), (configured, 0.0))
        return min(configured, learnt) if self._clock.monotonic() < until else configured

    def learn(self, candidate: Candidate, dialect: Dialect, most: int) -> None:
        """So many inputs are what it takes: more were refused, and with none of them was anything wrong."""
        deployment, now = candidate.deployment.id, self._clock.monotonic()
        if most < self.most(candidate, dialect):
            believed = {key: (value, until) for key, (value, until) in self._learnt.items() if now < until}
            self._learnt = {**believed, (deployment, dialect): (most, now + LEARNT_S)}
            _log.warning("%s took %d inputs in one call, and not more: for %d s none gets more", deployment, most, LEARNT_S)

    def forget(self, key: Any) -> None:
        self._lanes.pop(key, None)

    def _asked(self, call: Call, candidate: Candidate) -> tuple[Any, Inputs] | None:
        """Which lane it would take, with what."""
        batching, deployment = candidate.route.batching, candidate.deployment
        if not batching.max_wait_ms or batching.max_size == 1 or call.dialect not in SEVERAL:
            return None
        if any(name in deployment.default or name in deployment.override for name in ALONE_WITH):
            return None
        provider = self._providers[deployment.provider]
        try:
            if provider.speaks(call, deployment) != call.dialect or not provider.takes_several(call.dialect):
                return None
        except NotExpressible:
            return None
        inputs = read_inputs(call)
        if inputs is None or len(inputs.values) >= self.most(candidate, call.dialect):
            return None
        return (candidate.route.name, deployment.id, inputs.parameters, tuple(sorted(call.forward_headers.items()))), inputs


class _Lane:
    """Calls that could be merged: so many under way, and one that gathers meanwhile."""

    __slots__ = ("_gathering", "_key", "_merging", "_timer", "_under_way")

    def __init__(self, merging: Merging, key: Any) -> None:
        self._merging = merging
        self._key = key
        self._under_way = 0
        self._gathering: _Shared | None = None
        self._timer: asyncio.TimerHandle | None = None

    def lead(self, exchange: Exchange, call: Call, candidate: Candidate) -> Running:
        """Goes out at once, as any call does."""
        self._under_way += 1
        return _Leading(self, exchange, call, candidate, *self._merging.around(candidate))

    def has_place(self, inputs: Inputs) -> bool:
        return self._gathering is not None and self._gathering.has_place(inputs)

    def join(self, exchange: Exchange, call: Call, candidate: Candidate, inputs: Inputs) -> Running:
        shared = self._gathering
        if shared is None or not shared.has_place(inputs):
            self._send()
            shared = self._gathering = _Shared(self._merging, self, call, candidate, exchange.edge)
            self._timer = asyncio.get_running_loop().call_later(candidate.route.batching.max_wait_ms / 1000, self._send)
        else:
            shared.count_as_one(exchange)
        sharing = shared.add(exchange, call, inputs)
        if shared.is_full:
            self._send()
        return sharing

    def back(self) -> None:
        """One that was under way has ended."""
        self._under_way -= 1
        if not self._under_way:
            self._send()
        if not self._under_way:
            self._merging.forget(self._key)

    def _send(self) -> None:
        shared, self._gathering = self._gathering, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if shared is not None:
            self._under_way += 1
            shared.start()


class _Leading(Running):
    """Others gather behind it until it ends."""

    __slots__ = ("_lane",)

    def __init__(self, lane: _Lane, *running: Any) -> None:
        super().__init__(*running)
        self._lane = lane

    def _end(self, outcome: str) -> float | None:
        now = super()._end(outcome)
        if now is not None:
            self._lane.back()
        return now


class _Sharing(Running):
    """A request's part in a call that it shares with others."""

    __slots__ = ("_shared", "answer", "inputs")

    def __init__(self, shared: _Shared, inputs: Inputs, *running: Any) -> None:
        super().__init__(*running)
        self._shared = shared
        self.inputs = inputs
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @property
    def until(self) -> float:
        return min(self.attempt.started + self.candidate.route.timeouts.attempt_s, self.deadline)

    async def send(self, until: float) -> tuple[Answer, Dialect]:
        try:
            async with asyncio.timeout(until - self.now):
                return ReadyAnswer(await self.answer), self.call.dialect
        except TimeoutError:
            self._leave(timed_out=True)
            raise ReadTimeout from None
        except asyncio.CancelledError:
            self._leave(timed_out=False)
            raise

    def take_part_in(self, call: Attempt, parts: int) -> None:
        """Of the call that was made for so many."""
        attempt, price = self.attempt, self.candidate.deployment.price
        attempt.connected, attempt.first_byte, attempt.provider_status = call.connected, call.first_byte, call.provider_status
        attempt.shared_by = parts
        if price is not None and price.request:  # it is paid once
            attempt.price = structs.replace(price, request=price.request / parts)

    def _leave(self, *, timed_out: bool) -> None:
        """What was asked for with others, who go on or have been answered, is billed."""
        if not self.answer.cancelled() or self._shared.left(timed_out=timed_out):
            self.bill(Usage(input=estimate_input_tokens(self.call), estimated=True))

    # What is called is told to the deployment's health, not who waits for it:

    def begun(self) -> None: ...

    def _take_slot(self) -> bool:
        return False

    def _free_slot(self, now: float) -> None: ...

    def _tell_success(self, usage: Usage | None, now: float) -> None: ...

    def _tell_failure(self, error: BaseException, now: float) -> None: ...


class _Shared:
    """One call for several requests, and the smaller ones that it becomes where it is refused."""

    __slots__ = (
        "_around",
        "_body_bytes",
        "_candidate",
        "_dialect",
        "_exchange",
        "_leading",
        "_merging",
        "_most",
        "_open",
        "_parts",
        "_size",
        "_task",
    )

    def __init__(self, merging: Merging, lane: _Lane, call: Call, candidate: Candidate, edge: Edge) -> None:
        self._merging = merging
        self._candidate = candidate
        self._dialect = call.dialect
        self._around = merging.around(candidate)
        self._most = merging.most(candidate, call.dialect)
        clock = self._around[2]
        #: Its own story, which nobody records: each part has its attempt. Its deadline is the latest of theirs.
        self._exchange = Exchange(id="", call=call, started=clock.monotonic(), started_wall=clock.wall(), edge=edge)
        #: Has its slot already, while there is room for it.
        self._leading = _Leading(lane, self._exchange, call, candidate, *self._around)
        self._parts: list[_Sharing] = []
        #: Inputs, and bytes, of all parts.
        self._size = 0
        self._body_bytes = 0
        #: Calls under way.
        self._open: set[Running] = set()
        self._task: asyncio.Task[None] | None = None

    def has_place(self, inputs: Inputs) -> bool:
        return self._size + len(inputs.values) <= self._most and self._body_bytes < SHARED_MAX_BYTES

    @property
    def is_full(self) -> bool:
        return self._size >= self._most

    def add(self, exchange: Exchange, call: Call, inputs: Inputs) -> Running:
        sharing = _Sharing(self, inputs, exchange, call, self._candidate, *self._around)
        self._parts.append(sharing)
        self._size += len(inputs.values)
        self._body_bytes += len(call.body)
        self._exchange.deadline = max(self._exchange.deadline, exchange.deadline)
        return sharing

    def count_as_one(self, exchange: Exchange) -> None:
        """Repeats are held against calls; that of the one who joins, unless it is a repeat itself, was counted a moment ago."""
        if all(attempt.deployment != self._candidate.deployment.id for attempt in exchange.attempts):
            self._leading.health.repeats.add(self._leading.now, total=-1)

    def start(self) -> None:
        staying = _staying(self._parts)
        if staying:
            self._task = asyncio.create_task(self._answer(staying, self._leading))
        else:
            self._leading.fail(asyncio.CancelledError())

    def left(self, *, timed_out: bool) -> bool:
        """By one of its parts; whether it has been sent and goes on. The last one to leave ends it."""
        if _staying(self._parts):
            return bool(self._open)
        if timed_out:  # the provider's fault, where a client that leaves is nobody's
            for running in list(self._open):
                running.fail(running.timeout("attempt"))
        if self._task is not None:
            self._task.cancel()
        return False

    async def _answer(self, parts: Sequence[_Sharing], leading: Running | None = None) -> None:
        """Each part has its answer then, or why there is none."""
        try:
            bodies = await self._fetched(parts, leading)
        except ProviderRefusedRequest as error:
            if len(parts) > 1 and error.provider_status in _REFUSED_FOR_CONTENT:
                await self._halves(parts)
            else:
                _fail(parts, error)
        except asyncio.CancelledError:
            for part in parts:
                part.answer.cancel()
            raise
        except Exception as error:
            _fail(parts, error)
        else:
            for part, body in zip(parts, bodies, strict=True):
                if not part.answer.done():
                    part.answer.set_result(body)

    async def _halves(self, parts: Sequence[_Sharing]) -> None:
        """Each by itself, and so on until what was refused is alone."""
        middle = len(parts) // 2
        halves = parts[:middle], parts[middle:]
        await asyncio.gather(*[self._answer(staying) for half in halves if (staying := _staying(half))])
        if not any(part.answer.cancelled() or part.answer.exception() for part in parts):
            most = max([sum([len(part.inputs.values) for part in half]) for half in halves])
            self._merging.learn(self._candidate, self._dialect, most)

    async def _fetched(self, parts: Sequence[_Sharing], leading: Running | None) -> list[bytes]:
        """The parts' answers. Raises `ProviderError`, `ReadTimeout`."""
        several = [part.inputs for part in parts]
        call = parts[0].call if len(parts) == 1 else merged(parts[0].call, several)
        running = leading or Running(self._exchange, call, self._candidate, *self._around)
        running.call = call
        attempt = running.attempt
        attempt.started = running.now
        until = max([part.until for part in parts])
        answer: Answer | None = None
        self._open.add(running)
        try:
            answer, spoken = await running.send(until)
            body = await answer.read(until)
            told = codec_of(spoken).read_answer(body)
            bodies = [body] if len(parts) == 1 else self._split(body, several)
        except BaseException as error:
            running.fail(running.timeout("attempt") if isinstance(error, ReadTimeout) else error)
            raise
        finally:
            self._open.discard(running)
            if answer is not None:
                answer.close()
            for part in parts:
                part.take_part_in(attempt, len(parts))
        running.begun()
        running.succeed(next((delta.usage for delta in reversed(told) if type(delta) is Used), None))
        return bodies

    def _split(self, body: bytes, several: Sequence[Inputs]) -> list[bytes]:
        try:
            return split(body, self._dialect, several)
        except MalformedReply:  # it answers, but not everyone
            self._merging.learn(self._candidate, self._dialect, 1)
            raise


def _staying(parts: Sequence[_Sharing]) -> list[_Sharing]:
    return [part for part in parts if not part.answer.done()]


def _fail(parts: Sequence[_Sharing], error: Exception) -> None:
    """Each with an error of its own: whoever raises one may add to it."""
    for part in _staying(parts):
        own = type(error).__new__(type(error), *error.args)
        own.__dict__.update(error.__dict__)
        part.answer.set_exception(own)
