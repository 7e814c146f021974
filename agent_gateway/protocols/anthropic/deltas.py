"""An Anthropic provider's answer, streamed or whole, read into deltas."""

from __future__ import annotations

import re
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
from agent_gateway.core.errors import EmptyReply, MalformedReply, ProviderError
from agent_gateway.protocols.anthropic.errors import error_inside
from agent_gateway.protocols.anthropic.usage import counted, updated
from agent_gateway.wire import anthropic as wire
from agent_gateway.wire.sse import FrameSplitter, FrameTooLarge, frame_data

_answer = msgspec.json.Decoder(wire.Answer)
_event = msgspec.json.Decoder(wire.Event)
#: One line of data behind the event's name: no need to look for more.
_USUAL_FRAME = re.compile(rb"(?:event:[^\r\n]*+\n)?data:([^\r\n]*+)\n\n")
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

#: A reason that is not among them ends an answer like any other (`pause_turn`: a tool of Anthropic's took too long).
_REASONS: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
}


def read_answer(body: bytes) -> list[Delta]:
    """Of a whole answer. Raises `MalformedReply`, `EmptyReply`, or the failure that it tells."""
    try:
        answer = _answer.decode(body)
    except _UNREADABLE as error:
        raise MalformedReply("The model provider's answer is not valid JSON of its protocol.", detail=str(error)) from None
    if answer.type == "error" or answer.error is not None:
        raise error_inside(answer.error, body)
    if answer.content is None:
        raise EmptyReply("The model provider's answer holds no content.")
    deltas: list[Delta] = [Started(answer.id, answer.model)]
    blocks = _Blocks()
    for index, block in enumerate(answer.content):
        deltas += blocks.started(index, block)
        deltas += blocks.stopped(index)
    if answer.usage is not None:
        deltas.append(Used(counted(answer.usage)))
    if answer.stop_reason is not None:
        deltas.append(_finished(answer.stop_reason, answer.stop_sequence))
    return deltas


class StreamReader:
    """Fed with bytes however they come. Usage is told at the start, for an answer that is cut, and complete at the end."""

    text_member: ClassVar[bytes] = b"text"
    __slots__ = ("_blocks", "_failure", "_finished", "_splitter", "_started", "_usage", "done")

    def __init__(self) -> None:
        self.done = False
        self._splitter = FrameSplitter()
        self._blocks = _Blocks()
        self._usage = wire.Usage()
        self._started = False
        self._finished = False
        #: Of a frame that came behind good ones: the next call raises it.
        self._failure: ProviderError | None = None

    def feed(self, data: bytes) -> list[Delta]:
        if self._failure is not None:
            raise self._failure
        try:
            whole = self._splitter.feed(data)
        except FrameTooLarge as error:
            raise MalformedReply("The model provider sent an event over the size limit.", detail=str(error)) from None
        deltas: list[Delta] = []
        for frame in self._splitter.split(whole) if whole else ():
            try:
                self._read(frame, deltas)
            except ProviderError as error:
                if not deltas:
                    raise
                self._failure = error
                break
        return deltas

    def finish(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._splitter.pending:
            raise MalformedReply("The model provider's stream ended inside an event.")
        if not (self.done or self._finished):
            if not self._started:
                raise EmptyReply("The model provider's stream ended without an answer.")
            raise MalformedReply("The model provider's stream ended before its answer did.")

    def _read(self, frame: bytes, deltas: list[Delta]) -> None:
        """Kinds of events that are not known are passed over, as Anthropic asks of its clients."""
        data = _data_of(frame)
        if data is None or self.done:
            return
        try:
            event = _event.decode(data)
        except _UNREADABLE as error:
            detail = f"{error}: {data[:200]!r}"
            raise MalformedReply("The model provider sent an event that is not JSON of its protocol.", detail=detail) from None
        match event.type:
            case "content_block_delta":
                if event.delta is not None:
                    self._blocks.grown(event.index, event.delta, deltas)
            case "content_block_start":
                if event.content_block is not None:
                    deltas += self._blocks.started(event.index, event.content_block)
            case "content_block_stop":
                deltas += self._blocks.stopped(event.index)
            case "message_start":
                message = event.message or wire.Answer()
                self._started = True
                deltas.append(Started(message.id, message.model))
                self._note_usage(message.usage, deltas)
            case "message_delta":
                self._note_usage(event.usage, deltas)
                if event.delta is not None and event.delta.stop_reason is not None and not self._finished:
                    self._finished = True
                    deltas.append(_finished(event.delta.stop_reason, event.delta.stop_sequence))
            case "message_stop":
                self.done = True
            case "error":
                raise error_inside(event.error, data)

    def _note_usage(self, usage: wire.Usage | None, deltas: list[Delta]) -> None:
        if usage is not None:
            self._usage = updated(self._usage, usage)
            deltas.append(Used(counted(self._usage)))


class _Blocks:
    """Blocks of content as they begin, grow and end; of those of other kinds it is told that there was one."""

    __slots__ = ("_tools",)

    def __init__(self) -> None:
        #: By the block's index: the tool call's own, and whether its arguments have been told.
        self._tools: dict[int, tuple[int, bool]] = {}

    def started(self, index: int, block: wire.Block) -> list[Delta]:
        match block.type:
            case "text":
                return [TextDelta(block.text)] if block.text else []
            case "thinking":
                begun_thought = bool(block.thinking or block.signature)
                return [ReasoningDelta(block.thinking or "", block.signature or None, origin="anthropic")] if begun_thought else []
            case "redacted_thinking":
                return [ReasoningDelta(redacted=block.data, origin="anthropic")]
            case "tool_use":
                call = len(self._tools)
                arguments = bytes(block.input)
                told = arguments not in (b"", b"{}", b"null")
                self._tools[index] = call, told
                begun = ToolCallStarted(call, block.id or "", block.name or "")
                return [begun, ArgumentsDelta(call, arguments.decode())] if told else [begun]
        return [Beyond()]

    def grown(self, index: int, delta: wire.Delta, deltas: list[Delta]) -> None:
        match delta.type:
            case "text_delta":
                if delta.text:
                    deltas.append(TextDelta(delta.text))
            case "input_json_delta":
                if delta.partial_json and index in self._tools:
                    call = self._tools[index][0]
                    self._tools[index] = call, True
                    deltas.append(ArgumentsDelta(call, delta.partial_json))
            case "thinking_delta":
                if delta.thinking:
                    deltas.append(ReasoningDelta(delta.thinking, origin="anthropic"))
            case "signature_delta":
                if delta.signature:
                    deltas.append(ReasoningDelta(signature=delta.signature, origin="anthropic"))

    def stopped(self, index: int) -> list[Delta]:
        """A tool that takes nothing is called without a word on its arguments."""
        call, told = self._tools.get(index, (0, True))
        return [] if told else [ArgumentsDelta(call, "{}")]


def _data_of(frame: bytes) -> bytes | None:
    usual = _USUAL_FRAME.fullmatch(frame)
    return usual[1] if usual else frame_data(frame)


def _finished(reason: str, stop_sequence: str | None) -> Finished:
    return Finished(_REASONS.get(reason, "stop"), stop_sequence=stop_sequence)
