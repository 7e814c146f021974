"""One call of one deployment, up to its first content: what may still be tried elsewhere ends here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.delta import NATURAL_ENDS, Delta, Started
from agent_gateway.core.errors import (
    ConnectFailed,
    EmptyReply,
    GatewayError,
    LowQuality,
    MalformedReply,
    NoConnectionFree,
    NotExpressible,
    ProviderError,
    ProviderFault,
    ProviderModelMissing,
    ProviderRateLimited,
    ProviderRefusedRequest,
    ProviderTimeout,
    TimeoutKind,
)
from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.core.plan import Candidate
from agent_gateway.core.route import Route
from agent_gateway.core.settings import Streaming
from agent_gateway.core.usage import Usage
from agent_gateway.health.registry import DeploymentHealth
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.relay import Relay, Whole, stream_relay, whole_answer
from agent_gateway.protocols.transcript import COMPACT_BYTES
from agent_gateway.upstream.base import Answer, Provider
from agent_gateway.upstream.outgoing import estimated_count, outgoing
from agent_gateway.upstream.quality import Facts, objection, objection_to_start, score
from agent_gateway.upstream.transport import ReadTimeout
from agent_gateway.wire.sse import FrameSplitter, frame_data

_log = logging.getLogger("agent_gateway.upstream")

#: A 429 that names no time keeps the deployment out of the first row this long (s).
DEFAULT_COOLDOWN_S = 1.0
#: With these a provider says that it has too much to do: unavailable, and overloaded (Anthropic's).
OVERLOAD_STATUS = (503, 529)
#: Whole events that a provider may send before its first content, or while it is held back (bytes). The first content itself may be as
#: large as any event (`wire.sse.FRAME_MAX_BYTES`).
HELD_MAX_BYTES = 1024 * 1024
#: After `[DONE]`, the end of the body is waited for this long (s).
BODY_END_S = 0.2
#: The finish reason of an answer that a content filter stopped.
FILTERED = "content_filter"

#: A server that speaks Anthropic's protocol need not count tokens.
_NOT_THERE = (404, 405)
_NOT_GOOD = "The model's answer did not pass the quality check."
_TIMEOUT_TEXT: dict[TimeoutKind, str] = {
    "connect": "The model provider could not be connected to in time.",
    "first_token": "The model provider sent no content in time.",
    "idle": "The model provider's stream stalled.",
    "attempt": "The model provider did not answer in time.",
    "total": "The request's time was up before an answer came.",
}


class Running:
    """An attempt under way: has a slot at its deployment until it ends, and tells the deployment's health, exactly once, how it did."""

    __slots__ = ("_ended", "_exchange", "_probe", "attempt", "call", "candidate", "choosy", "clock", "health", "provider")

    def __init__(
        self,
        exchange: Exchange,
        call: Call,
        candidate: Candidate,
        provider: Provider,
        health: DeploymentHealth,
        clock: Clock,
        *,
        choosy: bool = True,
    ) -> None:
        """`choosy`: there are others to try, so a stream that begins badly is not worth showing."""
        self.choosy = choosy
        self._exchange = exchange
        self.clock = clock
        self._ended = False
        self.call = call
        self.candidate = candidate
        self.provider = provider
        self.health = health
        deployment = candidate.deployment
        self.attempt = Attempt(deployment.id, clock.monotonic(), price=deployment.price, queued_s=exchange.queued_s)
        exchange.attempts.append(self.attempt)
        self._probe = self._take_slot()

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    @property
    def deadline(self) -> float:
        return self._exchange.deadline

    def head(self) -> AnswerHead:
        """What marks the answer where the gateway writes it."""
        exchange = self._exchange
        return AnswerHead(exchange.id.removeprefix("req_"), int(exchange.started_wall), self.call.model)

    @property
    def continues(self) -> bool:
        """The client has the beginning of the answer from another attempt."""
        return self._exchange.answer_bytes > 0

    def begun(self) -> None:
        """Of a stream, the first content has come; of a unary answer, all of it."""
        now = self.clock.monotonic()
        if self.call.stream:
            self.attempt.first_token = now
        call, health, seconds = self.call, self.health, now - self.attempt.started
        health.load.latency(stream=call.stream).observe(seconds, call.estimated_input_tokens, now)
        if call.stream and health.concurrency.adaptive:
            health.concurrency.first_token(seconds, call.estimated_input_tokens, now)

    def bill(self, usage: Usage | None) -> None:
        """What the call has used, as far as the provider said."""
        if usage is not None:
            attempt = self.attempt
            attempt.usage = usage
            attempt.cost_usd = attempt.price.cost_usd(usage) if attempt.price else None

    async def send(self, until: float) -> tuple[Answer, Dialect]:
        """The answer, and the protocol it is in."""
        call, deployment, provider = self.call, self.candidate.deployment, self.provider
        try:
            spoken = provider.speaks(call, deployment)
        except NotExpressible:
            if call.dialect == "anthropic_count":
                return estimated_count(call), call.dialect
            raise
        try:
            answer = await provider.send(
                call,
                deployment,
                self.attempt,
                dialect=spoken,
                body=outgoing(call, spoken, deployment),
                connect_until=min(self.attempt.started + self.candidate.route.timeouts.connect_s, until),
                until=until,
            )
        except (ProviderRefusedRequest, ProviderModelMissing) as error:
            if call.dialect == "anthropic_count" and error.provider_status in _NOT_THERE:
                return estimated_count(call), call.dialect
            raise
        return answer, spoken

    def succeed(self, usage: Usage | None) -> None:
        now = self._end("success")
        if now is not None:
            self.bill(usage)
            self._tell_success(usage, now)

    def fail(self, error: BaseException) -> None:
        """The breaker hears of what is the provider's fault, and of nothing else."""
        now = self._end(error.code if isinstance(error, GatewayError) else "cancelled")
        if now is None:
            return
        attempt = self.attempt
        if isinstance(error, GatewayError):
            if error.detail:  # others keep and log it too
                error.detail = self.provider.redact(error.detail)
            attempt.error_detail = error.detail or error.message
        if isinstance(error, ProviderError) and error.provider_status is not None:
            attempt.provider_status = error.provider_status
        self._tell_failure(error, now)

    def timeout(self, kind: TimeoutKind) -> ProviderTimeout:
        if self.clock.monotonic() >= self._exchange.deadline:
            kind = "total"
        return ProviderTimeout(_TIMEOUT_TEXT[kind], kind=kind)

    # --- what the deployment's health is told ---

    def _take_slot(self) -> bool:
        """Whether it is a probe of the breaker's."""
        load = self.health.load
        load.in_flight += 1
        if self._exchange.edge == "batch":
            load.of_batches += 1
        elif self.health.concurrency.limit is not None:
            load.interactive.note(load.in_flight - load.of_batches, self.attempt.started)
        return self.health.breaker.begin(self.attempt.started)

    def _free_slot(self, now: float) -> None:
        health, attempt = self.health, self.attempt
        health.load.in_flight -= 1
        if self._exchange.edge == "batch":
            health.load.of_batches -= 1
        if health.concurrency.limit is not None:
            health.ended(attempt.started, now, answered=attempt.outcome == "success")

    def _tell_success(self, usage: Usage | None, now: float) -> None:
        if usage is not None:
            self.health.load.observe_output(usage.output)
        self.health.breaker.succeeded(now, self._probe)
        if self._probe:
            _log.warning("%s answers again: its breaker is %s", self.attempt.deployment, self.health.breaker.state)

    def _tell_failure(self, error: BaseException, now: float) -> None:
        attempt, breaker = self.attempt, self.health.breaker
        was_open = breaker.state == "open"
        self._tell_health(error, now)
        if isinstance(error, GatewayError) and error.fault == "provider" and self.health.tell_once(error.code, now):
            # What a provider says may hold a piece of a key; what a socket says does not.
            more = f" ({error.detail})" if isinstance(error, ConnectFailed) and error.detail else ""
            _log.warning("%s failed: %s %s%s", attempt.deployment, error.code, error.message, more)
        if breaker.state == "open" and not was_open:
            _log.warning("%s is passed by for %.0f s: its breaker opened", attempt.deployment, breaker.reopens_at - now)

    def _tell_health(self, error: BaseException, now: float) -> None:
        breaker = self.health.breaker
        match error:
            case ProviderRateLimited(retry_after_s=wait_s):
                self.health.overloaded(self.attempt.started, now, wait_s, refused=True)
                self.health.cool_down(now, DEFAULT_COOLDOWN_S if wait_s is None else wait_s)
                breaker.abandoned(self._probe)
            case ProviderTimeout() if self._cut_short(error, now):
                breaker.abandoned(self._probe)
            case ProviderTimeout():
                self.health.overloaded(self.attempt.started, now, None, refused=False)
                breaker.failed(now, self._probe)
            case ProviderFault(retry_after_s=wait_s):
                if error.provider_status in OVERLOAD_STATUS:
                    self.health.overloaded(self.attempt.started, now, wait_s, refused=True)
                if wait_s is not None:
                    self.health.cool_down(now, wait_s)
                breaker.failed(now, self._probe)
            case ProviderRefusedRequest() | ProviderModelMissing() | LowQuality() | NoConnectionFree() | NotExpressible():
                breaker.abandoned(self._probe)
            case ProviderError():
                breaker.failed(now, self._probe)
            case _:
                breaker.abandoned(self._probe)

    def _cut_short(self, error: ProviderTimeout, now: float) -> bool:
        """The request's time was up, or what was left of it was less than the deployment is allowed: nothing is said against it."""
        if error.kind == "total":
            return True
        timeouts = self.candidate.route.timeouts
        allowed_s = {"connect": timeouts.connect_s, "first_token": timeouts.first_token_s, "attempt": timeouts.attempt_s}
        # Timers may fire a little early.
        return now - self.attempt.started < 0.95 * allowed_s.get(error.kind, 0.0)

    def _end(self, outcome: str) -> float | None:
        if self._ended:
            return None
        self._ended = True
        now = self.attempt.ended = self.clock.monotonic()
        self.attempt.outcome = outcome
        self._free_slot(now)
        return now


