"""Whether a request lets anything of itself be kept."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from agent_gateway.core.call import Call


class _Stored(Struct):
    store: bool | None = None


_stored = msgspec.json.Decoder(_Stored)


def is_to_be_kept(call: Call) -> bool:
    """False: the body says `store: false`."""
    if b'"store"' not in call.body:
        return True
    try:
        return _stored.decode(call.body).store is not False
    except msgspec.MsgspecError:
        return True
