"""The messages of chat, verbatim; and an answer as the message that is sent again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.call import Call
from agent_gateway.protocols.turns import EventReader, Kind, listed, members_of, with_member

_json = msgspec.json.Encoder()

#: What an answer tells of itself and no provider takes back.
_ONLY_TOLD = ("annotations",)
#: Thoughts in plain words: they go back only with tool calls, where DeepSeek asks for them (and refuses them elsewhere).
_PLAIN_THOUGHTS = ("reasoning_content", "reasoning")
#: A member of any of these makes a message that says something.
_SAYS = ("tool_calls", "function_call", "refusal", "audio")
#: Strings that come in pieces, wherever they stand in a delta; of all others the last one counts.
_IN_PIECES = frozenset({"content", "refusal", "reasoning_content", "reasoning", "arguments", "text", "summary", "data", "transcript"})
_NULL = Raw(b"null")
_NOTHING = (_NULL, Raw(b"[]"))


class _Role(Struct):
    role: str = ""


class _Choice(Struct):
    message: Raw = _NULL
    index: int = 0


class _Answer(Struct):
    choices: list[_Choice]


_role = msgspec.json.Decoder(_Role)
_answer = msgspec.json.Decoder(_Answer)


class ChatTurns:
    def of(self, call: Call) -> list[bytes]:
        return listed(members_of(call.body)["messages"])

    def put(self, call: Call, turns: Sequence[bytes]) -> Call:
        return with_member(call, "messages", turns)

    def kind(self, turn: bytes) -> Kind:
        match _role.decode(turn).role:
            case "assistant":
                return "assistant"
            case "system" | "developer":
                return "system"
            case "tool" | "function":
                return "results"
        return "user"

    def said(self, text: str) -> bytes:
        return _json.encode({"role": "assistant", "content": text})

    def answer(self, body: bytes) -> list[bytes]:
        message = next((choice.message for choice in _answer.decode(body).choices if choice.index == 0), None)
        return [] if message in (None, _NULL) else _returned(members_of(message))

    def collector(self, call: Call) -> ChatCollector:
        return ChatCollector()


def _returned(message: dict[str, Raw]) -> list[bytes]:
    kept = {name: value for name, value in message.items() if name == "content" or value not in _NOTHING}
    for name in _ONLY_TOLD if "tool_calls" in kept else (*_ONLY_TOLD, *_PLAIN_THOUGHTS):
        kept.pop(name, None)
    if "audio" in kept:
        kept["audio"] = Raw(b'{"id":%b}' % members_of(kept["audio"])["id"])
    if kept.get("content", _NULL) in (_NULL, Raw(b'""')) and not any(name in kept for name in _SAYS):
        return []
    return [_json.encode(kept)]


class ChatCollector:
    """Chunks put together as OpenAI's SDKs do: members that a provider added are kept too."""

    __slots__ = ("_events", "_message", "done")

    def __init__(self) -> None:
        self.done = False
        self._events = EventReader()
        self._message: dict[str, Any] = {"role": "assistant", "content": None}

    def feed(self, data: bytes) -> None:
        for event in self._events.read(data):
            if event is None:
                self.done = True
                continue
            for choice in event.get("choices") or ():
                if choice.get("index", 0) == 0:
                    _grow(self._message, choice.get("delta") or {})

    def turns(self) -> list[bytes]:
        message = dict(self._message)
        message["tool_calls"] = [_without_index(call) for call in message.get("tool_calls") or ()]
        return _returned(members_of(_json.encode(message)))

    def text(self) -> str:
        content = self._message["content"]
        return content if isinstance(content, str) else ""


def _grow(grown: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        known = grown.get(name)
        if value is None:
            continue
        if isinstance(value, str) and isinstance(known, str) and name in _IN_PIECES:
            grown[name] = known + value
        elif isinstance(value, dict) and isinstance(known, dict):
            _grow(known, value)
        elif isinstance(value, list):
            grown[name] = _grown_list(known if isinstance(known, list) else [], value)
        elif value != "" or known is None:
            grown[name] = value


def _grown_list(grown: list[Any], delta: list[Any]) -> list[Any]:
    for item in delta:
        same = None
        if isinstance(item, dict) and "index" in item:
            place = (item["index"], item.get("type"))
            same = next((known for known in grown if isinstance(known, dict) and _is_at(known, place)), None)
        if same is None:
            grown.append(item)
        else:
            _grow(same, item)
    return grown


def _is_at(item: dict[str, Any], place: tuple[Any, Any]) -> bool:
    """Later pieces of a tool call do not repeat its type."""
    return item.get("index") == place[0] and place[1] in (None, item.get("type"))


def _without_index(call: dict[str, Any]) -> dict[str, Any]:
    """Where it stands in the list says that."""
    return {name: value for name, value in call.items() if name != "index"}
