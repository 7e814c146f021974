"""Streams of events that are nothing but data and end with `[DONE]`: OpenAI's chat and completions.

Promise: however the bytes arrive split, the same deltas come out.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from agent_gateway.core.delta import Delta
from agent_gateway.core.errors import EmptyReply, MalformedReply, ProviderError
from agent_gateway.protocols.openai_chat.relay import data_of
from agent_gateway.wire.sse import FrameSplitter, FrameTooLarge


class Answer(Protocol):
    """What a protocol makes of the events' data."""

    text_member: ClassVar[bytes]

    @property
    def has_begun(self) -> bool: ...

    @property
    def has_ended(self) -> bool:
        """Every choice has told why."""

    def read(self, data: bytes) -> list[Delta]:
        """Raises `MalformedReply`, and `ProviderFault` for an error."""

    def ended(self) -> list[Delta]:
        """Called at `[DONE]`, for what providers leave out."""


class StreamReader:
    """See `protocols.base`."""

    __slots__ = ("_answer", "_failure", "_splitter", "done", "text_member")

    def __init__(self, answer: Answer) -> None:
        self.done = False
        self.text_member = answer.text_member
        self._splitter = FrameSplitter()
        self._answer = answer
        self._failure: ProviderError | None = None

    def feed(self, data: bytes) -> list[Delta]:
        if self._failure is not None:
            raise self._failure
        try:
            whole = self._splitter.feed(data)
        except FrameTooLarge as error:
            raise MalformedReply("The model provider sent an event over the size limit.", detail=str(error)) from None
        deltas: list[Delta] = []
        for frame in FrameSplitter.split(whole) if whole else ():
            try:
                deltas += self._read(frame)
            except ProviderError as error:
                if not deltas:
                    raise
                self._failure = error
                break
        return deltas

    def finish(self) -> None:
        if self._failure is not None:
            raise self._failure
        if not (self.done or self._answer.has_ended):
            if not self._answer.has_begun:
                raise EmptyReply("The model provider's stream ended without an answer.")
            raise MalformedReply("The model provider's stream ended before its answer did.")
        if self._splitter.pending.strip():
            raise MalformedReply("The model provider's stream ended inside an event.")

    def _read(self, frame: bytes) -> list[Delta]:
        data = data_of(frame)
        if data is None or self.done:
            return []
        if data.strip() == b"[DONE]":
            self.done = True
            return self._answer.ended()
        return self._answer.read(data)
