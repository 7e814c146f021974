"""Anthropic's messages, verbatim; and an answer as the message that is sent again, blocks of every kind as they came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.call import Call
from agent_gateway.protocols.turns import EventReader, Kind, listed, members_of, with_member

_json = msgspec.json.Encoder()


#: Marks for the prompt cache that a request may have. Source: Anthropic, "Prompt caching", cache limitations.
MARKS_MAX = 4
_MARK = b'"cache_control"'


class _Message(Struct):
    role: str
    content: Raw


class _Type(Struct):
    type: str = ""
    text: str = ""


_message = msgspec.json.Decoder(_Message)
_blocks = msgspec.json.Decoder(list[_Type])
_type = msgspec.json.Decoder(_Type)


class AnthropicTurns:
    def of(self, call: Call) -> list[bytes]:
        return listed(members_of(call.body)["messages"])

    def put(self, call: Call, turns: Sequence[bytes]) -> Call:
        put = with_member(call, "messages", turns)
        too_many = put.body.count(_MARK) - MARKS_MAX
        return put if too_many <= 0 else with_member(call, "messages", _unmarked(turns, too_many))

    def kind(self, turn: bytes) -> Kind:
        message = _message.decode(turn)
        if message.role in ("assistant", "system"):
            return "assistant" if message.role == "assistant" else "system"
        content = bytes(message.content)
        if b'"tool_result"' in content and any(block.type == "tool_result" for block in _blocks.decode(content)):
            return "results"
        return "user"

    def said(self, text: str) -> bytes:
        return _json.encode({"role": "assistant", "content": text})

    def answer(self, body: bytes) -> list[bytes]:
        return _returned([Raw(block) for block in listed(members_of(body)["content"])])

    def collector(self, call: Call) -> AnthropicCollector:
        return AnthropicCollector()


def _returned(blocks: Sequence[Raw]) -> list[bytes]:
    """Anthropic takes no empty texts back."""
    kept = [block for block in blocks if (told := _type.decode(block)).type != "text" or told.text]
    return [_json.encode({"role": "assistant", "content": kept})] if kept else []


def _unmarked(turns: Sequence[bytes], too_many: int) -> list[bytes]:
    """Conversations gather marks for the cache. The newest say how much is to be cached; so many of the oldest are taken out."""
    unmarked = list(turns)
    for place, turn in enumerate(turns):
        if too_many <= 0:
            break
        marks = turn.count(_MARK)
        if marks:
            unmarked[place] = _json.encode(_without_marks(msgspec.json.decode(turn)))
            too_many -= marks
    return unmarked


def _without_marks(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, list):
        message["content"] = [{name: value for name, value in block.items() if name != "cache_control"} for block in content]
    return message


class AnthropicCollector:
    __slots__ = ("_blocks", "_events", "_inputs", "done")

    def __init__(self) -> None:
        self.done = False
        self._events = EventReader()
        self._blocks: dict[int, dict[str, Any]] = {}
        #: Pieces of the JSON that blocks get as their input.
        self._inputs: dict[int, list[str]] = {}

    def feed(self, data: bytes) -> None:
        for event in self._events.read(data):
            match event:
                case {"type": "content_block_start", "index": int(index), "content_block": dict(block)}:
                    self._blocks[index] = block
                case {"type": "content_block_delta", "index": int(index), "delta": dict(delta)} if index in self._blocks:
                    self._grow(index, delta)
                case {"type": "message_stop"}:
                    self.done = True

    def turns(self) -> list[bytes]:
        blocks = []
        for index, block in sorted(self._blocks.items()):
            told = "".join(self._inputs.get(index, ()))
            blocks.append(Raw(_json.encode(block | {"input": Raw(told.encode())} if told else block)))
        return _returned(blocks)

    def text(self) -> str:
        return "".join([block.get("text", "") for block in self._blocks.values() if block.get("type") == "text"])

    def _grow(self, index: int, delta: dict[str, Any]) -> None:
        block = self._blocks[index]
        match delta:
            case {"type": "text_delta", "text": str(text)}:
                block["text"] = block.get("text", "") + text
            case {"type": "thinking_delta", "thinking": str(thinking)}:
                block["thinking"] = block.get("thinking", "") + thinking
            case {"type": "signature_delta", "signature": str(signature)}:
                block["signature"] = signature
            case {"type": "input_json_delta", "partial_json": str(piece)}:
                self._inputs.setdefault(index, []).append(piece)
            case {"type": "citations_delta", "citation": citation}:
                block["citations"] = [*(block.get("citations") or ()), citation]
