"""The items of an answer while they grow, each telling what the stream's client has to hear of it.

Promise: an item is added, filled and done, in this order, and at its end the `response` holds what was told.
"""

from __future__ import annotations

from typing import get_args

import msgspec
from msgspec import Raw

from agent_gateway.core.conversation import Reasoning
from agent_gateway.core.delta import ReasoningDelta, ToolCallStarted
from agent_gateway.protocols.openai_responses.reasoning import DIALECT, write_item
from agent_gateway.wire import openai_responses as wire

_json = msgspec.json.Encoder()
_logprobs = msgspec.json.Decoder(list[wire.Logprob])
#: What stands before an event's data.
_OPENINGS: dict[type, bytes] = {kind: f"event: {kind.__struct_config__.tag}\ndata: ".encode() for kind in get_args(wire.StreamEvent)}


class Events:
    """Told so far, as frames; numbered from 0."""

    __slots__ = ("_before", "_frames", "_sequence", "output")

    def __init__(self, output: list[wire.OutputItem]) -> None:
        #: The answer's items.
        self.output = output
        self._frames: list[bytes] = []
        self._sequence = 0
        #: Items that another told, and that are not in `output`.
        self._before = 0

    @property
    def begun(self) -> bool:
        return self._sequence > 0

    @property
    def next_index(self) -> int:
        """The next item's in the output."""
        return self._before + len(self.output)

    def begin_at(self, output_index: int) -> None:
        self._before = output_index

    def number_from(self, sequence_number: int) -> None:
        """Never less than what has been told."""
        self._sequence = max(self._sequence, sequence_number)

    def tell(self, event: wire.StreamEvent) -> None:
        event.sequence_number = self._sequence
        self._sequence += 1
        self._frames.append(b"%b%b\n\n" % (_OPENINGS[type(event)], _json.encode(event)))

    def add(self, item: wire.OutputItem) -> int:
        """Its index in the output."""
        output_index = self.next_index
        self.output.append(item)
        self.tell(wire.ItemAdded(output_index=output_index, item=item))
        return output_index

    def done(self, output_index: int, item: wire.OutputItem) -> None:
        self.output[output_index - self._before] = item
        self.tell(wire.ItemDone(output_index=output_index, item=item))

    def taken(self) -> bytes:
        """What has been told since the last time."""
        frames = b"".join(self._frames)
        self._frames.clear()
        return frames


class OpenMessage:
    """Its last part grows: `pieces` is what was said of it."""

    __slots__ = ("_content_index", "_events", "_item", "_output_index", "_part", "_pieces")

    def __init__(self, events: Events, item_id: str) -> None:
        self._events = events
        self._item = wire.OutputMessage(id=item_id, content=[])
        self._output_index = events.add(self._item)
        self._content_index = -1
        self._part: wire.OutputText | wire.OutputRefusal | None = None
        self._pieces: list[str] = []

    def say(self, text: str, told_logprobs: Raw | None) -> None:
        part = self._part
        if type(part) is not wire.OutputText:
            part = wire.OutputText()
            self._begin(part)
        logprobs = _read_logprobs(told_logprobs) if told_logprobs is not None else []
        part.logprobs += logprobs
        self._pieces.append(text)
        self._events.tell(
            wire.TextDelta(
                output_index=self._output_index,
                item_id=self._item.id,
                content_index=self._content_index,
                delta=text,
                logprobs=logprobs,
            )
        )

    def refuse(self, text: str) -> None:
        if type(self._part) is not wire.OutputRefusal:
            self._begin(wire.OutputRefusal())
        self._pieces.append(text)
        self._events.tell(
            wire.RefusalDelta(output_index=self._output_index, item_id=self._item.id, content_index=self._content_index, delta=text)
        )

    def close(self, status: wire.Status) -> None:
        self._end_part()
        self._item.status = status
        self._events.done(self._output_index, self._item)

    def _begin(self, part: wire.OutputText | wire.OutputRefusal) -> None:
        self._end_part()
        self._part = part
        self._item.content.append(part)
        self._content_index += 1
        self._events.tell(
            wire.PartAdded(output_index=self._output_index, item_id=self._item.id, content_index=self._content_index, part=part)
        )

    def _end_part(self) -> None:
        part = self._part
        if part is None:
            return
        said = "".join(self._pieces)
        self._pieces.clear()
        place = {"output_index": self._output_index, "content_index": self._content_index}
        if isinstance(part, wire.OutputText):
            part.text = said
            self._events.tell(wire.TextDone(**place, item_id=self._item.id, text=said, logprobs=part.logprobs))
        else:
            part.refusal = said
            self._events.tell(wire.RefusalDone(**place, item_id=self._item.id, refusal=said))
        self._events.tell(wire.PartDone(**place, item_id=self._item.id, part=part))


