"""The items of Responses, verbatim; and an answer's output as the items that are sent again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from agent_gateway.core.call import Call
from agent_gateway.protocols.turns import EventReader, Kind, listed, members_of, with_member

_json = msgspec.json.Encoder()
_ENDS = ("response.completed", "response.incomplete")


class _Item(Struct):
    type: str | None = None
    role: str | None = None


_item = msgspec.json.Decoder(_Item)


class ResponsesTurns:
    def of(self, call: Call) -> list[bytes]:
        told = members_of(call.body)["input"]
        if bytes(told).startswith(b'"'):
            return [_json.encode({"type": "message", "role": "user", "content": told})]
        return listed(told)

    def put(self, call: Call, turns: Sequence[bytes]) -> Call:
        return with_member(call, "input", turns)

    def kind(self, turn: bytes) -> Kind:
        match _item.decode(turn):
            case _Item(role="user"):
                return "user"
            case _Item(role="system" | "developer"):
                return "system"
            case _Item(type=str(kind)) if kind.endswith(("_output", "_response")):
                return "results"
        return "assistant"

    def said(self, text: str) -> bytes:
        return _json.encode({"type": "message", "role": "assistant", "content": text})

    def answer(self, body: bytes) -> list[bytes]:
        return listed(members_of(body)["output"])

    def collector(self, call: Call) -> ResponsesCollector:
        return ResponsesCollector()


class ResponsesCollector:
    """The last event holds all of the answer."""

    __slots__ = ("_events", "_text", "_turns", "done")

    def __init__(self) -> None:
        self.done = False
        self._events = EventReader()
        self._turns: list[bytes] = []
        self._text: list[str] = []

    def feed(self, data: bytes) -> None:
        for event in self._events.read(data):
            match event:
                case {"type": "response.output_text.delta", "delta": str(text)}:
                    self._text.append(text)
                case {"type": kind, "response": {"output": list(items)}} if kind in _ENDS:
                    self._turns = [_json.encode(item) for item in items]
                    self.done = True

    def turns(self) -> list[bytes]:
        return self._turns

    def text(self) -> str:
        return "".join(self._text)
