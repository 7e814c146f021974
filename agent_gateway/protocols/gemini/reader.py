"""Gemini's answers read: whole ones and streams, as server-sent events or as one JSON array.

Promise: however the bytes arrive split, the same deltas come out, and an answer that broke off is never taken for a whole one.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from agent_gateway.core.delta import (
    ArgumentsDelta,
    Beyond,
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.errors import EmptyReply, MalformedReply, ProviderError, ProviderFault
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.gemini.array import ArraySplitter
from agent_gateway.protocols.gemini.errors import error_inside
from agent_gateway.protocols.gemini.logprobs import read_logprobs
from agent_gateway.protocols.gemini.parts import read_thought
from agent_gateway.wire import gemini as wire
from agent_gateway.wire.sse import FrameSplitter, FrameTooLarge, frame_data

_answer = msgspec.json.Decoder(wire.Answer)
_WHITESPACE = b" \t\r\n"

#: What is not here is taken for the end of an answer.
_REASONS: dict[str, FinishReason] = {
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
    "PUP_LIMITED_DISABLED": "content_filter",
}
#: The model failed to say what it meant to; another try may do better.
_FAULTS = {
    "MALFORMED_FUNCTION_CALL",
    "MALFORMED_RESPONSE",
    "MISSING_THOUGHT_SIGNATURE",
    "TOO_MANY_TOOL_CALLS",
    "UNEXPECTED_TOOL_CALL",
}


def read_answer(body: bytes) -> list[Delta]:
    reading = _Reading()
    deltas = reading.read(body)
    reading.finish()
    return deltas


class StreamReader:
    """`done` only for the end of an array: server-sent events have no end mark."""

    text_member: ClassVar[bytes] = b"text"
    __slots__ = ("_array", "_begun", "_failure", "_frames", "_reading")

    def __init__(self) -> None:
        self._reading = _Reading()
        self._frames = FrameSplitter()
        #: None: the stream is of server-sent events, or nothing has come yet.
        self._array: ArraySplitter | None = None
        self._begun = False
        #: A bad event came behind what `feed` returned last.
        self._failure: ProviderError | None = None

    @property
    def done(self) -> bool:
        return self._array is not None and self._array.done

    def feed(self, data: bytes) -> list[Delta]:
        if self._failure is not None:
            raise self._failure
        if not self._begun:
            data = data.lstrip(_WHITESPACE)
            self._begun = bool(data)
            if data.startswith(b"["):
                self._array = ArraySplitter()
        deltas: list[Delta] = []
        try:
            for event in self._events(data):
                deltas += self._reading.read(event)
        except ProviderError as error:
            if not deltas:
                raise
            self._failure = error
        return deltas

    def finish(self) -> None:
        if self._failure is not None:
            raise self._failure
        deltas: list[Delta] = []
        rest = self._frames.end() or self._frames.pending
        if rest.lstrip().startswith(b"{"):
            # Google tells an error in the midst of a stream as bare JSON, and nothing after it.
            deltas = self._reading.read(rest)
        if deltas or self._frames.holds_any or not (self._array is None or self._array.done):
            raise MalformedReply("The model provider's stream ended inside an event.")
        self._reading.finish()

    def _events(self, data: bytes) -> list[bytes]:
        try:
            if self._array is not None:
                return self._array.feed(data)
            whole = self._frames.feed(data)
        except FrameTooLarge as error:
            raise MalformedReply("The model provider sent an event over the size limit.", detail=str(error)) from None
        events = [_data_of(frame) for frame in self._frames.split(whole)] if whole else []
        return [event for event in events if event is not None]


def _data_of(frame: bytes) -> bytes | None:
    """What an event carries; the usual frame, one line that begins with `data:`, is not split, and bare JSON is one too."""
    if frame.startswith(b"data:"):
        data = frame[5:].strip(_WHITESPACE)
        if b"\n" not in data and b"\r" not in data:
            return data
    return frame if frame.lstrip(_WHITESPACE).startswith(b"{") else frame_data(frame)


class _Reading:
    """One answer while it is read, event by event."""

    __slots__ = ("_calls", "_finished", "_id", "_said_something", "_started")

    def __init__(self) -> None:
        self._started = False
        self._id = ""
        self._said_something = False
        #: Tool calls so far, of each choice that has been seen.
        self._calls: dict[int, int] = {}
        self._finished: set[int] = set()

    def read(self, data: bytes) -> list[Delta]:
        """Of one event, or of a whole answer."""
        try:
            answer = _answer.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            detail = f"{error}: {data[:200]!r}"
            raise MalformedReply("The model provider sent what is not JSON of its protocol.", detail=detail) from None
        if answer.error is not None:
            raise error_inside(answer.error, data)
        deltas: list[Delta] = []
        if not self._started:
            self._started = True
            self._id = answer.response_id or ""
            deltas.append(Started(answer.response_id, answer.model_version))
        for candidate in answer.candidates or ():
            self._read_candidate(candidate, deltas)
        feedback = answer.prompt_feedback
        if feedback is not None and feedback.block_reason and not self._calls:
            self._calls[0] = 0
            self._finish(0, "content_filter", deltas)
        if answer.usage_metadata is not None:
            deltas.append(Used(_counted(answer.usage_metadata)))
        return deltas

    def finish(self) -> None:
        """The answer is complete when each choice of it has ended."""
        if self._calls and self._finished.issuperset(self._calls):
            return
        if not self._said_something:
            raise EmptyReply("The model provider's answer holds nothing.")
        raise MalformedReply("The model provider's answer ended before it was complete.")

    def _read_candidate(self, candidate: wire.Candidate, deltas: list[Delta]) -> None:
        choice = candidate.index or 0
        self._calls.setdefault(choice, 0)
        told = candidate.content.parts if candidate.content is not None else None
        result = candidate.logprobs_result
        logprobs = read_logprobs(result) if result is not None else None
        for part in told if isinstance(told, list) else [told] if told else ():
            if part.thought or part.thought_signature:
                self._said_something = True
                deltas.append(_thought(part, choice))
            if part.text and not part.thought:
                self._said_something = True
                deltas.append(TextDelta(part.text, choice, logprobs))
                logprobs = None
            elif part.function_call is not None:
                self._said_something = True
                self._read_call(part.function_call, choice, deltas)
            elif part.holds_more:
                self._said_something = True
                deltas.append(Beyond(choice))
        reason = candidate.finish_reason
        if reason in _FAULTS:
            said = f"Of the model provider: {candidate.finish_message}"
            raise ProviderFault("The model broke off its answer.", detail=f"{reason}. {said}"[:500])
        if reason and reason != "FINISH_REASON_UNSPECIFIED":
            self._finish(choice, _REASONS.get(reason, "tool_calls" if self._calls[choice] else "stop"), deltas)

    def _read_call(self, call: wire.FunctionCall, choice: int, deltas: list[Delta]) -> None:
        """Where the model gives no id, one is made of the answer's own, so that no two in a conversation are the same."""
        index = self._calls[choice]
        self._calls[choice] += 1
        place = f"{choice}_{index}" if choice else str(index)
        deltas.append(ToolCallStarted(index, call.id or f"call_{self._id}_{place}", call.name, choice))
        arguments = b"{}" if call.args == wire.NULL else msgspec.json.format(bytes(call.args), indent=-1)
        deltas.append(ArgumentsDelta(index, arguments.decode(), choice))

    def _finish(self, choice: int, reason: FinishReason, deltas: list[Delta]) -> None:
        """Once: some models say it in every event from the first on."""
        if choice not in self._finished:
            self._finished.add(choice)
            deltas.append(Finished(reason, choice))


def _thought(part: wire.Part, choice: int) -> ReasoningDelta:
    text = part.text or "" if part.thought else ""
    if part.thought_signature is None:
        return ReasoningDelta(text, origin="gemini", choice=choice)
    thought = read_thought(text, part.thought_signature)
    return ReasoningDelta(text, thought.signature, thought.redacted, thought.origin, choice, thought.id)


def _counted(told: wire.UsageMetadata) -> Usage:
    reasoning = told.thoughts_token_count or 0
    return Usage(
        input=(told.prompt_token_count or 0) + (told.tool_use_prompt_token_count or 0),
        output=(told.candidates_token_count or 0) + reasoning,
        cache_read=told.cached_content_token_count or 0,
        reasoning=reasoning,
    )
