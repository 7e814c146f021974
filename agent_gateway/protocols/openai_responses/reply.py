"""A provider's answer, read into deltas: its stream, or all of it at once.

Promise: however it is cut, the same deltas come out. Kinds of events that are not known are passed over; of such items it is told that
there was one.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec import Raw

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
from agent_gateway.core.errors import EmptyReply, MalformedReply, ProviderFault
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.failure import DETAIL_MAX, INSIDE
from agent_gateway.protocols.openai_responses.reasoning import BREAK, DIALECT, PartKind, Seal
from agent_gateway.wire import openai_responses as wire
from agent_gateway.wire.sse import FrameSplitter, FrameTooLarge, frame_data

_json = msgspec.json.Encoder()
_event_head = msgspec.json.Decoder(wire.EventHead)
_response_event = msgspec.json.Decoder(wire.ToldResponseEvent)
_item_event = msgspec.json.Decoder(wire.ToldItemEvent)
_delta = msgspec.json.Decoder(wire.ToldDelta)
_error = msgspec.json.Decoder(wire.ToldError)
_response = msgspec.json.Decoder(wire.ToldResponse)
_item_head = msgspec.json.Decoder(wire.ItemHead)
_message = msgspec.json.Decoder(wire.ToldMessage)
_function_call = msgspec.json.Decoder(wire.ToldFunctionCall)
_reasoning = msgspec.json.Decoder(wire.ReasoningItem)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_Read = TypeVar("_Read")


def read_answer(body: bytes) -> list[Delta]:
    """Raises `MalformedReply`, `EmptyReply`, `ProviderFault`."""
    response = _decode(_response, body)
    reading = _Reading()
    for output_index, item in enumerate(response.output or ()):
        reading.end_item(output_index, item)
    reading.end(response)
    if not response.output and response.status != "incomplete":
        raise EmptyReply("The model provider's answer holds no output.")
    return reading.taken()


class StreamReader:
    #: Events are numbered, and their texts counted.
    text_member: ClassVar[None] = None
    __slots__ = ("_failure", "_reading", "_splitter", "done")

    def __init__(self) -> None:
        self.done = False
        self._splitter = FrameSplitter()
        self._reading = _Reading()
        #: A bad frame came behind what `feed` returned last.
        self._failure: MalformedReply | ProviderFault | None = None

    def feed(self, data: bytes) -> list[Delta]:
        if self._failure is not None:
            raise self._failure
        try:
            whole = self._splitter.feed(data)
        except FrameTooLarge as error:
            raise MalformedReply("The model provider sent an event over the size limit.", detail=str(error)) from None
        if not whole:
            return []
        for frame in self._splitter.split(whole):
            try:
                self._read(frame)
            except (MalformedReply, ProviderFault) as error:
                if not self._reading.deltas:
                    raise
                self._failure = error
                break
        return self._reading.taken()

    def finish(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self.done:
            return
        if not self._reading.says_something:
            raise EmptyReply("The model provider's stream ended without an answer.")
        raise MalformedReply("The model provider's stream ended before its answer did.")

    def _read(self, frame: bytes) -> None:
        data = frame_data(frame)
        if data is None or self.done or data == b"[DONE]":
            return  # a comment, or what some servers send behind the answer's end
        head = _decode(_event_head, data)
        match head.type:
            case "response.output_text.delta":
                self._reading.add_text(_decode(_delta, data))
            case "response.function_call_arguments.delta":
                self._reading.add_arguments(_decode(_delta, data))
            case "response.reasoning_summary_text.delta":
                self._reading.add_thought(_decode(_delta, data), "summary")
            case "response.reasoning_text.delta":
                self._reading.add_thought(_decode(_delta, data), "content")
            case "response.refusal.delta":
                self._reading.add_refusal(_decode(_delta, data))
            case "response.output_item.added":
                event = _decode(_item_event, data)
                self._reading.begin_item(event.output_index, event.item)
            case "response.output_item.done":
                event = _decode(_item_event, data)
                self._reading.end_item(event.output_index, event.item)
            case "response.created":
                self._reading.start(_decode(_response_event, data).response)
            case "response.completed" | "response.incomplete":
                self._reading.end(_decode(_response_event, data).response)
                self.done = True
            case "response.failed":
                raise _fault(_decode(_response_event, data).response.error)
            case "error":
                raise _fault(_decode(_error, data))
            case None if head.error is not None:
                raise _fault(head.error)


class _Reading:
    """One answer, event by event. What an item's end tells and its pieces did not is added then."""

    __slots__ = ("_calls", "_said", "_says_refusal", "_started", "_thoughts", "deltas", "says_something")

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.says_something = False
        self._started = False
        self._says_refusal = False
        #: Tool calls by the item's place in the output: their index, as `ToolCallStarted` counts.
        self._calls: dict[int, int] = {}
        #: Characters said of a part: by the item's place, what kind of part, and the part's place in the item.
        self._said: dict[tuple[int, str, int], int] = {}
        #: Open thoughts, by the item's place: the parts in the order in which they were said.
        self._thoughts: dict[int, list[tuple[PartKind, int, int]]] = {}

    def taken(self) -> list[Delta]:
        deltas, self.deltas = self.deltas, []
        return deltas

    # --- the answer's two ends

    def start(self, response: wire.ToldResponse) -> None:
        if not self._started:
            self._started = True
            created = None if response.created_at is None else int(response.created_at)
            self.deltas.append(Started(response.id, response.model, created))

    def end(self, response: wire.ToldResponse) -> None:
        if response.error is not None or response.status == "failed":
            raise _fault(response.error)
        if response.status not in ("completed", "incomplete", None):
            raise MalformedReply("The model provider's answer is not complete.", detail=f"status: {response.status}")
        self.start(response)
        if response.usage is not None:
            self.deltas.append(Used(_counted(response.usage)))
        self.deltas.append(Finished(self._reason(response)))

    def _reason(self, response: wire.ToldResponse) -> FinishReason:
        if response.status == "incomplete":
            details = response.incomplete_details
            return "content_filter" if details is not None and details.reason == "content_filter" else "length"
        if self._calls:
            return "tool_calls"
        return "refusal" if self._says_refusal else "stop"

    # --- items

    def begin_item(self, output_index: int, raw: Raw) -> None:
        kind = _decode(_item_head, raw).type
        if kind == "function_call":
            self._begin_call(output_index, _decode(_function_call, raw))
        elif kind not in ("message", "reasoning"):
            self._note_beyond()

    def end_item(self, output_index: int, raw: Raw) -> None:
        match _decode(_item_head, raw).type:
            case "message":
                for place, part in enumerate(_decode(_message, raw).content):
                    self._end_part(output_index, place, part)
            case "function_call":
                call = _decode(_function_call, raw)
                self._begin_call(output_index, call)
                if rest := self._unsaid(output_index, "arguments", 0, call.arguments):
                    self.deltas.append(ArgumentsDelta(self._calls[output_index], rest))
            case "reasoning":
                self._end_thought(output_index, _decode(_reasoning, raw))
            case _:
                self._note_beyond()

    def _note_beyond(self) -> None:
        """Of an item of another kind: a call of one of OpenAI's own tools, say, or of a tool that takes free text."""
        self.says_something = True
        self.deltas.append(Beyond())

    def _begin_call(self, output_index: int, call: wire.ToldFunctionCall) -> None:
        if output_index not in self._calls:
            self.says_something = True
            index = self._calls[output_index] = len(self._calls)
            self.deltas.append(ToolCallStarted(index, call.call_id, call.name))

    def _end_part(self, output_index: int, place: int, part: wire.ToldPart) -> None:
        if part.text is not None and (rest := self._unsaid(output_index, "text", place, part.text)):
            self.add_text(wire.ToldDelta(output_index, rest, content_index=place, logprobs=part.logprobs))
        if part.refusal is not None and (rest := self._unsaid(output_index, "refusal", place, part.refusal)):
            self.add_refusal(wire.ToldDelta(output_index, rest, content_index=place))

    def _end_thought(self, output_index: int, item: wire.ReasoningItem) -> None:
        for place, part in enumerate(item.summary):
            if (rest := self._unsaid(output_index, "summary", place, part.text)) is not None:
                self.add_thought(wire.ToldDelta(output_index, rest, item.id, summary_index=place), "summary")
        for place, part in enumerate(item.content or ()):
            if (rest := self._unsaid(output_index, "content", place, part.text)) is not None:
                self.add_thought(wire.ToldDelta(output_index, rest, item.id, content_index=place), "content")
        parts = [(kind, length) for kind, _, length in self._thoughts.pop(output_index, ())]
        seal = Seal(item.id, parts, item.encrypted_content)
        self.says_something = True
        self.deltas.append(ReasoningDelta(signature=seal.signature(), origin=DIALECT, id=item.id))

    # --- pieces

    def add_text(self, event: wire.ToldDelta) -> None:
        self._count(event.output_index, "text", event.content_index, event.delta)
        logprobs = Raw(_json.encode(event.logprobs)) if event.logprobs else None
        self.deltas.append(TextDelta(event.delta, 0, logprobs))

    def add_refusal(self, event: wire.ToldDelta) -> None:
        self._says_refusal = True
        self._count(event.output_index, "refusal", event.content_index, event.delta)
        self.deltas.append(RefusalDelta(event.delta))

    def add_arguments(self, event: wire.ToldDelta) -> None:
        index = self._calls.get(event.output_index)
        if index is None:
            raise MalformedReply("The model provider sent arguments of a tool call that has not begun.")
        self._count(event.output_index, "arguments", 0, event.delta)
        self.deltas.append(ArgumentsDelta(index, event.delta))

    def add_thought(self, event: wire.ToldDelta, kind: PartKind) -> None:
        place = event.summary_index if kind == "summary" else event.content_index
        self._count(event.output_index, kind, place, event.delta)
        parts = self._thoughts.setdefault(event.output_index, [])
        text = event.delta
        if parts and parts[-1][:2] == (kind, place):
            parts[-1] = (kind, place, parts[-1][2] + len(text))
        else:
            text = BREAK + text if parts else text
            parts.append((kind, place, len(event.delta)))
        self.deltas.append(ReasoningDelta(text, origin=DIALECT, id=event.item_id))

    def _count(self, output_index: int, kind: str, place: int, text: str) -> None:
        self.says_something = True
        part = (output_index, kind, place)
        self._said[part] = self._said.get(part, 0) + len(text)

    def _unsaid(self, output_index: int, kind: str, place: int, text: str) -> str | None:
        """None: all of the part was said, as its pieces came."""
        said = self._said.get((output_index, kind, place))
        return text if said is None else text[said:] or None


# --- what is of no one answer -----------------------------------------------------------------------------------------


def _counted(told: wire.ToldUsage) -> Usage:
    read, written = told.input_tokens_details, told.output_tokens_details
    return Usage(
        input=told.input_tokens or 0,
        output=told.output_tokens or 0,
        cache_read=(read.cached_tokens or 0) if read else 0,
        cache_write=(read.cache_write_tokens or 0) if read else 0,
        reasoning=(written.reasoning_tokens or 0) if written else 0,
    )


def _fault(said: Any) -> ProviderFault:
    """Of an error event, the error of a failed response, or an error body under a 200."""
    if isinstance(said, wire.ToldError):
        said = said.error or {"message": said.message, "code": said.code}
    if isinstance(said, dict):
        said = f"{said.get('code') or said.get('type')}: {said.get('message')}"
    return ProviderFault(INSIDE, detail=str(said)[:DETAIL_MAX])


def _decode(decoder: msgspec.json.Decoder[_Read], data: bytes | Raw) -> _Read:
    try:
        return decoder.decode(data)
    except _UNREADABLE as error:
        detail = f"{error}: {bytes(data)[:200]!r}"
        said = "The model provider sent what is not JSON of its protocol."
        raise MalformedReply(said, detail=detail) from None
