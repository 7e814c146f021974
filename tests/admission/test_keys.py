"""The key ring: who is let in, how fast a change is known, and what happens while the store is down."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_asyncio

from agent_gateway.admission import keys as module
from agent_gateway.admission.keys import ADMIN, KeyRing, create_key, rotate_key
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import GatewayError, Overloaded, StoreDown, Unauthenticated
from agent_gateway.core.settings import Auth, Budget
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import Key, Team
from tests.kit.eventually import eventually
from tests.stores.stores import SHARED_KINDS, fresh_url, opened

UNKNOWN = b"agw_abcdefghijkl_" + b"x" * 43


class Time:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: self.now)


class Store(MemoryStore):
    """Counts what it is asked; can be down, or slow."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.asked: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def find_keys(self, secret_hashes: Collection[bytes]) -> Mapping[bytes, Key]:
        self.asked.append(len(secret_hashes))
        await self.gate.wait()
        if self.down:
            raise StoreDown("The store is down.", detail="tests")
        return await super().find_keys(secret_hashes)

    async def keys_version(self) -> int:
        if self.down:
            raise StoreDown("The store is down.", detail="tests")
        return await super().keys_version()


@pytest.fixture
def moment() -> Time:
    return Time()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest_asyncio.fixture
async def ring(store: Store, moment: Time) -> AsyncIterator[KeyRing]:
    ring = KeyRing(store, moment.clock)
    yield ring
    await ring.close()


async def refused(ring: KeyRing, secret: bytes) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as error:
        await ring.find(secret)
    assert secret.decode(errors="replace") not in error.value.message
    return error.value


async def test_a_key_has_its_form_and_only_its_hash_is_stored(store: Store) -> None:
    key, secret = await create_key(store, "agent", models=frozenset({"small"}), expires_at=5.0)
    assert re.fullmatch(r"agw_[a-z0-9]{12}_[A-Za-z0-9]{43}", secret)
    assert secret.startswith(f"agw_{key.id}_")
    assert key == Key(key.id, "agent", frozenset({"small"}), key.created_at, 5.0)
    assert secret.split("_")[2] not in repr(vars(store))
    assert (await create_key(store, "agent"))[1] != secret


async def test_a_known_key_is_told_from_memory(ring: KeyRing, store: Store) -> None:
    key, secret = await create_key(store, "agent")
    assert ring.cached(secret.encode()) is None
    assert await ring.find(secret.encode()) == key
    assert ring.cached(secret.encode()) == key
    assert await ring.find(secret.encode()) == key
    assert store.asked == [1]


async def test_a_known_key_costs_microseconds(ring: KeyRing, store: Store) -> None:
    _, secret = await create_key(store, "agent")
    shown = secret.encode()
    await ring.find(shown)
    gc.collect()
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(2000):
            ring.cached(shown)
        rounds.append((time.perf_counter() - start) / 2000)
    assert min(rounds) < 20e-6  # 0.6 µs where nothing else runs


@pytest.mark.parametrize(
    "secret", [b"", b"sk-provider-key", b"agw_", UNKNOWN + b"y", UNKNOWN[:-1], b"\xff\xfe" * 30, b"agw_" + b"a" * 100_000]
)
async def test_what_is_no_key_is_refused_without_asking(ring: KeyRing, store: Store, secret: bytes) -> None:
    with pytest.raises(Unauthenticated, match="agw_") as error:
        await ring.find(secret)
    assert len(error.value.message) < 300
    assert store.asked == []


async def test_an_unknown_key_is_asked_for_again_only_after_a_while(ring: KeyRing, store: Store, moment: Time) -> None:
    for _ in range(5):
        assert "not known" in (await refused(ring, UNKNOWN)).message
    assert store.asked == [1]
    moment.now += module.REFUSED_TTL_S + 0.01
    await refused(ring, UNKNOWN)
    assert store.asked == [1, 1]


async def test_a_revoked_and_an_expired_key_are_told_so(ring: KeyRing, store: Store, moment: Time) -> None:
    revoked, revoked_secret = await create_key(store, "revoked")
    await store.revoke_key(revoked.id, moment.now)
    _, expired_secret = await create_key(store, "expired", expires_at=moment.now)
    assert "revoked" in (await refused(ring, revoked_secret.encode())).message
    assert "expired" in (await refused(ring, expired_secret.encode())).message


