"""What an operator will not have said: words, or a pattern in RE2's syntax.

Promise: time is linear in the text, whatever the pattern. Python's own `re` cannot promise that, so patterns need RE2.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from agent_gateway.guard.base import REACH_MAX_CHARS, Action, CheckSettings, Match, Side, Tools
from agent_gateway.guard.phrases import Phrases, check_phrases

PATTERN_MAX_CHARS = 4096
#: Memory of a compiled pattern (bytes).
PATTERN_MAX_BYTES = 8 * 1024 * 1024

_SURROGATES = re.compile("[\ud800-\udfff]")


class Options(CheckSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "deny"
    action: Action = "block"
    pattern: Annotated[str, Meta(min_length=1)] | None = None
    #: Whole words, or phrases, in any case.
    words: tuple[str, ...] = ()
    #: A match of `pattern` is at most so long, and so much of a stream is held back for it.
    max_chars: Annotated[int, Meta(ge=1, le=REACH_MAX_CHARS)] = 256

    def __post_init__(self) -> None:
        if (self.pattern is None) == (not self.words):
            raise ValueError("give pattern or words, one of them")
        if self.pattern is not None:
            compiled(self.pattern)
        check_phrases("words", self.words)


def compiled(pattern: str) -> Any:
    """Raises `ValueError`, with the setting's name."""
    try:
        import re2  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError("pattern: needs google-re2; in a clone: pip install '.[guards]'; or give words") from None
    if len(pattern) > PATTERN_MAX_CHARS:
        raise ValueError(f"pattern: has {len(pattern)} characters; at most {PATTERN_MAX_CHARS}")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = PATTERN_MAX_BYTES
    try:
        made = re2.compile(pattern, options=options)
    except re2.error as error:
        told = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise ValueError(f"pattern: is not in RE2's syntax (no look-around, no back-references): {told}") from None
    if made.search("") is not None:
        raise ValueError("pattern: matches the empty text; make it match what is to be found")
    return made


class Check:
    Settings: ClassVar[type[Options]] = Options
    looks_at: ClassVar[Literal["places"]] = "places"
    sides: ClassVar[frozenset[Side]] = frozenset({"input", "output"})

    def __init__(self, settings: Options, tools: Tools) -> None:
        self._reach = settings.max_chars
        self._words = Phrases(settings.words) if settings.words else None
        self._form = None if settings.pattern is None else compiled(settings.pattern)

    def find(self, text: str, start: int = 0) -> Match | None:
        found = self._matched(text, start) if self._words is None else self._words.find(text, start)
        return None if found is None else Match(*found, "DENIED")

    def settled(self, text: str, start: int = 0) -> int:
        if self._words is not None:
            return self._words.settled(text, start)
        return max(start, len(text) - self._reach - 1)

    def _matched(self, text: str, start: int) -> tuple[int, int] | None:
        """The same as in a stream, where no more than `max_chars` of a match are ever seen."""
        assert self._form is not None
        if not text.isascii():
            text = _SURROGATES.sub("\ufffd", text)  # halves of a character, which RE2 cannot take
        while (found := self._form.search(text, start)) is not None:
            begin, end = found.span()
            if end - begin > self._reach:
                found = self._form.match(text, begin, begin + self._reach)
                end = begin if found is None else found.end()
            if end > begin:
                return begin, end
            start = begin + 1
        return None
