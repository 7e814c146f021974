"""Words and phrases from a list, found in any case, each as a word of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence

PHRASES_MAX = 500
PHRASE_MAX_CHARS = 100
#: Where a phrase has a space, a text may have so many spaces, line breaks and the like.
GAP_MAX_CHARS = 64

_GAP = re.compile(rf"\s{{1,{GAP_MAX_CHARS}}}")


class Phrases:
    """Where letters have spaces between words (ASCII), a phrase is not found inside a longer word."""

    __slots__ = ("_begun", "_longest", "_phrases", "_reach")

    def __init__(self, phrases: Sequence[str]) -> None:
        told = {" ".join(_lowered(phrase).split()) for phrase in phrases}
        ordered = sorted(told, key=lambda phrase: (-len(phrase), phrase))
        #: The first word, and what the words after it look like.
        self._phrases = [(phrase.split(" ")[0], _rest(phrase)) for phrase in ordered]
        self._longest = len(ordered[0])
        self._reach = max(len(phrase) + phrase.count(" ") * (GAP_MAX_CHARS - 1) for phrase in told)
        self._begun = {phrase[:length] for phrase in told for length in range(1, len(phrase) + 1)}

    def find(self, text: str, start: int = 0) -> tuple[int, int] | None:
        """The first, and of two that begin together the longer."""
        lowered = _lowered(text)
        first, end = len(text), 0
        for word, rest in self._phrases:
            before = first + len(word) - 1
            place = lowered.find(word, start, before)
            while place >= 0:
                found = rest.match(lowered, place + len(word))
                if found is not None and _is_word(lowered, place, found.end()):
                    first, end = place, found.end()
                    break
                place = lowered.find(word, place + 1, before)
        return (first, end) if end else None

    def settled(self, text: str, start: int = 0) -> int:
        """What begins before here is found, or not, whatever follows."""
        tail = _lowered(text[max(start, len(text) - self._reach) :])
        narrow = _GAP.sub(" ", tail)
        for place in range(max(len(narrow) - self._longest, 0), len(narrow)):
            if narrow[place:] in self._begun:
                return len(text) - len(tail) + _place_in(tail, place)
        return len(text)


def check_phrases(setting: str, phrases: Sequence[str]) -> None:
    """Raises `ValueError`, with the setting's name."""
    if len(phrases) > PHRASES_MAX:
        raise ValueError(f"{setting}: there are {len(phrases)}; at most {PHRASES_MAX}")
    for phrase in phrases:
        if not 2 <= len(phrase.strip()) <= PHRASE_MAX_CHARS:
            raise ValueError(f"{setting}: each has 2 to {PHRASE_MAX_CHARS} characters")


def _lowered(text: str) -> str:
    """As many characters as before."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join([letter.lower() if len(letter.lower()) == 1 else letter for letter in text])


def _rest(phrase: str) -> re.Pattern[str]:
    _, *further = phrase.split(" ")
    return re.compile("".join(_GAP.pattern + re.escape(word) for word in further))


def _place_in(text: str, place: int) -> int:
    """Where in the text that is, which was counted with each gap as one character."""
    for gap in _GAP.finditer(text):
        if gap.start() >= place:
            break
        place += len(gap[0]) - 1
    return place


def _is_word(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    return not (_joins(before) and _joins(text[start])) and not (_joins(after) and _joins(text[end - 1]))


def _joins(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()
