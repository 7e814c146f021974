"""Turns of sessions, one after the other and at once, on stores that work and stores that do not."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from agent_gateway.core.call import Call
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, Conflict, ConnectionCut, StoreDown
from agent_gateway.core.event import Chunk, Event, Failure, Whole
from agent_gateway.core.settings import Sessions
from agent_gateway.session import turnstile
from agent_gateway.session.memory import Memory
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.backends.sqlite import SqliteStore
from agent_gateway.stores.base import Key, Owner, Session, Store, open_store
from agent_gateway.wire.sse import DONE
from tests.kit.eventually import PATIENCE_S, eventually
from tests.session.exchanges import chunk, events, model, new_exchange, sent, turn, turns_of_session, user, whole

BOB = Key("bob", "Bob")
CLOCK = Clock()


async def no_summary(call: Call) -> bytes:
    raise AssertionError("nobody asked for a summary")


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "sqlite:///:memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/gateway.db"


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = open_store(url)
    yield store
    await store.close()


@pytest_asyncio.fixture
async def memory(store: Store) -> AsyncIterator[Memory]:
    memory = Memory(store, CLOCK, no_summary)
    yield memory
    await memory.close(5)


def history(*texts: str, answer: str = "ok") -> list[Any]:
    return [message for text in texts for message in (user(text), model(answer))]


# --- one after the other ----------------------------------------------------------------------------------------------


async def test_a_session_remembers_what_was_said_and_answered(memory: Memory) -> None:
    for number in range(50):
        before = history(*[f"turn {n}" for n in range(number)])
        assert await turn(memory, f"turn {number}") == [*before, user(f"turn {number}")]
    assert [body for _, body, _ in await turns_of_session(memory)] == history(*[f"turn {n}" for n in range(50)])


async def test_a_session_is_its_keys_and_its_users(memory: Memory) -> None:
    await turn(memory, "mine")
    assert await turn(memory, "not yours", key=BOB) == [user("not yours")]
    assert await turn(memory, "not hers", user="carol") == [user("not hers")]
    assert await turn(memory, "mine again") == [*history("mine"), user("mine again")]


async def test_the_newest_instructions_stay_until_others_come(memory: Memory) -> None:
    async def said(*messages: Any) -> list[Any]:
        exchange = new_exchange(*messages)
        attached = await memory.attach(exchange)
        assert attached is not None
        told = sent(exchange)
        async for _ in attached.keep(events(whole("ok"))):
            pass
        memory.end(exchange, attached)
        return told

    brief, polite = ({"role": "system", "content": text} for text in ("be brief", "be polite"))
    assert await said(brief, user("1")) == [brief, user("1")]
    assert await said(user("2")) == [brief, *history("1"), user("2")]
    assert await said(polite, user("3")) == [polite, *history("1", "2"), user("3")]
    assert await said(user("4")) == [polite, *history("1", "2", "3"), user("4")]
    assert [body for _, body, _ in await turns_of_session(memory)] == history("1", "2", "3", "4")


async def test_a_turn_is_kept_before_the_event_that_completes_the_answer(memory: Memory) -> None:
    exchange = new_exchange(user("hi"), stream=True)
    attached = await memory.attach(exchange)
    assert attached is not None
    seen = []
    async for event in attached.keep(events(Chunk(chunk("al")), Chunk(chunk("oha")), Chunk(DONE))):
        assert isinstance(event, Chunk)
        seen.append((event.data == DONE, [body for _, body, _ in await turns_of_session(memory)]))
    assert seen == [(False, []), (False, []), (True, [user("hi"), model("aloha")])]
    # And the next one finds the session free.
    await asyncio.wait_for(turn(memory, "again"), PATIENCE_S)
    memory.end(exchange, attached)


async def test_minimal_monitoring_keeps_nothing(memory: Memory) -> None:
    exchange = new_exchange(user("hi"))
    attached = await memory.attach(exchange, "minimal")
    assert attached is not None
    assert len([event async for event in attached.keep(events(whole("ok")))]) == 1
    memory.end(exchange, attached)
    assert await turns_of_session(memory) == []


async def test_store_false_reads_and_keeps_nothing(memory: Memory) -> None:
    await turn(memory, "kept")
    assert await turn(memory, "not kept", store=False) == [*history("kept"), user("not kept")]
    assert await turn(memory, "last") == [*history("kept"), user("last")]


# --- answers that come to nothing -------------------------------------------------------------------------------------

CUT: list[Event | BaseException] = [Chunk(chunk("half an ")), Failure(ConnectionCut("cut"))]


@pytest.mark.parametrize("answer", [CUT, [Chunk(chunk("half ")), asyncio.CancelledError()], [ConnectionCut("none")]])
async def test_a_turn_that_fails_leaves_the_session_as_it_was_and_free(memory: Memory, answer: Any) -> None:
    await turn(memory, "first")
    try:
        await turn(memory, "second", answer, stream=True)
    except (asyncio.CancelledError, ConnectionCut):
        assert answer is not CUT
    assert await asyncio.wait_for(turn(memory, "third"), PATIENCE_S) == [*history("first"), user("third")]


async def test_what_came_of_a_cut_answer_is_kept_where_it_is_asked_for(memory: Memory) -> None:
    policy = Sessions(keep_partial=True)
    await turn(memory, "second", CUT, stream=True, policy=policy)
    assert await turn(memory, "third", policy=policy) == [user("second"), model("half an "), user("third")]
    assert [partial for _, _, partial in await turns_of_session(memory)] == [False, True, False, False]


async def test_the_fixed_reply_is_never_kept(memory: Memory) -> None:
    for keep_partial in (False, True):
        exchange = new_exchange(user("hi"), policy=Sessions(keep_partial=keep_partial))
        attached = await memory.attach(exchange)
        assert attached is not None
        exchange.status = "degraded"
        assert [event async for event in attached.keep(events(whole("sorry")))] == [whole("sorry")]
        memory.end(exchange, attached)
    assert await turns_of_session(memory) == []


async def test_a_session_that_is_deleted_during_a_turn_does_not_come_back(memory: Memory) -> None:
    await turn(memory, "first")
    exchange = new_exchange(user("second"))
    attached = await memory.attach(exchange)
    assert attached is not None
    assert await memory.store.delete_session(Owner("ann"), "s", now=CLOCK.wall())
    assert len([event async for event in attached.keep(events(whole("ok")))]) == 1
    memory.end(exchange, attached)
    assert await turns_of_session(memory) == []


@pytest.mark.parametrize("message", ["text", 7, {"role": 7}])
async def test_a_turn_that_cannot_be_read_is_the_clients_mistake_and_the_session_stays_free(memory: Memory, message: Any) -> None:
    with pytest.raises(BadRequest):
        await memory.attach(new_exchange(message))
    await asyncio.wait_for(turn(memory, "fine"), PATIENCE_S)


# --- at once ----------------------------------------------------------------------------------------------------------


async def test_the_second_of_two_turns_waits_for_the_first(memory: Memory) -> None:
    first = new_exchange(user("first"))
    attached = await memory.attach(first)
    assert attached is not None
    second = asyncio.create_task(turn(memory, "second"))
    with pytest.raises(Conflict):
        await memory.attach(new_exchange(user("impatient"), wait_s=0.02))
    cancelled = asyncio.create_task(turn(memory, "cancelled"))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert not second.done()
    async for _ in attached.keep(events(whole("ok"))):
        pass
    memory.end(first, attached)
    assert await second == [*history("first"), user("second")]
    assert [body for _, body, _ in await turns_of_session(memory)] == history("first", "second")


async def test_no_more_than_so_many_wait(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turnstile, "WAITING_MAX", 2)
    exchange = new_exchange(user("first"))
    attached = await memory.attach(exchange)
    assert attached is not None
    waiting = [asyncio.create_task(turn(memory, f"{n}")) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Conflict):
        await turn(memory, "one too many")
    memory.end(exchange, attached)
    await asyncio.gather(*waiting)


async def test_two_processes_take_turns(url: str, store: Store) -> None:
    stores = [store, store if "memory" in url else open_store(url)]
    for one in stores:
        await one.keys_version()  # the file is there
    memories = [Memory(one, CLOCK, no_summary) for one in stores]
    texts = [f"{n}" for n in range(20)]
    await asyncio.gather(*[turn(memories[index % 2], text, wait_s=60) for index, text in enumerate(texts)])
    said = [body for _, body, _ in await turns_of_session(memories[0])]
    assert sorted(message["content"] for message in said[::2]) == sorted(texts)
    assert said[1::2] == [model("ok")] * 20
    for memory in memories:
        await memory.close(5)
    if stores[1] is not store:
        await stores[1].close()


async def test_every_frame_of_a_sessions_stream_is_looked_at(memory: Memory) -> None:
    exchange = msgspec.structs.replace(new_exchange(user("hi"), stream=True), tap=lambda frame: True)
    attached = await memory.attach(exchange)
    assert attached is not None
    assert exchange.tap is None
    memory.end(exchange, attached)


async def test_what_another_process_added_without_the_lease_is_not_overwritten(memory: Memory, store: Store) -> None:
    await turn(memory, "first")
    exchange = new_exchange(user("second"))
    attached = await memory.attach(exchange)
    assert attached is not None
    found = await store.fetch(Owner("ann"), "s", CLOCK.wall())
    assert found is not None
    await store.append(Owner("ann"), "s", found.turns, expected_version=1, now=CLOCK.wall(), ttl_s=60)
    async for _ in attached.keep(events(whole("ok"))):
        pass
    memory.end(exchange, attached)
    assert [body for _, body, _ in await turns_of_session(memory)] == history("first", "first", "second")


class Hurried:
    """A clock that is put forward by whoever sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        #: Three leases' time has gone by.
        self.is_late = asyncio.Event()
        self.clock = Clock(CLOCK.monotonic, lambda: self.now)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now > 1_000 + 3 * turnstile.LEASE_S:
            self.is_late.set()
        await asyncio.sleep(0)


