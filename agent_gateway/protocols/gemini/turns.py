"""Gemini's contents, verbatim; and an answer as the content that is sent again, each part with the signature that hangs on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.call import Call
from agent_gateway.protocols.gemini.array import ArraySplitter
from agent_gateway.protocols.turns import Kind, listed, members_of, with_member
from agent_gateway.wire.sse import FrameSplitter, frame_data

_json = msgspec.json.Encoder()
_RESULTS = ("functionResponse", "function_response")


class _Content(Struct):
    role: str | None = None
    parts: Raw = Raw(b"null")


class _AnswerContent(Struct):
    parts: list[Raw] = []


class _Candidate(Struct):
    content: _AnswerContent | None = None
    index: int = 0


class _Answer(Struct):
    candidates: list[_Candidate] = []


class _Said(Struct):
    text: str | None = None
    thought: bool = False


_content = msgspec.json.Decoder(_Content)
_parts = msgspec.json.Decoder(list[dict[str, Raw]] | dict[str, Raw])
_answer = msgspec.json.Decoder(_Answer)
_said = msgspec.json.Decoder(_Said)


class GeminiTurns:
    def of(self, call: Call) -> list[bytes]:
        contents = bytes(members_of(call.body)["contents"])
        return listed(contents) if contents.startswith(b"[") else [contents]

    def put(self, call: Call, turns: Sequence[bytes]) -> Call:
        return with_member(call, "contents", turns)

    def kind(self, turn: bytes) -> Kind:
        content = _content.decode(turn)
        if content.role == "model":
            return "assistant"
        parts = bytes(content.parts)
        if any(name.encode() in parts for name in _RESULTS):
            told = _parts.decode(parts)
            if any(name in part for part in (told if isinstance(told, list) else [told]) for name in _RESULTS):
                return "results"
        return "user"

    def said(self, text: str) -> bytes:
        return _json.encode({"role": "model", "parts": [{"text": text}]})

    def answer(self, body: bytes) -> list[bytes]:
        return _returned(_first_parts(body))

    def collector(self, call: Call) -> GeminiCollector:
        return GeminiCollector(ArraySplitter() if call.framing == "json_array" else None)


def _first_parts(answer: bytes) -> list[Raw]:
    try:
        candidates = _answer.decode(answer).candidates
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    content = next((candidate.content for candidate in candidates if candidate.index == 0), None)
    return content.parts if content is not None else []


def _returned(parts: Iterable[Raw]) -> list[bytes]:
    """Pieces of one text are one part again; nothing else is touched."""
    kept: list[bytes] = []
    open_text: _Said | None = None
    for part in parts:
        text = _plain_text(part)
        if text is None:
            open_text = None
            kept.append(bytes(part))
        elif not text.text:
            continue
        elif open_text is not None and open_text.thought == text.thought:
            open_text.text = f"{open_text.text}{text.text}"
            kept[-1] = _written(open_text)
        else:
            open_text = text
            kept.append(_written(text))
    return [b'{"role":"model","parts":[%b]}' % b",".join(kept)] if kept else []


def _written(said: _Said) -> bytes:
    return _json.encode({"text": said.text, "thought": True} if said.thought else {"text": said.text})


def _plain_text(part: Raw) -> _Said | None:
    """None: it holds more than a text."""
    return _said.decode(part) if members_of(part).keys() <= {"text", "thought"} else None


class GeminiCollector:
    __slots__ = ("_array", "_frames", "_parts", "done")

    def __init__(self, array: ArraySplitter | None) -> None:
        self.done = False
        self._array = array
        self._frames = FrameSplitter()
        self._parts: list[Raw] = []

    def feed(self, data: bytes) -> None:
        for answer in self._answers(data):
            self._parts += [Raw(bytes(part)) for part in _first_parts(answer)]
        if self._array is not None:
            self.done = self._array.done

    def turns(self) -> list[bytes]:
        return _returned(self._parts)

    def text(self) -> str:
        said = [text for part in self._parts if (text := _plain_text(part)) is not None and not text.thought]
        return "".join([text.text or "" for text in said])

    def _answers(self, data: bytes) -> list[bytes]:
        if self._array is not None:
            return self._array.feed(data)
        payloads = [frame_data(frame) for frame in self._frames.split(self._frames.feed(data))]
        return [payload for payload in payloads if payload]
