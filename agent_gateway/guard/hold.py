"""One text on its way through the finders, in whatever pieces it comes.

Promise: however the text is cut, the same comes out of it; what a match could still begin in waits, and nothing else does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agent_gateway.guard.base import CONTEXT_CHARS, Match

#: A long text is gone through in steps, so that no finder looks at all that is left of it again after each match (characters).
STEP_CHARS = 2048


class Looks(Protocol):
    """The two questions of a `Finder`."""

    def find(self, text: str, start: int = 0) -> Match | None: ...

    def settled(self, text: str, start: int = 0) -> int: ...


class Edit(NamedTuple):
    """`replace` is given the label and the value; None: what is found stays, and no other edit touches it."""

    title: str
    finder: Looks
    replace: Callable[[str, str], str] | None


class Alarm(NamedTuple):
    """A match that is told of (`told`), or at which the text ends."""

    title: str
    finder: Looks
    ends: bool


@dataclass(slots=True)
class Rules:
    """What is looked for, and what was found, in all texts of one side of an exchange."""

    edits: Sequence[Edit] = ()
    alarms: Sequence[Alarm] = ()
    #: Checks that have changed a text, and that were only to tell.
    masked: set[str] = field(default_factory=set)
    flagged: set[str] = field(default_factory=set)
    #: The check at whose match a text ended.
    blocked: str | None = None

    def __bool__(self) -> bool:
        return bool(self.edits or self.alarms)

    def settled(self, text: str, start: int) -> int:
        finders = [edit.finder for edit in self.edits] + [alarm.finder for alarm in self.alarms]
        return min([finder.settled(text, start) for finder in finders], default=len(text))

    def applied(self, text: str) -> str:
        """To a text that is whole; up to its end, or to what blocks it."""
        hold = Hold(self)
        return hold.feed(text, is_last=True)


class Hold:
    __slots__ = ("_done", "_looked", "_rules", "_text")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        #: What is not done with, and a little before it.
        self._text = ""
        #: Up to where it has gone on, and up to where alarms have looked at it.
        self._done = 0
        self._looked = 0

    def feed(self, piece: str, *, is_last: bool = False) -> str:
        """What can go on. After a block nothing does."""
        if len(piece) <= STEP_CHARS:
            return self._step(piece, is_last=is_last)
        last = (len(piece) - 1) // STEP_CHARS * STEP_CHARS
        steps = [self._step(piece[place : place + STEP_CHARS], is_last=False) for place in range(0, last, STEP_CHARS)]
        return "".join([*steps, self._step(piece[last:], is_last=is_last)])

    def _step(self, piece: str, *, is_last: bool) -> str:
        rules = self._rules
        if rules.blocked is not None:
            return ""
        text = self._text = self._text + piece
        settled = len(text) if is_last else rules.settled(text, self._looked)
        stop = self._heed(text, settled)
        out: list[str] = []
        done = self._done
        found = {edit: edit.finder.find(text, done) for edit in rules.edits}
        while (first := _first(found, stop)) is not None:
            edit, match = first
            value = text[match.start : match.end]
            changed = value if edit.replace is None else edit.replace(match.label, value)
            if changed != value:
                rules.masked.add(edit.title)
            out += (text[done : match.start], changed)
            done = match.end
            for other, known in found.items():
                if known is not None and known.start < done:
                    found[other] = other.finder.find(text, done)
        if done < stop:
            out.append(text[done:stop])
            done = stop
        kept_from = max(min(done, settled) - CONTEXT_CHARS, 0)
        self._text = text[kept_from:]
        self._done, self._looked = done - kept_from, settled - kept_from
        return "".join(out)

    def _heed(self, text: str, settled: int) -> int:
        """Up to where the text may go on, for all that alarms say."""
        rules = self._rules
        stop = settled
        for alarm in rules.alarms:
            if alarm.title in rules.flagged:
                continue
            match = alarm.finder.find(text, self._looked)
            if match is None or match.start >= stop:
                continue
            if alarm.ends:
                stop, rules.blocked = match.start, alarm.title
            else:
                rules.flagged.add(alarm.title)
        return stop


def _first(found: Mapping[Edit, Match | None], stop: int) -> tuple[Edit, Match] | None:
    """Before `stop`; of two that begin together, the earlier rule's."""
    first: tuple[Edit, Match] | None = None
    for edit, match in found.items():
        if match is not None and match.start < stop:
            first, stop = (edit, match), match.start
    return first


# --- texts in JSON ----------------------------------------------------------------------------------------------------

#: A run of plain characters, or one escape.
_PIECE = re.compile(r'[^"\\]+|\\(?:u[0-9a-fA-F]{4}|[^u])', re.DOTALL)
_TO_ESCAPE = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPED = {value: f"\\{name}" for name, value in _ESCAPES.items() if name != "/"}


class ArgumentsHold:
    """JSON in pieces: each string in it is a text of its own, held as such; all around them goes on as it comes. What does not begin
    like an object or a list is one plain text.
    """

    __slots__ = ("_buffer", "_hold", "_is_json", "_rules")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._buffer = ""
        self._is_json: bool | None = None
        #: Of the string, or the plain text, that is open.
        self._hold: Hold | None = None

    def feed(self, piece: str, *, is_last: bool = False) -> str:
        if self._rules.blocked is not None:
            return ""
        self._buffer += piece
        if self._is_json is None:
            begins = self._buffer.lstrip()[:1]
            if not begins and not is_last:
                return ""
            self._is_json = begins in ("{", "[")
            if not self._is_json:
                self._hold = Hold(self._rules)
        if not self._is_json:
            assert self._hold is not None
            text, self._buffer = self._buffer, ""
            return self._hold.feed(text, is_last=is_last)
        out: list[str] = []
        while self._buffer and self._step(out):
            pass
        if is_last:
            out.append(self._rest())
        return "".join(out)

    def _step(self, out: list[str]) -> bool:
        """False: more has to come first, or nothing more may."""
        buffer = self._buffer
        if self._rules.blocked is not None:
            return False
        if self._hold is None:
            before, quote, self._buffer = buffer.partition('"')
            out.append(before + quote)
            if quote:
                self._hold = Hold(self._rules)
        elif buffer[0] == '"':
            out.append(_escaped(self._hold.feed("", is_last=True)))
            if self._rules.blocked is None:
                out.append('"')
            self._hold = None
            self._buffer = buffer[1:]
        else:
            piece = _PIECE.match(buffer)
            if piece is None:
                return False
            out.append(_escaped(self._hold.feed(_plain(piece[0]))))
            self._buffer = buffer[piece.end() :]
        return True

    def _rest(self) -> str:
        """Of JSON that broke off."""
        if self._hold is None:
            return self._buffer
        return _escaped(self._hold.feed("", is_last=True)) + ("" if self._rules.blocked else self._buffer)


def _plain(piece: str) -> str:
    if piece[0] != "\\":
        return piece
    return chr(int(piece[2:], 16)) if piece[1] == "u" else _ESCAPES.get(piece[1], piece)


def _escaped(text: str) -> str:
    return _TO_ESCAPE.sub(lambda found: _ESCAPED.get(found[0]) or f"\\u{ord(found[0]):04x}", text)
