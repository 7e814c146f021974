"""What became of one request, and how its answer is read: as little as tells time, tokens, cost and whether it is whole."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from agent_gateway.core.pricing import Price
from agent_gateway.core.usage import Usage
from agent_gateway.wire.sse import frame_data

#: Of a stream so many of its last reads are kept: how it ended is in them.
LAST_READS = 8
_DONE = b"[DONE]"
_NOTHING = Usage()


@dataclass(slots=True)
class Outcome:
    """Times are monotonic seconds. `due`: when it was to be sent; `sent`: when it was."""

    due: float
    sent: float
    ended: float = 0.0
    first_token: float | None = None
    #: Of the gateway's answer: `success`, `fallback`, `degraded`, `cached`. None: there was none.
    status: str | None = None
    #: Requests to a model that were answered, and those that were not, by why.
    answered: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    usage: Usage = _NOTHING
    #: None: not known.
    cost_usd: float | None = None
    overhead_s: float | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(Struct):
    delta: _Delta | None = None


class _Error(Struct):
    code: str | int | None = None
    type: str | None = None


class _Reply(Struct):
    """Of an answer, a chunk or an error body."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | str | None = None


class _Result(Struct):
    status_code: int
    body: _Reply | None = None
    error: _Error | None = None


class _Summary(Struct, frozen=True):
    cost_usd: float | None = None


class _Group(Struct):
    results: list[_Result]
    summary: _Summary = _Summary()


_reply = msgspec.json.Decoder(_Reply)
_group = msgspec.json.Decoder(_Group)


class NotUnderstood(ValueError):
    """What came is no answer of the protocol."""


def error_class(status: int, body: bytes) -> str:
    """Of an answer that is an error: `429 rate_limit_exceeded`."""
    try:
        error = _reply.decode(body).error
    except msgspec.MsgspecError:
        return str(status)
    code = (error.code or error.type) if isinstance(error, _Error) else None
    return f"{status} {code}" if code else str(status)


def read_whole(outcome: Outcome, body: bytes) -> None:
    """Raises `NotUnderstood`."""
    try:
        reply = _reply.decode(body)
    except msgspec.MsgspecError as error:
        raise NotUnderstood(str(error)) from None
    outcome.answered = 1
    outcome.usage = _counted(reply.usage)


def read_group(outcome: Outcome, body: bytes) -> None:
    """Of `POST /v1/batch`. Raises `NotUnderstood`."""
    try:
        group = _group.decode(body)
    except msgspec.MsgspecError as error:
        raise NotUnderstood(str(error)) from None
    for result in group.results:
        if result.status_code == 200 and result.body is not None:
            outcome.answered += 1
            outcome.usage += _counted(result.body.usage)
            continue
        code = result.error.code or result.error.type if result.error is not None else None
        why = f"{result.status_code} {code}" if code else str(result.status_code)
        outcome.errors[why] = outcome.errors.get(why, 0) + 1
    outcome.cost_usd = group.summary.cost_usd


class StreamEnd:
    """The last reads of a stream: what it used, whether it was whole."""

    __slots__ = ("_reads",)

    def __init__(self) -> None:
        self._reads: deque[bytes] = deque(maxlen=LAST_READS)

    def add(self, data: bytes) -> None:
        self._reads.append(data)

    def tell(self, outcome: Outcome) -> None:
        """An event that says why it broke off is an error; so is an end without `[DONE]`."""
        done = False
        for frame in b"".join(self._reads).split(b"\n\n"):
            data = frame_data(frame + b"\n\n")
            if data == _DONE:
                done = True
                continue
            reply = _chunk(data)
            if reply is None:
                continue
            if reply.usage is not None:
                outcome.usage = _counted(reply.usage)
            if reply.error is not None:
                code = reply.error.code or reply.error.type if isinstance(reply.error, _Error) else None
                outcome.errors = {f"in the stream: {code}" if code else "in the stream": 1}
                return
        if done:
            outcome.answered = 1
        else:
            outcome.errors = {"cut off": 1}


def says_something(frame: bytes) -> bool:
    """Whether it is the first that a reader would see."""
    reply = _chunk(frame_data(frame))
    if reply is None:
        return False
    deltas = [choice.delta for choice in reply.choices if choice.delta is not None]
    return any(delta.content or delta.reasoning_content or delta.refusal or delta.tool_calls for delta in deltas)


def priced(outcome: Outcome, price: Price | None) -> None:
    if outcome.cost_usd is None and price is not None and outcome.answered:
        outcome.cost_usd = price.cost_usd(outcome.usage)


def _chunk(data: bytes | None) -> _Reply | None:
    """None: a comment, or the rest of an event whose beginning was not kept."""
    if not data:
        return None
    try:
        return _reply.decode(data)
    except msgspec.MsgspecError:
        return None


def _counted(usage: _Usage | None) -> Usage:
    return _NOTHING if usage is None else Usage(input=usage.prompt_tokens, output=usage.completion_tokens)
