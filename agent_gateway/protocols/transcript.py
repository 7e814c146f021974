"""An answer's content out of what was sent of it: OpenAI chat's bytes (SSE frames or one JSON body), or deltas, become text, tool calls
and a finish reason.

Promise: any bytes are read without an error, in memory bounded by `CONTENT_MAX_CHARS`; what is not the protocol is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from agent_gateway.core.delta import (
    ArgumentsDelta,
    Beyond,
    Delta,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.usage import ToldUsage
from agent_gateway.wire.sse import FrameSplitter, frame_data

#: Content kept of one answer (characters, over all its choices); the rest is counted, not kept.
CONTENT_MAX_CHARS = 1024 * 1024
#: Answer bytes that are not compacted yet, of one exchange, at which `compact` is worth calling.
COMPACT_BYTES = 16 * 1024
#: Frames of a stream that are joined before they are read: fewer are read as quickly one by one (bytes).
JOIN_BYTES = 1024
#: Choices of an answer, and tool calls of a choice, that are kept.
PARTS_MAX = 128

#: Whose text comes in pieces, the likeliest first.
_TEXT_MEMBERS = (b'"content":"', b'"reasoning_content":"', b'"arguments":"', b'"text":"')
#: The rest of a JSON string, without its end.
_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*')
_PADDING = b'"obfuscation":"'
_PADDED = re.compile(rb',"obfuscation":"[^"\\]*"')
_BREAKS = (b"\n\n", b"\r\n\r\n")


# --- as the record tells it -------------------------------------------------------------------------------------------


class ToolCall(Struct, omit_defaults=True, gc=False):
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Content(Struct, omit_defaults=True, gc=False):
    """One choice of an answer."""

    content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    finish_reason: str | None = None


class Answer(Content, omit_defaults=True, gc=False):
    """The first choice; `choices` are the further ones."""

    choices: list[Content] | None = None
    #: The error that the answer carried instead of, or after, its content.
    error: Raw | UnsetType = UNSET
    #: A JSON body of another shape, as it was sent.
    body: Raw | UnsetType = UNSET
    truncated: bool = False
    #: Bytes that are not of the protocol.
    unread_bytes: int = 0


# --- as the wire tells it ---------------------------------------------------------------------------------------------


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Message(Struct, gc=False):
    """A message or a delta."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct, gc=False):
    index: int = 0
    delta: _Message | None = None
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


_NULL = Raw(b"null")


