"""Answers written for Gemini's clients: whole ones and streams, as server-sent events or as one JSON array.

Promise: an event is an answer of its own kind, with whole parts: a tool call is held back until all of its arguments are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, assert_never

import msgspec

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
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.fold import AnswerPart, Choice, fold
from agent_gateway.protocols.gemini.logprobs import split_tokens, write_logprobs
from agent_gateway.protocols.gemini.parts import PartWriter, arguments_object
from agent_gateway.wire import gemini as wire

_json = msgspec.json.Encoder()

_REASONS: dict[FinishReason, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
}


def write_answer(head: AnswerHead, deltas: Sequence[Delta]) -> bytes:
    answer = fold(deltas)
    return _json.encode(
        wire.Answer(
            [_candidate(choice) for choice in answer.choices],
            usage_metadata=_usage(answer.usage) if answer.usage is not None else None,
            model_version=head.model,
            response_id=head.id,
        )
    )


def _candidate(choice: Choice) -> wire.Candidate:
    writer = PartWriter()
    parts = [written for part in choice.parts for written in writer.write(part)] + writer.end()
    return wire.Candidate(
        wire.Content(parts, "model"),
        *_ending(choice.finish_reason, writer.malformed),
        index=choice.index,
        logprobs_result=write_logprobs(choice.logprobs) if choice.logprobs is not None else None,
    )


def _ending(reason: FinishReason | None, malformed: ToolUse | None) -> tuple[str | None, str | None]:
    """Why it ended, and a word on it. A call that is no JSON object cannot be told, but that there was one can."""
    if malformed is not None and reason in ("stop", "tool_calls"):
        return "MALFORMED_FUNCTION_CALL", f"Malformed function call: {malformed.name}({malformed.arguments})"
    return _REASONS[reason] if reason is not None else None, None


def _usage(usage: Usage) -> wire.UsageMetadata:
    """Of what is left out where it is 0, Gemini does the same."""
    return wire.UsageMetadata(
        prompt_token_count=usage.input,
        candidates_token_count=max(usage.output - usage.reasoning, 0),
        total_token_count=usage.total,
        cached_content_token_count=usage.cache_read or None,
        thoughts_token_count=usage.reasoning or None,
    )


# --- streams ----------------------------------------------------------------------------------------------------------


class _Growing:
    """A choice while it is written."""

    __slots__ = ("calls", "parts", "reason")

    def __init__(self) -> None:
        self.parts = PartWriter()
        #: Tool calls that are not told yet, by their index, and their arguments so far.
        self.calls: dict[int, tuple[ToolCallStarted, list[str]]] = {}
        self.reason: FinishReason | None = None

    @property
    def owes(self) -> bool:
        """Something comes before, or hangs on, what is said next."""
        return bool(self.calls) or self.parts.signature is not None

    def said(self, part: AnswerPart) -> list[wire.Part]:
        return [*self.settled(), *self.parts.write(part)]

    def settled(self, *, ended: bool = False) -> list[wire.Part]:
        """The tool calls that are complete, when something else follows; pieces of several may come mixed."""
        parts: list[wire.Part] = []
        for index, (call, pieces) in [*self.calls.items()]:
            arguments = "".join(pieces)
            if not ended and (not pieces or arguments_object(arguments) is None):
                break  # those behind it wait, for the order
            del self.calls[index]
            parts += self.parts.write(ToolUse(call.id, call.name, arguments))
        return parts


class StreamWriter:
    """Reasons and usage are told in the last event."""

    __slots__ = ("_after", "_begun", "_choices", "_framing", "_head", "_usage")

    def __init__(self, head: AnswerHead, framing: Literal["sse", "json_array"]) -> None:
        self._head = head
        self._framing = framing
        marks = wire.Answer(model_version=head.model, response_id=head.id)
        #: What stands behind the candidates in each event.
        self._after = b"}]," + _json.encode(marks)[1:]
        #: The array is open.
        self._begun = False
        self._choices: dict[int, _Growing] = {}
        self._usage: Usage | None = None

    def write(self, deltas: Iterable[Delta]) -> bytes:
        return b"".join([self._delta(delta) for delta in deltas])

    def follow(self, text: str, frames: bytes) -> None:
        self.write([Started(), TextDelta(text)])

    def end(self) -> bytes:
        candidates = []
        for index, choice in sorted(self._choices.items()):
            parts = [*choice.settled(ended=True), *choice.parts.end()] or [wire.Part(text="")]
            ending = _ending(choice.reason, choice.parts.malformed)
            candidates.append(wire.Candidate(wire.Content(parts, "model"), *ending, index=index))
        usage = _usage(self._usage) if self._usage is not None else None
        last = wire.Answer(candidates, usage_metadata=usage, model_version=self._head.model, response_id=self._head.id)
        return self._framed(_json.encode(last)) + (b"]" if self._framing == "json_array" else b"")

    def _delta(self, delta: Delta) -> bytes:
        if isinstance(delta, Started | Beyond):
            return b""
        if isinstance(delta, Used):
            self._usage = delta.usage
            return b""
        choice = self._choices.get(delta.choice)
        if choice is None:
            choice = self._choices[delta.choice] = _Growing()
        match delta:
            case TextDelta(text="", logprobs=None) | RefusalDelta(text=""):
                return b""
            case TextDelta(text=text, logprobs=None) if not choice.owes:
                return self._text(delta.choice, text)
            case TextDelta(text=text):
                return self._parts(delta.choice, choice.said(Text(text)), delta.logprobs)
            case ArgumentsDelta(index=index, arguments=arguments):
                choice.calls[index][1].append(arguments)
                return b""
            case ToolCallStarted():
                parts = choice.settled()
                choice.calls[delta.index] = (delta, [])
                return self._parts(delta.choice, parts)
            case ReasoningDelta():
                thought = Reasoning(delta.text, delta.signature, delta.redacted, delta.origin, delta.id)
                return self._parts(delta.choice, choice.said(thought))
            case RefusalDelta(text=text):
                return self._parts(delta.choice, choice.said(Refusal(text)))
            case Finished(reason=reason):
                choice.reason = reason
                return b""
        assert_never(delta)

    def _text(self, choice: int, text: str) -> bytes:
        """Nearly every event: the frame of `_parts` with one plain text, put together by hand."""
        said = b'{"candidates":[{"content":{"parts":[{"text":%b}],"role":"model"},"index":%d%b'
        return self._framed(said % (_json.encode(text), choice, self._after))

    def _parts(self, choice: int, parts: list[wire.Part], logprobs: msgspec.Raw | None = None) -> bytes:
        if not parts:
            return b""
        result = write_logprobs(split_tokens(logprobs)) if logprobs is not None else None
        candidate = wire.Candidate(wire.Content(parts, "model"), index=choice, logprobs_result=result)
        answer = wire.Answer([candidate], model_version=self._head.model, response_id=self._head.id)
        return self._framed(_json.encode(answer))

    def _framed(self, event: bytes) -> bytes:
        """JSON as it is encoded here has no line ends in it."""
        if self._framing == "sse":
            return b"data: %b\n\n" % event
        before = b"\n,\r\n" if self._begun else b"["
        self._begun = True
        return before + event
