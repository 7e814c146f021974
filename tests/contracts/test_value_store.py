"""What every store promises of small things that are kept by kind and name (`stores/base.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agent_gateway.stores.base import ValueStore
from tests.stores.stores import KINDS, SHARED_KINDS, fresh_store, fresh_url, opened

NOW = 1_760_000_000.0


@pytest_asyncio.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ValueStore]:
    store = await fresh_store(request.param, request.config, tmp_path)
    yield store
    await store.close()


async def test_what_is_kept_is_found_by_kind_and_name(store: ValueStore) -> None:
    await store.keep_value("a", "one", b"first \xff and more", now=NOW)
    await store.keep_value("a", "two", b"", now=NOW, expires_at=NOW + 10)
    await store.keep_value("b", "one", b"another", now=NOW)
    assert await store.find_value("a", "one", NOW) == b"first \xff and more"
    assert await store.list_values("a", NOW) == {"one": b"first \xff and more", "two": b""}
    assert await store.find_value("b", "two", NOW) is None
    assert await store.list_values("c", NOW) == {}


async def test_a_second_one_takes_the_place_of_the_first(store: ValueStore) -> None:
    await store.keep_value("a", "one", b"first", now=NOW, expires_at=NOW + 1)
    await store.keep_value("a", "one", b"second", now=NOW)
    assert await store.list_values("a", NOW + 100) == {"one": b"second"}


async def test_what_is_over_is_not_there_and_makes_room(store: ValueStore) -> None:
    await store.keep_value("a", "one", b"", now=NOW, expires_at=NOW + 10)
    assert await store.find_value("a", "one", NOW + 9.999) == b""
    assert await store.find_value("a", "one", NOW + 10) is None
    assert await store.list_values("a", NOW + 10) == {}
    await store.keep_value("a", "two", b"", now=NOW + 10)
    assert await store.list_values("a", NOW) == {"two": b""}, "the other one is forgotten"


async def test_what_is_dropped_is_gone(store: ValueStore) -> None:
    await store.keep_value("a", "one", b"", now=NOW)
    assert await store.drop_value("a", "one")
    assert not await store.drop_value("a", "one")
    assert await store.find_value("a", "one", NOW) is None


async def test_what_is_claimed_is_nobody_elses_until_it_is_over_or_given_back(store: ValueStore) -> None:
    assert await store.claim_value("a", "slot", b"mine \xff", now=NOW, expires_at=NOW + 10)
    assert not await store.claim_value("a", "slot", b"yours", now=NOW + 9.999, expires_at=NOW + 20)
    assert await store.find_value("a", "slot", NOW) == b"mine \xff"
    assert await store.claim_value("a", "other", b"yours", now=NOW, expires_at=NOW + 10), "another one is free"
    assert await store.claim_value("a", "slot", b"mine \xff", now=NOW + 9, expires_at=NOW + 19)
    assert not await store.claim_value("a", "slot", b"yours", now=NOW + 18, expires_at=NOW + 30)
    assert await store.claim_value("a", "slot", b"yours", now=NOW + 19, expires_at=NOW + 30), "its time is over"
    assert not await store.claim_value("a", "slot", b"mine \xff", now=NOW + 20, expires_at=NOW + 20), "it cannot be given back any more"
    assert await store.claim_value("a", "slot", b"yours", now=NOW + 20, expires_at=NOW + 20)
    assert await store.claim_value("a", "slot", b"mine \xff", now=NOW + 20, expires_at=NOW + 30), "it was given back"


@pytest.mark.parametrize("kind", SHARED_KINDS)
async def test_of_many_that_claim_at_once_one_has_it(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    async with opened(await fresh_url(kind, request.config, tmp_path), 4) as stores:
        for place in range(5):
            slot = f"slot {place}"
            claims = [store.claim_value("a", slot, b"%d" % number, now=NOW, expires_at=NOW + 1) for number, store in enumerate(stores)]
            assert sorted(await asyncio.gather(*claims)) == [False, False, False, True]


@pytest.mark.parametrize("kind", SHARED_KINDS)
async def test_one_gateway_reads_what_another_kept(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    async with opened(await fresh_url(kind, request.config, tmp_path), 2) as (one, other):
        await one.keep_value("a", "name", b"body", now=NOW)
        assert await other.list_values("a", NOW) == {"name": b"body"}
