"""One request's bytes in, the reply's bytes and their times out; everything a real provider does but the network."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from agent_gateway.core import call
from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import BadRequest
from agent_gateway.simulator.dialect import Dialect, Frame, Request, Stamp
from agent_gateway.simulator.faults import (
    Cut,
    Empty,
    ErrorInStream,
    Fail,
    Fault,
    Garbage,
    Hang,
    Slow,
    drawn_fault,
    steered_fault,
    steered_model,
)
from agent_gateway.simulator.model import write_script
from agent_gateway.simulator.openai_chat import OpenAIChat
from agent_gateway.simulator.script import Script
from agent_gateway.simulator.settings import SimulatorSettings

DIALECTS: dict[call.Dialect, Dialect] = {"openai_chat": OpenAIChat()}

_JSON = ("content-type", "application/json")
_EVENTS = ("content-type", "text/event-stream; charset=utf-8")

Ending = Literal["complete", "cut", "silence"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it will come: headers `opens_at_s` after the request, then `frames` at their times, then its `ending`."""

    status: int
    headers: tuple[tuple[str, str], ...]
    opens_at_s: float
    frames: Iterator[Frame]
    ending: Ending = "complete"
    #: Of a unary body, what the headers promise (bytes); None: a stream.
    body_bytes: int | None = None


class Simulator:
    """A simulated provider. Faults, waits and ids come from one seeded sequence; what is said, from the prompt."""

    def __init__(self, settings: SimulatorSettings, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = random.Random(settings.seed)

    def reply(self, dialect_name: call.Dialect, body: bytes, steering: str = "") -> Reply:
        """`steering` is the caller's key: it, or the model's suffix, may name a fault (see `faults`)."""
        dialect = DIALECTS[dialect_name]
        drawn = drawn_fault(self._settings, self._chance)
        stamp_id = f"{self._chance.getrandbits(116):029x}"
        try:
            request = dialect.read(body)
            model, named = steered_model(request.prompt.model)
            fault = steered_fault(steering) or named or drawn
            if isinstance(fault, Fail):
                return self._failure(dialect, fault)
            script = write_script(
                replace(request.prompt, model=model),
                self._settings,
                self._chance,
                late_s=fault.ms / 1000 if isinstance(fault, Slow) else 0,
                mute=isinstance(fault, Empty),
            )
        except BadRequest as error:
            return _unary(400, dialect.refusal(error), 0)
        stamp = Stamp(stamp_id, int(self._clock.wall()), request.prompt.model)
        if request.stream:
            return self._stream(dialect, request, script, stamp, fault)
        return _whole(dialect, script, stamp, fault)

    def _failure(self, dialect: Dialect, fault: Fail) -> Reply:
        wait = (("retry-after", f"{self._settings.retry_after_s:g}"),) if fault.status == 429 else ()
        return _unary(fault.status, dialect.error(fault.status), 0, headers=wait)

    def _stream(self, dialect: Dialect, request: Request, script: Script, stamp: Stamp, fault: Fault | None) -> Reply:
        frames = dialect.frames(script, stamp, with_usage=request.with_usage)
        starts_at_s = script.starts_at_s
        ending: Ending = "complete"
        match fault:
            case Hang(after_frames=None):
                starts_at_s, ending = math.inf, "silence"
            case Hang(after_frames=int(after)):
                frames, ending = islice(frames, after), "silence"
            case Cut(after_frames=after):
                after = self._chance.randrange(len(script.steps)) if after is None else after
                frames, ending = islice(frames, after), "cut"
            case Garbage():
                frames = iter([Frame(starts_at_s, dialect.garbage(stream=True))])
            case ErrorInStream(after_frames=after):
                frames = _ended_by_error(islice(frames, after), Frame(starts_at_s, dialect.error_frame()))
            case _:
                pass
        return Reply(200, (_EVENTS, ("cache-control", "no-cache")), starts_at_s, frames, ending)


def _whole(dialect: Dialect, script: Script, stamp: Stamp, fault: Fault | None) -> Reply:
    ends_at_s = script.ends_at_s
    match fault:
        case Hang(after_frames=None):
            return _unary(200, b"", math.inf, ending="silence")
        case Hang():
            return _unary(200, dialect.whole(script, stamp), ends_at_s, ending="silence")
        case Cut():
            return _unary(200, dialect.whole(script, stamp), ends_at_s, ending="cut")
        case Garbage():
            return _unary(200, dialect.garbage(stream=False), ends_at_s)
        case ErrorInStream():
            return _unary(200, dialect.error(500), ends_at_s)
        case _:
            return _unary(200, dialect.whole(script, stamp), ends_at_s)


def _unary(
    status: int, body: bytes, at_s: float, *, headers: tuple[tuple[str, str], ...] = (), ending: Ending = "complete"
) -> Reply:
    """A body in one piece; half of it when the ending is not complete."""
    sent = body if ending == "complete" else body[: len(body) // 2]
    return Reply(status, (_JSON, *headers), at_s, iter([Frame(at_s, sent)]), ending, body_bytes=len(body))


def _ended_by_error(frames: Iterator[Frame], error: Frame) -> Iterator[Frame]:
    at_s = error.at_s
    for frame in frames:
        at_s = frame.at_s
        yield frame
    yield replace(error, at_s=at_s)
