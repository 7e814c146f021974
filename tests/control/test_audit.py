"""The audit log: every entry chained and signed; whatever is done to it behind its back is found, and named."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_gateway.admission.refusals import RefusedAccess
from agent_gateway.control.audit import REFUSED_MAX, AuditLog, By, NoKey, acting_locally, key_path, signing_key
from agent_gateway.control.audit_chain import MISMATCH, Actor, Entry, Head, Verdict, verify
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import Conflict, StoreDown
from agent_gateway.core.settings import Auth, Settings, State
from agent_gateway.stores.base import AuditRow, Store, open_store
from tests.stores.stores import KINDS, SHARED_KINDS, fresh_url, opened

KEY = b"k" * 32
ENTRIES = 7
ANN = By(Actor("abc", "ann", "admin"), "10.1.2.3", "req_1")


def clock() -> Clock:
    return Clock(wall=lambda: 1_700_000_000.123)


def log_in(store: Store, key: bytes = KEY) -> AuditLog:
    return AuditLog(store, lambda: key, clock())


async def filled(path: Path, count: int = ENTRIES, key: bytes = KEY, name: str = "b") -> None:
    store = open_store(f"sqlite:///{path}")
    log = log_in(store, key)
    for number in range(count):
        await log.append("keys.update", f"key-{number}", ANN, before={"name": "a"}, after={"name": f"{name}{number}"})
    await store.close()


async def verdict_of(path: Path, anchor: Head | None = None, key: bytes = KEY) -> Verdict:
    store = open_store(f"sqlite:///{path}")
    try:
        return await verify(store, key, anchor)
    finally:
        await store.close()


def tamper(path: Path, *statements: str, values: tuple[object, ...] = ()) -> None:
    """As somebody who has the file: the triggers are no hindrance."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'").fetchall():
            database.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            database.execute(statement, values)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = open_store("sqlite:///:memory:")
    yield store
    await store.close()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "agent-gateway.db"
    await filled(path)
    return path


def entry_of(row: AuditRow) -> Entry:
    return msgspec.json.decode(row.body, type=Entry)


# --- what is written


async def test_an_entry_says_who_what_from_where_and_how_it_was_before(store: Store) -> None:
    log = log_in(store)
    async with log.acting("keys.update", "4f7k", ANN, before={"name": "a"}, after={"name": "b"}):
        assert len(await log.newest(10)) == 1, "it is there before it takes effect"
    (row,) = await log.newest(10)
    assert msgspec.json.decode(row.body) == {
        "number": 1,
        "at": "2023-11-14T22:13:20.123Z",
        "actor": {"id": "abc", "name": "ann", "role": "admin"},
        "source": "10.1.2.3",
        "request_id": "req_1",
        "action": "keys.update",
        "target": "4f7k",
        "before": {"name": "a"},
        "after": {"name": "b"},
        "outcome": "allowed",
    }
    assert (await verify(store, KEY)) == Verdict(1, None)


async def test_what_fails_is_said_after_it(store: Store) -> None:
    log = log_in(store)
    with pytest.raises(Conflict):
        async with log.acting("keys.create", "4f7k", ANN):
            raise Conflict("There is one already.")
    failed, allowed = map(entry_of, await log.newest(10))
    assert (allowed.outcome, failed.outcome, failed.after) == ("allowed", "failed", {"error": "conflict"})


async def test_what_cannot_be_written_does_not_take_effect(tmp_path: Path) -> None:
    (tmp_path / "no.db").mkdir()
    store = open_store(f"sqlite:///{tmp_path}/no.db")
    took_effect = False
    with pytest.raises(StoreDown):
        async with log_in(store).acting("keys.create", "4f7k", ANN):
            took_effect = True
    await store.close()
    assert not took_effect


async def test_refusals_of_a_minute_are_one_entry(store: Store) -> None:
    log = log_in(store)
    await log.refused([RefusedAccess("10.0.0.9", "invalid_api_key", 4_000, 1.0, 59.5), RefusedAccess("10.0.0.8", "forbidden", 1, 2.0, 2.0)])
    (row,) = await log.newest(10)
    entry = entry_of(row)
    assert (entry.action, entry.outcome, entry.actor.role) == ("access.refused", "refused", "local")
    assert entry.after[0] == {
        "source": "10.0.0.9",
        "reason": "invalid_api_key",
        "count": 4_000,
        "first": "1970-01-01T00:00:01.000Z",
        "last": "1970-01-01T00:00:59.500Z",
    }


async def test_many_sources_are_told_in_few_words(store: Store) -> None:
    log = log_in(store)
    await log.refused([RefusedAccess(f"10.0.0.{number}", "invalid_api_key", number, 1.0, float(number)) for number in range(1, 200)])
    (row,) = await log.newest(10)
    told = entry_of(row).after
    assert len(told) == REFUSED_MAX + 1
    assert sum(each["count"] for each in told) == sum(range(1, 200))
    assert (told[0]["source"], told[-1]["source"], told[-1]["last"]) == ("10.0.0.199", "other", "1970-01-01T00:02:29.000Z")


