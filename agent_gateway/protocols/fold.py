"""Deltas folded into the whole answer that they are pieces of: for codecs that write it at once, and for the record.

Promise: however an answer was cut into deltas, the fold is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.call import Dialect
from agent_gateway.core.conversation import Reasoning, Refusal, Text, ToolUse
from agent_gateway.core.delta import (
    ArgumentsDelta,
    Beyond,
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.usage import Usage

AnswerPart = Text | Reasoning | ToolUse | Refusal

_tokens = msgspec.json.Decoder(list[Raw])


class Choice(Struct, frozen=True):
    index: int
    #: In the order in which they began. Pieces of one kind that follow each other are one part, but for thoughts: a signature ends one.
    parts: tuple[AnswerPart, ...] = ()
    #: None: the answer broke off.
    finish_reason: FinishReason | None = None
    stop_sequence: str | None = None
    #: One object a token, as OpenAI lists them in `logprobs.content`; None: there were none.
    logprobs: tuple[Raw, ...] | None = None

    @property
    def text(self) -> str:
        """All that it says; without thoughts and refusals."""
        return "".join([part.text for part in self.parts if isinstance(part, Text)])

    @property
    def tool_uses(self) -> list[ToolUse]:
        return [part for part in self.parts if isinstance(part, ToolUse)]


class Answer(Struct, frozen=True):
    #: By index.
    choices: tuple[Choice, ...]
    started: Started | None = None
    usage: Usage | None = None


def fold(deltas: Iterable[Delta]) -> Answer:
    """A choice exists when anything that there is a word for, its end included, was said of it."""
    growing: dict[int, _Growing] = {}
    started: Started | None = None
    usage: Usage | None = None
    for delta in deltas:
        if isinstance(delta, Started):
            started = started or delta
        elif isinstance(delta, Used):
            usage = delta.usage
        elif isinstance(delta, Beyond):
            continue
        else:
            choice = growing.get(delta.choice)
            if choice is None:
                choice = growing[delta.choice] = _Growing()
            choice.add(delta)
    return Answer(tuple([growing[index].settled(index) for index in sorted(growing)]), started, usage)


class _Pieces:
    """A part while it grows."""

    __slots__ = ("id", "kind", "name", "origin", "redacted", "signature", "texts")

    def __init__(self, kind: type[AnswerPart]) -> None:
        self.kind = kind
        self.texts: list[str] = []
        self.id: str | None = None
        self.name = ""
        self.origin: Dialect | None = None
        self.signature: str | None = None
        self.redacted: str | None = None

    def settled(self) -> AnswerPart:
        text = "".join(self.texts)
        if self.kind is ToolUse:
            return ToolUse(self.id or "", self.name, text)
        if self.kind is Reasoning:
            return Reasoning(text, self.signature, self.redacted, self.origin, self.id)
        return Refusal(text) if self.kind is Refusal else Text(text)


class _Growing:
    """A choice while it grows."""

    __slots__ = ("finished", "logprobs", "parts", "tool_uses")

    def __init__(self) -> None:
        self.parts: list[_Pieces] = []
        self.tool_uses: dict[int, _Pieces] = {}
        self.logprobs: list[Raw] | None = None
        self.finished: Finished | None = None

    def add(self, delta: TextDelta | ReasoningDelta | ToolCallStarted | ArgumentsDelta | RefusalDelta | Finished) -> None:
        match delta:
            case TextDelta(text=text, logprobs=logprobs):
                if text:
                    self._open(Text).texts.append(text)
                if logprobs is not None:
                    self.logprobs = [*(self.logprobs or ()), *_tokens.decode(logprobs)]
            case ArgumentsDelta(index=index, arguments=arguments):
                self.tool_uses[index].texts.append(arguments)
            case ReasoningDelta():
                self._add_reasoning(delta)
            case ToolCallStarted(index=index, id=call_id, name=name):
                use = self.tool_uses[index] = self._begin(ToolUse)
                use.id, use.name = call_id, name
            case RefusalDelta(text=text):
                if text:
                    self._open(Refusal).texts.append(text)
            case Finished():
                self.finished = delta
            case _:
                assert_never(delta)

    def settled(self, index: int) -> Choice:
        finished = self.finished
        return Choice(
            index,
            tuple([part.settled() for part in self.parts]),
            finished.reason if finished else None,
            finished.stop_sequence if finished else None,
            None if self.logprobs is None else tuple(self.logprobs),
        )

    def _add_reasoning(self, delta: ReasoningDelta) -> None:
        last = self.parts[-1] if self.parts else None
        if last is None or not _goes_on(last, delta):
            last = self._begin(Reasoning)
        last.texts.append(delta.text)
        last.signature = delta.signature
        last.redacted = delta.redacted
        last.origin = last.origin or delta.origin
        last.id = last.id or delta.id

    def _open(self, kind: type[AnswerPart]) -> _Pieces:
        """The last part, where it is of this kind, or a new one."""
        if self.parts and self.parts[-1].kind is kind:
            return self.parts[-1]
        return self._begin(kind)

    def _begin(self, kind: type[AnswerPart]) -> _Pieces:
        part = _Pieces(kind)
        self.parts.append(part)
        return part


def _goes_on(last: _Pieces, delta: ReasoningDelta) -> bool:
    """Whether a piece belongs to the thought before it: that one is not ended yet, and it is not another's."""
    return (
        last.kind is Reasoning
        and last.signature is None
        and last.redacted is None
        and (delta.redacted is None or not any(last.texts))
        and (last.id is None or delta.id is None or last.id == delta.id)
        and (last.origin is None or delta.origin is None or last.origin == delta.origin)
    )