async def test_a_key_expires_while_it_is_known(ring: KeyRing, store: Store, moment: Time) -> None:
    _, secret = await create_key(store, "short", expires_at=moment.now + 10)
    await ring.find(secret.encode())
    moment.now += 9.9
    assert ring.cached(secret.encode()) is not None
    moment.now += 0.2
    assert ring.cached(secret.encode()) is None
    assert "expired" in (await refused(ring, secret.encode())).message


async def test_changes_are_learnt_by_a_refresh(ring: KeyRing, store: Store) -> None:
    kept, kept_secret = await create_key(store, "kept")
    gone, gone_secret = await create_key(store, "gone")
    await ring.find(kept_secret.encode())
    await ring.find(gone_secret.encode())
    await refused(ring, UNKNOWN)
    await store.create_key(late := Key("late", "late"), sha256(UNKNOWN).digest())
    await store.revoke_key(gone.id, 1.0)
    await ring.refresh()
    assert ring.cached(kept_secret.encode()) == kept
    assert ring.cached(gone_secret.encode()) is None
    assert await ring.find(UNKNOWN) == late
    asked = list(store.asked)
    await ring.refresh()
    assert store.asked == asked


#: A gateway's key ring: says when it has met the key, and when it lets it in no more.
WATCHER = """
import asyncio, sys
from agent_gateway.admission.keys import KeyRing
from agent_gateway.stores.base import open_store
async def watch(url, secret):
    ring = KeyRing(open_store(url))
    await ring.find(secret)
    print("met", flush=True)
    while ring.cached(secret) is not None:
        await asyncio.sleep(0.005)
    print("gone", flush=True)
    await ring.close()
asyncio.run(watch(sys.argv[1], sys.argv[2].encode()))
"""


@pytest.mark.parametrize("kind", SHARED_KINDS)
async def test_a_key_that_another_process_revokes_is_refused_within_a_second(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = await fresh_url(kind, request.config, tmp_path)
    async with opened(url, 1) as (store,):
        key, secret = await create_key(store, "agent")
        watcher = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WATCHER, url, secret, stdout=asyncio.subprocess.PIPE
        )
        assert watcher.stdout is not None
        assert await watcher.stdout.readline() == b"met\n"
        await store.revoke_key(key.id, time.time())
        started = time.monotonic()
        assert await watcher.stdout.readline() == b"gone\n"
        assert time.monotonic() - started < 20 * module.POLL_S  # of which a quiet machine needs one or two
        assert await watcher.wait() == 0


async def test_while_the_store_is_down_known_keys_work_and_others_get_503(ring: KeyRing, store: Store) -> None:
    key, secret = await create_key(store, "agent")
    _, other = await create_key(store, "other")
    await ring.find(secret.encode())
    store.down = True
    await ring.refresh()
    assert await ring.find(secret.encode()) == key
    for shown in (other.encode(), UNKNOWN):
        with pytest.raises(StoreDown) as down:
            await ring.find(shown)
        assert down.value.status == 503
    store.down = False
    assert (await ring.find(other.encode())).name == "other"
    await refused(ring, UNKNOWN)