class OpenThought:
    """Told as a summary of one part; a native item's own parts are in what is told at its end."""

    __slots__ = ("_events", "_id", "_item_id", "_origin", "_output_index", "_pieces")

    def __init__(self, events: Events, item_id: str, first: ReasoningDelta) -> None:
        self._events = events
        self._id = first.id
        self._origin = first.origin
        native_id = first.id if first.origin == DIALECT else None
        self._item_id = native_id or item_id
        self._output_index = events.add(wire.OutputReasoning(id=self._item_id, summary=[]))
        self._pieces: list[str] = []

    def goes_on_with(self, delta: ReasoningDelta) -> bool:
        """As `protocols.fold` tells thoughts apart."""
        return (
            (delta.redacted is None or not self._pieces)
            and (self._id is None or delta.id is None or self._id == delta.id)
            and (self._origin is None or delta.origin is None or self._origin == delta.origin)
        )

    def think(self, delta: ReasoningDelta) -> None:
        self._id = self._id or delta.id
        self._origin = self._origin or delta.origin
        if not delta.text:
            return
        if not self._pieces:
            self._events.tell(wire.SummaryPartAdded(output_index=self._output_index, item_id=self._item_id, part=wire.SummaryText()))
        self._pieces.append(delta.text)
        self._events.tell(wire.SummaryDelta(output_index=self._output_index, item_id=self._item_id, delta=delta.text))

    def close(self, signature: str | None = None, redacted: str | None = None) -> None:
        text = "".join(self._pieces)
        if text:
            place = {"output_index": self._output_index}
            self._events.tell(wire.SummaryDone(**place, item_id=self._item_id, text=text))
            self._events.tell(wire.SummaryPartDone(**place, item_id=self._item_id, part=wire.SummaryText(text)))
        thought = Reasoning(text, signature, redacted, self._origin, self._id)
        self._events.done(self._output_index, write_item(thought, self._item_id))


class OpenCall:
    __slots__ = ("_events", "_item", "_pieces", "output_index")

    def __init__(self, events: Events, item_id: str, started: ToolCallStarted) -> None:
        self._events = events
        self._item = wire.OutputFunctionCall(id=item_id, call_id=started.id, name=started.name)
        self.output_index = events.add(self._item)
        self._pieces: list[str] = []

    def argue(self, arguments: str) -> None:
        self._pieces.append(arguments)
        self._events.tell(wire.ArgumentsDelta(output_index=self.output_index, item_id=self._item.id, delta=arguments))

    def close(self, status: wire.Status) -> None:
        self._item.arguments = "".join(self._pieces)
        self._item.status = status
        self._events.tell(
            wire.ArgumentsDone(
                output_index=self.output_index,
                item_id=self._item.id,
                name=self._item.name,
                arguments=self._item.arguments,
            )
        )
        self._events.done(self.output_index, self._item)


def _read_logprobs(told: Raw) -> list[wire.Logprob]:
    logprobs = _logprobs.decode(told)
    for logprob in logprobs:
        logprob.bytes = logprob.bytes or []
        for other in logprob.top_logprobs:
            other.bytes = other.bytes or []
    return logprobs
