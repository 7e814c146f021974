"""Which requests of a batch are the same, so that one answer is good for all of them; fed with one after the other as its file is read.

Promise: what is not run by itself would have had the same answer: of requests that are deterministic, or all of which their sender says so.
"""

from __future__ import annotations

import re
from hashlib import blake2b

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.call import Call

#: A body over this is the same as another only byte for byte: taken apart, it may need thirty times its size.
SORTED_BYTES_MAX = 1024 * 1024

_decoder = msgspec.json.Decoder()
_sorting = msgspec.json.Encoder(order="sorted")
_ZERO = re.compile(rb"-?0(\.0*)?([eE].*)?")
_NULL = Raw(b"null")


class _Sampling(Struct):
    temperature: Raw = _NULL
    seed: Raw = _NULL


_sampling = msgspec.json.Decoder(_Sampling)


class Duplicates:
    """One batch's; it keeps a digest of 16 bytes for each item that another may be the same as.

    `wanted`: whether all that are the same are run once (True), or none (False); None: those that are deterministic.
    """

    def __init__(self, wanted: bool | None = None) -> None:
        self._wanted = wanted
        #: The number of the first that asked for it.
        self._first: dict[bytes, int] = {}

    def twin_of(self, number: int, call: Call) -> int | None:
        """The number of the first item that asks the same; None: this is the first, or it is run whatever came before."""
        if not (is_deterministic(call) if self._wanted is None else self._wanted) or _changes_something(call):
            return None
        first = self._first.setdefault(blake2b(_sorted(call.body), digest_size=16).digest(), number)
        return None if first == number else first


def is_deterministic(call: Call) -> bool:
    """Whether it would have the same answer again, as far as providers say so: vectors, `temperature: 0`, a `seed`."""
    if call.dialect == "openai_embeddings":
        return True
    if b'"temperature"' not in call.body and b'"seed"' not in call.body:
        return False
    try:
        asked = _sampling.decode(call.body)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return bytes(asked.seed) != b"null" or _ZERO.fullmatch(asked.temperature) is not None


def _changes_something(call: Call) -> bool:
    """Its turn is added to a conversation, where the second of the same finds the first."""
    return call.keeping is not None and call.keeping.conversation is not None


def _sorted(body: bytes) -> bytes:
    """Without the order of its members and the white space between them."""
    if len(body) > SORTED_BYTES_MAX:
        return body
    try:
        return _sorting.encode(_decoder.decode(body))
    except (msgspec.MsgspecError, RecursionError):  # what its codec need not look into
        return body
