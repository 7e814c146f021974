"""Names of what the batch room makes, and whose key a batch goes on with."""

from __future__ import annotations

import secrets
from dataclasses import replace

import msgspec

from agent_gateway.admission.keys import ADMIN, Key, KeyRing

_key = msgspec.json.Decoder(Key)


def new_file_id() -> str:
    return f"file-{secrets.token_hex(16)}"


def new_batch_id() -> str:
    return f"batch_{secrets.token_hex(16)}"


def kept_key(key: Key | None) -> bytes | None:
    """`StoredBatch.key` of a batch that `key` makes: a token's key is in no store, and outlives the token."""
    return None if key is None or not key.id.startswith("jwt:") else msgspec.json.encode(key)


async def key_of(keys: KeyRing, key_id: str, kept: bytes | None) -> Key | None:
    """The key that an item is run with; None: none was required. Raises `Unauthenticated` once it is revoked or has expired."""
    if kept is not None:
        return replace(_key.decode(kept), expires_at=None)
    if not key_id:
        return None
    return ADMIN if key_id == ADMIN.id else await keys.by_id(key_id)