async def test_who_leaves_while_the_store_gives_it_the_session_holds_up_nobody(tmp_path: Path) -> None:
    """Nor in another process."""
    stores = [SqliteStore(tmp_path / "gateway.db") for _ in range(2)]
    here, there = (turnstile.Turnstile(store, CLOCK) for store in stores)
    place = turnstile.Place(Owner("bob", ""), "s")
    await there.enter(place, CLOCK.monotonic() + 5)
    await there.leave(place)
    writer = stores[0]._file._writer
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        entering = asyncio.create_task(here.enter(place, CLOCK.monotonic() + 5))
        await eventually(lambda: writer._thread is not None and writer._work.empty(), "that the store is at it")
        entering.cancel()
        await asyncio.wait([entering])
        another.execute("ROLLBACK")
    await stores[0].release(Owner("bob", ""), "another", "nobody")  # what was asked before is done
    await there.enter(place, CLOCK.monotonic() + turnstile.LEASE_S / 2)
    await there.leave(place)
    for gate in (here, there):
        await gate.close()
    for store in stores:
        await store.close()


async def test_the_lease_of_a_process_that_died_ends(store: Store) -> None:
    hurried = Hurried()
    dead, alive = (Memory(store, hurried.clock, no_summary, sleep=sleep) for sleep in (asyncio.sleep, hurried.sleep))
    assert await dead.attach(new_exchange(user("never answered"), clock=hurried.clock)) is not None
    await turn(alive, "next", clock=hurried.clock)
    assert hurried.now >= 1_000 + turnstile.LEASE_S
    await dead.close(1)
    await alive.close(1)