async def test_a_store_that_tells_nonsense_is_one_that_is_down(
    ring: KeyRing, store: Store, moment: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = await create_key(store, "agent")
    await ring.find(secret.encode())
    with monkeypatch.context() as ill:
        ill.setattr(store, "keys_version", lambda: 1 / 0)
        await ring.refresh()
        assert ring.cached(secret.encode()) == key
    await store.revoke_key(key.id, 0.0)
    await ring.refresh()
    assert ring.cached(secret.encode()) is None


async def test_when_the_grace_is_over_no_key_is_let_in_and_none_is_called_wrong(store: Store, moment: Time) -> None:
    ring = KeyRing(store, moment.clock, auth=Auth(grace_s=100))
    key, secret = await create_key(store, "agent")
    await ring.find(secret.encode())
    await ring.refresh()
    store.down = True
    moment.now += 99.9
    await ring.refresh()
    assert ring.cached(secret.encode()) == key
    moment.now += 0.2
    await ring.refresh()
    assert ring.cached(secret.encode()) is None
    with pytest.raises(StoreDown) as down:
        await ring.find(secret.encode())
    assert down.value.status == 503
    store.down = False
    assert await ring.find(secret.encode()) == key
    await ring.close()


async def test_the_grace_begins_when_the_store_was_last_there(store: Store, moment: Time) -> None:
    ring = KeyRing(store, moment.clock, auth=Auth(grace_s=100))
    moment.now += 1000  # nobody asked for so long
    key, secret = await create_key(store, "agent")
    await ring.find(secret.encode())
    store.down = True
    await ring.refresh()
    assert ring.cached(secret.encode()) == key
    moment.now += 60
    store.down = False
    await ring.refresh()
    moment.now += 60
    store.down = True
    await ring.refresh()
    assert ring.cached(secret.encode()) == key
    await ring.close()


async def test_after_a_rotation_the_old_secret_is_known_until_its_overlap_is_over(
    ring: KeyRing, store: Store, moment: Time
) -> None:
    key, old = await create_key(store, "agent")
    await ring.find(old.encode())
    rotated = await rotate_key(store, key.id, overlap_s=60, clock=moment.clock)
    assert rotated is not None
    now, new = rotated
    assert new.startswith(f"agw_{key.id}_")
    await ring.refresh()
    assert ring.cached(old.encode()) == replace(now, expires_at=moment.now + 60)
    assert await ring.find(new.encode()) == now
    moment.now += 60
    assert ring.cached(old.encode()) is None
    assert "replaced by a newer one" in (await refused(ring, old.encode())).message
    assert ring.cached(new.encode()) == now
    assert await rotate_key(store, "nobody", overlap_s=60) is None


async def test_a_key_that_did_not_change_stays_the_same_object(ring: KeyRing, store: Store) -> None:
    _, secret = await create_key(store, "agent")
    other, other_secret = await create_key(store, "other")
    await ring.refresh()
    same = await ring.find(secret.encode())
    await ring.find(other_secret.encode())
    await store.update_key(replace(other, models=frozenset({"small"})))
    await ring.refresh()
    assert ring.cached(secret.encode()) is same
    changed = ring.cached(other_secret.encode())
    assert changed is not None
    assert changed.models == frozenset({"small"})


async def test_a_team_is_known_as_soon_as_its_key(ring: KeyRing, store: Store) -> None:
    await store.put_team(search := Team("search", "Search", 1.0, Budget(usd=5)))
    _, secret = await create_key(store, "agent", team="search")
    assert ring.team("search") is None
    await ring.find(secret.encode())
    assert ring.team("search") == search
    await store.put_team(richer := replace(search, budget=Budget(usd=50)))
    await ring.refresh()
    assert ring.team("search") == richer
    _, secret = await create_key(store, "agent", team="ghosts")
    assert (await ring.find(secret.encode())).team == "ghosts"
    assert ring.team("ghosts") is None


async def test_a_key_is_found_by_its_id_until_it_is_revoked_or_expires(ring: KeyRing, store: Store, moment: Time) -> None:
    await store.put_team(Team("t", "T"))
    key, _ = await create_key(store, "a", moment.clock, expires_at=2000.0, team="t")
    assert await ring.by_id(key.id) == key
    assert ring.team("t") == Team("t", "T")
    moment.now = 2000.0
    with pytest.raises(Unauthenticated, match="expired"):
        await ring.by_id(key.id)
    other, _ = await create_key(store, "b", moment.clock)
    assert await ring.by_id(other.id) == other
    await store.revoke_key(other.id, moment.now)
    moment.now += module.BY_ID_TTL_S
    with pytest.raises(Unauthenticated, match="revoked"):
        await ring.by_id(other.id)
    with pytest.raises(Unauthenticated, match="not known"):
        await ring.by_id("none")


async def test_requests_with_one_new_key_ask_once_and_all_others_together(ring: KeyRing, store: Store) -> None:
    made = [await create_key(store, f"agent {number}") for number in range(20)]
    store.gate.clear()
    tasks = [asyncio.create_task(ring.find(made[0][1].encode())) for _ in range(50)]
    await eventually(lambda: store.asked, "the first question")
    tasks += [asyncio.create_task(ring.find(secret.encode())) for _, secret in made[1:] for _ in range(3)]
    await asyncio.sleep(0)
    store.gate.set()
    found = await asyncio.gather(*tasks)
    assert {key.id for key in found} == {key.id for key, _ in made}
    assert store.asked[:2] == [1, 19]


async def test_a_request_that_is_cancelled_does_not_take_the_others_answer_along(ring: KeyRing, store: Store) -> None:
    key, secret = await create_key(store, "agent")
    store.gate.clear()
    first, second = (asyncio.create_task(ring.find(secret.encode())) for _ in range(2))
    await eventually(lambda: store.asked, "the question")
    first.cancel()
    store.gate.set()
    assert await second == key


async def test_how_many_are_asked_for_is_bounded(ring: KeyRing, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASKED_MAX", 3)
    store.gate.clear()
    tasks = [asyncio.create_task(ring.find(b"agw_%012d_%b" % (number, b"x" * 43))) for number in range(10)]
    await asyncio.sleep(0)
    store.gate.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, GatewayError) for error in errors)
    assert sum(isinstance(error, Overloaded) for error in errors) >= 1


