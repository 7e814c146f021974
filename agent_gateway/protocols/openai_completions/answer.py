"""Answers of the legacy completions, read into deltas and written from them.

Promise: an answer's words reach the client, a refusal's too; thoughts and tool calls have no place here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from agent_gateway.core.conversation import Refusal, Text
from agent_gateway.core.delta import Delta, Finished, FinishReason, RefusalDelta, Started, TextDelta, Used
from agent_gateway.core.errors import EmptyReply, MalformedReply
from agent_gateway.core.usage import Usage
from agent_gateway.protocols import fold
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.openai_chat.client import usage_to_wire
from agent_gateway.protocols.openai_chat.relay import error_in_body
from agent_gateway.protocols.openai_completions import logprobs
from agent_gateway.protocols.usage import ToldUsage
from agent_gateway.wire import openai_chat
from agent_gateway.wire import openai_completions as wire
from agent_gateway.wire.sse import DONE, data_frame

ID_PREFIX = "cmpl-"
_READ_REASONS: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}
_WRITTEN_REASONS: dict[FinishReason, str] = {"length": "length", "content_filter": "content_filter"}
_json = msgspec.json.Encoder()


# --- reading ----------------------------------------------------------------------------------------------------------


class _Reply(Struct, gc=False):
    id: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[wire.Choice] | None = None
    system_fingerprint: str | None = None
    usage: ToldUsage | None = None
    error: object = None


_reply = msgspec.json.Decoder(_Reply)


def read_answer(body: bytes) -> list[Delta]:
    """Raises `MalformedReply`, `EmptyReply`, `ProviderFault`."""
    answer = CompletionAnswer()
    deltas = answer.read(body)
    if not answer.has_begun:
        raise EmptyReply("The model provider's answer holds no choices.")
    return [*deltas, *answer.ended()]


class CompletionAnswer:
    """What is known of an answer while it is read (`openai_chat.stream.Answer`)."""

    text_member: ClassVar[bytes] = b"text"
    __slots__ = ("_ended",)

    def __init__(self) -> None:
        #: Whether a choice that has begun has ended, by its index.
        self._ended: dict[int, bool] = {}

    @property
    def has_begun(self) -> bool:
        return bool(self._ended)

    @property
    def has_ended(self) -> bool:
        return bool(self._ended) and all(self._ended.values())

    def read(self, data: bytes) -> list[Delta]:
        try:
            reply = _reply.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            detail = f"{error}: {data[:200]!r}"
            raise MalformedReply("The model provider sent what is not JSON of its protocol.", detail=detail) from None
        if reply.error is not None:
            raise error_in_body(reply.error)
        deltas: list[Delta] = []
        for choice in reply.choices or ():
            if not self._ended:
                deltas.append(Started(reply.id, reply.model, reply.created, reply.system_fingerprint))
            if self._ended.setdefault(choice.index, False):
                continue
            if choice.text or choice.logprobs is not None:
                tokens = None if choice.logprobs is None else logprobs.from_wire(choice.logprobs)
                deltas.append(TextDelta(choice.text, choice.index, tokens))
            if choice.finish_reason:
                deltas.append(self._finished(choice.index, _READ_REASONS.get(choice.finish_reason, "stop")))
        if reply.usage is not None:
            deltas.append(Used(reply.usage.counted()))
        return deltas

    def ended(self) -> list[Delta]:
        return [self._finished(index, "stop") for index, ended in self._ended.items() if not ended]

    def _finished(self, index: int, reason: FinishReason) -> Finished:
        self._ended[index] = True
        return Finished(reason, index)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_answer(head: AnswerHead, deltas: Sequence[Delta]) -> bytes:
    answer = fold.fold(deltas)
    usage = None if answer.usage is None else usage_to_wire(answer.usage)
    return _json.encode(_completion(head, [_choice(choice) for choice in answer.choices], usage))


def _choice(choice: fold.Choice) -> wire.Choice:
    text = "".join([part.text for part in choice.parts if isinstance(part, Text | Refusal)])
    tokens = None if choice.logprobs is None else logprobs.to_wire(msgspec.Raw(_json.encode(choice.logprobs)), 0)
    return wire.Choice(choice.index, text, tokens, choice.finish_reason and _WRITTEN_REASONS.get(choice.finish_reason, "stop"))


class StreamWriter:
    """See `protocols.base`."""

    __slots__ = ("_head", "_lengths", "_unasked", "_used")

    def __init__(self, head: AnswerHead, *, with_usage: bool) -> None:
        self._head = head
        #: What stands as usage in chunks that tell none.
        self._unasked: UnsetType | None = None if with_usage else UNSET
        self._used: Usage | None = None
        #: Characters of each choice's text so far.
        self._lengths: dict[int, int] = {}

    def write(self, deltas: Iterable[Delta]) -> bytes:
        frames = []
        for delta in deltas:
            match delta:
                case TextDelta(text=text, choice=index, logprobs=content):
                    offset = self._lengths.get(index, 0)
                    self._lengths[index] = offset + len(text)
                    tokens = None if content is None else logprobs.to_wire(content, offset)
                    frames.append(self._chunk([wire.Choice(index, text, tokens)], self._unasked))
                case RefusalDelta(text=text, choice=index):
                    frames.append(self._chunk([wire.Choice(index, text)], self._unasked))
                case Finished(reason=reason, choice=index):
                    last = wire.Choice(index, finish_reason=_WRITTEN_REASONS.get(reason, "stop"))
                    frames.append(self._chunk([last], self._unasked))
                case Used(usage=usage):
                    self._used = usage
                case _:
                    pass  # see the module's promise
        return b"".join(frames)

    def follow(self, text: str, frames: bytes) -> None:
        self.write([Started(), TextDelta(text)])

    def end(self) -> bytes:
        if self._unasked is UNSET or self._used is None:
            return DONE
        return self._chunk([], usage_to_wire(self._used)) + DONE

    def _chunk(self, choices: list[wire.Choice], usage: openai_chat.Usage | UnsetType | None) -> bytes:
        return data_frame(_json.encode(_completion(self._head, choices, usage)))


def _completion(head: AnswerHead, choices: list[wire.Choice], usage: openai_chat.Usage | UnsetType | None) -> wire.Completion:
    return wire.Completion(
        id=ID_PREFIX + head.id,
        created=head.created,
        model=head.model,
        choices=choices,
        system_fingerprint=head.fingerprint,
        usage=usage,
    )
