"""A stream that broke off is carried on by another call, so that the client sees one answer: one id, one model's name, no gap.

Promise: what the client gets is the text that was sent plus what the second model adds to it; only text is ever continued.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import structs

from agent_gateway.core.call import Dialect
from agent_gateway.core.delta import Delta, Finished, Started, TextDelta, Used
from agent_gateway.core.errors import LowQuality
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead, StreamReader, StreamWriter, codec_of
from agent_gateway.protocols.estimate import estimate_input_tokens, text_tokens
from agent_gateway.protocols.openai_chat.client import usage_to_wire
from agent_gateway.protocols.relay import Relay, TranslatingRelay
from agent_gateway.protocols.transcript import read_answer
from agent_gateway.upstream.attempt import BegunStream, Running, begin_stream
from agent_gateway.upstream.hedge import LOST_RACE
from agent_gateway.upstream.quality import Facts
from agent_gateway.wire.sse import FrameSplitter, data_frame, frame_data

#: A repetition shorter than this may be chance, and stays (characters); none longer is looked for.
OVERLAP_MIN = 10
OVERLAP_MAX = 400

_json = msgspec.json.Encoder()
#: The type of the event that ends a text, in the protocols that have one: nothing can be added to the text behind it, though the answer
#: goes on.
_TEXT_ENDS: dict[Dialect, bytes] = {"anthropic": b'"content_block_stop"', "openai_responses": b'"response.output_text.done"'}
#: What a protocol puts before an answer's id.
_ID_PREFIX = re.compile(r"^(chatcmpl|cmpl|msg|resp)[-_]")


@dataclass(frozen=True, slots=True)
class Sent:
    """What the client has of an answer. `sample` is a frame of it where frames are what is carried on (OpenAI chat); `latest` are the
    frames that it got last.
    """

    text: str
    sample: bytes
    latest: bytes
    started: Started | None


def sent_text(exchange: Exchange, broken: BegunStream | Continuation) -> Sent | None:
    """None where it cannot be continued: it holds more than text, the text or all of it has ended, or too much of it was let go."""
    transcript = read_answer(exchange)
    answer = transcript.answer()
    if answer is None or not answer.content or transcript.truncated or transcript.beyond or answer.finish_reason:
        return None
    if answer.tool_calls or answer.refusal or answer.reasoning or answer.choices:
        return None
    end = _TEXT_ENDS.get(exchange.call.dialect)
    if end is not None and end in broken.latest:
        return None
    return Sent(answer.content, broken.sample, broken.latest, broken.started)


async def continued_stream(running: Running, deadline: float, sent: Sent, before: Usage) -> Continuation:
    """`before`: what the attempts that broke off have used. Raises `GatewayError`."""
    call = running.call
    if call.dialect == "openai_chat":  # whose frames say all about themselves: they are rewritten, whoever wrote them
        return RewrittenChunks(await begin_stream(running, deadline), sent, before)
    codec = codec_of(call.dialect)
    head = _head_again(running.head(), sent.started)
    writer = codec.stream_writer(head, call)
    writer.follow(sent.text, sent.latest)
    overlap = Overlap(sent.text)

    def relay_of(spoken: Dialect) -> Relay:
        return ResumedRelay(codec_of(spoken).stream_reader(), writer, overlap, before)

    return Continuation(await begin_stream(running, deadline, relay_of), sent, before)


def _head_again(head: AnswerHead, started: Started | None) -> AnswerHead:
    """Where the client saw the provider's own id, it stays that."""
    if started is None or started.id is None:
        return head
    return structs.replace(head, id=_ID_PREFIX.sub("", started.id), created=started.created or head.created)


def used_so_far(exchange: Exchange, text: str) -> Usage:
    """What the attempts of an answer that broke off have used, each told to its attempt; estimated where the provider did not say."""
    used = Usage()
    for attempt in exchange.attempts:
        if attempt.outcome in (LowQuality.code, LOST_RACE):  # nothing of it was sent
            continue
        if attempt.usage is None and attempt.first_token is not None:
            output = max(text_tokens(text) - used.output, 0)
            attempt.usage = Usage(input=estimate_input_tokens(exchange.call), output=output, estimated=True)
        if attempt.usage is not None:
            used += attempt.usage
    return used


class Overlap:
    """Takes from the beginning of a continuation what it repeats of the text before it.

    A piece is held as long as it may yet turn out to be a repetition: `feed` and `end` together return the continuation less the
    longest beginning of it, of at least `OVERLAP_MIN` characters, with which the text ends.
    """

    __slots__ = ("_held", "_settled", "_tail")

    def __init__(self, text: str) -> None:
        self._tail = text[-OVERLAP_MAX:]
        self._held = ""
        self._settled = False

    def feed(self, piece: str) -> str:
        if self._settled:
            return piece
        self._held += piece
        if self._held in self._tail:
            return ""
        return self.end()

    def end(self) -> str:
        if self._settled:
            return ""
        self._settled = True
        held, self._held = self._held, ""
        for length in range(min(len(held), len(self._tail)), OVERLAP_MIN - 1, -1):
            if self._tail.endswith(held[:length]):
                return held[length:]
        return held