async def test_memory_is_bounded(ring: KeyRing, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN_MAX", 3)
    monkeypatch.setattr(module, "REFUSED_MAX", 3)
    secrets = [(await create_key(store, "agent"))[1].encode() for _ in range(5)]
    for secret in secrets:
        await ring.find(secret)
    assert [ring.cached(secret) is not None for secret in secrets] == [False, False, True, True, True]
    for number in range(5):
        await refused(ring, b"agw_%012d_%b" % (number, b"x" * 43))
    assert len(ring._refused) == 3


async def test_an_answer_older_than_what_a_refresh_learnt_is_not_kept(ring: KeyRing, store: Store) -> None:
    key, secret = await create_key(store, "agent")
    store.gate.clear()
    task = asyncio.create_task(ring.find(secret.encode()))
    await eventually(lambda: store.asked, "the question")
    await ring.refresh()
    store.gate.set()
    assert await task == key
    assert ring.cached(secret.encode()) is None


async def test_an_answer_that_comes_while_a_refresh_learns_what_is_younger_is_not_kept(ring: KeyRing, store: Store) -> None:
    (_, other), (key, secret) = [await create_key(store, name) for name in ("other", "agent")]
    await ring.find(other.encode())
    await eventually(lambda: ring._version is not None, "the first poll")
    old = await store.find_keys([sha256(secret.encode()).digest()])
    answer, learn = asyncio.Event(), asyncio.Event()
    look = store.find_keys

    async def in_turn(secret_hashes: Collection[bytes]) -> Mapping[bytes, Key]:
        if secret_hashes == old.keys() and not answer.is_set():
            await answer.wait()
            return old
        await learn.wait()
        return await look(secret_hashes)

    store.find_keys = in_turn  # type: ignore[method-assign]
    task = asyncio.create_task(ring.find(secret.encode()))
    await eventually(lambda: ring._asking is not None, "the question")
    await store.revoke_key(key.id, 1.0)
    refreshed = asyncio.create_task(ring.refresh())
    await asyncio.sleep(0.05)
    answer.set()
    assert await task == key, "what the store said before it was revoked"
    learn.set()
    await refreshed
    await refused(ring, secret.encode())


async def test_the_admin_key_passes_and_changes_with_a_reload(store: Store) -> None:
    ring = KeyRing(store, auth=Auth(admin_key="sk-admin"))
    assert ring.cached(b"sk-admin") is ADMIN
    assert await ring.find(b"sk-admin") is ADMIN
    assert ADMIN.models is None
    ring.configure(Auth(admin_key="sk-other"))
    await refused(ring, b"sk-admin")
    assert ring.cached(b"sk-other") is ADMIN
    ring.configure(Auth())
    await refused(ring, b"sk-other")
    await ring.close()
