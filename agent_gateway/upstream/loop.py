"""The attempt loop: one candidate after the other, within one deadline and so many attempts, until one answers.

Promise: everything before the first content may be tried again; after it only recovery may act, and no cut stream ends as complete.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from random import Random

from agent_gateway.core.call import Call
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import (
    ContentFiltered,
    ContextTooLong,
    GatewayError,
    LowQuality,
    NotExpressible,
    Overloaded,
    ProviderError,
    ProviderKeyRefused,
    ProviderModelMissing,
)
from agent_gateway.core.event import Chunk, Event, Failure, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.plan import Candidate, Plan
from agent_gateway.health.registry import Health
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.several import SEVERAL
from agent_gateway.protocols.transcript import Answer
from agent_gateway.upstream.attempt import BegunStream, FinishedAnswer, Running, begin_stream, fetch_whole
from agent_gateway.upstream.base import Provider
from agent_gateway.upstream.fixed_reply import fixed_reply
from agent_gateway.upstream.hedge import bill_losers, race
from agent_gateway.upstream.merging import Merging
from agent_gateway.upstream.quality import score
from agent_gateway.upstream.recovery import Continuation, continued_stream, sent_text, used_so_far
from agent_gateway.upstream.room import FULL, with_room

_log = logging.getLogger("agent_gateway.upstream")

#: Full-jitter backoff before a repeat: uniform in 0 … min(cap, base × 2^repeat) s.
#: Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
BACKOFF_BASE_S = 0.25
BACKOFF_CAP_S = 8.0

#: Outcomes that the same deployment would only give again.
_FINAL = frozenset(
    error.code for error in (ContextTooLong, ContentFiltered, LowQuality, NotExpressible, ProviderKeyRefused, ProviderModelMissing)
)
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

Begun = BegunStream | FinishedAnswer


class AttemptLoop:
    """`providers` by their configured names."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        health: Health,
        clock: Clock,
        *,
        random: Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._providers = providers
        self._health = health
        self._clock = clock
        self._random = random or Random()
        self._sleep = sleep
        self._merging = Merging(providers, health, clock)

    def provider(self, name: str) -> Provider | None:
        return self._providers.get(name)

    async def answer(self, exchange: Exchange, plan: Plan) -> AsyncGenerator[Event, None]:
        """Raises `GatewayError` where there is no answer, and no fixed reply to stand in for it."""
        exchange.plan, exchange.reason = plan, plan.detour
        try:
            begun = await self._begin(exchange, plan)
        except ProviderError as error:
            self._report(exchange, plan, fell_back=True, error=error)
            reply = plan.route.fallback.reply
            if reply is None or not exchange.call.conversational or not _is_outage(error):
                raise
            yield _degrade(exchange, reply, error)
            return
        _note_winner(exchange, begun)
        if isinstance(begun, FinishedAnswer):
            self._report(exchange, plan, fell_back=begun.candidate.fallback)
            yield _finished(exchange, begun)
            return
        begun.pass_by(exchange)
        stream: BegunStream | Continuation | None = begun
        while stream is not None:
            stream.keep_in(exchange.answer)
            try:
                frames = stream.first or await stream.next()
                while frames:
                    exchange.answer_bytes += len(frames)
                    yield Chunk(frames)
                    exchange.answered = stream.done  # and taken, or we would not be back
                    frames = await stream.next()
                _note_end(exchange, plan, stream)
                self._report(exchange, plan, fell_back=exchange.status == "fallback")
                return
            except ProviderError as error:
                stream = await self._recover(exchange, plan, stream, error)
                if stream is None:
                    self._report(exchange, plan, fell_back=True, error=error)
                    yield Failure(error)
            except BaseException as error:
                if exchange.answered:
                    _note_end(exchange, plan, stream)
                stream.close(error)
                raise

    # --- before the first content ---

    async def _begin(self, exchange: Exchange, plan: Plan) -> Begun:
        """The first candidate that answers. Raises the last one's error when none does."""
        limit = plan.route.retries.max_attempts
        spare: FinishedAnswer | None = None
        error: ProviderError | None = None
        shed: Overloaded | None = None
        repeats = 0
        queue = list(plan.candidates)
        while len(exchange.attempts) < limit:
            candidate = self._next(queue, exchange, plan)
            repeated = candidate is None
            if candidate is None:
                candidate = await self._repeat(exchange, plan, error, repeats)
                if candidate is None:
                    break
                repeats += 1
            try:
                health = self._health.of(candidate.deployment.id)
                if health.full and not self._merging.has_place(exchange.call, candidate):
                    candidate = await self._with_room(candidate, queue, exchange)
                    health = self._health.of(candidate.deployment.id)
                now = self._clock.monotonic()
                if not repeated:
                    health.repeats.add(now)
                return await self._try(exchange, plan, candidate, queue, now)
            except Overloaded as failure:
                shed = failure
                break
            except LowQuality as failure:
                error = failure
                if isinstance(failure.answer, FinishedAnswer):
                    spare = failure.answer
            except NotExpressible as failure:
                error = error or failure  # another's outage is what the client is to hear of
            except ProviderError as failure:
                error = failure
                if not self._may_go_on(failure, exchange, plan):
                    break
        if spare is not None:
            exchange.reason = LowQuality.code
            return spare
        raise error or shed or Overloaded("No deployment can take the request at the moment.", retry_after_s=1)

    @staticmethod
    def _next(queue: list[Candidate], exchange: Exchange, plan: Plan) -> Candidate | None:
        """The next one that was not tried; after a context that was too long, only one that holds more. Who may not is taken out."""
        if exchange.attempts:
            tried = {attempt.deployment for attempt in exchange.attempts}
            too_small = {attempt.deployment for attempt in exchange.attempts if attempt.outcome == ContextTooLong.code}
            queue[:] = [
                candidate
                for candidate in queue
                if candidate.deployment.id not in tried and (not too_small or _is_larger(candidate, too_small, plan))
            ]
        return queue.pop(0) if queue else None

    async def _with_room(self, candidate: Candidate, queue: list[Candidate], exchange: Exchange) -> Candidate:
        """Instead of one that is full. Raises `Overloaded`."""
        queue.insert(0, candidate)
        return await with_room(queue, exchange, self._health, self._clock)

    async def _try(self, exchange: Exchange, plan: Plan, candidate: Candidate, queue: list[Candidate], now: float) -> Begun:
        left = _calls_left(exchange, plan, queue)
        patience_until = now + (exchange.deadline - now) / left
        if left > 1 and plan.route.hedging.enabled:
            after_s = self._hedge_after_s(exchange, plan, candidate, now)
            if after_s is not None:
                return await self._raced(exchange, plan, candidate, queue, patience_until, after_s)
        return await _start(self._running(exchange, candidate, choosy=left > 1), patience_until)

    def _hedge_after_s(self, exchange: Exchange, plan: Plan, candidate: Candidate, now: float) -> float | None:
        """How long the call may take before another is made beside it; None: no matter how long."""
        hedging = plan.route.hedging
        health = self._health.of(candidate.deployment.id)
        health.hedges.add(now)
        if not health.may_hedge(hedging.max_share, now):
            return None
        stream = exchange.call.stream and candidate.route.streaming.enabled
        return health.load.latency(stream=stream).quantile_s(_QUANTILES[hedging.after])

    async def _raced(
        self, exchange: Exchange, plan: Plan, candidate: Candidate, queue: list[Candidate], patience_until: float, after_s: float
    ) -> Begun:
        first = self._running(exchange, candidate)
        begun = await race(
            lambda: _start(first, patience_until),
            lambda: self._hedge(exchange, plan, candidate, queue),
            after_s,
        )
        bill_losers(exchange, begun.attempt)
        return begun

    def _hedge(self, exchange: Exchange, plan: Plan, beside: Candidate, queue: list[Candidate]) -> Awaitable[Begun] | None:
        """A second call, to another deployment of the same model; None when there is none that could take it."""
        now = self._clock.monotonic()
        for index, other in enumerate(queue):
            same_model = other.route.name == beside.route.name and other.deployment.id != beside.deployment.id
            health = self._health.of(other.deployment.id)
            if same_model and health.available(now) and not health.full:
                self._health.of(beside.deployment.id).hedges.add(now, total=0, hits=1)
                del queue[index]
                patience_until = now + (exchange.deadline - now) / _calls_left(exchange, plan, queue)
                return _start(self._running(exchange, other), patience_until)
        return None

    def _running(self, exchange: Exchange, candidate: Candidate, *, choosy: bool = True) -> Running:
        """From here on it has a slot at its deployment. It is given back as the call ends, so it has to be made."""
        call = exchange.call
        if exchange.fit is not None:
            call = exchange.call = exchange.fit(candidate.deployment)
        if call.stream and not candidate.route.streaming.enabled:
            call = codec_of(call.dialect).as_unary(call)
        if call.dialect in SEVERAL and (running := self._merging.begin(exchange, call, candidate)) is not None:
            return running
        return self._begun(exchange, call, candidate, choosy=choosy)

    def _begun(self, exchange: Exchange, call: Call, candidate: Candidate, *, choosy: bool = True) -> Running:
        deployment = candidate.deployment
        provider, health = self._providers[deployment.provider], self._health.of(deployment.id)
        return Running(exchange, call, candidate, provider, health, self._clock, choosy=choosy)

    def _may_go_on(self, error: ProviderError, exchange: Exchange, plan: Plan) -> bool:
        if isinstance(error, ContentFiltered):
            return plan.route.fallback.on_content_filter == "next"
        return error.retryable and self._clock.monotonic() < exchange.deadline

    async def _repeat(self, exchange: Exchange, plan: Plan, error: ProviderError | None, repeats: int) -> Candidate | None:
        """The candidate to try once more, after its wait; None when the error, the budget or the deadline forbids it."""
        if error is None or isinstance(error, ContextTooLong | LowQuality | ContentFiltered | NotExpressible):
            return None
        hopeless = {attempt.deployment for attempt in exchange.attempts if attempt.outcome in _FINAL}
        now = self._clock.monotonic()
        backoff_s = self._random.uniform(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2**repeats))
        waits = [
            (max(backoff_s, self._health.of(candidate.deployment.id).cooldown_until - now), index)
            for index, candidate in enumerate(plan.candidates)
            if candidate.deployment.id not in hopeless
            and self._health.of(candidate.deployment.id).may_repeat(plan.route.retries.budget, now)
        ]
        if not waits or now + min(waits)[0] >= exchange.deadline:
            return None
        wait_s, index = min(waits)
        candidate = plan.candidates[index]
        # What one call was made for may all be asked for again.
        self._health.of(candidate.deployment.id).repeats.add(now, total=0, hits=1 / exchange.attempts[-1].shared_by)
        await self._sleep(wait_s)
        return candidate

    # --- after it ---

    async def _recover(
        self, exchange: Exchange, plan: Plan, broken: BegunStream | Continuation, error: ProviderError
    ) -> Continuation | None:
        """A stream that carries on where one broke off; None where that cannot be had."""
        sent = sent_text(exchange, broken) if plan.route.streaming.recovery == "continue" and _is_outage(error) else None
        if sent is None:
            return None
        before = used_so_far(exchange, sent.text)
        queue = _continuers(exchange, plan)
        while queue:
            if len(exchange.attempts) >= plan.route.retries.max_attempts or self._clock.monotonic() >= exchange.deadline:
                return None
            candidate = queue.pop(0)
            try:
                if self._health.of(candidate.deployment.id).full:
                    candidate = await self._with_room(candidate, queue, exchange)
                call = codec_of(exchange.call.dialect).continued(exchange.call, sent.text, candidate.deployment)
                stream = await continued_stream(self._begun(exchange, call, candidate), exchange.deadline, sent, before)
            except Overloaded:
                return None
            except GatewayError:
                continue
            exchange.reason = "recovered"
            if candidate.fallback:
                exchange.status = "fallback"
            return stream
        return None

    def _report(self, exchange: Exchange, plan: Plan, *, fell_back: bool, error: ProviderError | None = None) -> None:
        """To the controller: whether the model itself answered. Nothing is said about it by its own detours, by a wait that a provider
        asks for, nor by requests that were wrong, not for this model, or more than it has room for.
        """
        if plan.detour in (None, "unavailable") and exchange.reason != FULL and (error is None or _is_outage(error)):
            can_trip = fell_back and any(candidate.fallback for candidate in plan.candidates)
            tried = plan.detour is None
            controller = self._health.controller(plan.route.name)
            before = controller.state
            controller.observe(self._clock.monotonic(), fell_back=fell_back, can_trip=can_trip, tried=tried)
            if controller.state != before:
                _log.warning("model %s: the degradation controller went from %s to %s", plan.route.name, before, controller.state)