async def test_many_at_once_and_in_several_processes_are_one_chain(path: Path) -> None:
    stores = [open_store(f"sqlite:///{path}") for _ in range(2)]
    logs = [log_in(store) for store in stores]
    await asyncio.gather(*(log.append("keys.update", f"{number}") for number in range(10) for log in logs))
    assert await verify(stores[0], KEY) == Verdict(ENTRIES + 20, None)
    for store in stores:
        await store.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_store_keeps_one_chain(kind: str, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    url = await fresh_url(kind, pytestconfig, tmp_path)
    async with opened(url, 2 if kind in SHARED_KINDS else 1) as stores:
        logs = [log_in(store) for store in stores]
        await asyncio.gather(*(log.append("keys.update", f"{number}") for number in range(8) for log in logs))
        count = 8 * len(logs)
        assert await verify(stores[-1], KEY) == Verdict(count, None)
        assert [row.number for row in await logs[0].newest(3)] == [count, count - 1, count - 2]
        head = await logs[0].head()
        assert head is not None
        assert await verify(stores[0], KEY, head) == Verdict(count, None)
        assert (await verify(stores[0], b"other" * 8)).broken is not None


async def test_pages_go_back_from_the_newest(store: Store) -> None:
    log = log_in(store)
    assert await log.newest(3) == []
    for number in range(7):
        await log.append("keys.update", f"{number}")
    assert [row.number for row in await log.newest(3)] == [7, 6, 5]
    assert [row.number for row in await log.newest(3, 5)] == [4, 3, 2]
    assert [row.number for row in await log.newest(3, 2)] == [1]
    assert await log.newest(3, 1) == []


async def test_the_database_itself_refuses_to_change_an_entry(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        for statement in ("UPDATE audit SET body = x'00'", "DELETE FROM audit WHERE number = 3"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(statement)


# --- what is found


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(1, ENTRIES), column=st.sampled_from(["body", "hash"]), place=st.integers(0, 10_000), flip=st.integers(1, 255))
async def test_any_changed_byte_is_found(path: Path, number: int, column: str, place: int, flip: int) -> None:
    with closing(sqlite3.connect(path)) as database:
        (was,) = database.execute(f"SELECT {column} FROM audit WHERE number = ?", (number,)).fetchone()
    place %= len(was)
    changed = was[:place] + bytes([was[place] ^ flip]) + was[place + 1 :]
    tamper(path, f"UPDATE audit SET {column} = ? WHERE number = {number}", values=(changed,))
    broken = (await verdict_of(path)).broken
    tamper(path, f"UPDATE audit SET {column} = ? WHERE number = {number}", values=(was,))
    assert broken is not None
    assert broken.number == number


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(1, ENTRIES + 1)))
async def test_any_other_order_is_found(path: Path, order: list[int]) -> None:
    def move(places: Iterable[tuple[int, int]]) -> None:
        moves = [f"UPDATE audit SET number = {-to} WHERE number = {number}" for number, to in places]
        tamper(path, *moves, "UPDATE audit SET number = -number")

    move(enumerate(order, 1))
    broken = (await verdict_of(path)).broken
    assert (broken is None) == (order == sorted(order))
    move((to, number) for number, to in enumerate(order, 1))


@pytest.mark.parametrize("number", range(1, ENTRIES + 1))
async def test_a_removed_entry_is_found(path: Path, number: int) -> None:
    tamper(path, f"DELETE FROM audit WHERE number = {number}")
    broken = (await verdict_of(path)).broken
    assert broken is not None
    assert broken.number == min(number, ENTRIES - 1)
    assert ("missing" if number < ENTRIES else "removed") in broken.why


async def test_a_removed_log_is_found(path: Path) -> None:
    tamper(path, "DELETE FROM audit")
    broken = (await verdict_of(path)).broken
    assert broken is not None
    assert "all entries were gone" in broken.why


async def test_a_closed_gap_and_a_copied_entry_are_found(path: Path) -> None:
    tamper(path, "DELETE FROM audit WHERE number = 3", "UPDATE audit SET number = number - 1 WHERE number > 3")
    broken = (await verdict_of(path)).broken
    assert broken is not None
    assert broken.number == 3
    tamper(path, f"INSERT INTO audit SELECT {ENTRIES}, body, hash FROM audit WHERE number = 1")
    assert (await verdict_of(path)).broken is not None


async def test_a_chain_that_was_made_anew_is_found_for_it_is_not_signed(path: Path) -> None:
    head = await _head_of(path)
    forged = path.with_name("forged.db")
    await filled(forged, key=b"f" * 32, name="nothing happened")
    broken = (await verdict_of(forged)).broken
    assert broken is not None
    assert broken.why == "the log's end is signed with another key than this one"
    anchored = (await verdict_of(forged, head)).broken
    assert anchored is not None
    assert (anchored.number, anchored.why) == (ENTRIES, "it is not the entry that the anchored head names")


async def _head_of(path: Path) -> Head:
    store = open_store(f"sqlite:///{path}")
    head = await log_in(store).head()
    await store.close()
    assert head is not None
    return head


