"""What every store promises of keys and teams (`stores/base.py`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_asyncio

from agent_gateway.core.errors import BadRequest, Conflict
from agent_gateway.core.settings import Budget
from agent_gateway.stores.base import Key, KeyStore, Team
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
    role="auditor",
    endpoints=frozenset({"/v1/chat/completions", "/v1/batches*"}),
    owner="Ann, ann@example.org",
    team="search",
    budget=Budget(usd=12.5, per="day", soft=0.5),
    metadata=b'{"a": "\\u00fc"}',
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


async def listed(store: KeyStore, team: str | None = None) -> list[Key]:
    return list((await store.list_keys(limit=100, team=team)).keys)


async def test_keys_come_back_as_they_went_in(store: KeyStore) -> None:
    assert await listed(store) == []
    await create(store, FULL, PLAIN)
    assert await listed(store) == [FULL, PLAIN]
    assert await store.find_keys([hashed(PLAIN), hashed(FULL)]) == {hashed(FULL): FULL, hashed(PLAIN): PLAIN}
    assert await store.find_key("full") == FULL
    assert await store.find_key("nobody") is None


async def test_a_key_that_may_use_nothing_is_not_one_that_may_use_all(store: KeyStore) -> None:
    await create(store, none := Key("none", "none", frozenset(), endpoints=frozenset()))
    assert await listed(store) == [none]


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
    assert await listed(store) == [PLAIN]


async def test_pages_go_from_the_oldest_on(store: KeyStore) -> None:
    """Those of one moment by their ids, so that none is shown twice or never."""
    keys = [Key(f"key-{number}", "one of many", created_at=float(number // 3), team="ab"[number % 2]) for number in range(8)]
    await create(store, *reversed(keys))
    shown: list[Key] = []
    cursor = None
    for size in (3, 3, 2):
        page = await store.list_keys(limit=3, cursor=cursor)
        assert len(page.keys) == size
        shown.extend(page.keys)
        cursor = page.next
    assert shown == keys
    assert cursor is None
    first = await store.list_keys(limit=3, team="b")
    second = await store.list_keys(limit=3, team="b", cursor=first.next)
    assert [*first.keys, *second.keys] == keys[1::2]
    assert await listed(store, team="nobody") == []


async def test_a_cursor_that_was_never_given_is_refused(store: KeyStore) -> None:
    await create(store, PLAIN)
    with pytest.raises(BadRequest) as refused:
        await store.list_keys(limit=3, cursor="nobody")
    assert refused.value.param == "cursor"


async def test_an_update_leaves_the_secret_the_creation_and_the_revocation(store: KeyStore) -> None:
    await create(store, PLAIN, FULL)
    await store.rotate_key("plain", b"second", previous_until=700.0)
    await store.revoke_key("plain", 300.0)
    given = replace(FULL, id="plain", created_at=1.0, revoked_at=None, previous_until=None)
    kept = replace(given, created_at=200.0, revoked_at=300.0, previous_until=700.0)
    assert await store.update_key(given) == kept
    assert (await store.find_keys([b"second"]))[b"second"] == kept
    assert await listed(store, team="search") == [FULL, kept]
    assert await store.update_key(replace(given, team=None)) == replace(kept, team=None)
    assert await listed(store, team="search") == [FULL]
    assert await store.update_key(Key("nobody", "nobody")) is None
    assert await store.find_key("full") == FULL


async def test_after_a_rotation_two_secrets_are_good_for_a_while(store: KeyStore) -> None:
    await create(store, PLAIN, FULL)
    rotated = replace(PLAIN, previous_until=700.0)
    assert await store.rotate_key("plain", b"second", previous_until=700.0) == rotated
    found = await store.find_keys([hashed(PLAIN), b"second", hashed(FULL)])
    assert found == {b"second": rotated, hashed(PLAIN): replace(rotated, expires_at=700.0), hashed(FULL): FULL}
    assert await listed(store) == [FULL, rotated]


async def test_a_rotation_ends_the_secret_before_the_last(store: KeyStore) -> None:
    await create(store, PLAIN)
    await store.rotate_key("plain", b"second", previous_until=700.0)
    await store.rotate_key("plain", b"third", previous_until=800.0)
    now = replace(PLAIN, previous_until=800.0)
    assert await store.find_keys([hashed(PLAIN), b"second", b"third"]) == {b"second": replace(now, expires_at=800.0), b"third": now}


async def test_a_secret_that_was_rotated_away_lives_no_longer_than_its_key(store: KeyStore) -> None:
    await create(store, FULL)
    await store.rotate_key("full", b"second", previous_until=5000.0)
    assert (await store.find_keys([hashed(FULL)]))[hashed(FULL)].expires_at == FULL.expires_at
    await store.revoke_key("full", 300.0)
    found = await store.find_keys([hashed(FULL), b"second"])
    assert [key.revoked_at for key in found.values()] == [300.0, 300.0]


async def test_what_is_revoked_or_not_there_is_not_rotated(store: KeyStore) -> None:
    await create(store, PLAIN)
    await store.revoke_key("plain", 300.0)
    assert await store.rotate_key("plain", b"second", previous_until=700.0) is None
    assert await store.rotate_key("nobody", b"third", previous_until=700.0) is None
    assert await store.find_keys([b"second", b"third"]) == {}


async def test_revoking_is_for_good(store: KeyStore) -> None:
    await create(store, PLAIN, FULL)
    revoked = replace(PLAIN, revoked_at=300.0)
    assert await store.revoke_key("plain", 300.0) == revoked
    assert await store.revoke_key("plain", 400.0) == revoked
    assert await store.revoke_key("nobody", 300.0) is None
    assert await store.find_keys([hashed(PLAIN), hashed(FULL)]) == {hashed(PLAIN): revoked, hashed(FULL): FULL}


async def test_teams_come_back_as_they_went_in(store: KeyStore) -> None:
    assert list(await store.list_teams()) == []
    search, ads = Team("search", "Search", 5.5, Budget(usd=100.0, per="total")), Team("Ads", "Ünïcode")
    for team in (search, ads):
        await store.put_team(team)
    assert list(await store.list_teams()) == [ads, search]
    await store.put_team(changed := Team("search", "Search 2", 6.0))
    assert list(await store.list_teams()) == [ads, changed]


async def test_a_team_is_deleted_when_no_key_needs_it(store: KeyStore) -> None:
    await store.put_team(Team("search", "Search"))
    await create(store, FULL)
    with pytest.raises(Conflict, match="search"):
        await store.delete_team("search")
    await store.revoke_key("full", 300.0)
    assert await store.delete_team("search")
    assert not await store.delete_team("search")
    assert list(await store.list_teams()) == []


async def test_the_version_tells_every_change(store: KeyStore) -> None:
    seen = [await store.keys_version()]

    async def note() -> None:
        seen.append(await store.keys_version())

    await create(store, PLAIN)
    await note()
    await store.update_key(replace(PLAIN, name="another"))
    await note()
    await store.rotate_key("plain", b"second", previous_until=700.0)
    await note()
    await store.revoke_key("plain", 300.0)
    await note()
    await store.put_team(Team("search", "Search"))
    await note()
    await store.put_team(Team("search", "Search 2"))
    await note()
    await store.delete_team("search")
    await note()
    assert len(set(seen)) == 8
    await store.revoke_key("plain", 400.0)
    await store.delete_team("search")
    await listed(store)
    assert await store.keys_version() == seen[-1]
