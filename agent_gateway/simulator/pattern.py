"""A text that matches a regular expression, for the `pattern` of a JSON schema.

Of ECMA-262's syntax: literals, `.`, classes, escapes, groups, alternatives, quantifiers and outer anchors; the rest is refused.
"""

from __future__ import annotations

import random
import re

#: How often `*` and `+` repeat at most.
_REPEATS_MAX = 4

_DIGITS = "0123456789"
_WORD = "abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + _DIGITS + "_"
_PRINTABLE = "".join(map(chr, range(32, 127)))
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": " "}
_CONTROL = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_RANGE = re.compile(r"-[^\]]")
_QUANTIFIER = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")


class UnsupportedPattern(ValueError):
    pass


def matching_text(pattern: str, chance: random.Random) -> str:
    """Raises `UnsupportedPattern` where no match can be made."""
    text = _Maker(pattern, chance).alternatives()
    try:
        matches = re.search(pattern, text) is not None
    except re.error as error:
        raise UnsupportedPattern(f"the pattern {pattern!r} is not a regular expression: {error}") from None
    if not matches:
        raise UnsupportedPattern(f"the pattern {pattern!r} is beyond the simulator")
    return text


class _Maker:
    """Recursive descent over the pattern; each method consumes its part and returns a text for it."""

    def __init__(self, pattern: str, chance: random.Random) -> None:
        self._pattern = pattern
        self._chance = chance
        self._at = 0

    def alternatives(self) -> str:
        options = [self._sequence()]
        while self._take("|"):
            options.append(self._sequence())
        return self._chance.choice(options)

    def _sequence(self) -> str:
        parts: list[str] = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            start = self._at
            first = self._atom()
            end = self._at
            low, high = self._quantifier()
            after = self._at
            texts = [first]
            count = self._chance.randint(low, high)
            while len(texts) < count:
                self._at = start  # the atom is made anew for each repeat
                texts.append(self._atom())
                self._at = end
            self._at = after
            parts += texts[:count]
        return "".join(parts)

    def _atom(self) -> str:
        character = self._next()
        match character:
            case "^" | "$":
                return ""
            case ".":
                return self._chance.choice(_WORD)
            case "(":
                if self._take("?") and not self._take(":"):
                    raise UnsupportedPattern(f"the pattern {self._pattern!r} uses a group that the simulator does not know")
                text = self.alternatives()
                if not self._take(")"):
                    raise UnsupportedPattern(f"the pattern {self._pattern!r} has a group that is not closed")
                return text
            case "[":
                return self._chance.choice(self._class())
            case "\\":
                return self._chance.choice(self._escape())
            case _:
                return character

    def _class(self) -> str:
        inverted = self._take("^")
        members = ""
        while not (members and self._take("]")):
            character = self._next()
            options = self._escape() if character == "\\" else character
            if len(options) == 1 and _RANGE.match(self._pattern, self._at):
                self._at += 1
                last = self._next()
                last = self._escape() if last == "\\" else last
                options = "".join(map(chr, range(ord(options), ord(last[0]) + 1)))
            members += options
        chosen = "".join([one for one in _PRINTABLE if one not in members]) if inverted else members
        if not chosen:
            raise UnsupportedPattern(f"the pattern {self._pattern!r} has a class without members")
        return chosen

    def _escape(self) -> str:
        character = self._next()
        if character in _CLASSES:
            return _CLASSES[character]
        if character.lower() in _CLASSES:
            excluded = _CLASSES[character.lower()]
            return "".join([one for one in _PRINTABLE if one not in excluded])
        if character in _CONTROL:
            return _CONTROL[character]
        if character.isalnum():
            raise UnsupportedPattern(f"the pattern {self._pattern!r} uses \\{character}, which the simulator does not know")
        return character

    def _quantifier(self) -> tuple[int, int]:
        low, high = 1, 1
        if self._take("?"):
            low, high = 0, 1
        elif self._take("*"):
            low, high = 0, _REPEATS_MAX
        elif self._take("+"):
            low, high = 1, _REPEATS_MAX
        elif match := _QUANTIFIER.match(self._pattern, self._at):
            self._at = match.end()
            low = int(match[1])
            high = low if match[2] is None else int(match[3]) if match[3] else low + _REPEATS_MAX
        else:
            return low, high
        self._take("?")  # lazy or greedy makes no difference here
        return low, max(low, high)

    def _take(self, character: str) -> bool:
        found = self._pattern.startswith(character, self._at)
        self._at += found
        return found

    def _next(self) -> str:
        if self._at >= len(self._pattern):
            raise UnsupportedPattern(f"the pattern {self._pattern!r} ends too early")
        self._at += 1
        return self._pattern[self._at - 1]
