"""An answer written for the client: as a stream of events, or whole.

Promise: both hold the same `response` object, and every id in it follows from the head's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

import msgspec

from agent_gateway.core.call import Call
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
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.openai_responses.items import Events, OpenCall, OpenMessage, OpenThought
from agent_gateway.protocols.openai_responses.response import incomplete_details, new_response, usage_to_wire
from agent_gateway.wire import openai_responses as wire
from agent_gateway.wire.sse import FrameSplitter, frame_data

_json = msgspec.json.Encoder()


class _Heard(msgspec.Struct):
    """Of an event that the client got, where it stands."""

    sequence_number: int = -1
    item_id: str | None = None
    output_index: int = 0


_heard = msgspec.json.Decoder(_Heard)


def write_answer(head: AnswerHead, deltas: Sequence[Delta], call: Call) -> bytes:
    writer = StreamWriter(head, call)
    writer.write(deltas)
    writer.end()
    return _json.encode(writer.response)


class StreamWriter:
    """Calls of tools stay open to the end, so that pieces of their arguments may come in any order."""

    __slots__ = ("_calls", "_events", "_head", "_open", "_reason", "_says_refusal", "response")

    def __init__(self, head: AnswerHead, call: Call) -> None:
        self._head = head
        self.response = new_response(head, call)
        self._events = Events(self.response.output)
        self._open: OpenMessage | OpenThought | None = None
        #: By the index of `ToolCallStarted`.
        self._calls: dict[int, OpenCall] = {}
        self._reason: FinishReason = "stop"
        self._says_refusal = False

    def write(self, deltas: Iterable[Delta]) -> bytes:
        if not self._events.begun:
            self._events.tell(wire.Created(response=self.response))
            self._events.tell(wire.InProgress(response=self.response))
        for delta in deltas:
            if isinstance(delta, Used):
                self.response.usage = usage_to_wire(delta.usage)
            elif not isinstance(delta, (Started, Beyond)) and delta.choice == 0:  # there is one choice, and the head marks the answer
                self._write(delta)
        return self._events.taken()

    def follow(self, text: str, frames: bytes) -> None:
        """In the item whose text it was; others, of thoughts that were not shown, may stand before it."""
        heard = [_heard.decode(frame_data(frame) or b"{}") for frame in FrameSplitter.split(frames)]
        place = next((event for event in heard if event.item_id), _Heard())
        self._events.begin_at(place.output_index)
        self.write([Started()])
        self._open = OpenMessage(self._events, place.item_id or self._item_id("msg"))
        self.write([TextDelta(text)])
        self._events.number_from(max([event.sequence_number for event in heard], default=-1) + 1)

    def end(self) -> bytes:
        incomplete = incomplete_details(self._reason, says_refusal=self._says_refusal)
        status: wire.Status = "completed" if incomplete is None else "incomplete"
        last_index = self._events.next_index - 1
        # What is open besides calls began after them: a call that begins closes it.
        self._close(status)
        for call in self._calls.values():
            call.close(status if call.output_index == last_index else "completed")
        self.response.status = status
        self.response.incomplete_details = incomplete
        ended = wire.Completed if incomplete is None else wire.Incomplete
        self._events.tell(ended(response=self.response))
        return self._events.taken()

    def _write(self, delta: TextDelta | ReasoningDelta | ToolCallStarted | ArgumentsDelta | RefusalDelta | Finished) -> None:
        match delta:
            case TextDelta(text=text, logprobs=logprobs):
                if text or logprobs is not None:
                    self._message().say(text, logprobs)
            case ArgumentsDelta(index=index, arguments=arguments):
                self._calls[index].argue(arguments)
            case ReasoningDelta(text=text, signature=signature, redacted=redacted):
                if text or signature is not None or redacted is not None:
                    self._think(delta)
            case ToolCallStarted(index=index):
                self._close()
                self._calls[index] = OpenCall(self._events, self._item_id("fc"), delta)
            case RefusalDelta(text=text):
                if text:
                    self._says_refusal = True
                    self._message().refuse(text)
            case Finished(reason=reason):
                self._reason = reason
            case _:
                assert_never(delta)

    def _message(self) -> OpenMessage:
        if type(self._open) is not OpenMessage:
            self._close()
            self._open = OpenMessage(self._events, self._item_id("msg"))
        return self._open

    def _think(self, delta: ReasoningDelta) -> None:
        thought = self._open
        if not (isinstance(thought, OpenThought) and thought.goes_on_with(delta)):
            self._close()
            thought = self._open = OpenThought(self._events, self._item_id("rs"), delta)
        thought.think(delta)
        if delta.signature is not None or delta.redacted is not None:
            self._open = None
            thought.close(delta.signature, delta.redacted)

    def _close(self, status: wire.Status = "completed") -> None:
        """The open message or thought; a thought has no status."""
        match self._open:
            case OpenMessage() as message:
                message.close(status)
            case OpenThought() as thought:
                thought.close()
        self._open = None

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self._head.id}_{self._events.next_index}"
