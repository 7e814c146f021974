"""Answers on their way from a provider to a client, whichever protocols the two speak: passed through, or translated.

Promise: whoever relays sees the same facts (content, finish, usage, failure), and tells the record the same deltas.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Protocol

from agent_gateway.core.call import Call, Dialect
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
from agent_gateway.core.errors import EmptyReply, MalformedReply, ProviderError
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead, Codec, StreamReader, StreamWriter, codec_of
from agent_gateway.protocols.glance import GlancingReader
from agent_gateway.protocols.openai_chat.relay import StreamRelay, WholeAnswer
from agent_gateway.wire.sse import FrameSplitter, FrameTooLarge, frame_data

#: Answers that are no conversation: nothing is streamed, nothing finishes, and they are complete if they can be read.
NO_CONVERSATION: frozenset[Dialect] = frozenset({"openai_embeddings", "anthropic_count"})
#: Text in a row is told to the record in pieces of this size (characters).
RUN_MAX_CHARS = 16 * 1024
LATEST_MAX_BYTES = 16 * 1024


class Relay(Protocol):
    """One stream on its way through: feed it what arrives, send on what it returns."""

    has_content: bool
    #: The first piece of text, where the answer begins with text.
    first_text: str | None
    #: A frame with text, as the client got it; `b""` where none was kept.
    sample: bytes
    #: What was sent on, for the record: the client's frames of OpenAI chat, or deltas.
    sent: list[bytes | Delta]
    #: Nothing more will come.
    done: bool
    #: A bad frame came behind what `feed` returned last.
    failure: ProviderError | None
    finish_reason: str | None
    usage: Usage | None

    @property
    def latest(self) -> bytes:
        """The last frame that told something, and what came after it (to `LATEST_MAX_BYTES`), as the client got them."""

    @property
    def started(self) -> Started | None:
        """How the answer began, where the client was told so in the provider's own words."""

    def feed(self, data: bytes) -> bytes:
        """Whole frames for the client. Raises `ProviderError`; after content has come it sets `failure` instead, and returns what
        came before it.
        """

    def feed_text(self, data: bytes) -> bytes | None:
        """The client's frames where a glance shows that `data` is whole frames of nothing but text; else None, and nothing was fed."""

    def finish(self) -> bytes:
        """Called at the clean end of the body: what the client still gets. Raises where the answer was not complete by then."""

    def keep(self) -> None:
        """Everything sent on is in `sent` from here on."""


class Whole(Protocol):
    """A unary answer, read once: `body` is the client's."""

    body: bytes
    finish_reason: str | None
    says_something: bool
    #: `text` is all of it.
    says_only_text: bool
    #: None where it is not (all) text.
    text: str | None
    usage: Usage | None

    @property
    def told(self) -> list[bytes | Delta]:
        """For the record."""

    def as_stream(self, call: Call) -> bytes:
        """The whole answer as the client's stream of it."""


def stream_relay(call: Call, spoken: Dialect, head: Callable[[], AnswerHead]) -> Relay:
    """`spoken` is the provider's protocol; `head` what marks the answer where it is written anew."""
    if spoken != call.dialect:
        return TranslatingRelay(codec_of(spoken).stream_reader(), codec_of(call.dialect).stream_writer(head(), call))
    if spoken == "openai_chat":
        return StreamRelay(call.model, strip_usage=not call.wants_usage)
    return (PassingRelay if call.framing == "sse" else ArrayRelay)(codec_of(spoken), call.model)


def whole_answer(body: bytes, call: Call, spoken: Dialect, head: Callable[[], AnswerHead]) -> Whole:
    """Raises `MalformedReply`, `EmptyReply`, `ProviderFault`."""
    if spoken == call.dialect == "openai_chat":
        return WholeAnswer(body, call.model)
    return ReadAnswer(body, call, spoken, head)


