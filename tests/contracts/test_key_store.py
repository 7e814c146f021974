"""What every store promises of keys (`stores/base.py`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_asyncio

from agent_gateway.core.errors import Conflict
from agent_gateway.stores.base import Key, KeyStore
from tests.stores.stores import KINDS, fresh_store

FULL = Key(
    "full",
    "an agent",
    frozenset({"small", "large"}),
    created_at=100.5,
    expires_at=900.25,
    requests_per_minute=60,
    tokens_per_minute=10**10,
    max_parallel=3,
)
PLAIN = Key("plain", "Ünïcode 🔑", created_at=200.0)


@pytest_asyncio.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyStore]:
    store = await fresh_store(request.param, request.config, tmp_path)
    yield store
    await store.close()


def hashed(key: Key) -> bytes:
    return sha256(key.id.encode()).digest()


async def create(store: KeyStore, *keys: Key) -> None:
    for key in keys:
        await store.create_key(key, hashed(key))


async def test_keys_come_back_as_they_went_in(store: KeyStore) -> None:
    assert list(await store.list_keys()) == []
    await create(store, FULL, PLAIN)
    assert list(await store.list_keys()) == [FULL, PLAIN]
    assert await store.find_keys([hashed(PLAIN), hashed(FULL)]) == {hashed(FULL): FULL, hashed(PLAIN): PLAIN}


async def test_a_key_that_may_use_no_model_is_not_one_that_may_use_all(store: KeyStore) -> None:
    await create(store, none := Key("none", "none", frozenset()))
    assert list(await store.list_keys()) == [none]


async def test_unknown_hashes_are_left_out(store: KeyStore) -> None:
    await create(store, PLAIN)
    assert await store.find_keys([b"x" * 32, hashed(PLAIN)]) == {hashed(PLAIN): PLAIN}
    assert await store.find_keys([]) == {}


async def test_thousands_are_found_at_once(store: KeyStore) -> None:
    keys = [Key(f"key-{number}", "one of many") for number in range(1200)]
    await create(store, *keys)
    found = await store.find_keys([hashed(key) for key in keys])
    assert found == {hashed(key): key for key in keys}


async def test_an_id_or_a_hash_is_given_once(store: KeyStore) -> None:
    await create(store, PLAIN)
    with pytest.raises(Conflict):
        await store.create_key(PLAIN, b"another hash")
    with pytest.raises(Conflict):
        await store.create_key(FULL, hashed(PLAIN))
    assert list(await store.list_keys()) == [PLAIN]


async def test_revoking_is_for_good(store: KeyStore) -> None:
    await create(store, PLAIN, FULL)
    revoked = replace(PLAIN, revoked_at=300.0)
    assert await store.revoke_key("plain", 300.0) == revoked
    assert await store.revoke_key("plain", 400.0) == revoked
    assert await store.revoke_key("nobody", 300.0) is None
    assert await store.find_keys([hashed(PLAIN), hashed(FULL)]) == {hashed(PLAIN): revoked, hashed(FULL): FULL}


async def test_the_version_tells_every_change(store: KeyStore) -> None:
    seen = [await store.keys_version()]
    await create(store, PLAIN)
    seen.append(await store.keys_version())
    await store.revoke_key("plain", 300.0)
    seen.append(await store.keys_version())
    assert len(set(seen)) == 3
    await store.revoke_key("plain", 400.0)
    await store.list_keys()
    assert await store.keys_version() == seen[-1]
