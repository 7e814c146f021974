"""What every store promises of sessions and responses (`stores/base.py`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from agent_gateway.core.errors import BadRequest, Conflict
from agent_gateway.stores.base import Owner, SessionInfo, Store, StoredResponse, StoredTurn, Swept
from tests.stores.stores import KINDS, SHARED_KINDS, fresh_store, fresh_url, opened

#: Redis also ends what it keeps by its own clock, so that the tests' begins at today's.
NOW = float(int(time.time()))
TTL_S = 1000.0
LATER = NOW + TTL_S + 1

ANN = Owner("key", "ann")
#: Each would be ANN if an owner's parts were merely written one after the other.
OTHERS = [Owner(*parts) for parts in (("key", "bob"), ("other", "ann"), ("key", ""), ("", "ann"), ("keya", "nn"), ("", "keyann"))]

HELLO = StoredTurn("openai_chat", b'{"role":"user","content":"hello"}', 3)
ANSWER = StoredTurn("openai_chat", '{"role": "assistant",\n "content":"Grüß dich 🔑 \\u0000"}'.encode(), 5)
CUT = StoredTurn("anthropic", b"\x00\xff not even JSON", 0, partial=True)
SUMMARY = StoredTurn("openai_chat", b'{"role":"system","content":"they greeted"}', 2)


@pytest_asyncio.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store = await fresh_store(request.param, request.config, tmp_path)
    yield store
    await store.close()


async def append(store: Store, *turns: StoredTurn, to: str = "s", owner: Owner = ANN, version: int = 0, now: float = NOW) -> int:
    return await store.append(owner, to, turns, expected_version=version, now=now, ttl_s=TTL_S)


async def turns_of(store: Store, session_id: str = "s", owner: Owner = ANN, now: float = NOW) -> list[StoredTurn] | None:
    found = await store.fetch(owner, session_id, now)
    return None if found is None else list(found.turns)


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_turns_come_back_as_they_went_in(store: Store) -> None:
    assert await store.fetch(ANN, "s", NOW) is None
    assert await append(store, HELLO, ANSWER) == 1
    assert await append(store, CUT, version=1, now=NOW + 5) == 2
    found = await store.fetch(ANN, "s", NOW + 6)
    assert found is not None
    assert list(found.turns) == [HELLO, ANSWER, CUT]
    assert found.summary is None
    assert found.info == SessionInfo("s", ANN, 2, 3, 8, NOW, NOW + 5, NOW + 5 + TTL_S)


async def test_a_session_may_be_made_empty_with_metadata_that_later_ones_replace(store: Store) -> None:
    await store.append(ANN, "s", [], expected_version=0, now=NOW, ttl_s=TTL_S, metadata=b'{"topic":"a"}')
    await append(store, HELLO, version=1)
    found = await store.fetch(ANN, "s", NOW)
    assert found is not None
    assert found.info.metadata == b'{"topic":"a"}'
    await store.append(ANN, "s", [], expected_version=2, now=NOW, ttl_s=TTL_S, metadata=b'{"topic":"b"}')
    found = await store.fetch(ANN, "s", NOW)
    assert found is not None
    assert (found.info.metadata, found.info.turns, found.info.version) == (b'{"topic":"b"}', 1, 3)


async def test_a_long_turn_is_kept_whole_and_in_order(store: Store) -> None:
    many = [StoredTurn("openai_chat", b'{"n":%d}' % number + b" " * 500, number) for number in range(1234)]
    await append(store, HELLO)
    await append(store, *many, version=1)
    assert await turns_of(store) == [HELLO, *many]


async def test_no_more_of_a_session_is_read_than_is_asked_for(store: Store) -> None:
    turns = [StoredTurn("openai_chat", b"%d" % number, number) for number in range(10)]
    await append(store, *turns)
    for newest in (0, 1, 4, 10, 11):
        found = await store.fetch(ANN, "s", NOW, newest=newest)
        assert found is not None
        assert list(found.turns) == turns[10 - min(newest, 10) :]
        assert list(found.places) == list(range(10 - min(newest, 10), 10))
        assert (found.info.turns, found.info.tokens) == (10, 45)
    await store.replace_by_summary(ANN, "s", SUMMARY, before=8, expected_version=1, now=NOW)
    for newest, left in ((1, turns[9:]), (5, turns[8:])):
        found = await store.fetch(ANN, "s", NOW, newest=newest)
        assert found is not None
        assert (list(found.turns), found.summary) == (left, SUMMARY)


async def test_a_turn_that_is_deleted_is_gone_and_the_others_keep_their_places(store: Store) -> None:
    await append(store, HELLO, ANSWER, CUT)
    for place in (1, 2):
        assert await store.delete_turn(ANN, "s", place, now=NOW)
        assert not await store.delete_turn(ANN, "s", place, now=NOW)
    with pytest.raises(Conflict):  # who read the session with it goes on from another one
        await append(store, HELLO, version=1)
    await append(store, ANSWER, version=3)
    found = await store.fetch(ANN, "s", NOW)
    assert found is not None
    assert (list(found.turns), list(found.places), found.info.turns) == ([HELLO, ANSWER], [0, 3], 4)


async def test_a_turn_that_is_not_there_cannot_be_deleted(store: Store) -> None:
    await append(store, HELLO)
    for place in (-1, 1):
        assert not await store.delete_turn(ANN, "s", place, now=NOW)
    for other in OTHERS:
        assert not await store.delete_turn(other, "s", 0, now=NOW)
    assert not await store.delete_turn(ANN, "s", 0, now=LATER)
    assert await turns_of(store) == [HELLO]


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_a_version_that_moved_on_is_a_conflict_and_nothing_is_kept(store: Store, expected: int) -> None:
    await append(store, HELLO)
    await append(store, ANSWER, version=1)
    before = await store.fetch(ANN, "s", NOW)
    with pytest.raises(Conflict):
        await append(store, CUT, version=expected, now=NOW + 7)
    assert await store.fetch(ANN, "s", NOW) == before


async def test_a_session_that_is_not_there_cannot_be_gone_on_with(store: Store) -> None:
    with pytest.raises(Conflict):
        await append(store, HELLO, version=1)
    assert await store.fetch(ANN, "s", NOW) is None


async def test_others_see_nothing_and_change_nothing(store: Store) -> None:
    await append(store, HELLO)
    before = await store.fetch(ANN, "s", NOW)
    for other in OTHERS:
        assert await store.fetch(other, "s", NOW) is None
        assert not await store.touch(other, "s", now=NOW + 9, ttl_s=TTL_S)
        assert not await store.delete_session(other, "s", now=NOW)
        assert list((await store.list_sessions(other, now=NOW, limit=10)).sessions) == []
        with pytest.raises(Conflict):
            await append(store, ANSWER, owner=other, version=1)
        with pytest.raises(Conflict):
            await store.replace_by_summary(other, "s", SUMMARY, before=1, expected_version=1, now=NOW)
    assert await store.fetch(ANN, "s", NOW) == before


async def test_the_same_id_is_each_owners_own(store: Store) -> None:
    owners = [ANN, *OTHERS]
    for number, owner in enumerate(owners):
        await append(store, replace(HELLO, tokens=number), owner=owner)
    assert [await turns_of(store, owner=owner) for owner in owners] == [[replace(HELLO, tokens=n)] for n in range(len(owners))]


@pytest.mark.parametrize("session_id", ["ü 🔑", "a:b\n", "' OR 1=1 --", "%_*?$1", "x" * 500])
async def test_any_text_is_an_id(store: Store, session_id: str) -> None:
    owner = Owner("key", session_id)
    await append(store, HELLO, to=session_id, owner=owner)
    assert await turns_of(store, session_id, owner) == [HELLO]
    assert [info.id for info in (await store.list_sessions(owner, now=NOW, limit=10)).sessions] == [session_id]


@pytest.mark.parametrize("session_id", ["\ud800", "nul\x00"])
async def test_text_that_cannot_be_kept_is_the_clients_fault_and_no_harm(store: Store, session_id: str) -> None:
    try:
        await append(store, HELLO, to=session_id)
    except BadRequest:
        pass
    else:
        assert await turns_of(store, session_id) == [HELLO]
    await append(store, ANSWER)
    assert await turns_of(store) == [ANSWER]


# --- summaries --------------------------------------------------------------------------------------------------------


async def test_a_summary_stands_for_the_oldest_turns(store: Store) -> None:
    await append(store, HELLO, ANSWER, CUT)
    assert await store.replace_by_summary(ANN, "s", SUMMARY, before=2, expected_version=1, now=NOW) == 2
    found = await store.fetch(ANN, "s", NOW)
    assert found is not None
    assert (found.summary, list(found.turns)) == (SUMMARY, [CUT])
    assert (found.info.turns, found.info.summarized, found.info.tokens) == (3, 2, 8)
    await append(store, HELLO, version=2)
    again = replace(SUMMARY, body=b"{}")
    assert await store.replace_by_summary(ANN, "s", again, before=4, expected_version=3, now=NOW) == 4
    found = await store.fetch(ANN, "s", NOW)
    assert found is not None
    assert (found.summary, list(found.turns)) == (again, [])


@pytest.mark.parametrize(("before", "version", "after_s"), [(2, 1, 0.0), (1, 2, 0.0), (1, 1, TTL_S)])
async def test_a_summary_of_what_is_not_so_is_a_conflict(store: Store, before: int, version: int, after_s: float) -> None:
    await append(store, HELLO)
    with pytest.raises(Conflict):
        await store.replace_by_summary(ANN, "s", SUMMARY, before=before, expected_version=version, now=NOW + after_s)
    assert await turns_of(store) == [HELLO]


# --- time -------------------------------------------------------------------------------------------------------------


async def test_what_has_expired_is_gone_at_once(store: Store) -> None:
    await append(store, HELLO)
    assert await turns_of(store, now=NOW + TTL_S - 0.001) == [HELLO]
    for now in (NOW + TTL_S, LATER):
        assert await store.fetch(ANN, "s", now) is None
        assert list((await store.list_sessions(None, now=now, limit=10)).sessions) == []
        assert await store.count_sessions(now) == 0
        assert not await store.touch(ANN, "s", now=now, ttl_s=TTL_S)
        with pytest.raises(Conflict):
            await append(store, ANSWER, version=1, now=now)
    assert await append(store, ANSWER, now=LATER) == 1
    assert await turns_of(store, now=LATER) == [ANSWER]


async def test_an_expired_session_was_not_there_to_be_deleted(store: Store) -> None:
    await append(store, HELLO)
    assert not await store.delete_session(ANN, "s", now=LATER)


async def test_use_renews(store: Store) -> None:
    await append(store, HELLO)
    assert await store.touch(ANN, "s", now=NOW + 900, ttl_s=TTL_S)
    await append(store, ANSWER, version=1, now=NOW + 1800)
    assert await turns_of(store, now=NOW + 2700) == [HELLO, ANSWER]
    assert await turns_of(store, now=NOW + 2800) is None


async def test_the_sweeper_takes_no_more_than_it_is_told_and_nothing_that_lives(store: Store) -> None:
    for number in range(5):
        await append(store, HELLO, to=f"old {number}")
        await store.put_response(ANN, replace(RESPONSE, id=f"old {number}"), now=NOW, ttl_s=TTL_S)
    await append(store, HELLO, to="young", now=NOW + 10)
    await append(store, HELLO, to="renewed")
    await store.touch(ANN, "renewed", now=NOW + 10, ttl_s=TTL_S)
    await store.acquire(ANN, "young", "me", now=NOW, lease_s=10)
    now = NOW + TTL_S
    assert [await store.sweep(now, 2) for _ in range(4)] == [Swept(2, 2), Swept(2, 2), Swept(1, 1), Swept(0, 0)]
    assert {info.id for info in (await store.list_sessions(None, now=NOW, limit=10)).sessions} == {"young", "renewed"}


# --- whose turn it is -------------------------------------------------------------------------------------------------


async def test_one_holds_a_session_until_it_lets_go(store: Store) -> None:
    assert await store.acquire(ANN, "s", "one", now=NOW, lease_s=30)
    assert not await store.acquire(ANN, "s", "two", now=NOW + 1, lease_s=30)
    await store.release(ANN, "s", "two")
    assert not await store.acquire(ANN, "s", "two", now=NOW + 1, lease_s=30)
    assert await store.acquire(OTHERS[0], "s", "two", now=NOW + 1, lease_s=30)
    await store.release(ANN, "s", "one")
    assert await store.acquire(ANN, "s", "two", now=NOW + 1, lease_s=30)


async def test_a_dead_holder_loses_it_and_a_living_one_renews_it(store: Store) -> None:
    assert await store.acquire(ANN, "s", "one", now=NOW, lease_s=30)
    assert await store.acquire(ANN, "s", "one", now=NOW + 20, lease_s=30)
    assert not await store.acquire(ANN, "s", "two", now=NOW + 49, lease_s=30)
    assert await store.acquire(ANN, "s", "two", now=NOW + 50, lease_s=30)
    assert not await store.acquire(ANN, "s", "one", now=NOW + 51, lease_s=30)


async def test_of_many_who_ask_at_once_one_gets_it(store: Store) -> None:
    asked = [store.acquire(ANN, "s", f"holder {number}", now=NOW, lease_s=30) for number in range(40)]
    assert sum(await asyncio.gather(*asked)) == 1


# --- lists and deletion -----------------------------------------------------------------------------------------------


async def test_pages_show_each_session_once_youngest_first(store: Store) -> None:
    for number in range(7):
        await append(store, HELLO, to=f"{number}", now=NOW + number)
        await append(store, HELLO, owner=OTHERS[number % 2], to=f"other {number}")
    await append(store, HELLO, to="0", version=1, now=NOW + 50)
    seen, cursor = [], None
    while True:
        page = await store.list_sessions(ANN, now=NOW + 100, limit=3, cursor=cursor)
        seen += [info.id for info in page.sessions]
        if (cursor := page.next) is None:
            break
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]
    assert len((await store.list_sessions(None, now=NOW, limit=100)).sessions) == 14
    assert await store.count_sessions(NOW) == 14


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "9" * 30, "١"])
async def test_a_cursor_that_was_never_given_is_the_clients_fault(store: Store, cursor: str) -> None:
    with pytest.raises(BadRequest):
        await store.list_sessions(ANN, now=NOW, limit=10, cursor=cursor)


async def test_what_is_deleted_is_gone_with_its_turns(store: Store) -> None:
    await append(store, HELLO, ANSWER)
    await append(store, HELLO, to="stays")
    assert await store.delete_session(ANN, "s", now=NOW)
    assert not await store.delete_session(ANN, "s", now=NOW)
    assert await store.fetch(ANN, "s", NOW) is None
    with pytest.raises(Conflict):
        await append(store, CUT, version=1)
    await append(store, CUT)
    assert await turns_of(store) == [CUT]
    assert await turns_of(store, "stays") == [HELLO]


async def test_a_users_data_is_erased_whatever_the_key(store: Store) -> None:
    for owner in (ANN, *OTHERS):
        await append(store, HELLO, owner=owner)
        await store.put_response(owner, RESPONSE, now=NOW, ttl_s=TTL_S)
    of_ann = [owner for owner in (ANN, *OTHERS) if owner.user == "ann"]
    assert await store.delete_user("ann") == 2 * len(of_ann)
    assert await store.delete_user("ann") == 0
    assert await store.delete_user("") == 0
    left = {info.owner for info in (await store.list_sessions(None, now=NOW, limit=100)).sessions}
    assert left == {ANN, *OTHERS} - set(of_ann)
    assert [bool(await store.fetch_chain(owner, "r", now=NOW)) for owner in (ANN, OTHERS[0])] == [False, True]


# --- responses --------------------------------------------------------------------------------------------------------

RESPONSE = StoredResponse("r", "completed", b'[{"role":"user"}]', b'{"id":"r"}', NOW)


async def test_a_response_comes_back_as_it_went_in_and_is_replaced(store: Store) -> None:
    full = replace(RESPONSE, status="in_progress", parent="gone", conversation="conv", body=b"\xff")
    await store.put_response(ANN, full, now=NOW, ttl_s=TTL_S)
    assert list(await store.fetch_chain(ANN, "r", now=NOW)) == [full]
    await store.put_response(ANN, RESPONSE, now=NOW + 10, ttl_s=TTL_S)
    assert list(await store.fetch_chain(ANN, "r", now=NOW)) == [RESPONSE]


async def test_a_response_is_its_owners_until_it_expires(store: Store) -> None:
    await store.put_response(ANN, RESPONSE, now=NOW, ttl_s=TTL_S)
    for other in OTHERS:
        assert list(await store.fetch_chain(other, "r", now=NOW)) == []
        assert not await store.delete_response(other, "r", now=NOW)
    assert list(await store.fetch_chain(ANN, "r", now=NOW + TTL_S)) == []
    assert await store.delete_response(ANN, "r", now=NOW)
    assert not await store.delete_response(ANN, "r", now=NOW)
    assert list(await store.fetch_chain(ANN, "r", now=NOW)) == []


async def test_branches_go_back_to_the_same_beginning(store: Store) -> None:
    for name, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "b")):
        await store.put_response(ANN, replace(RESPONSE, id=name, parent=parent), now=NOW, ttl_s=TTL_S)
    await store.put_response(OTHERS[0], replace(RESPONSE, id="b", parent="x"), now=NOW, ttl_s=TTL_S)
    assert [one.id for one in await store.fetch_chain(ANN, "c", now=NOW)] == ["a", "b", "c"]
    assert [one.id for one in await store.fetch_chain(ANN, "d", now=NOW)] == ["a", "b", "d"]
    assert [one.id for one in await store.fetch_chain(ANN, "d", now=NOW, limit=2)] == ["b", "d"]
    await store.delete_response(ANN, "a", now=NOW)
    assert [one.id for one in await store.fetch_chain(ANN, "c", now=NOW)] == ["b", "c"]


async def test_a_chain_lives_as_long_as_its_youngest(store: Store) -> None:
    for step, (name, parent) in enumerate((("a", None), ("b", "a"), ("c", "b"))):
        await store.put_response(ANN, replace(RESPONSE, id=name, parent=parent), now=NOW + 600 * step, ttl_s=TTL_S)
    assert [one.id for one in await store.fetch_chain(ANN, "c", now=NOW + 2100)] == ["a", "b", "c"]
    assert (await store.sweep(NOW + 2200, 10)).responses == 3


# --- many at once -----------------------------------------------------------------------------------------------------


async def add_one(store: Store, session_id: str, turn: StoredTurn) -> None:
    """As the gateway does: read, then write on what was read; again when somebody else was first."""
    while True:
        found = await store.fetch(ANN, session_id, NOW)
        try:
            await append(store, turn, to=session_id, version=0 if found is None else found.info.version)
        except Conflict:
            continue
        return


@pytest.mark.parametrize("kind", KINDS)
async def test_turns_in_parallel_are_neither_lost_nor_doubled(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Two gateways where a store is shared; the issue's 1,000 sessions × 20 are run by benchmarks/stores.py."""
    url = await fresh_url(kind, request.config, tmp_path)
    turns = [StoredTurn("openai_chat", b"%d" % number, 1) for number in range(20)]
    async with opened(url, 2 if kind in SHARED_KINDS else 1) as stores:
        adds = [add_one(stores[turn % len(stores)], f"s{session}", turns[turn]) for turn in range(20) for session in range(10)]
        await asyncio.gather(*adds)
        for session in range(10):
            found = await stores[0].fetch(ANN, f"s{session}", NOW)
            assert found is not None
            assert sorted(found.turns, key=lambda turn: int(turn.body)) == turns
            assert (found.info.version, found.info.turns, found.info.tokens) == (20, 20, 20)
