"""Log-ins of the dashboard: told from memory, ended everywhere, and good for the grace while the store is down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from agent_gateway.admission import logins as module
from agent_gateway.admission.keys import ADMIN, KeyRing, create_key
from agent_gateway.admission.logins import LASTS_S, Logins
from agent_gateway.core.errors import StoreDown, Unauthenticated
from agent_gateway.core.settings import Auth
from agent_gateway.stores.backends.memory import MemoryStore
from tests.admission.test_keys import Time
from tests.kit.eventually import eventually

ADMIN_KEY = b"sk-admin-0123456789abcdef"


class Store(MemoryStore):
    """Counts look-ups; can be down, or say nothing at all."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.hangs = False
        self.found = 0

    async def find_value(self, kind: str, name: str, now: float) -> bytes | None:
        self.found += 1
        await self._be_there()
        return await super().find_value(kind, name, now)

    async def list_values(self, kind: str, now: float) -> Mapping[str, bytes]:
        await self._be_there()
        return await super().list_values(kind, now)

    async def _be_there(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.down:
            raise StoreDown("The store is down.", detail="tests")


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def moment() -> Time:
    return Time()


@pytest_asyncio.fixture
async def logins(store: Store, moment: Time) -> AsyncIterator[Logins]:
    ring = KeyRing(store, moment.clock, auth=Auth(admin_key=ADMIN_KEY.decode(), grace_s=100))
    logins = Logins(store, ring, moment.clock)
    yield logins
    await logins.close()
    await ring.close()


async def test_one_is_looked_up_once_and_then_told_from_memory(logins: Logins, store: Store) -> None:
    token, begun = await logins.begin(ADMIN_KEY, ADMIN)
    found = [await logins.find(token) for _ in range(3)]
    assert found == [begun] * 3
    assert store.found == 1


async def test_one_that_ended_elsewhere_is_known_to_have_at_the_next_look(logins: Logins, store: Store, moment: Time) -> None:
    token, _ = await logins.begin(ADMIN_KEY, ADMIN)
    other, _ = await logins.begin(ADMIN_KEY, ADMIN)
    for each in (token, other):
        await logins.find(each)
    await Logins(store, KeyRing(store, moment.clock), moment.clock).end(token)
    await logins.refresh()
    with pytest.raises(Unauthenticated, match="Log in again"):
        await logins.find(token)
    assert (await logins.find(other)).key == ADMIN


async def test_one_that_ends_while_it_is_looked_up_is_not_kept(logins: Logins, store: Store) -> None:
    token, begun = await logins.begin(ADMIN_KEY, ADMIN)
    look, go_on = store.find_value, asyncio.Event()

    async def late(kind: str, name: str, now: float) -> bytes | None:
        found = await look(kind, name, now)
        await go_on.wait()
        return found

    store.find_value = late  # type: ignore[method-assign]
    finding = asyncio.create_task(logins.find(token))
    await eventually(lambda: store.found, "the question")
    await logins.end(token)
    go_on.set()
    assert await finding == begun, "it came before the end"
    with pytest.raises(Unauthenticated, match="Log in again"):
        await logins.find(token)


async def test_one_that_is_looked_up_while_the_store_is_looked_at_is_kept(logins: Logins, store: Store) -> None:
    look, go_on = store.list_values, asyncio.Event()

    async def late(kind: str, now: float) -> Mapping[str, bytes]:
        found = await look(kind, now)
        await go_on.wait()
        return found

    store.list_values = late  # type: ignore[method-assign]
    refreshing = asyncio.create_task(logins.refresh())
    await asyncio.sleep(0)
    store.list_values = look  # type: ignore[method-assign]
    token, begun = await logins.begin(ADMIN_KEY, ADMIN)
    assert await logins.find(token) == begun
    go_on.set()
    await refreshing
    assert await logins.find(token) == begun
    assert store.found == 1


async def test_the_store_is_looked_at_by_itself_as_long_as_any_is_known(
    logins: Logins, store: Store, moment: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.0)
    token, _ = await logins.begin(ADMIN_KEY, ADMIN)
    await logins.find(token)
    await Logins(store, KeyRing(store, moment.clock), moment.clock).end(token)
    await eventually(lambda: not logins._known, "it is known to have ended")
    assert logins._polling is not None
    await eventually(logins._polling.done, "nothing is looked for any more")


async def test_one_ends_here_with_its_time_with_its_key_and_when_it_is_ended(logins: Logins, store: Store, moment: Time) -> None:
    key, secret = await create_key(store, "ann", moment.clock, role="admin")
    revoked, _ = await logins.begin(secret.encode(), key)
    ended, _ = await logins.begin(ADMIN_KEY, ADMIN)
    over, _ = await logins.begin(ADMIN_KEY, ADMIN)
    for token in (revoked, ended, over):
        await logins.find(token)
    await store.revoke_key(key.id, moment.now)
    await logins._keys.refresh()
    await logins.end(ended)
    for token in (revoked, ended):
        with pytest.raises(Unauthenticated, match="Log in again"):
            await logins.find(token)
    assert (await logins.find(over)).key == ADMIN
    moment.now += LASTS_S
    with pytest.raises(Unauthenticated, match="Log in again"):
        await logins.find(over)


async def test_while_the_store_is_down_known_ones_are_good_for_the_grace_and_none_is_called_wrong(
    logins: Logins, store: Store, moment: Time, caplog: pytest.LogCaptureFixture
) -> None:
    known, begun = await logins.begin(ADMIN_KEY, ADMIN)
    other, _ = await logins.begin(ADMIN_KEY, ADMIN)
    await logins.find(known)
    store.down = True
    with caplog.at_level(logging.WARNING):
        moment.now += 99.9
        await logins.refresh()
        assert await logins.find(known) == begun
        with pytest.raises(StoreDown):
            await logins.find(other)
        moment.now += 0.2
        await logins.refresh()
    with pytest.raises(StoreDown):
        await logins.find(known)
    assert [record.getMessage().partition(";")[0].partition(":")[0] for record in caplog.records] == [
        "Log-ins cannot be read",
        "Log-ins could not be read for 100 s (auth.grace_s)",
    ]
    store.down = False
    assert await logins.find(known) == begun


async def test_a_store_that_hangs_keeps_nobody_waiting_who_is_known(logins: Logins, store: Store) -> None:
    token, begun = await logins.begin(ADMIN_KEY, ADMIN)
    await logins.find(token)
    store.hangs = True
    refreshing = asyncio.create_task(logins.refresh())
    await asyncio.sleep(0)
    find = logins.find(token)
    with pytest.raises(StopIteration) as told:  # it is answered without a wait
        find.send(None)
    assert told.value.value == begun
    refreshing.cancel()


async def test_so_many_are_kept_in_memory(logins: Logins, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN_MAX", 2)
    tokens = [(await logins.begin(ADMIN_KEY, ADMIN))[0] for _ in range(3)]
    for token in (*tokens, *tokens[1:]):
        await logins.find(token)
    assert store.found == 3
    await logins.find(tokens[0])
    assert store.found == 4
