"""The ways a simulated answer goes wrong, and how a request asks for one of them by name.

A test steers by its key (`Authorization: Bearer cut-3`, `x-api-key: cut-3`, …) or by what follows the last colon of its model's
name (`gpt-4o-mini:fail-503`):

| name | what happens |
|---|---|
| `fail-500` | that status (400–599) and an error body; 429 with `retry-after` |
| `hang`, `hang-5` | never answers; or falls silent after 5 frames (unary: in the middle of the body) |
| `cut-5` | the connection breaks after 5 frames (unary: in the middle of the body) |
| `slow-2000` | the first token comes 2000 ms later |
| `empty` | a well-formed answer that says nothing |
| `garbage` | status 200 and the right content type, but what comes is not JSON |
| `error-in-stream`, `error-in-stream-5` | after 3 (5) frames an error, and no proper end; unary: an error under a 200 |
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from agent_gateway.simulator.settings import SimulatorSettings


@dataclass(frozen=True, slots=True)
class Fail:
    status: int


@dataclass(frozen=True, slots=True)
class Hang:
    """`after_frames` None: not even a status comes."""

    after_frames: int | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """`after_frames` None: at a place that chance chooses."""

    after_frames: int | None = None


@dataclass(frozen=True, slots=True)
class Slow:
    ms: float


@dataclass(frozen=True, slots=True)
class Empty:
    pass


@dataclass(frozen=True, slots=True)
class Garbage:
    pass


@dataclass(frozen=True, slots=True)
class ErrorInStream:
    after_frames: int = 3


Fault = Fail | Hang | Cut | Slow | Empty | Garbage | ErrorInStream

_STEERING = re.compile(r"(?P<name>[a-z]+(?:-[a-z]+)*)(?:-(?P<number>\d{1,9}))?")
#: What an overloaded or broken provider answers with.
_FAILURES = (500, 503, 529)
#: What everybody is told while a provider is out.
OUTAGE = Fail(503)


def steered_fault(text: str) -> Fault | None:
    """The fault that `text` names, if it names one."""
    match = _STEERING.fullmatch(text)
    if match is None:
        return None
    name, number = match["name"], int(match["number"]) if match["number"] else None
    match name, number:
        case "fail", int(status) if 400 <= status <= 599:
            return Fail(status)
        case "hang", _:
            return Hang(number)
        case "cut", int(after):
            return Cut(after)
        case "slow", int(milliseconds):
            return Slow(milliseconds)
        case "empty", None:
            return Empty()
        case "garbage", None:
            return Garbage()
        case "error-in-stream", _:
            return ErrorInStream() if number is None else ErrorInStream(number)
        case _:
            return None


def steered_model(model: str) -> tuple[str, Fault | None]:
    """The model's own name, and the fault that its suffix names."""
    name, _, suffix = model.rpartition(":")
    fault = steered_fault(suffix)
    return (model, None) if fault is None else (name or model, fault)


def drawn_fault(settings: SimulatorSettings, chance: random.Random) -> Fault | None:
    """What the settings' rates make of this request."""
    faults: tuple[tuple[float, Fault], ...] = (
        (settings.error_rate, Fail(chance.choice(_FAILURES))),
        (settings.rate_limit_rate, Fail(429)),
        (settings.hang_rate, Hang()),
        (settings.cut_rate, Cut()),
        (settings.slow_rate, Slow(settings.slow_ms)),
    )
    draw = chance.random()
    for rate, fault in faults:
        if draw < rate:
            return fault
        draw -= rate
    return None


def is_out(settings: SimulatorSettings, age_s: float) -> bool:
    """Whether it is in one of the settings' outages, so long after it began."""
    every_s = settings.outage_every_s
    return every_s > 0 and age_s % every_s >= every_s - settings.outage_s