def _start(running: Running, patience_until: float) -> Awaitable[Begun]:
    begin = begin_stream if running.call.stream else fetch_whole
    return begin(running, patience_until)


def _calls_left(exchange: Exchange, plan: Plan, queue: list[Candidate]) -> int:
    """The call that begins now and those that may follow it: whoever hangs must leave them their part of the time."""
    return min(len(queue) + 1, plan.route.retries.max_attempts - len(exchange.attempts))


def _is_outage(error: GatewayError) -> bool:
    """It is not the request that was at fault."""
    return error.fault != "client"


def _note_winner(exchange: Exchange, begun: Begun) -> None:
    exchange.deployment = begun.candidate.deployment.id
    exchange.first_token = begun.attempt.first_token or (begun.attempt.ended if exchange.call.stream else None)
    exchange.status = "fallback" if begun.candidate.fallback else "success"
    if not begun.candidate.fallback and exchange.reason != LowQuality.code:
        exchange.reason = None  # the detour led back
    elif exchange.reason is None:
        exchange.reason = next((attempt.outcome for attempt in exchange.attempts if attempt.outcome != "success"), None)


def _note_end(exchange: Exchange, plan: Plan, stream: BegunStream | Continuation) -> None:
    facts = stream.facts
    exchange.usage, exchange.finish_reason = facts.usage, facts.finish_reason
    exchange.quality = score(facts, exchange.call, plan.route.fallback.quality)


