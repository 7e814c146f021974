"""Deltas written as a client's chat answer, streamed or whole.

Promise: thoughts come with what their provider needs to take them back (see `reasoning`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

from msgspec import UNSET, Raw

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
from agent_gateway.protocols import fold
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.openai_chat import client
from agent_gateway.protocols.openai_chat.reasoning import shown_detail
from agent_gateway.wire import openai_chat as wire
from agent_gateway.wire.sse import DONE

ID_PREFIX = "chatcmpl-"


def written_reason(reason: FinishReason, *, has_refused: bool) -> str:
    """A refusal in words ends with `stop`; one without words has no other name here than a filter's."""
    if reason == "refusal":
        return "stop" if has_refused else "content_filter"
    return reason


# --- a stream ---------------------------------------------------------------------------------------------------------


class _Choice:
    """A choice that has been begun."""

    __slots__ = ("has_refused", "held", "thoughts")

    def __init__(self) -> None:
        self.has_refused = False
        #: Thoughts that have ended.
        self.thoughts = 0
        #: The signature of the last one, until it shows whether a tool call follows it.
        self.held: ReasoningDelta | None = None


class StreamWriter:
    """See `protocols.base`."""

    __slots__ = ("_choices", "_chunks", "_usage", "_with_usage")

    def __init__(self, head: AnswerHead, *, with_usage: bool) -> None:
        self._chunks = client.StreamWriter(
            ID_PREFIX + head.id, head.created, head.model, fingerprint=head.fingerprint, with_usage=with_usage
        )
        self._with_usage = with_usage
        self._usage: Usage | None = None
        self._choices: dict[int, _Choice] = {}

    def write(self, deltas: Iterable[Delta]) -> bytes:
        frames: list[bytes] = []
        for delta in deltas:
            if isinstance(delta, Used):
                self._usage = delta.usage
            elif not isinstance(delta, (Started, Beyond)):
                choice = self._choices.get(delta.choice)
                if choice is None:
                    choice = self._choices[delta.choice] = _Choice()
                    frames.append(self._chunks.role(delta.choice, says_text=isinstance(delta, TextDelta)))
                if choice.held is not None:
                    follows = delta.id if isinstance(delta, ToolCallStarted) else None
                    frames.append(self._signature(choice, choice.held, follows))
                self._write(choice, delta, frames)
        return b"".join(frames)

    def follow(self, text: str, frames: bytes) -> None:
        self.write([Started(), TextDelta(text)])

    def end(self) -> bytes:
        frames = [self._signature(choice, choice.held, None) for choice in self._choices.values() if choice.held is not None]
        if self._with_usage and self._usage is not None:
            frames.append(self._chunks.usage(self._usage))
        return b"".join([*frames, DONE])

    def _write(
        self,
        choice: _Choice,
        delta: TextDelta | ReasoningDelta | ToolCallStarted | ArgumentsDelta | RefusalDelta | Finished,
        frames: list[bytes],
    ) -> None:
        chunks = self._chunks
        match delta:
            case TextDelta(text=text, choice=index, logprobs=logprobs):
                if logprobs is not None:
                    frames.append(chunks.delta(index, wire.Delta(content=text), wire.Logprobs(logprobs)))
                elif text:
                    frames.append(chunks.text(index, text))
            case ArgumentsDelta(index=call, arguments=arguments, choice=index):
                frames.append(chunks.tool_arguments(index, call, arguments))
            case ReasoningDelta():
                self._write_thought(choice, delta, frames)
            case ToolCallStarted(index=call, id=call_id, name=name, choice=index):
                frames.append(chunks.tool_call(index, call, call_id, name))
            case RefusalDelta(text=text, choice=index):
                choice.has_refused = True
                frames.append(chunks.delta(index, wire.Delta(refusal=text)))
            case Finished(reason=reason, choice=index):
                frames.append(chunks.finish(index, written_reason(reason, has_refused=choice.has_refused)))
            case _:
                assert_never(delta)

    def _write_thought(self, choice: _Choice, delta: ReasoningDelta, frames: list[bytes]) -> None:
        if delta.text:
            piece = ReasoningDelta(delta.text, origin=delta.origin)
            details = [shown_detail(piece, choice.thoughts)]
            frames.append(self._chunks.delta(delta.choice, wire.Delta(reasoning_content=delta.text, reasoning_details=details)))
        if delta.signature is not None or delta.redacted is not None:
            choice.held = delta

    def _signature(self, choice: _Choice, held: ReasoningDelta, tool_call_id: str | None) -> bytes:
        """Ends a thought."""
        ending = ReasoningDelta("", held.signature, held.redacted, held.origin, held.choice, held.id)
        detail = shown_detail(ending, choice.thoughts, tool_call_id)
        choice.thoughts += 1
        choice.held = None
        return self._chunks.delta(held.choice, wire.Delta(reasoning_details=[detail]))


# --- a whole answer ---------------------------------------------------------------------------------------------------


def write_answer(head: AnswerHead, deltas: Sequence[Delta]) -> bytes:
    answer = fold.fold(deltas)
    return client.write_answer(
        wire.Answer(
            id=ID_PREFIX + head.id,
            created=head.created,
            model=head.model,
            choices=[_choice(choice) for choice in answer.choices],
            usage=None if answer.usage is None else client.usage_to_wire(answer.usage),
            system_fingerprint=head.fingerprint,
        )
    )


def _choice(choice: fold.Choice) -> wire.Choice:
    message = wire.AnswerMessage()
    thoughts: list[str] = []
    details: list[wire.ReasoningDetail] = []
    calls: list[wire.ToolCall] = []
    for index, part in enumerate(choice.parts):
        match part:
            case Text(text=text):
                message.content = text if message.content is None else message.content + text
            case Refusal(text=text):
                message.refusal = text if message.refusal is None else message.refusal + text
            case ToolUse(id=call_id, name=name, arguments=arguments):
                calls.append(wire.ToolCall(id=call_id, function=wire.CalledFunction(name, arguments)))
            case Reasoning():
                thoughts.append(part.text)
                follows = choice.parts[index + 1] if index + 1 < len(choice.parts) else None
                is_signed = part.signature is not None or part.redacted is not None
                tool_call_id = follows.id if is_signed and isinstance(follows, ToolUse) else None
                details.append(shown_detail(part, len(details), tool_call_id))
            case _:
                assert_never(part)
    message.tool_calls = calls or UNSET
    message.reasoning_content = "".join(thoughts) or UNSET
    message.reasoning_details = details or UNSET
    if message.content is None and message.refusal is None and not calls:
        message.content = ""
    tokens = choice.logprobs
    return wire.Choice(
        index=choice.index,
        message=message,
        logprobs=None if tokens is None else wire.Logprobs(Raw(b"[%b]" % b",".join([bytes(token) for token in tokens]))),
        finish_reason=choice.finish_reason and written_reason(choice.finish_reason, has_refused=message.refusal is not None),
    )