class BegunStream:
    """A stream whose first content has come: `first` is what the client gets at once, `next` what follows."""

    __slots__ = ("_answer", "_deadline", "_exchange", "_idle_s", "_monotonic", "_passes", "_relay", "_running", "first")

    def __init__(self, running: Running, answer: Answer, relay: Relay, first: bytes) -> None:
        self._monotonic = running.clock.monotonic
        self._idle_s = running.candidate.route.timeouts.idle_s
        self._deadline = running.deadline
        self._running = running
        self._answer = answer
        self._relay = relay
        #: What comes is offered to `_pass_on` while `next` waits.
        self._passes = False
        self._exchange: Exchange | None = None
        self.first = first

    @property
    def candidate(self) -> Candidate:
        return self._running.candidate

    @property
    def attempt(self) -> Attempt:
        return self._running.attempt

    @property
    def started(self) -> Started | None:
        return self._relay.started

    def keep_in(self, answer: list[bytes | Delta]) -> None:
        """What the client gets is kept there, all of it once the stream has ended."""
        answer += self._relay.sent
        self._relay.sent = answer

    def pass_by(self, exchange: Exchange) -> None:
        """From here on, text that needs no look may leave by `exchange.tap`, unseen by who asks for `next`."""
        self._exchange = exchange if exchange.tap is not None else None

    @property
    def sample(self) -> bytes:
        """A frame of the answer, as the client got it."""
        return self._relay.sample or next((frame for frame in FrameSplitter.split(self.first) if frame_data(frame)), b"")

    @property
    def latest(self) -> bytes:
        """The frames that the client got last."""
        return self._relay.latest

    @property
    def done(self) -> bool:
        """All of the answer has been handed out."""
        return self._relay.done

    @property
    def facts(self) -> Facts:
        return Facts(self._relay.has_content, self._relay.finish_reason, self._relay.usage)

    async def next(self) -> bytes:
        """More whole frames; `b""` at the end of a complete answer. Raises `ProviderError` for any other end."""
        running, relay = self._running, self._relay
        idle_s, deadline = self._idle_s, self._deadline
        try:
            while True:
                if relay.failure is not None:
                    raise relay.failure
                if relay.done:
                    return await self._end()
                if not self._passes and self._exchange is not None:
                    self._passes = True
                    self._answer.pass_to(self._pass_on)
                until = self._monotonic() + idle_s
                data = await self._answer.next(until if until < deadline else deadline)
                if not data:
                    frames = relay.finish()
                    return frames or await self._end()
                frames = relay.feed(data)
                if frames:
                    return frames
        except ReadTimeout:
            error = running.timeout("idle")
            self.close(error)
            raise error from None
        except BaseException as error:
            self.close(error)
            raise

    def _pass_on(self, data: bytes) -> float | None:
        """A `Taker`: a frame with nothing but text goes to the client as it comes, and the request's task sleeps on."""
        exchange = self._exchange
        assert exchange is not None
        tap = exchange.tap
        if tap is None or exchange.answer_bytes - exchange.compacted_bytes > COMPACT_BYTES:
            return None
        frame = self._relay.feed_text(data)
        if frame is None:
            return None
        exchange.answer_bytes += len(frame)
        if frame and not tap(frame):  # an empty write would end the client's stream
            self._passes = False
            self._answer.pass_to(None)
        until = self._monotonic() + self._idle_s
        return until if until < self._deadline else self._deadline

    async def _end(self) -> bytes:
        """The answer is complete. What may still come of the body is its end, which lets the connection be used again."""
        self._relay.keep()
        self._running.succeed(self._relay.usage)
        with suppress(ReadTimeout, ProviderError):
            await self._answer.next(self._monotonic() + BODY_END_S)
        self._answer.close()
        return b""

    def close(self, error: BaseException) -> None:
        """Ends it early: the provider stops, `error` says why in the record. Idempotent, and nothing after the end."""
        self._answer.close()
        self._relay.keep()
        self._running.bill(self._relay.usage)
        self._running.fail(error)