class ResumedRelay(TranslatingRelay):
    """A stream that goes on in the frames of the one that broke off: without a beginning, and without what it repeats."""

    __slots__ = ("_before", "_overlap")

    def __init__(self, reader: StreamReader, writer: StreamWriter, overlap: Overlap, before: Usage) -> None:
        super().__init__(reader, writer)
        self._overlap = overlap
        self._before = before

    def _shown(self, deltas: list[Delta]) -> list[Delta]:
        shown: list[Delta] = []
        for delta in deltas:
            match delta:
                case Started():
                    pass
                case TextDelta():
                    if text := self._overlap.feed(delta.text):
                        shown.append(TextDelta(text, delta.choice))
                case Finished():
                    if held := self._overlap.end():
                        shown.append(TextDelta(held))
                    shown.append(delta)
                case _:
                    shown.append(delta)
        return shown

    def _write(self, deltas: list[Delta]) -> bytes:
        """The client is told of all that its answer has used; what this attempt has is noted apart."""
        return super()._write([Used(self._before + delta.usage) if isinstance(delta, Used) else delta for delta in deltas])


class Continuation:
    """A begun stream in the place of the one that broke off: looks like it to whoever reads on."""

    def __init__(self, begun: BegunStream, sent: Sent, before: Usage) -> None:
        self._begun = begun
        self._before = before
        self.sample = sent.sample
        self._latest_before = sent.latest
        self.started = sent.started
        self.first = begun.first

    @property
    def latest(self) -> bytes:
        return self._begun.latest or self._latest_before

    @property
    def done(self) -> bool:
        return self._begun.done

    @property
    def facts(self) -> Facts:
        facts = self._begun.facts
        return structs.replace(facts, usage=None if facts.usage is None else self._before + facts.usage)

    def keep_in(self, answer: list[bytes | Delta]) -> None:
        self._begun.keep_in(answer)

    async def next(self) -> bytes:
        return await self._begun.next()

    def close(self, error: BaseException) -> None:
        self._begun.close(error)


class RewrittenChunks(Continuation):
    """The same for OpenAI chat's frames, which are rewritten to carry the members that the ones before carried."""

    def __init__(self, begun: BegunStream, sent: Sent, before: Usage) -> None:
        super().__init__(begun, sent, before)
        frame: dict[str, Any] = msgspec.json.decode(frame_data(sent.sample) or b"{}")
        self._envelope = {name: value for name, value in frame.items() if name not in ("choices", "usage")}
        self._overlap = Overlap(sent.text)
        self._sent: list[bytes | Delta] = []
        self.first = self._rewritten(begun.first)

    def keep_in(self, answer: list[bytes | Delta]) -> None:
        answer += self._sent
        self._sent = answer

    async def next(self) -> bytes:
        while frames := await self._begun.next():
            rewritten = self._rewritten(frames)
            if rewritten:
                return rewritten
        return b""

    def _rewritten(self, frames: bytes) -> bytes:
        rewritten = b"".join([self._frame(frame) for frame in FrameSplitter.split(frames)])
        if rewritten:
            self._sent.append(rewritten)
        return rewritten

    def _frame(self, frame: bytes) -> bytes:
        data = frame_data(frame)
        if data is None:
            return frame
        if data.strip() == b"[DONE]":
            held = self._overlap.end()
            choice = {"index": 0, "delta": {"content": held}, "finish_reason": None}
            return data_frame(_json.encode({**self._envelope, "choices": [choice]})) + frame if held else frame
        chunk: dict[str, Any] = msgspec.json.decode(data)
        chunk |= self._envelope
        choices = chunk.get("choices")
        if choices and not self._says_more(choices[0]):
            return b""
        if chunk.get("usage"):
            chunk["usage"] = usage_to_wire(self._before + (self._begun.facts.usage or Usage()))
        return data_frame(_json.encode(chunk))

    def _says_more(self, choice: dict[str, Any]) -> bool:
        """Whether anything is left of a chunk's choice without its role and what it repeats."""
        delta = choice.get("delta") or {}
        delta.pop("role", None)
        said = delta.get("content")
        text = self._overlap.feed(said if isinstance(said, str) else "")
        if choice.get("finish_reason"):
            text += self._overlap.end()
        if text:
            delta["content"] = text
        else:
            delta.pop("content", None)
        choice["delta"] = delta
        return bool(choice.get("finish_reason") or any(delta.values()))