async def test_an_older_end_with_its_own_signature_is_found_by_the_anchored_head(path: Path, tmp_path: Path) -> None:
    """Whoever kept a copy of the file can put it back; what was kept elsewhere tells."""
    older = tmp_path / "older.db"
    await filled(older, ENTRIES - 2)
    head = await _head_of(path)
    assert (await verdict_of(older)).broken is None, "it is a log that once was"
    broken = (await verdict_of(older, head)).broken
    assert broken is not None
    assert (broken.number, "missing" in broken.why) == (ENTRIES - 1, True)
    assert (await verdict_of(path, head)).broken is None


async def test_a_cut_end_is_not_signed_over(path: Path) -> None:
    """The next entry must not make whole what somebody cut: it is preceded by one that says so."""
    tamper(path, f"DELETE FROM audit WHERE number > {ENTRIES - 3}")
    store = open_store(f"sqlite:///{path}")
    log = log_in(store)
    await log.append("keys.create", "new")
    entries = [entry_of(row) for row in await log.newest(2)]
    assert [entry.action for entry in entries] == ["keys.create", MISMATCH]
    broken = (await verify(store, KEY)).broken
    assert broken is not None
    assert broken.number == ENTRIES - 2
    assert "removed" in broken.why
    head = await log.head()
    assert await verify(store, KEY, head) == Verdict(ENTRIES - 1, None), "whoever has anchored a later head knows of it"
    await store.close()


async def test_an_end_that_is_put_back_while_the_gateway_runs_is_told(path: Path) -> None:
    """With its own, good signature: only who saw the entries that are gone can tell."""
    store = open_store(f"sqlite:///{path}")
    log = log_in(store)
    with closing(sqlite3.connect(path)) as database:
        (signature,) = database.execute("SELECT signature FROM audit_head").fetchone()
    await log.append("keys.create", "secretly")
    tamper(path, f"DELETE FROM audit WHERE number > {ENTRIES}")
    tamper(path, "UPDATE audit_head SET signature = ?", values=(signature,))
    assert (await verify(store, KEY)).broken is None
    await log.append("keys.create", "later")
    assert entry_of((await log.newest(2))[1]).action == MISMATCH
    await store.close()


async def test_a_log_of_which_all_is_gone_does_not_begin_anew_in_silence(path: Path) -> None:
    tamper(path, "DELETE FROM audit")
    store = open_store(f"sqlite:///{path}")
    log = log_in(store)
    await log.append("keys.create", "new")
    assert [entry_of(row).action for row in await log.newest(5)] == ["keys.create", MISMATCH]
    await store.close()


async def test_another_key_is_told_and_a_later_anchor_makes_it_good(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    other = b"o" * 32
    log = log_in(store, other)
    await log.append("keys.create", "new")
    broken = (await verify(store, other)).broken
    assert broken is not None
    assert broken.why == "when it was written, the log's end is signed with another key than this one"
    assert (await verify(store, other, await log.head())).broken is None
    await store.close()


# --- the key


async def test_the_key_is_made_once_beside_the_database_for_its_owner_alone(tmp_path: Path) -> None:
    at = Settings(state=State(database=f"sqlite:///{tmp_path}/gateway.db"))
    with pytest.raises(NoKey):
        signing_key(at, make=False)
    keys = await asyncio.gather(*(asyncio.to_thread(signing_key, at) for _ in range(8)))
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    file = key_path(at)
    assert file == tmp_path / "gateway.audit.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["gateway.audit.key"], "no draft is left"
    file.write_bytes(b"short")
    with pytest.raises(OSError, match="5 bytes"):
        signing_key(at)
    configured = Settings(state=at.state, auth=Auth(audit_key="our own"))
    assert signing_key(configured) == signing_key(configured) != keys[0]


def test_beside_a_server_the_key_lies_in_the_working_folder() -> None:
    assert key_path(Settings(state=State(database="postgresql://u@h/db"))) == Path("agent-gateway.audit.key")
    memory = Settings(state=State(database="sqlite:///:memory:"))
    assert key_path(memory) is None
    assert signing_key(memory) == signing_key(memory)


async def test_a_key_that_cannot_be_made_is_a_store_that_is_down(store: Store) -> None:
    def fail() -> bytes:
        raise PermissionError("read-only")

    with pytest.raises(StoreDown):
        await AuditLog(store, fail, clock()).append("keys.create", "new")


async def test_a_command_is_in_the_log_too(tmp_path: Path) -> None:
    at = Settings(state=State(database=f"sqlite:///{tmp_path}/gateway.db"))
    store = open_store(at.state.database)
    async with acting_locally(store, at, "keys.revoke", "4f7k", before={"state": "active"}, after={"state": "revoked"}):
        pass
    (row,) = await AuditLog(store, lambda: signing_key(at)).newest(5)
    entry = entry_of(row)
    assert (entry.actor.role, entry.action, entry.target) == ("local", "keys.revoke", "4f7k")
    assert entry.actor.name
    assert (await verify(store, signing_key(at))).broken is None
    await store.close()