class FinishedAnswer(Struct):
    """A unary answer, complete."""

    candidate: Candidate
    attempt: Attempt
    answer: Whole
    quality: float

    def close(self, error: BaseException) -> None:
        """There is nothing to stop."""


async def begin_stream(running: Running, patience_until: float, relay_of: Callable[[Dialect], Relay] | None = None) -> BegunStream:
    """Until the first content has come, and has been held back as long as configured. Raises `ProviderError`.

    `relay_of` makes the relay for the protocol that the provider speaks; left out, the answer begins with this stream.
    """
    route = running.candidate.route
    answer: Answer | None = None
    try:
        until = min(running.attempt.started + route.timeouts.first_token_s, patience_until)
        answer, spoken = await running.send(until)
        relay = stream_relay(running.call, spoken, running.head) if relay_of is None else relay_of(spoken)
        held: list[bytes] = []
        held_bytes = 0
        while not relay.has_content:
            data = await answer.next(until)
            if not data:
                held.append(relay.finish())
                _check_not_empty(relay, running, route)
                break
            frames = relay.feed(data)
            held.append(frames)
            held_bytes += len(frames)
            if held_bytes > HELD_MAX_BYTES and not relay.has_content:
                raise MalformedReply("The model provider's stream is over the size limit before its first content.")
        if relay.failure is not None:  # nobody has seen anything yet
            raise relay.failure
        running.begun()
        bad = objection_to_start(relay.first_text, running.call)
        if bad is not None and running.choosy and not running.continues:
            raise LowQuality(_NOT_GOOD, detail=bad)
        if _holds_back(route.streaming):
            await _hold_back(running, answer, relay, held)
        return BegunStream(running, answer, relay, b"".join(held))
    except BaseException as error:
        if answer is not None:
            answer.close()
        failure = running.timeout("first_token") if isinstance(error, ReadTimeout) else error
        running.fail(failure)
        raise failure from None


