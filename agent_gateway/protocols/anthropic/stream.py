"""Deltas written as an Anthropic client's answer: as a stream of events, or whole.

Promise: blocks come one after the other, each begun, grown and ended under its own index; the reason and the usage come last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

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
from agent_gateway.protocols.anthropic.messages import is_object, tool_input
from agent_gateway.protocols.anthropic.usage import told
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.fold import AnswerPart, fold
from agent_gateway.protocols.signature import shown_signature
from agent_gateway.wire import anthropic as wire
from agent_gateway.wire.sse import FrameSplitter, frame_data

_json = msgspec.json.Encoder()
_encode = _json.encode

_REASONS: dict[FinishReason, wire.StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
}


class _Placed(msgspec.Struct):
    index: int | None = None


_placed = msgspec.json.Decoder(_Placed)
NotText = Started | ReasoningDelta | ToolCallStarted | ArgumentsDelta | RefusalDelta | Beyond | Finished | Used
_NO_INPUT = msgspec.Raw(b"{}")
_MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


# --- whole ------------------------------------------------------------------------------------------------------------


def write_answer(head: AnswerHead, deltas: Sequence[Delta]) -> bytes:
    """Of the first choice: the protocol knows one."""
    answer = fold(deltas)
    choice = next((choice for choice in answer.choices if choice.index == 0), None)
    parts = choice.parts if choice else ()
    finished = Finished(choice.finish_reason, stop_sequence=choice.stop_sequence) if choice and choice.finish_reason else None
    stop = _stop(finished, refused=any(isinstance(part, Refusal) for part in parts))
    return _encode(
        _message(
            head,
            [block for part in parts for block in _blocks(part)],
            answer.usage or Usage(),
            stop.stop_reason,
            stop.stop_sequence,
        )
    )


def _blocks(part: AnswerPart) -> Iterable[wire.Block]:
    match part:
        case Text(text=text) | Refusal(text=text):
            yield wire.Block("text", text=text)
        case ToolUse():
            yield wire.Block("tool_use", id=part.id, name=part.name, input=tool_input(part.arguments))
        case Reasoning():
            if part.text or part.signature or part.redacted is None:
                signature = shown_signature(part.signature or "", part.origin, "anthropic")
                yield wire.Block("thinking", thinking=part.text, signature=signature)
            if part.redacted is not None:
                yield wire.Block("redacted_thinking", data=shown_signature(part.redacted, part.origin, "anthropic"))


def _message(
    head: AnswerHead,
    content: list[wire.Block],
    usage: Usage,
    stop_reason: wire.StopReason | None = None,
    stop_sequence: str | None = None,
) -> wire.WrittenAnswer:
    return wire.WrittenAnswer(
        id=f"msg_{head.id}",
        model=head.model,
        content=content,
        stop_reason=stop_reason,
        stop_sequence=stop_sequence,
        usage=told(usage),
    )


def _stop(finished: Finished | None, *, refused: bool) -> wire.StopDelta:
    """An OpenAI model that declines says so beside the text, and then stops like any other."""
    if finished is not None and finished.stop_sequence is not None:
        return wire.StopDelta("stop_sequence", finished.stop_sequence)
    return wire.StopDelta("refusal" if refused else _REASONS[finished.reason if finished else "stop"])


# --- as a stream ------------------------------------------------------------------------------------------------------


class StreamWriter:
    """An answer's events, as frames. Of several choices it tells the first: the protocol knows one."""

    __slots__ = ("_block", "_finished", "_head", "_held", "_index", "_origin", "_pieces", "_refused", "_started", "_tools", "_usage")

    def __init__(self, head: AnswerHead) -> None:
        self._head = head
        self._started = False
        self._usage = Usage()
        self._finished: Finished | None = None
        self._refused = False
        #: Of the latest block; the type of the open one.
        self._index = -1
        self._block: str | None = None
        #: Who thought what the open block tells, while nobody has signed it.
        self._origin: Dialect | None = None
        #: Index of the block of each tool call that is told.
        self._tools: dict[int, int] = {}
        #: Arguments of the latest of them, so far.
        self._pieces: list[str] = []
        #: Calls that have begun before the arguments of the one that is told were whole, with their own: some providers mix them.
        self._held: dict[int, tuple[ToolCallStarted, list[str]]] = {}

    def write(self, deltas: Iterable[Delta]) -> bytes:
        frames: list[bytes] = []
        for delta in deltas:
            if not self._started and not isinstance(delta, Used):
                self._start(frames)
            if not isinstance(delta, TextDelta):
                self._rarer(delta, frames)
            elif delta.text and delta.choice == 0:
                self._text(delta.text, frames)
        return b"".join(frames)

    def follow(self, text: str, frames: bytes) -> None:
        """Other blocks, of thoughts that were not shown, may stand before the text's."""
        self.write([Started(), TextDelta(text)])
        for frame in FrameSplitter.split(frames):
            index = _placed.decode(frame_data(frame) or b"{}").index
            self._index = self._index if index is None else index

    def end(self) -> bytes:
        frames: list[bytes] = []
        if not self._started:
            self._start(frames)
        for call, pieces in self._held.values():
            self._call(call, pieces, frames)
        self._close(frames)
        stop = _stop(self._finished, refused=self._refused)
        frames.append(_frame(b"message_delta", wire.MessageDelta(stop, told(self._usage))))
        frames.append(_MESSAGE_STOP)
        return b"".join(frames)

    def _rarer(self, delta: NotText, frames: list[bytes]) -> None:
        if isinstance(delta, Used):
            self._usage = delta.usage
        elif isinstance(delta, Started | Beyond) or delta.choice != 0:
            return
        elif isinstance(delta, ArgumentsDelta):
            if delta.arguments:
                self._argue(delta.index, delta.arguments, frames)
        elif isinstance(delta, ToolCallStarted):
            if self._block == "tool_use" and not self._is_whole():
                self._held[delta.index] = (delta, [])
            else:
                self._call(delta, [], frames)
        elif isinstance(delta, ReasoningDelta):
            self._thought(delta, frames)
        elif isinstance(delta, RefusalDelta):
            if delta.text:
                self._refused = True
                self._text(delta.text, frames)
        else:
            self._finished = delta

    def _start(self, frames: list[bytes]) -> None:
        """What went in is mostly not known yet: the end tells it."""
        self._started = True
        frames.append(_frame(b"message_start", wire.MessageStart(_message(self._head, [], self._usage))))

    def _text(self, text: str, frames: list[bytes]) -> None:
        if self._block != "text":
            self._open(wire.Block("text", text=""), frames)
        frames.append(_grown(self._index, b"text_delta", b"text", text))

    def _call(self, call: ToolCallStarted, pieces: list[str], frames: list[bytes]) -> None:
        self._open(wire.Block("tool_use", id=call.id, name=call.name, input=_NO_INPUT), frames)
        self._tools[call.index] = self._index
        self._pieces = pieces
        if pieces:
            frames.append(_grown(self._index, b"input_json_delta", b"partial_json", "".join(pieces)))

    def _argue(self, index: int, arguments: str, frames: list[bytes]) -> None:
        """Clients take a block for whole when it stops, so no other may begin before."""
        if index in self._held:
            self._held[index][1].append(arguments)
            return
        frames.append(_grown(self._tools[index], b"input_json_delta", b"partial_json", arguments))
        self._pieces.append(arguments)
        while self._held and self._is_whole():
            call, pieces = self._held.pop(next(iter(self._held)))
            self._call(call, pieces, frames)

    def _is_whole(self) -> bool:
        return bool(self._pieces) and is_object("".join(self._pieces))

    def _thought(self, delta: ReasoningDelta, frames: list[bytes]) -> None:
        """A signature ends its thought; so does a thought of another origin."""
        if delta.text or delta.redacted is None:
            if self._block != "thinking" or (delta.origin is not None and delta.origin != self._origin):
                self._open(wire.Block("thinking", thinking="", signature=""), frames)
                self._origin = delta.origin
            if delta.text:
                frames.append(_grown(self._index, b"thinking_delta", b"thinking", delta.text))
            if delta.signature is not None:
                shown = shown_signature(delta.signature, delta.origin, "anthropic")
                frames.append(_grown(self._index, b"signature_delta", b"signature", shown))
                self._origin = None
                self._close(frames)
        if delta.redacted is not None:
            data = shown_signature(delta.redacted, delta.origin, "anthropic")
            self._open(wire.Block("redacted_thinking", data=data), frames)
            self._close(frames)

    def _open(self, block: wire.Block, frames: list[bytes]) -> None:
        self._close(frames)
        self._index += 1
        self._block = block.type
        frames.append(_frame(b"content_block_start", wire.ContentBlockStart(self._index, block)))

    def _close(self, frames: list[bytes]) -> None:
        """An unsigned thought of another protocol's says at least whose it is, so that it can go back there."""
        if self._block is None:
            return
        if self._block == "thinking" and self._origin not in (None, "anthropic"):
            frames.append(_grown(self._index, b"signature_delta", b"signature", shown_signature("", self._origin, "anthropic")))
        self._origin = None
        self._block = None
        frames.append(_frame(b"content_block_stop", wire.ContentBlockStop(self._index)))


def _grown(index: int, kind: bytes, member: bytes, text: str) -> bytes:
    """`content_block_delta`, nearly every event of a stream."""
    return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":%b}}\n\n' % (
        index,
        kind,
        member,
        _encode(text),
    )


def _frame(event: bytes, data: msgspec.Struct) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event, _encode(data))
