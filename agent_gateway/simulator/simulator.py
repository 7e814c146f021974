"""One request's bytes in, the reply's bytes and their times out; everything a real provider does but the network."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Literal

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import ClientError
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import Codec, codec_of
from agent_gateway.protocols.openai_completions.request import by_prompt
from agent_gateway.simulator import embeddings
from agent_gateway.simulator.faults import (
    OUTAGE,
    Cut,
    Empty,
    ErrorInStream,
    Fail,
    Fault,
    Garbage,
    Hang,
    Slow,
    drawn_fault,
    is_out,
    steered_fault,
    steered_model,
)
from agent_gateway.simulator.manners import Headers, Manners, manners_of
from agent_gateway.simulator.model import write_script
from agent_gateway.simulator.prompt import read_prompt
from agent_gateway.simulator.rules import check, check_stateless
from agent_gateway.simulator.script import Prompt, together
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.simulator.telling import Frame, Telling
from agent_gateway.wire.sse import data_frame

_JSON = ("content-type", "application/json")
_STREAM_HEADERS: dict[str, Headers] = {
    "sse": (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")),
    "json_array": (_JSON,),
}

Ending = Literal["complete", "cut", "silence"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it will come: headers `opens_at_s` after the request, then `frames` at their times, then its `ending`."""

    status: int
    headers: Headers
    opens_at_s: float
    frames: Iterator[Frame]
    ending: Ending = "complete"
    #: Of a unary body, what the headers promise (bytes); None: a stream.
    body_bytes: int | None = None
    #: Whom and what the provider bills for it. No model: the request was none; no usage: it is no answer.
    model: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request on its way to its reply."""

    call: Call
    codec: Codec
    manners: Manners
    #: The answer's and the request's; the protocol puts its own prefix before it.
    id: str
    now: float
    fault: Fault | None

    @property
    def late_s(self) -> float:
        return self.fault.ms / 1000 if isinstance(self.fault, Slow) else 0.0

    @property
    def model(self) -> str:
        """Its own name, without what steers."""
        return steered_model(self.call.model)[0]

    def headers(self, wait_s: float | None = None) -> Headers:
        return self.manners.headers(self.id, self.now, wait_s)

    def prompts(self) -> list[Prompt]:
        """One, but of completions. Raises `BadRequest`."""
        check_stateless(self.call)
        calls = by_prompt(self.call) if self.call.dialect == "openai_completions" else [self.call]
        return [self._prompt(call) for call in calls]

    def _prompt(self, call: Call) -> Prompt:
        conversation = self.codec.read_conversation(call)
        check(conversation, call.dialect)
        return replace(read_prompt(conversation, call.dialect), model=self.model)


class Simulator:
    """A simulated provider. Faults, waits and ids come from one seeded sequence; what is said, from the prompt."""

    def __init__(self, settings: SimulatorSettings, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = random.Random(settings.seed)
        self._began = clock.monotonic()

    def reply(self, dialect: Dialect, body: bytes, steering: str = "", path: str = "") -> Reply:
        """`steering` is the caller's key: it, or the model's suffix, may name a fault (see `faults`).

        `path` is the request's, with its query: Gemini says there which model, and how.
        """
        codec = codec_of(dialect)
        drawn = drawn_fault(self._settings, self._chance)
        if is_out(self._settings, self._clock.monotonic() - self._began):
            drawn = OUTAGE
        answer_id = f"{self._chance.getrandbits(116):029x}"
        try:
            call = codec.read_call(body, {}, path)
            fault = steered_fault(steering) or steered_model(call.model)[1] or drawn
            asked = _Asked(call, codec, manners_of(dialect), answer_id, self._clock.wall(), fault)
            if isinstance(asked.fault, Fail):
                return self._failure(asked, asked.fault.status)
            if dialect == "openai_embeddings":
                body, usage = embeddings.answer(call)
                return self._whole(asked, body, self._starts_at_s(asked), usage)
            prompts = asked.prompts()
            if dialect == "anthropic_count":
                return self._whole(asked, _count(prompts[0]), self._starts_at_s(asked), Usage())
            telling = self._telling(asked, prompts)
        except ClientError as error:
            return _unary(error.status, codec.write_error(error, answer_id), 0)
        if call.stream:
            return self._stream(asked, telling)
        return self._whole(asked, telling.whole(), telling.script.ends_at_s, telling.script.usage)

    def _starts_at_s(self, asked: _Asked) -> float:
        """Of an answer that is no text."""
        return self._settings.ttft_ms / 1000 + asked.late_s

    def _telling(self, asked: _Asked, prompts: list[Prompt]) -> Telling:
        mute = isinstance(asked.fault, Empty)
        scripts = [write_script(prompt, self._settings, self._chance, late_s=asked.late_s, mute=mute) for prompt in prompts]
        return Telling(together(scripts), asked.codec, asked.call, asked.id, int(asked.now))

    def _failure(self, asked: _Asked, status: int) -> Reply:
        wait_s = self._settings.retry_after_s
        body = asked.manners.error(status, asked.id, wait_s)
        return _unary(status, body, 0, headers=asked.headers(wait_s if status == 429 else None), model=asked.model)

    def _stream(self, asked: _Asked, telling: Telling) -> Reply:
        starts_at_s = telling.script.starts_at_s
        frames = telling.frames()
        ending: Ending = "complete"
        match asked.fault:
            case Hang(after_frames=None):
                starts_at_s, ending = math.inf, "silence"
            case Hang(after_frames=int(after)):
                frames, ending = islice(frames, after), "silence"
            case Cut(after_frames=None):
                frames, ending = telling.broken_off(self._chance.randrange(len(telling.script.steps))), "cut"
            case Cut(after_frames=int(after)):
                frames, ending = islice(frames, after), "cut"
            case Garbage():
                frames = iter([Frame(starts_at_s, _garbled(next(frames).data) + data_frame(b"\xff\xfe not json"))])
            case ErrorInStream(after_frames=after):
                frames = _ended_by_error(asked, islice(frames, after), starts_at_s)
            case _:
                pass
        headers = (*_STREAM_HEADERS[asked.call.framing], *asked.headers())
        return Reply(200, headers, starts_at_s, frames, ending, model=asked.model, usage=telling.script.usage)

    def _whole(self, asked: _Asked, body: bytes, at_s: float, usage: Usage) -> Reply:
        unary = partial(_unary, 200, headers=asked.headers(), model=asked.model, usage=usage)
        match asked.fault:
            case Hang(after_frames=None):
                return unary(b"", math.inf, ending="silence")
            case Hang():
                return unary(body, at_s, ending="silence")
            case Cut():
                return unary(body, at_s, ending="cut")
            case Garbage():
                return unary(_garbled(body), at_s)
            case ErrorInStream():
                return unary(asked.manners.error(500, asked.id, 0), at_s, usage=None)
            case _:
                return unary(body, at_s)


def _unary(
    status: int,
    body: bytes,
    at_s: float,
    *,
    headers: Headers = (),
    ending: Ending = "complete",
    model: str = "",
    usage: Usage | None = None,
) -> Reply:
    """A body in one piece; half of it when the ending is not complete."""
    sent = body if ending == "complete" else body[: len(body) // 2]
    frames = iter([Frame(at_s, sent)])
    return Reply(status, (_JSON, *headers), at_s, frames, ending, body_bytes=len(body), model=model, usage=usage)


def _count(prompt: Prompt) -> bytes:
    """What Anthropic's count_tokens answers with: no conversation's answer, so no codec's `write_answer` makes it."""
    from agent_gateway.protocols.anthropic_count.codec import AnthropicCount

    return AnthropicCount().counted(prompt.input_tokens)


def _garbled(data: bytes) -> bytes:
    """Good JSON no longer; an event is still an event."""
    end = b"\n\n" if data.endswith(b"\n\n") else b""
    return data[: len(data) * 2 // 3] + end


def _ended_by_error(asked: _Asked, frames: Iterator[Frame], at_s: float) -> Iterator[Frame]:
    count = 0
    for frame in frames:
        at_s = frame.at_s
        count += 1
        yield frame
    yield Frame(at_s, asked.manners.error_frame(asked.call, count))