class _ReadingRelay(ABC):
    """What both of the following do: frames read one by one into deltas, and their facts noted."""

    #: What there is no word for reaches the client too.
    passes: ClassVar[bool]

    __slots__ = (
        "_reader",
        "_run",
        "_run_chars",
        "_splitter",
        "done",
        "failure",
        "finish_reason",
        "first_text",
        "has_content",
        "latest",
        "sample",
        "sent",
        "started",
        "usage",
    )

    def __init__(self, reader: StreamReader) -> None:
        self._reader = GlancingReader(reader)
        self._splitter = FrameSplitter()
        #: The latest deltas, where they are text of the first choice.
        self._run: list[str] = []
        self._run_chars = 0
        self.sent: list[bytes | Delta] = []
        #: How the provider began, where that passes.
        self.started: Started | None = None
        self.has_content = False
        self.first_text: str | None = None
        self.sample = b""
        self.latest = b""
        self.done = False
        self.failure: ProviderError | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None

    def feed(self, data: bytes) -> bytes:
        if self.failure is not None:
            return b""
        written = self.feed_text(data)
        if written is not None:
            return written
        try:
            whole = self._splitter.feed(data)
        except FrameTooLarge as error:
            raise MalformedReply("The model provider sent an event over the size limit.", detail=str(error)) from None
        if not whole:
            return b""
        edited: list[bytes] = []
        for frame in self._splitter.split(whole):
            try:
                edited.append(self._frame(frame))
            except ProviderError as error:
                if not self.has_content:
                    raise
                self.failure = error
                break
        return b"".join(edited)

    def feed_text(self, data: bytes) -> bytes | None:
        if self._splitter.holds_any:
            return None
        texts = self._reader.texts_of(data)
        if texts is None:
            return None
        if len(texts) == 1:
            return self._told(data, texts)
        return b"".join([self._told(frame, [text]) for frame, text in zip(self._splitter.split(data), texts, strict=True)])

    def finish(self) -> bytes:
        rest = self._splitter.end()
        last = self._frame(rest) if rest else b""
        if self._splitter.pending:
            raise MalformedReply("The model provider's stream ended inside an event.")
        if not self.done:
            self._reader.finish()
            last += self._ended()
        return last

    def keep(self) -> None:
        if self._run:
            self.sent.append(TextDelta("".join(self._run)))
            self._run = []
            self._run_chars = 0

    def _frame(self, frame: bytes) -> bytes:
        return self._told(frame, self._reader.feed(frame))

    @abstractmethod
    def _told(self, frame: bytes, deltas: list[Delta]) -> bytes:
        """What the client gets for a frame in which the provider told these."""

    def _ended(self) -> bytes:
        """What is owed to the client once the answer is complete."""
        self.done = True
        return b""

    def _note(self, deltas: list[Delta]) -> None:
        for delta in deltas:
            if type(delta) is TextDelta:
                if not delta.text:
                    continue
                if not self.has_content:
                    self.first_text = delta.text
                    self.has_content = True
                if delta.choice == 0:
                    self._run.append(delta.text)
                    self._run_chars += len(delta.text)
                    if self._run_chars > RUN_MAX_CHARS:
                        self.keep()
                    continue
            elif type(delta) is Finished:
                self.finish_reason = self.finish_reason or delta.reason
            elif type(delta) is Used:
                self.usage = delta.usage
            elif type(delta) is Started:
                if self.passes:
                    self.started = delta
                continue
            elif type(delta) is Beyond and not self.passes:
                continue
            elif says_something(delta):
                self.has_content = True
            self.keep()
            self.sent.append(delta)


