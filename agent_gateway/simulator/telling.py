"""A script told in a client's protocol: as the frames of a stream, or as a whole answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from agent_gateway.core.call import Call
from agent_gateway.core.delta import Delta, Started, Used
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead, Codec, StreamWriter
from agent_gateway.simulator.script import Script
from agent_gateway.wire.sse import FrameSplitter


@dataclass(frozen=True, slots=True)
class Frame:
    """What goes out together, and when (seconds since the request came)."""

    at_s: float
    data: bytes


class Telling:
    """One answer to `call`; `answer_id` is of letters and digits, `created` in Unix seconds."""

    __slots__ = ("_call", "_codec", "_head", "script")

    def __init__(self, script: Script, codec: Codec, call: Call, answer_id: str, created: int) -> None:
        self.script = script
        self._codec = codec
        self._call = call
        self._head = AnswerHead(answer_id, created, call.model, _fingerprint(call.model))

    def whole(self) -> bytes:
        deltas = [*self._opening(), *[step.delta for step in self.script.steps], Used(self.script.usage)]
        return self._codec.write_answer(self._head, deltas, self._call)

    def frames(self) -> Iterator[Frame]:
        """The stream of the same answer, to its last byte."""
        writer = self._codec.stream_writer(self._head, self._call)
        yield from self._told(writer, len(self.script.steps))
        yield from self._cut_up(self.script.ends_at_s, writer.write([Used(self.script.usage)]) + writer.end())

    def broken_off(self, steps: int) -> Iterator[Frame]:
        """The stream up to so many pieces of the answer, and no end."""
        return self._told(self._codec.stream_writer(self._head, self._call), steps)

    def _opening(self) -> tuple[Delta, ...]:
        """Anthropic's first event tells what went in."""
        return Used(Usage(input=self.script.usage.input)), Started()

    def _told(self, writer: StreamWriter, steps: int) -> Iterator[Frame]:
        opening: Iterable[Delta] = self._opening()
        for step in self.script.steps[:steps]:
            yield from self._cut_up(step.at_s, writer.write([*opening, step.delta]))
            opening = ()

    def _cut_up(self, at_s: float, data: bytes) -> Iterator[Frame]:
        """A frame an event; of a growing JSON array, one a piece."""
        if self._call.framing == "sse":
            return (Frame(at_s, frame) for frame in FrameSplitter.split(data))
        return iter([Frame(at_s, data)] if data else [])


def _fingerprint(model: str) -> str:
    return "fp_" + blake2b(model.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
