"""A stream that broke off is carried on by another call, so that the client sees one answer: one id, one model's name, no gap.

Promise: what the client gets is the text that was sent plus what the second model adds to it; only text is ever continued.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw, structs

from agent_gateway.core.call import Call
from agent_gateway.core.errors import LowQuality
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Deployment
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.estimate import estimate_input_tokens, text_tokens
from agent_gateway.protocols.openai_chat.client import usage_to_wire
from agent_gateway.protocols.transcript import read_answer
from agent_gateway.upstream.attempt import BegunStream
from agent_gateway.upstream.hedge import LOST_RACE
from agent_gateway.upstream.quality import Facts
from agent_gateway.wire.sse import FrameSplitter, data_frame, frame_data

#: A repetition shorter than this may be chance, and stays (characters); none longer is looked for.
OVERLAP_MIN = 10
OVERLAP_MAX = 400

_members = msgspec.json.Decoder(dict[str, Raw])
_json = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Sent:
    """What the client has of an answer. `sample` is a frame of it, `envelope` the members that all of them carry."""

    text: str
    sample: bytes
    envelope: dict[str, Any]


def sent_text(exchange: Exchange, sample: bytes) -> Sent | None:
    """None where it cannot be continued: it holds more than text, it has ended, or too much of it was let go."""
    transcript = read_answer(exchange)
    answer = transcript.answer()
    if answer is None or not answer.content or transcript.truncated or answer.finish_reason:
        return None
    if answer.tool_calls or answer.refusal or answer.reasoning or answer.choices:
        return None
    frame: dict[str, Any] = msgspec.json.decode(frame_data(sample) or b"{}")
    envelope = {name: value for name, value in frame.items() if name not in ("choices", "usage")}
    return Sent(answer.content, sample, envelope)


def continuation_call(call: Call, text: str, deployment: Deployment) -> Call:
    """The call with the answer so far as the assistant's turn to complete, told in the deployment's way."""
    members = _members.decode(call.body)
    turn: dict[str, Any] = {"role": "assistant", "content": text}
    if deployment.prefill == "prefix":
        turn["prefix"] = True
    if deployment.prefill == "continue_final_message":
        members["continue_final_message"] = Raw(b"true")
        members["add_generation_prompt"] = Raw(b"false")
    members["messages"] = Raw(_json.encode([*msgspec.json.decode(members["messages"], type=list[Raw]), turn]))
    for name in ("max_tokens", "max_completion_tokens"):
        if name in members and call.max_output_tokens is not None:
            members[name] = Raw(b"%d" % max(call.max_output_tokens - text_tokens(text), 1))
    return structs.replace(call, body=_json.encode(members))


def used_so_far(exchange: Exchange, text: str) -> Usage:
    """What the attempts of an answer that broke off have used, each told to its attempt; estimated where the provider did not say."""
    used = Usage()
    for attempt in exchange.attempts:
        if attempt.outcome in (LowQuality.code, LOST_RACE):  # nothing of it was sent
            continue
        if attempt.usage is None and attempt.first_token is not None:
            output = max(text_tokens(text) - used.output, 0)
            attempt.usage = Usage(input=estimate_input_tokens(exchange.call.body), output=output, estimated=True)
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


class Continuation:
    """A begun stream in the place of the one that broke off: looks like it to whoever reads on."""

    __slots__ = ("_before", "_begun", "_envelope", "_overlap", "_sent", "first", "sample")

    def __init__(self, begun: BegunStream, sent: Sent, before: Usage) -> None:
        """`before`: what the attempts that broke off have used."""
        self._begun = begun
        self._before = before
        self._envelope = sent.envelope
        self._overlap = Overlap(sent.text)
        self._sent: list[bytes] = []
        self.sample = sent.sample
        self.first = self._rewritten(begun.first)

    def keep_in(self, answer: list[bytes]) -> None:
        answer += self._sent
        self._sent = answer

    @property
    def done(self) -> bool:
        return self._begun.done

    @property
    def facts(self) -> Facts:
        facts = self._begun.facts
        return structs.replace(facts, usage=None if facts.usage is None else self._before + facts.usage)

    async def next(self) -> bytes:
        while frames := await self._begun.next():
            rewritten = self._rewritten(frames)
            if rewritten:
                return rewritten
        return b""

    def close(self, error: BaseException) -> None:
        self._begun.close(error)

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