class PassingRelay(_ReadingRelay):
    """Client and provider speak the same protocol: frames go through as they are, but for the model's name."""

    passes: ClassVar[bool] = True
    __slots__ = ("_codec", "_model")

    def __init__(self, codec: Codec, model: str) -> None:
        super().__init__(codec.stream_reader())
        self._codec = codec
        self._model = model

    def _told(self, frame: bytes, deltas: list[Delta]) -> bytes:
        self._note(deltas)
        self.done = self._reader.done
        passed = self._codec.renamed(frame, self._model)
        if deltas:
            self.latest = passed
        elif len(self.latest) < LATEST_MAX_BYTES:
            self.latest += passed
        return passed


class ArrayRelay(PassingRelay):
    """The same for a client that wants one JSON array of what the frames carry."""

    __slots__ = ("_begun",)

    def __init__(self, codec: Codec, model: str) -> None:
        super().__init__(codec, model)
        self._begun = False

    def _told(self, frame: bytes, deltas: list[Delta]) -> bytes:
        element = frame_data(super()._told(frame, deltas))
        if element is None:
            return b""
        before = b"\n,\r\n" if self._begun else b"["
        self._begun = True
        return before + element

    def _ended(self) -> bytes:
        return super()._ended() + b"]"


class TranslatingRelay(_ReadingRelay):
    """The provider's frames are read, and the client's written."""

    passes: ClassVar[bool] = False
    __slots__ = ("_writer",)

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        super().__init__(reader)
        self._writer = writer

    def _told(self, frame: bytes, deltas: list[Delta]) -> bytes:
        deltas = self._shown(deltas)
        written = b""
        if deltas:
            self._note(deltas)
            written = self._write(deltas)
            self.latest = written or self.latest
        if self._reader.done and not self.done:
            written += self._ended()
        return written

    def _shown(self, deltas: list[Delta]) -> list[Delta]:
        """What the client is to be told of them."""
        return deltas

    def _write(self, deltas: list[Delta]) -> bytes:
        return self._writer.write(deltas)

    def _ended(self) -> bytes:
        self.done = True
        return self._writer.end()


class ReadAnswer:
    """A unary answer of any protocol for a client of any protocol."""

    __slots__ = ("_deltas", "_head", "body", "finish_reason", "says_only_text", "says_something", "text", "usage")

    def __init__(self, body: bytes, call: Call, spoken: Dialect, head: Callable[[], AnswerHead]) -> None:
        deltas = self._deltas = codec_of(spoken).read_answer(body)
        if spoken == call.dialect:
            self.body = codec_of(spoken).renamed(body, call.model)
        else:
            deltas = self._deltas = [delta for delta in deltas if type(delta) is not Beyond]
            self.body = codec_of(call.dialect).write_answer(head(), deltas, call)
        self._head = head
        self.usage = next((delta.usage for delta in reversed(deltas) if type(delta) is Used), None)
        self.text: str | None = None
        if call.dialect in NO_CONVERSATION:
            self.finish_reason: str | None = "stop"
            self.says_something = True
            self.says_only_text = False
            return
        said = [delta for delta in deltas if says_something(delta)]
        self.finish_reason = next((delta.reason for delta in deltas if type(delta) is Finished and delta.choice == 0), None)
        if not said and self.finish_reason is None:
            raise EmptyReply("The model provider's answer holds nothing.")
        self.says_something = bool(said)
        texts = [delta.text for delta in said if type(delta) is TextDelta and delta.choice == 0]
        self.says_only_text = len(texts) == len(said)
        self.text = "".join(texts) if texts else None

    @property
    def told(self) -> list[bytes | Delta]:
        return [*self._deltas]

    def as_stream(self, call: Call) -> bytes:
        writer = codec_of(call.dialect).stream_writer(self._head(), call)
        return writer.write(self._deltas) + writer.end()


def says_something(delta: Delta) -> bool:
    """It is content of the answer, and not empty."""
    match delta:
        case TextDelta() | RefusalDelta():
            return bool(delta.text)
        case ReasoningDelta():
            return bool(delta.text or delta.redacted)
        case ToolCallStarted() | ArgumentsDelta() | Beyond():
            return True
        case _:
            return False