async def fetch_whole(running: Running, patience_until: float) -> FinishedAnswer:
    """A complete unary answer that passed the quality check. Raises `ProviderError`."""
    route = running.candidate.route
    answer: Answer | None = None
    try:
        until = min(running.attempt.started + running.candidate.route.timeouts.attempt_s, patience_until)
        answer, spoken = await running.send(until)
        whole = whole_answer(await answer.read(until), running.call, spoken, running.head)
        running.begun()
        quality, bad = _judged(whole, running.call, route)
        finished = FinishedAnswer(running.candidate, running.attempt, whole, quality)
        if bad is not None:
            running.bill(whole.usage)
            raise LowQuality(_NOT_GOOD, detail=bad, answer=finished if whole.says_something else None)
        running.succeed(whole.usage)
        return finished
    except BaseException as error:
        failure = running.timeout("attempt") if isinstance(error, ReadTimeout) else error
        running.fail(failure)
        raise failure from None
    finally:
        if answer is not None:
            answer.close()


def _judged(whole: Whole, call: Call, route: Route) -> tuple[float, str | None]:
    """The answer's score, and why it is not good enough, if it is not."""
    policy = route.fallback.quality
    if whole.says_something and whole.finish_reason in NATURAL_ENDS and policy.min_token_efficiency is None and not call.wants_json:
        return 1.0, None  # as nearly every answer is: all checks that apply are passed
    facts = Facts(whole.says_something, whole.finish_reason, whole.usage, whole.text)
    if whole.finish_reason == FILTERED:
        bad = None if _filter_stands(FILTERED, route) else "a content filter stopped the answer"
    else:
        bad = objection(facts, call, policy)
    return score(facts, call, policy), bad


def _check_not_empty(relay: Relay, running: Running, route: Route) -> None:
    """Of a stream that has come to its end before its first content, unless an empty answer is what the client is to get."""
    if relay.has_content or not route.fallback.quality.reject_empty or running.continues or _filter_stands(relay.finish_reason, route):
        return
    if relay.finish_reason is None:
        raise EmptyReply("The model provider's stream ended without an answer.")
    raise LowQuality(_NOT_GOOD, detail="the answer is empty")


def _filter_stands(finish_reason: str | None, route: Route) -> bool:
    """An answer that a content filter stopped is the client's to see."""
    return finish_reason == FILTERED and route.fallback.on_content_filter == "return"


def _holds_back(streaming: Streaming) -> bool:
    return streaming.recovery == "restart" and streaming.hold_back_s > 0


async def _hold_back(running: Running, answer: Answer, relay: Relay, held: list[bytes]) -> None:
    """Gathers what comes for a while: what fails meanwhile has not been seen by anyone."""
    until = min(running.now + running.candidate.route.streaming.hold_back_s, running.deadline)
    size = sum(map(len, held))
    while size < HELD_MAX_BYTES and not relay.done:
        try:
            data = await answer.next(until)
        except ReadTimeout:
            return
        if not data:
            held.append(relay.finish())
            return
        held.append(relay.feed(data))
        if relay.failure is not None:
            raise relay.failure
        size += len(data)
