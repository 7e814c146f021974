"""Exact edits of a JSON object's members: every byte around them stays as it was."""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

_TOKEN = re.compile(rb'"((?:[^"\\]++|\\.)*+)"|[{}\[\]]', re.DOTALL)
_MEMBER_VALUE = re.compile(rb'\s*:\s*("(?:[^"\\]++|\\.)*+"|[^\s,{}\[\]]+)', re.DOTALL)
#: What stands between two members' values, and before the first.
_KEY = re.compile(rb'\s*+[{,]\s*+"((?:[^"\\]++|\\.)*+)"\s*+:\s*+', re.DOTALL)
_OBJECT_VALUE = re.compile(rb"\s*:\s*\{")
_members = msgspec.json.Decoder(dict[str, Raw])


def replace_member(text: bytes, name: bytes, value: bytes) -> bytes:
    """The text with `value` for the string, number or literal of the top-level member `name`; as it was when there is none."""
    key = _find_key(text, name)
    return text if key is None else b"".join((text[: key[1]], value, text[key[2] :]))


def replace_string(text: bytes, name: bytes, old: bytes, value: bytes) -> bytes:
    """`replace_member`, faster where the member's value is known to be `old`, a JSON string, and stands close to its name."""
    member = b'"%b":%b' % (name, old)
    start = text.find(member)
    if start >= 0 and text.count(b"{", 0, start) == 1 and text.find(b"[", 0, start) < 0:
        return b'%b"%b":%b%b' % (text[:start], name, value, text[start + len(member) :])
    return replace_member(text, name, value)


def replace_nested(text: bytes, path: tuple[bytes, ...], value: bytes) -> bytes:
    """`replace_member` for a member of an object in an object, and so on: `path` names them from the top."""
    key = _find_path(text, path)
    return text if key is None else b"".join((text[: key[1]], value, text[key[2] :]))


def remove_null_member(text: bytes, name: bytes) -> bytes:
    """The text without the top-level member `name`, its comma included, where its value is null."""
    key = _find_key(text, name)
    if key is None or text[key[1] : key[2]] != b"null":
        return text
    before, after = text[: key[0]].rstrip(), text[key[2] :]
    if before.endswith(b","):
        return before[:-1] + after
    return text[: key[0]] + after.lstrip().removeprefix(b",").lstrip()


def _find_key(text: bytes, name: bytes) -> tuple[int, int, int] | None:
    """Start of the key, start and end of its simple value."""
    quoted = b'"%b"' % name
    start = text.find(quoted)
    while start >= 0 and text.count(b"{", 0, start) == 1 and text.find(b"[", 0, start) < 0:
        # One object has been opened and nothing in it: what is quoted here and followed by a colon is a key of the top level.
        value = _MEMBER_VALUE.match(text, start + len(quoted))
        if value:
            return start, value.start(1), value.end()
        start = text.find(quoted, start + 1)
    return None if start < 0 else _find_behind(text, name) or _find_path(text, (name,))


def _find_behind(text: bytes, name: bytes) -> tuple[int, int, int] | None:
    """The same where much stands before the key: whole members are stepped over. None also for what is not plain JSON."""
    try:
        members = _members.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    position = 0
    for raw in members.values():
        key = _KEY.match(text, position)
        if key is None:
            return None
        value = bytes(raw)
        position = key.end() + len(value)
        if text[key.end() : position] != value:
            return None  # a key that stands there twice
        if key[1] == name:
            return (key.start(1) - 1, key.end(), position) if value[:1] not in (b"{", b"[") else None
    return None


def _find_path(text: bytes, path: tuple[bytes, ...]) -> tuple[int, int, int] | None:
    """The same for the last name of `path`, counting brackets token by token."""
    depth = 0
    entered = 0  # so many of the path's objects are open
    for token in _TOKEN.finditer(text):
        mark = text[token.start()]
        if mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            entered = min(entered, max(0, depth - 1))
        elif depth == entered + 1 and token.group(1) == path[entered]:
            if entered + 1 < len(path):
                entered += bool(_OBJECT_VALUE.match(text, token.end()))
            elif value := _MEMBER_VALUE.match(text, token.end()):
                return token.start(), value.start(1), value.end()
    return None
