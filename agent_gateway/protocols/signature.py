"""Signed reasoning on its way through a client that speaks another protocol than the provider that signed it.

Promise: the provider gets back, byte for byte, the signature it made; nobody else's.
"""

from __future__ import annotations

import re
from typing import cast, get_args

from agent_gateway.core.call import Dialect

#: Begins what stands before a signature that another protocol's provider made.
MARK = "agw^"
#: A JSON string that begins with it.
MARKED = f'"{MARK}'.encode()
_RARE = b"^"
_MARK = re.compile(rf"{re.escape(MARK)}(?P<origin>[a-z_]+):(?P<signature>.*)", re.DOTALL)


def holds_mark(body: bytes) -> bool:
    """Whether any JSON string in it begins with the mark. One byte that texts seldom have is found twenty times as fast as a word: in a
    megabyte of conversation that is half a millisecond. (`in` would first try it for a number, and raise and swallow an error over it.)
    """
    return body.find(_RARE) >= 0 and body.find(MARKED) >= 0


def shown_signature(signature: str, origin: Dialect | None, client: Dialect) -> str:
    """As it stands in the client's protocol: marked with its origin where that is another."""
    return signature if origin is None or origin == client else f"{MARK}{origin}:{signature}"


def read_signature(shown: str, client: Dialect) -> tuple[str, Dialect]:
    """The signature and its origin, as the client sent them back."""
    match = _MARK.fullmatch(shown)
    if match is None or match["origin"] not in get_args(Dialect):
        return shown, client
    return match["signature"], cast("Dialect", match["origin"])