async def test_a_long_turn_renews_its_lease(store: Store) -> None:
    hurried = Hurried()
    memory = Memory(store, hurried.clock, no_summary, sleep=hurried.sleep)
    exchange = new_exchange(user("long"), clock=hurried.clock)
    attached = await memory.attach(exchange)
    assert attached is not None
    await hurried.is_late.wait()
    assert not await store.acquire(Owner("ann"), "s", "another", now=hurried.now, lease_s=1)
    memory.end(exchange, attached)
    await memory.close(1)
    assert await store.acquire(Owner("ann"), "s", "another", now=hurried.now, lease_s=1)


async def test_a_thousand_sessions_lose_and_double_nothing(memory: Memory, url: str) -> None:
    sessions, turns = (1000, 5) if "memory" in url else (100, 5)

    async def client(session: str) -> None:
        await asyncio.gather(*[turn(memory, f"{n}", f"answer {n}", session=session, wait_s=60) for n in range(turns)])

    await asyncio.gather(*[client(f"s{n}") for n in range(sessions)])
    for n in range(sessions):
        said = [body["content"] for _, body, _ in await turns_of_session(memory, f"s{n}")]
        assert sorted(said[::2]) == [f"{n}" for n in range(turns)]
        assert said[1::2] == [f"answer {text}" for text in said[::2]]


# --- a store that is down ---------------------------------------------------------------------------------------------


class Frail(MemoryStore):
    is_down = False

    async def fetch(self, *given: Any, **named: Any) -> Any:
        return await super().fetch(*self._up(given), **named)

    async def append(self, *given: Any, **named: Any) -> int:
        return await super().append(*self._up(given), **named)

    async def acquire(self, *given: Any, **named: Any) -> bool:
        return await super().acquire(*self._up(given), **named)

    async def release(self, *given: Any, **named: Any) -> None:
        await super().release(*self._up(given), **named)

    def _up(self, given: Any) -> Any:
        if self.is_down:
            raise StoreDown("down")
        return given


@pytest.fixture
def frail() -> Frail:
    return Frail()


async def test_a_store_that_is_down_is_told_and_works_again_when_it_is_back(frail: Frail) -> None:
    memory = Memory(frail, CLOCK, no_summary)
    await turn(memory, "first")
    frail.is_down = True
    with pytest.raises(StoreDown):
        await turn(memory, "lost")
    frail.is_down = False
    assert await turn(memory, "second") == [*history("first"), user("second")]
    await memory.close(1)


