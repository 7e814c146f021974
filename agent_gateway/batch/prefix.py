"""What a request begins with, in a word that sorts: requests that share their beginning stand side by side.

Providers charge less for a beginning that they have just read, from a thousand tokens on: such requests are best run together.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import islice

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.call import Call

#: The beginning is compared in blocks of so many bytes, so many of them at most; what is left over is not.
BLOCK_BYTES = 1024
BLOCKS_MAX = 8

_NOTHING = Raw()


class _Beginning(Struct):
    """In the order in which providers read it, whatever the protocol."""

    tools: Raw = _NOTHING
    functions: Raw = _NOTHING
    system: Raw = _NOTHING
    instructions: Raw = _NOTHING
    prompt: Raw = _NOTHING
    messages: Raw = _NOTHING
    input: Raw = _NOTHING


_beginning = msgspec.json.Decoder(_Beginning)


def prefix_of(call: Call) -> str:
    """Four characters for each block: two requests have as many in common as they share blocks. Empty where there is not one whole."""
    if len(call.body) < BLOCK_BYTES or call.dialect == "openai_embeddings":
        return ""
    try:
        told = _beginning.decode(call.body)
    except (msgspec.MsgspecError, RecursionError):
        return ""
    parts = (memoryview(getattr(told, name)) for name in told.__struct_fields__)
    head = b"".join(part[: BLOCK_BYTES * BLOCKS_MAX] for part in parts)
    blocks = (head[place : place + BLOCK_BYTES] for place in range(0, len(head) - BLOCK_BYTES + 1, BLOCK_BYTES))
    return "".join(blake2b(block, digest_size=2).hexdigest() for block in islice(blocks, BLOCKS_MAX))
