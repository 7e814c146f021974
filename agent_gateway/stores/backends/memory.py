"""State that ends with the process: for `sqlite:///:memory:`, demos and tests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from agent_gateway.core.errors import Conflict
from agent_gateway.stores.base import Key


class MemoryStore:
    def __init__(self) -> None:
        self._hashes: dict[bytes, str] = {}
        self._keys: dict[str, Key] = {}
        self._version = 0

    async def create_key(self, key: Key, secret_hash: bytes) -> None:
        if key.id in self._keys or secret_hash in self._hashes:
            raise Conflict(f"There is a key {key.id} already.")
        self._keys[key.id] = key
        self._hashes[secret_hash] = key.id
        self._version += 1

    async def list_keys(self) -> Sequence[Key]:
        return list(self._keys.values())

    async def revoke_key(self, key_id: str, at: float) -> Key | None:
        key = self._keys.get(key_id)
        if key is not None and key.revoked_at is None:
            key = self._keys[key_id] = replace(key, revoked_at=at)
            self._version += 1
        return key

    async def find_keys(self, secret_hashes: Collection[bytes]) -> Mapping[bytes, Key]:
        return {known: self._keys[self._hashes[known]] for known in secret_hashes if known in self._hashes}

    async def keys_version(self) -> int:
        return self._version

    async def close(self) -> None:
        return None