async def test_a_store_that_goes_down_during_the_answer_keeps_its_end_from_the_client(frail: Frail) -> None:
    memory = Memory(frail, CLOCK, no_summary)
    for stream in (False, True):
        exchange = new_exchange(user("hi"), stream=stream)
        attached = await memory.attach(exchange)
        assert attached is not None
        frail.is_down = True
        if stream:
            told = [event async for event in attached.keep(events(Chunk(chunk("x")), Chunk(DONE)))]
            assert [type(event) for event in told] == [Chunk, Failure]
        else:
            with pytest.raises(StoreDown):
                [event async for event in attached.keep(events(whole("x")))]
        frail.is_down = False
        memory.end(exchange, attached)
    assert await asyncio.wait_for(turn(memory, "next"), PATIENCE_S) == [user("next")]
    await memory.close(1)


async def test_requests_may_go_on_without_memory(frail: Frail) -> None:
    memory = Memory(frail, CLOCK, no_summary)
    policy = Sessions(on_store_down="forget")
    exchange = new_exchange(user("hi"), policy=policy)
    attached = await memory.attach(exchange)
    assert attached is not None
    frail.is_down = True
    assert len([event async for event in attached.keep(events(whole("x")))]) == 1
    memory.end(exchange, attached)
    exchange = new_exchange(user("without"), policy=policy, metadata={"session_id": "s", "trace": "t"})
    assert await memory.attach(exchange) is None
    assert sent(exchange) == [user("without")]
    assert msgspec.json.decode(exchange.call.body)["metadata"] == {"trace": "t"}
    assert memory.forgotten == 2
    frail.is_down = False
    await memory.close(1)


# --- what fits --------------------------------------------------------------------------------------------------------


async def test_the_newest_turns_that_fit_are_sent_and_the_rest_stays(memory: Memory) -> None:
    for n in range(10):
        await turn(memory, f"turn {n} " + "words " * 100)
    window = 1000
    messages = await turn(memory, "last", window=window, max_tokens=100)
    assert messages[-1] == user("last")
    assert len(messages) % 2 == 1
    assert 3 <= len(messages) < 21
    assert messages[-3]["content"].startswith("turn 9 ")
    assert len(await turns_of_session(memory)) == 22
    assert len(await turn(memory, "all", window=window, policy=Sessions(compaction="off"))) == 23
    assert len(await turn(memory, "large", window=100_000)) == 25
    few = await turn(memory, "few", policy=Sessions(max_messages=6))
    assert [message["content"][:4] for message in few] == ["all", "ok", "larg", "ok", "few"]


class Counting(MemoryStore):
    """Says how many turns were read of it."""

    read = 0

    async def fetch(self, *given: Any, **named: Any) -> Session | None:
        found = await super().fetch(*given, **named)
        self.read += 0 if found is None else len(found.turns)
        return found


async def test_no_more_of_a_long_session_is_read_than_can_be_sent() -> None:
    store = Counting()
    memory = Memory(store, CLOCK, no_summary)
    few = Sessions(max_messages=4)
    for n in range(20):
        await turn(memory, f"turn {n}", policy=few)
    store.read = 0
    assert await turn(memory, "last", policy=few) == [*history("turn 19"), user("last")]
    assert store.read == 5
    told = [*history("turn 18"), *history("turn 19"), *history("last"), user("along")]  # a client that sends its history
    exchange = new_exchange(*told, policy=few)
    attached = await memory.attach(exchange)
    assert attached is not None
    async for _ in attached.keep(events(whole("ok"))):
        pass
    memory.end(exchange, attached)
    assert len(await turns_of_session(memory)) == 44
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    for n in range(6):  # one long round, of which the question is read wherever it stands
        said = [user("go")] if n == 0 else [{"role": "tool", "tool_call_id": "c", "content": f"{n}"}]
        exchange = new_exchange(*said, policy=few)
        attached = await memory.attach(exchange)
        assert attached is not None
        assert user("go") in sent(exchange)
        answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": calls}}]}
        async for _ in attached.keep(events(Whole(msgspec.json.encode(answer)))):
            pass
        memory.end(exchange, attached)
    await memory.close(5)


async def test_each_candidate_gets_what_it_holds_whatever_the_others_hold(memory: Memory) -> None:
    for n in range(10):
        await turn(memory, f"turn {n} " + "words " * 100)
    exchange = new_exchange(user("last"), window=100_000)
    attached = await memory.attach(exchange)
    assert attached is not None
    assert exchange.route is not None
    assert exchange.fit is not None
    (large,) = exchange.route.deployments
    assert b"turn 0" not in exchange.fit(replace(large, context_window=1000)).body
    assert b"turn 0" in exchange.fit(large).body
    assert b"turn 0" not in exchange.call.body  # by which the candidates are planned
    memory.end(exchange, attached)
