"""Thoughts signed, so that they can be handed back, and what is handed back checked: as the real providers do.

Promise: a signature is good only in the protocol that it was made for and, where the thought's text comes with it, for that text.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import blake2b
from hmac import compare_digest

from agent_gateway.core.call import Dialect

#: Of the simulated provider; the same in every process, as one provider's machines share theirs.
_KEY = b"agent-gateway simulator"
_HALF_BYTES = 16
_FROM_URL_ALPHABET = str.maketrans("-_", "+/")


def signature_of(text: str, dialect: Dialect) -> str:
    """A digest of the thought, and a seal on the digest that holds without the thought too: not every client sends it back."""
    digest = _digest(text)
    return base64.b64encode(digest + _seal(digest, dialect)).decode()


def is_signed(signature: str, text: str, dialect: Dialect) -> bool:
    """Whether the simulator made this signature; for this text, unless it is empty."""
    try:
        # Google's SDK hands bytes back in the alphabet for URLs.
        made = base64.b64decode(signature.translate(_FROM_URL_ALPHABET), validate=True)
    except (binascii.Error, ValueError):
        return False
    digest, seal = made[:_HALF_BYTES], made[_HALF_BYTES:]
    return compare_digest(seal, _seal(digest, dialect)) and (not text or compare_digest(digest, _digest(text)))


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HALF_BYTES).digest()


def _seal(digest: bytes, dialect: Dialect) -> bytes:
    return blake2b(digest + dialect.encode(), key=_KEY, digest_size=_HALF_BYTES).digest()