def _finished(exchange: Exchange, finished: FinishedAnswer) -> Chunk | Whole:
    answer, call = finished.answer, exchange.call
    exchange.usage, exchange.finish_reason, exchange.quality = answer.usage, answer.finish_reason, finished.quality
    # A client may stream where the gateway does not (streaming.enabled).
    body = answer.as_stream(call) if call.stream else answer.body
    exchange.answer += answer.told
    exchange.answer_bytes = len(body)
    if answer.says_only_text:  # the record need not read it again
        exchange.transcript = Answer(answer.text, finish_reason=answer.finish_reason)
    return Chunk(body) if call.stream else Whole(body)


def _degrade(exchange: Exchange, reply: str, error: ProviderError) -> Chunk | Whole:
    exchange.status = "degraded"
    exchange.reason = error.code
    exchange.quality = 0.0
    exchange.finish_reason = "stop"
    exchange.transcript = Answer(reply, finish_reason="stop")
    event = fixed_reply(exchange, reply)
    exchange.answer_bytes = len(event.data if isinstance(event, Chunk) else event.body)
    return event


def _continuers(exchange: Exchange, plan: Plan) -> list[Candidate]:
    """Those that can carry on from a text, the ones not tried yet first."""
    tried = {attempt.deployment for attempt in exchange.attempts}
    able = [candidate for candidate in plan.candidates if candidate.deployment.prefill is not None and candidate.route.streaming.enabled]
    return sorted(able, key=lambda candidate: candidate.deployment.id in tried)


def _is_larger(candidate: Candidate, too_small: set[str], plan: Plan) -> bool:
    """Whether its window is larger than every one that was too small, as far as both are known."""
    windows = [other.deployment.context_window for other in plan.candidates if other.deployment.id in too_small]
    mine = candidate.deployment.context_window
    return mine is None or all(window is None or mine > window for window in windows)
