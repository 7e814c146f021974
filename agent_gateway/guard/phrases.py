"""Words and phrases from a list, found in any case, each as a word of its own."""

from __future__ import annotations

from collections.abc import Sequence

PHRASES_MAX = 500
PHRASE_MAX_CHARS = 100


class Phrases:
    """Where letters have spaces between words (ASCII), a phrase is not found inside a longer word."""

    __slots__ = ("_begun", "_longest", "_phrases")

    def __init__(self, phrases: Sequence[str]) -> None:
        told = {_lowered(phrase.strip()) for phrase in phrases}
        self._phrases = tuple(sorted(told, key=lambda phrase: (-len(phrase), phrase)))
        self._longest = len(self._phrases[0])
        self._begun = {phrase[:length] for phrase in told for length in range(1, len(phrase) + 1)}

    def find(self, text: str, start: int = 0) -> tuple[int, int] | None:
        """The first, and of two that begin together the longer."""
        lowered = _lowered(text)
        first, end = len(text), 0
        for phrase in self._phrases:
            place = lowered.find(phrase, start, first + len(phrase) - 1)
            while place >= 0 and not _is_word(lowered, place, place + len(phrase)):
                place = lowered.find(phrase, place + 1, first + len(phrase) - 1)
            if place >= 0:
                first, end = place, place + len(phrase)
        return (first, end) if end else None

    def settled(self, text: str, start: int = 0) -> int:
        """What begins before here is found, or not, whatever follows."""
        tail = _lowered(text[max(start, len(text) - self._longest) :])
        for place in range(len(tail)):
            if tail[place:] in self._begun:
                return len(text) - len(tail) + place
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


def _is_word(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    return not (_joins(before) and _joins(text[start])) and not (_joins(after) and _joins(text[end - 1]))


def _joins(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()
