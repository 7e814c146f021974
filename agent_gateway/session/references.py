"""Items that a request only refers to by their ids (`item_reference`), put in their places.

Promise: an item that is in front of the input already is not said twice; one that is not known here is the provider's to know.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec import Struct

from agent_gateway.protocols.turns import members_of

#: In the body of a request that may hold any.
MARK = b'"item_reference"'
#: The gateway's own ids of items tell the response that they are part of (`protocols.openai_responses.answer`).
_OWN_ID = re.compile(r"(?:msg|rs|fc)_([0-9a-f]{28})_\d+")


class _Reference(Struct):
    type: str | None = None
    id: str | None = None


_reference = msgspec.json.Decoder(_Reference)


async def resolved(
    items: Sequence[bytes], before: Sequence[bytes], output_of: Callable[[str], Awaitable[Sequence[bytes]]]
) -> list[bytes]:
    """`before`: what goes in front of the items; `output_of`: a response's output by its id, empty where it is not known."""
    said = {_id_of(item) for item in before}
    outputs: dict[str, Sequence[bytes]] = {}
    told: list[bytes] = []
    for item in items:
        reference = _reference.decode(item) if MARK in item else _Reference()
        if reference.type != "item_reference" or reference.id is None:
            told.append(item)
        elif reference.id not in said:
            if (own := _OWN_ID.fullmatch(reference.id)) and own[1] not in outputs:
                outputs[own[1]] = await output_of(f"resp_{own[1]}")
            known = outputs.get(own[1], ()) if own else ()
            told.append(next((other for other in known if _id_of(other) == reference.id), item))
    return told


def _id_of(item: bytes) -> str | None:
    told = members_of(item).get("id")
    return None if told is None else str(msgspec.json.decode(told))
