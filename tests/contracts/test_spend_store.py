"""What every store promises of what was spent (`stores/base.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agent_gateway.stores.base import SpendStore
from tests.stores.stores import KINDS, SHARED_KINDS, fresh_store, fresh_url, opened

DAY = 1_760_000_000.0


@pytest_asyncio.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SpendStore]:
    store = await fresh_store(request.param, request.config, tmp_path)
    yield store
    await store.close()


async def test_what_is_spent_adds_up_by_account_and_period(store: SpendStore) -> None:
    await store.add_spend({("key:a", DAY): 0.5, ("key:a", 0.0): 0.5})
    await store.add_spend({("key:a", DAY): 0.25, ("team:b", DAY): 1e-7})
    asked = [("key:a", DAY), ("key:a", 0.0), ("team:b", DAY), ("team:b", 0.0), ("key:nobody", DAY)]
    assert await store.spend_of(asked) == {("key:a", DAY): 0.75, ("key:a", 0.0): 0.5, ("team:b", DAY): 1e-7}


async def test_nothing_is_nothing(store: SpendStore) -> None:
    await store.add_spend({})
    assert await store.spend_of([]) == {}
    assert await store.spend_of([("key:a", DAY)]) == {}


async def test_only_what_was_asked_for_is_told(store: SpendStore) -> None:
    await store.add_spend({("key:a", 1.0): 1.0, ("key:a", 2.0): 2.0, ("key:b", 1.0): 3.0, ("key:b", 2.0): 4.0})
    assert await store.spend_of([("key:a", 1.0), ("key:b", 2.0)]) == {("key:a", 1.0): 1.0, ("key:b", 2.0): 4.0}


async def test_thousands_at_once(store: SpendStore) -> None:
    spent = {(f"key:{number}", DAY): number / 8 for number in range(1500)}
    await store.add_spend(spent)
    assert await store.spend_of(spent) == spent


@pytest.mark.parametrize("kind", SHARED_KINDS)
async def test_what_several_gateways_add_at_once_is_all_there(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    accounts = [(f"key:{number}", DAY) for number in range(20)]
    async with opened(await fresh_url(kind, request.config, tmp_path), 3) as stores:
        orders = [accounts, accounts[::-1]]
        await asyncio.gather(
            *(store.add_spend(dict.fromkeys(orders[turn % 2], 0.5)) for turn in range(10) for store in stores)
        )
        assert await stores[0].spend_of(accounts) == dict.fromkeys(accounts, 15.0)