class _Reply(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Raw = _NULL
    error: Raw = _NULL


class _PlainMessage(Struct, gc=False):
    """What it may hold besides is there and empty, or this is no plain message."""

    content: str
    reasoning_content: Literal[""] | None = None
    reasoning: Literal[""] | None = None
    refusal: Literal[""] | None = None
    tool_calls: Annotated[list[_ToolCall], Meta(max_length=0)] | None = None


class _PlainChoice(Struct, gc=False):
    message: _PlainMessage
    index: int = 0
    finish_reason: str | None = None


class _PlainReply(Struct, gc=False):
    choices: list[_PlainChoice]
    error: None = None


_reply = msgspec.json.Decoder(_Reply)
_plain = msgspec.json.Decoder(_PlainReply)
_usage = msgspec.json.Decoder(ToldUsage)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


# --- reading ----------------------------------------------------------------------------------------------------------


class _Part:
    """One choice while it grows. Texts are lists of pieces."""

    __slots__ = ("content", "finish_reason", "reasoning", "refusal", "tool_calls")

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tool_calls: dict[int, tuple[list[str], ToolCall]] = {}
        self.finish_reason: str | None = None

    def texts(self) -> tuple[list[str], ...]:
        return (self.content, self.reasoning, self.refusal, *(pieces for pieces, _ in self.tool_calls.values()))

    def fill(self, content: Content) -> None:
        content.content = "".join(self.content) or None
        content.reasoning = "".join(self.reasoning) or None
        content.refusal = "".join(self.refusal) or None
        if self.tool_calls:
            for pieces, call in self.tool_calls.values():
                call.arguments = "".join(pieces)
            content.tool_calls = [call for _, call in self.tool_calls.values()]
        content.finish_reason = self.finish_reason


class Transcript:
    """What has been read of one answer. `chars` counts all that was said, kept or not."""

    __slots__ = ("_body", "_error", "_kept_max", "_parts", "_told_usage", "_usage", "beyond", "chars", "truncated", "unread_bytes")

    def __init__(self, kept_max_chars: int = CONTENT_MAX_CHARS) -> None:
        self.chars = 0
        self.truncated = False
        #: It holds content that is not kept here, for want of a word.
        self.beyond = False
        self.unread_bytes = 0
        self._kept_max = kept_max_chars
        self._parts: dict[int, _Part] = {}
        self._usage: Raw | None = None
        self._told_usage: Usage | None = None
        self._error: Raw | None = None
        self._body: Raw | None = None

    @property
    def finish_reason(self) -> str | None:
        first = self._parts.get(0)
        return first.finish_reason if first else None

    @property
    def usage(self) -> Usage | None:
        """What the answer itself said of its tokens."""
        if self._usage is None:
            return self._told_usage
        try:
            return _usage.decode(self._usage).counted()
        except _UNREADABLE:
            return None

    def read(self, data: bytes) -> None:
        """All of `data`: whole frames, perhaps a torn last one, or one JSON body."""
        if not data:
            return
        if data.startswith((b"{", b" ", b"\n", b"\r", b"\t")) and data.lstrip().startswith(b"{"):
            self._read_body(data)
        elif not self._read_plain(data):
            for frame in FrameSplitter.split(data):
                payload = frame_data(frame)
                if payload is None:
                    self.unread_bytes += 0 if _is_silent(frame) else len(frame)
                elif payload.strip() != b"[DONE]":
                    self._read_reply(payload)

    def read_deltas(self, deltas: Iterable[Delta]) -> None:
        for delta in deltas:
            if type(delta) is TextDelta and delta.choice in self._parts:  # nearly every one: spare it the calls
                text = delta.text
                if self.chars + len(text) <= self._kept_max:
                    if text:
                        self.chars += len(text)
                        self._parts[delta.choice].content.append(text)
                    continue
            if isinstance(delta, Used):
                self._told_usage = delta.usage
            elif isinstance(delta, Beyond):
                self.beyond = True
            elif not isinstance(delta, Started):
                part = self._parts.get(delta.choice) or self._new_part(delta.choice)
                if part is not None:
                    self._note_delta(part, delta)

    def answer(self) -> Answer | None:
        """None when there was nothing to read."""
        if not (self._parts or self.unread_bytes or self.truncated or self._error or self._body):
            return None
        answer = Answer(truncated=self.truncated, unread_bytes=self.unread_bytes)
        if self._error is not None:
            answer.error = self._error
        if self._body is not None:
            answer.body = self._body
        for index, part in sorted(self._parts.items()):
            if index == 0:
                part.fill(answer)
            else:
                further = Content()
                part.fill(further)
                answer.choices = [*(answer.choices or ()), further]
        return answer

    def texts(self) -> Iterator[str]:
        """All that is kept, in pieces."""
        for part in self._parts.values():
            for pieces in part.texts():
                yield from pieces

    def squeeze(self) -> None:
        """Many small strings become one of each kind."""
        for part in self._parts.values():
            for pieces in part.texts():
                if len(pieces) > 1:
                    pieces[:] = ("".join(pieces),)

    # --- frames and bodies

    def _read_plain(self, data: bytes) -> bool:
        """The usual stream in one go: every frame one `data: ` line. False when it is anything else (nothing was read then).

        A raw newline cannot stand inside JSON, so the replacement touches frame starts only.
        """
        if not data.startswith(b"data: {"):
            return False
        joined = _joined(data) if len(data) > JOIN_BYTES else data
        try:
            replies = _replies(joined)
        except _UNREADABLE:
            if joined is data:
                return False
            try:
                replies = _replies(data)
            except _UNREADABLE:
                return False
        for reply in replies:
            self._note(reply)
        return True

    def _read_reply(self, payload: bytes) -> _Reply | None:
        try:
            reply = _reply.decode(payload)
        except _UNREADABLE:
            self.unread_bytes += len(payload)
            return None
        self._note(reply)
        return reply

    def _read_body(self, body: bytes) -> None:
        reply = self._read_reply(body)
        if reply is not None and reply.choices is None and reply.error == _NULL:
            if len(body) <= self._kept_max:
                self._body = Raw(body)
            else:
                self.truncated = True

    # --- growing

    def _note(self, reply: _Reply) -> None:
        if reply.usage is not _NULL and reply.usage != _NULL:
            self._usage = reply.usage.copy()
        if reply.error is not _NULL and reply.error != _NULL:
            self._error = reply.error.copy()
        for choice in reply.choices or ():
            part = self._parts.get(choice.index) or self._new_part(choice.index)
            if part is None:
                continue
            said = choice.delta or choice.message
            if said is not None:
                text = said.content
                if type(text) is str and self.chars + len(text) <= self._kept_max:  # nearly every delta: spare it the call
                    if text:
                        self.chars += len(text)
                        part.content.append(text)
                elif text:
                    self._keep(part.content, _text(text))
                if said.reasoning_content or said.reasoning:
                    self._keep(part.reasoning, said.reasoning_content or _text(said.reasoning))
                if said.refusal:
                    self._keep(part.refusal, said.refusal)
                if said.tool_calls:
                    self._note_tools(part, said.tool_calls)
            elif choice.text:
                self._keep(part.content, choice.text)
            if choice.finish_reason:
                part.finish_reason = choice.finish_reason

    def _new_part(self, index: int) -> _Part | None:
        if len(self._parts) >= PARTS_MAX:
            self.truncated = True
            return None
        part = self._parts[index] = _Part()
        return part

    def _note_tools(self, part: _Part, calls: Iterable[_ToolCall]) -> None:
        for place, told in enumerate(calls):
            arguments = None if told.function is None else told.function.arguments
            name = None if told.function is None else told.function.name
            self._note_tool(part, place if told.index is None else told.index, told.id, name, arguments or "")

    def _note_tool(self, part: _Part, index: int, call_id: str | None, name: str | None, arguments: str) -> None:
        kept = part.tool_calls.get(index)
        if kept is None:
            if len(part.tool_calls) >= PARTS_MAX:
                self.truncated = True
                return
            kept = part.tool_calls[index] = ([], ToolCall())
        pieces, call = kept
        call.id = call.id or call_id
        call.name = call.name or name
        self._keep(pieces, arguments)

    def _note_delta(
        self,
        part: _Part,
        delta: TextDelta | ReasoningDelta | RefusalDelta | ToolCallStarted | ArgumentsDelta | Finished,
    ) -> None:
        match delta:
            case TextDelta():
                self._keep(part.content, delta.text)
            case ReasoningDelta():
                self._keep(part.reasoning, delta.text)
            case RefusalDelta():
                self._keep(part.refusal, delta.text)
            case ToolCallStarted():
                self._note_tool(part, delta.index, delta.id, delta.name, "")
            case ArgumentsDelta():
                self._note_tool(part, delta.index, None, None, delta.arguments)
            case Finished():
                part.finish_reason = delta.reason

    def _keep(self, pieces: list[str], text: str) -> None:
        if not text:
            return
        room = self._kept_max - self.chars
        self.chars += len(text)
        if len(text) > room:
            self.truncated = True
            text = text[: max(room, 0)]
        if text:
            pieces.append(text)


def _replies(frames: bytes) -> list[_Reply]:
    return _reply.decode_lines(frames[6:].removesuffix(b"data: [DONE]\n\n").replace(b"\ndata: ", b"\n"))


def _joined(frames: bytes) -> bytes:
    """Frames that differ in their text alone as one; those before and behind them as they are. All of them, where it is otherwise.

    A frame's end is told by its line breaks, which cannot stand inside JSON: so it is never taken for a part of a text.
    """
    start = frames.rfind(b"data: {", 0, len(frames) // 2)
    for member in _TEXT_MEMBERS:
        begin = frames.find(member, start)
        if begin >= 0:
            text = _TEXT.match(frames, begin + len(member))
            end = -1 if text is None else frames.find(b"\n\n", text.end())
            if text is None or end < 0 or frames.find(b"\n", start, end) >= 0:
                break
            before, after = frames[start : begin + len(member)], frames[text.end() : end + 2]
            if _PADDING in after:  # of any length: OpenAI hides by it how long the texts are
                frames, after = _PADDED.sub(b"", frames), _PADDED.sub(b"", after)
            first, *same, last = frames.split(after)
            texts = [frame.removeprefix(before) for frame in same]
            if len(texts) < 2 or sum(map(len, same)) - sum(map(len, texts)) != len(before) * len(texts):
                break
            return b"".join((first, after, before, *texts, after, last))
    return frames


def compact(exchange: Exchange) -> None:
    """Reads what a stream has sent so far, so that it need not be kept, but for a frame that is not whole.

    For the pipeline, between two events, when `answer_bytes - compacted_bytes` is over `COMPACT_BYTES`.
    """
    transcript = _transcript(exchange)
    rest = b""
    for of_bytes, sent in _kinds(exchange.answer):
        if not of_bytes:
            transcript.read_deltas(sent)  # type: ignore[arg-type]
            continue
        data = b"".join(sent)  # type: ignore[arg-type]
        end = max(data.rfind(mark) + len(mark) if mark in data else 0 for mark in _BREAKS)
        if data.startswith(b"{"):
            end = 0  # a body, read at its end
        transcript.read(data[:end])
        rest = data[end:]
    transcript.squeeze()
    exchange.answer[:] = [rest] if rest else []
    exchange.compacted_bytes = exchange.answer_bytes


def read_answer(exchange: Exchange) -> Transcript:
    """The whole answer, what was compacted before included. Leaves nothing unread."""
    transcript = _transcript(exchange)
    answer = exchange.answer
    if answer:
        for of_bytes, sent in _kinds(answer):
            if of_bytes:
                transcript.read(sent[0] if len(sent) == 1 else b"".join(sent))  # type: ignore[arg-type]
            else:
                transcript.read_deltas(sent)  # type: ignore[arg-type]
        answer.clear()  # the same list: a stream that still runs goes on appending to it
        exchange.compacted_bytes = exchange.answer_bytes
    return transcript


def _kinds(answer: list[bytes | Delta]) -> list[tuple[bool, Sequence[bytes | Delta]]]:
    """Runs of bytes and runs of deltas, told apart; nearly always there is one."""
    types = set(map(type, answer))
    if bytes not in types or len(types) == 1:
        return [(bytes in types, answer)]
    return [(of_bytes, list(sent)) for of_bytes, sent in groupby(answer, key=lambda sent: type(sent) is bytes)]


def take_answer(exchange: Exchange) -> Answer | None:
    """What is recorded of the answer; None when there was none."""
    if isinstance(exchange.transcript, Answer):
        return exchange.transcript
    if exchange.transcript is None and len(exchange.answer) == 1 and (answer := _plain_answer(exchange.answer[0])) is not None:
        exchange.answer.clear()
        exchange.compacted_bytes = exchange.answer_bytes
        exchange.transcript = answer
        return answer
    return read_answer(exchange).answer()


def _plain_answer(body: bytes | Delta) -> Answer | None:
    """The usual whole answer, one choice that is one text; None when it is anything else."""
    if type(body) is not bytes or not body.startswith(b"{"):
        return None
    try:
        (choice,) = _plain.decode(body).choices
    except (*_UNREADABLE, ValueError):
        return None
    text = choice.message.content
    if choice.index != 0 or len(text) > CONTENT_MAX_CHARS:
        return None
    return Answer(content=text or None, finish_reason=choice.finish_reason or None)


def _transcript(exchange: Exchange) -> Transcript:
    transcript = exchange.transcript
    if not isinstance(transcript, Transcript):
        transcript = exchange.transcript = Transcript()
    return transcript


def _is_silent(frame: bytes) -> bool:
    """A comment, a field without data or an empty frame: of the protocol, but nothing is said by it."""
    return frame.lstrip().startswith((b":", b"event:", b"id:", b"retry:")) or not frame.strip()


def _text(value: Any) -> str:
    """Text in any of the shapes that providers give it: a string, or a list of parts with a `text`."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        texts = [part.get("text") for part in value if isinstance(part, dict)]
        return "".join([text for text in texts if isinstance(text, str)])
    return ""
