"""The texts of a request, found in the client's JSON and put back into it.

Promise: what is not a text, and every text that is not changed, keeps its very bytes; a member that stands there twice is seen twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from agent_gateway.core.errors import BadRequest
from agent_gateway.guard.base import Role, Said
from agent_gateway.guard.shapes import ALL, ASKED, CALLS, JSON, RESULTS, SYSTEM, TEXT_OR_DATA, THOUGHT, THOUGHTS, TOLD, Leaf, Shape

#: A request with more texts than that is refused: each takes a few hundred bytes while it is looked at.
TEXTS_MAX = 100_000

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]|true', re.DOTALL)
_string = msgspec.json.Decoder(str)
_json = msgspec.json.Encoder()
_any: msgspec.json.Decoder[object] = msgspec.json.Decoder()
_ROLES: dict[bytes, Role] = {
    b'"system"': "system",
    b'"developer"': "system",
    b'"user"': "user",
    b'"assistant"': "assistant",
    b'"model"': "assistant",
    b'"tool"': "tool",
    b'"function"': "tool",
}


class Passage:
    """One string of the body: a text, or JSON that holds texts."""

    __slots__ = ("end", "inner", "is_data", "role", "start", "text")

    def __init__(self, start: int, end: int, text: str, role: Role | None) -> None:
        self.start = start
        self.end = end
        self.text = text
        self.role = role
        #: What `text` holds, where that is JSON.
        self.inner: list[Passage] | None = None
        self.is_data = False

    def texts(self) -> Iterator[Said]:
        if self.inner is None:
            yield Said(self.text, self.role or "user")
        else:
            for passage in self.inner:
                yield from passage.texts()

    def changed(self, change: Callable[[str], str]) -> str:
        if self.role == "thought":
            return self.text
        if self.inner is None:
            return change(self.text)
        return rewritten(self.text.encode(), self.inner, change).decode()


class _Frame:
    """An object or a list that is open."""

    __slots__ = ("first", "is_object", "key", "kind", "role", "shape", "wants_key")

    def __init__(self, shape: Shape | None, first: int, role: Role | None, *, is_object: bool) -> None:
        self.shape = shape
        #: The number of passages before it.
        self.first = first
        self.role = role
        self.is_object = is_object
        self.wants_key = is_object
        self.key = ""
        #: Its member `type`.
        self.kind = ""


def passages(body: bytes, shape: Shape, role: Role | None = None) -> list[Passage]:
    """In the order in which they stand. `body` is JSON; raises `BadRequest` for a text that cannot be read, and for too many."""
    found: list[Passage] = []
    open_: list[_Frame] = []
    current: Shape | None = shape
    inner = 0
    for token in _TOKEN.finditer(body):
        mark = body[token.start()]
        frame = open_[-1] if open_ else None
        if mark == 0x22:
            if frame is not None and frame.wants_key:
                frame.key, frame.wants_key = _read(token[0]), False
                current = _member(frame.shape, frame.key)
                if frame.shape is ALL:
                    found.append(Passage(token.start(), token.end(), frame.key, frame.role))
                continue
            if frame is not None and frame.is_object and isinstance(frame.shape, dict):
                _note(frame, token[0])
            leaf = current.get("") if isinstance(current, dict) else current
            if isinstance(leaf, Leaf):
                found.append(_passage(token, leaf, frame))
                inner += len(found[-1].inner or ())
        elif mark in b"{[":
            inner_role = None if frame is None else _role_of(frame)
            open_.append(_Frame(current, len(found), inner_role or role, is_object=mark == 0x7B))
        elif mark in b"}]":
            _close(open_.pop(), found)
            current = open_[-1].shape if open_ else None
        elif mark == 0x2C and frame is not None:
            frame.wants_key = frame.is_object
            current = frame.shape
            if len(found) + inner > TEXTS_MAX:
                raise BadRequest(f"The request holds more than {TEXTS_MAX} texts, which is more than the gateway's checks look at.")
        elif mark == 0x74 and frame is not None and frame.key == "thought" and isinstance(frame.shape, dict):
            frame.kind = "thinking"
    return [passage for passage in found if not passage.is_data]


def rewritten(body: bytes, found: Sequence[Passage], change: Callable[[str], str]) -> bytes:
    """The body itself, where `change` changes no text."""
    pieces: list[bytes] = []
    position = 0
    for passage in found:
        text = passage.changed(change)
        if text != passage.text:
            pieces += (body[position : passage.start], _json.encode(text))
            position = passage.end
    return b"".join([*pieces, body[position:]]) if pieces else body


def _member(shape: Shape | None, key: str) -> Shape | None:
    if isinstance(shape, dict):
        return shape.get(key) if key else None
    return ALL if shape is ALL else None


def _passage(token: re.Match[bytes], leaf: Leaf, frame: _Frame | None) -> Passage:
    role = None if frame is None else _role_of(frame)
    passage = Passage(token.start(), token.end(), _read(token[0]), role)
    passage.is_data = leaf is TEXT_OR_DATA
    if leaf is JSON and passage.text.lstrip()[:1] in ("{", "["):
        inner = passage.text.encode()
        try:
            _any.decode(inner)
        except (msgspec.MsgspecError, RecursionError):
            return passage  # a text like any other
        passage.inner = passages(inner, ALL, role)
    return passage


def _note(frame: _Frame, value: bytes) -> None:
    """What an object says of itself."""
    if frame.key == "role":
        frame.role = frame.role or _ROLES.get(value)
    elif frame.key == "type":
        frame.kind = _read(value)


def _role_of(frame: _Frame) -> Role | None:
    """Of what stands in the frame's current member; None until the object is read to its end."""
    if frame.is_object:
        if frame.key in THOUGHT:
            return "thought"
        if frame.key in SYSTEM:
            return "system"
        if frame.key in ASKED:
            return "arguments"
        if frame.key in TOLD:
            return "tool"
    return frame.role if frame.role in ("system", "arguments", "tool") else None


def _close(frame: _Frame, found: list[Passage]) -> None:
    """What the object said of itself holds for all that was in it, whichever stood first."""
    if not frame.is_object:
        return
    inside = found[frame.first :]
    role: Role | None = frame.role
    if frame.kind in THOUGHTS:
        role = "thought"
    elif frame.kind in RESULTS:
        role = "tool"
    elif frame.kind in CALLS:
        role = "arguments"
    for passage in inside:
        passage.role = "thought" if role == "thought" else passage.role or role
        if passage.inner is not None:
            for inner in passage.inner:
                inner.role = passage.role
        passage.is_data = passage.is_data and frame.kind != "text"


def _read(token: bytes) -> str:
    try:
        return _string.decode(token)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"A text of the request cannot be read: {error}.") from None
