"""A provider's chat answers read into deltas, streamed or whole, whichever of this protocol's many providers sent them.

Promise: however the bytes arrive split, the same deltas come out; each choice ends with one `Finished`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.delta import (
    ArgumentsDelta,
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
from agent_gateway.core.errors import EmptyReply, MalformedReply, ProviderFault
from agent_gateway.protocols.openai_chat.reasoning import told_thought
from agent_gateway.protocols.openai_chat.relay import error_in_body
from agent_gateway.protocols.usage import ToldUsage
from agent_gateway.wire import openai_chat as wire
from agent_gateway.wire.openai_chat import NOTHING

#: Providers' words for the end of an answer; any other is a plain `stop`.
_REASONS: dict[str, FinishReason] = {
    "length": "length",
    "model_length": "length",  # Mistral: the context window is full
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
#: With these the answer did not end but break off (OpenRouter and Mistral; DeepSeek; vLLM).
_BROKEN_OFF = frozenset({"error", "insufficient_system_resource", "abort"})


# --- as the wire tells it ---------------------------------------------------------------------------------------------


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Piece(Struct, gc=False):
    """Of a `content` that is a list (Mistral): `text`, or `thinking`, which holds a list of pieces itself."""

    type: str | None = None
    text: str | None = None
    thinking: list[_Piece] | None = None


class _Said(Struct, gc=False):
    """A message or a delta."""

    content: str | list[_Piece] | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    reasoning_details: list[wire.ReasoningDetail] | None = None


class _Logprobs(Struct, gc=False):
    content: Raw = NOTHING


class _Choice(Struct, gc=False):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None
    #: vLLM's: the stop sequence (or the token's number) that ended the answer.
    stop_reason: Any = None


class _Reply(Struct, gc=False):
    id: str | None = None
    model: str | None = None
    created: int | None = None
    system_fingerprint: str | None = None
    choices: list[_Choice] | None = None
    usage: ToldUsage | None = None
    error: Any = None


_reply = msgspec.json.Decoder(_Reply)


def _read(data: bytes) -> _Reply:
    """Raises `MalformedReply`, and `ProviderFault` for an error under a 200."""
    try:
        reply = _reply.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        detail = f"{error}: {data[:200]!r}"
        raise MalformedReply("The model provider sent what is not JSON of its protocol.", detail=detail) from None
    if reply.error is not None:
        raise error_in_body(reply.error)
    return reply


# --- reading ----------------------------------------------------------------------------------------------------------


def read_answer(body: bytes) -> list[Delta]:
    """Raises `MalformedReply`, `EmptyReply`, `ProviderFault`."""
    reply = _read(body)
    if not reply.choices:
        raise EmptyReply("The model provider's answer holds no choices.")
    answer = ChatAnswer()
    return [*answer.note(reply), *answer.ended()]


class _Open:
    """A choice that has begun."""

    __slots__ = ("begun_calls", "calls", "ended", "latest", "refused")

    def __init__(self) -> None:
        self.begun_calls = 0
        #: By the provider's index: ours, and the call's id.
        self.calls: dict[int, tuple[int, str]] = {}
        #: The provider's index of the latest call.
        self.latest = -1
        self.refused = False
        self.ended = False


class ChatAnswer:
    """What is known of an answer while it is read (`stream.Answer`)."""

    text_member: ClassVar[bytes] = b"content"
    __slots__ = ("_choices", "_id")

    def __init__(self) -> None:
        self._id: str | None = None
        self._choices: dict[int, _Open] = {}

    @property
    def has_begun(self) -> bool:
        return bool(self._choices)

    @property
    def has_ended(self) -> bool:
        return bool(self._choices) and all(choice.ended for choice in self._choices.values())

    def read(self, data: bytes) -> list[Delta]:
        return self.note(_read(data))

    def note(self, reply: _Reply) -> list[Delta]:
        deltas: list[Delta] = []
        for choice in reply.choices or ():
            known = self._choices.get(choice.index)
            if known is None:
                if not self._choices:
                    self._id = reply.id
                    deltas.append(Started(reply.id, reply.model, reply.created, reply.system_fingerprint))
                known = self._choices[choice.index] = _Open()
            if not known.ended:
                self._read_choice(choice, known, deltas)
        if reply.usage is not None:
            deltas.append(Used(reply.usage.counted()))
        return deltas

    def ended(self) -> list[Delta]:
        """Called at the end: some providers leave the reason out."""
        unfinished = [(index, choice) for index, choice in self._choices.items() if not choice.ended]
        return [_finished(_Choice(index), choice) for index, choice in unfinished]

    def _read_choice(self, choice: _Choice, known: _Open, deltas: list[Delta]) -> None:
        said = choice.delta or choice.message
        index = choice.index
        if said is not None:
            if said.reasoning_details or said.reasoning_content or said.reasoning:
                deltas += _thoughts(said, index)
            logprobs = choice.logprobs
            tokens = logprobs.content if logprobs is not None and logprobs.content != NOTHING else None
            content = said.content
            if isinstance(content, list):
                deltas += _pieces(content, index)
            elif content or tokens is not None:
                deltas.append(TextDelta(content or "", index, None if tokens is None else tokens.copy()))
            if said.refusal:
                known.refused = True
                deltas.append(RefusalDelta(said.refusal, index))
            if said.tool_calls:
                for place, call in enumerate(said.tool_calls):
                    self._read_call(call, place if choice.message is not None else None, index, known, deltas)
            if said.function_call is not None:
                self._read_call(_ToolCall(-1, None, said.function_call), None, index, known, deltas)
        if choice.finish_reason:
            if choice.finish_reason in _BROKEN_OFF:
                raise ProviderFault("The model provider broke off its answer.", detail=f"finish_reason: {choice.finish_reason}")
            deltas.append(_finished(choice, known))

    def _read_call(self, call: _ToolCall, place: int | None, index: int, known: _Open, deltas: list[Delta]) -> None:
        """Providers number calls, or only give each an id, or give the same number to all with ids of their own."""
        function = call.function or _Function()
        told = place if place is not None else known.latest if call.index is None else call.index
        open_call = known.calls.get(told)
        if open_call is None or (call.id and call.id != open_call[1]):
            if not function.name:
                raise MalformedReply("The model provider sent a tool call without a name.")
            number = known.begun_calls
            known.begun_calls += 1
            open_call = known.calls[told] = (number, call.id or f"call_{self._id}_{index}_{number}")
            deltas.append(ToolCallStarted(*open_call, function.name, index))
        known.latest = told
        if function.arguments:
            deltas.append(ArgumentsDelta(open_call[0], function.arguments, index))


def _finished(choice: _Choice, known: _Open) -> Finished:
    known.ended = True
    reason = _REASONS.get(choice.finish_reason or "stop", "stop")
    if reason == "stop":  # which many say where the answer calls tools, OpenAI's own too where that was forced
        reason = "tool_calls" if known.calls else "refusal" if known.refused else "stop"
    return Finished(reason, choice.index, choice.stop_reason if isinstance(choice.stop_reason, str) else None)


def _thoughts(said: _Said, choice: int) -> Iterator[Delta]:
    """Providers that tell a thought in two ways tell it twice: the way with signatures counts."""
    if said.reasoning_details:
        for detail in said.reasoning_details:
            yield told_thought(detail, choice)
        return
    plain = said.reasoning_content or said.reasoning
    if isinstance(plain, str):
        yield ReasoningDelta(plain, origin="openai_chat", choice=choice)


def _pieces(content: list[_Piece], choice: int) -> Iterator[Delta]:
    for piece in content:
        for thought in piece.thinking or ():
            if thought.text:
                yield ReasoningDelta(thought.text, origin="openai_chat", choice=choice)
        if piece.text:
            yield TextDelta(piece.text, choice)
