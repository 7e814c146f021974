"""What stands for a value that a provider is not to see, and the way back.

Promise: the same value of the same owner is called the same, in every turn and every process; only values of this very conversation
are put back.
"""

from __future__ import annotations

import re
from base64 import b32encode
from hashlib import sha256
from hmac import digest

from agent_gateway.guard.base import Match

#: 50 bits: of a million values of one owner, the odds that two are called the same are one in two thousand.
DIGITS = 10
LABEL_MAX_CHARS = 16

_PLACEHOLDER = re.compile(rf"(?ai)<?(?<![A-Za-z0-9_])([A-Z]{{2,{LABEL_MAX_CHARS}}}_[A-Z2-7]{{{DIGITS}}})(?![A-Za-z0-9_])>?")
#: What may become one.
_BEGUN = re.compile(rf"(?ai)<?(?<![A-Za-z0-9_])(?:[A-Z]{{1,{LABEL_MAX_CHARS}}}(?:_[A-Z2-7]{{0,{DIGITS}}})?)?\Z")


class Placeholders:
    """Of one conversation. `owner` keeps two owners' same values apart."""

    __slots__ = ("_owner", "_secret", "_values")

    def __init__(self, secret: bytes, owner: str) -> None:
        self._secret = secret
        self._owner = owner
        #: Value by what stands for it, in capitals and without brackets.
        self._values: dict[str, str] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to put back."""
        return bool(self._values)

    def hide(self, label: str, value: str) -> str:
        """What goes out in the value's place, and is known from now on."""
        placeholder = self.stand_in(label, value)
        self._values[placeholder[1:-1].upper()] = value
        return placeholder

    def stand_in(self, label: str, value: str) -> str:
        """The same, for good: it is not put back."""
        told = f"{self._owner}\0{label}\0{value}".encode("utf-8", "surrogatepass")
        return f"<{label}_{b32encode(digest(self._secret, told, sha256))[:DIGITS].decode().lower()}>"

    # --- the way back, as a finder's two questions

    def find(self, text: str, start: int = 0) -> Match | None:
        """The first that is known, however the model has spelt it: in small letters, or without its brackets."""
        for found in _PLACEHOLDER.finditer(text, start):
            if found[1].upper() in self._values:
                return Match(found.start(), found.end(), "")
        return None

    def settled(self, text: str, start: int = 0) -> int:
        begun = _BEGUN.search(text, max(start, len(text) - LABEL_MAX_CHARS - DIGITS - 2))
        if begun is None or begun.start() == len(text):
            return len(text)
        word = begun[0].lstrip("<").upper()
        return begun.start() if any(name.startswith(word) for name in self._values) else len(text)

    def value(self, placeholder: str) -> str:
        return self._values[placeholder.strip("<>").upper()]
