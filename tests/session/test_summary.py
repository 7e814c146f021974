"""Summaries: when they are written, what stands for what then, and that nobody waits for them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from agent_gateway.core.call import Call
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import ConnectionCut
from agent_gateway.core.settings import Sessions
from agent_gateway.session.memory import Memory
from agent_gateway.session.summary import HEADING
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import Owner, Session
from tests.session.exchanges import events, model, new_exchange, sent, turn, user, whole

CLOCK = Clock()
POLICY = Sessions(compaction="summary", summary_model="small")
WINDOW = 1000
LONG = " " + "word " * 200


class Summarizer:
    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.was_asked = asyncio.Event()
        self.fails = False

    async def __call__(self, call: Call) -> bytes:
        self.asked.append(msgspec.json.decode(call.body))
        self.was_asked.set()
        await self.may_answer.wait()
        if self.fails:
            raise ConnectionCut("no")
        return msgspec.json.encode({"choices": [{"index": 0, "message": model(f"summary {len(self.asked)}")}]})


@pytest.fixture
def summarizer() -> Summarizer:
    return Summarizer()


@pytest.fixture
def memory(summarizer: Summarizer) -> Memory:
    return Memory(MemoryStore(), CLOCK, summarizer)


async def settled(memory: Memory) -> Session:
    """Once nothing is being written."""
    await asyncio.gather(*memory._summaries._tasks.values())
    found = await memory.store.fetch(Owner("ann"), "s", CLOCK.wall())
    assert found is not None
    return found


async def said(memory: Memory, *texts: str) -> Session:
    for text in texts:
        await turn(memory, text, policy=POLICY, window=WINDOW)
        await settled(memory)
    return await settled(memory)


async def test_a_summary_takes_the_place_of_the_oldest_turns_which_stay(memory: Memory, summarizer: Summarizer) -> None:
    session = await said(memory, "one" + LONG, "two" + LONG)
    assert session.summary is None
    assert not summarizer.asked
    session = await said(memory, "three" + LONG)
    (asked,) = summarizer.asked
    assert asked["model"] == "small"
    text = asked["messages"][1]["content"]
    assert text.startswith("user: one word")
    assert "two word" in text
    assert "assistant: ok" in text
    assert session.summary is not None
    assert msgspec.json.decode(session.summary.body) == user(HEADING + "summary 1")
    assert session.info.turns == 6
    assert session.info.summarized + len(session.turns) == 6
    messages = await turn(memory, "four", policy=POLICY, window=WINDOW)
    assert messages[0] == user(HEADING + "summary 1")
    assert messages[-1] == user("four")
    assert not any("one word" in message["content"] for message in messages)


async def test_the_next_summary_tells_the_one_before_it(memory: Memory, summarizer: Summarizer) -> None:
    await said(memory, *[f"{n}" + LONG for n in range(6)])
    assert len(summarizer.asked) >= 2
    assert HEADING.strip() in summarizer.asked[1]["messages"][1]["content"]
    assert "summary 1" in summarizer.asked[1]["messages"][1]["content"]


async def test_a_client_that_sends_its_history_along_is_known_behind_a_summary(memory: Memory) -> None:
    texts = [f"{n}" + LONG for n in range(4)]
    session = await said(memory, *texts)
    assert session.summary is not None
    history = [message for text in texts for message in (user(text), model("ok"))]
    exchange = new_exchange(*history, user("more"), policy=POLICY, window=WINDOW)
    attached = await memory.attach(exchange)
    assert attached is not None
    assert sent(exchange)[0] == msgspec.json.decode(session.summary.body)
    async for _ in attached.keep(events(whole("ok"))):
        pass
    memory.end(exchange, attached)
    assert (await settled(memory)).info.turns == 10


async def test_turns_that_come_while_it_is_written_stay_behind_it(memory: Memory, summarizer: Summarizer) -> None:
    summarizer.may_answer.clear()
    for text in ("one", "two", "three"):
        await turn(memory, text + LONG, policy=POLICY, window=WINDOW)
    await summarizer.was_asked.wait()
    await turn(memory, "meanwhile", policy=POLICY, window=WINDOW)
    summarizer.may_answer.set()
    session = await settled(memory)
    assert session.summary is not None
    assert session.info.turns == 8
    assert b"meanwhile" in session.turns[-2].body


async def test_one_that_cannot_be_had_changes_nothing(memory: Memory, summarizer: Summarizer, caplog: pytest.LogCaptureFixture) -> None:
    summarizer.fails = True
    session = await said(memory, "one" + LONG, "two" + LONG, "three" + LONG)
    assert session.summary is None
    assert len(session.turns) == 6
    assert "not summarized" in caplog.text
    assert len(await turn(memory, "four", policy=POLICY, window=WINDOW)) < 7  # what fits


async def test_without_a_known_window_the_number_of_turns_counts(memory: Memory, summarizer: Summarizer) -> None:
    policy = Sessions(compaction="summary", summary_model="small", max_messages=8)
    for n in range(4):
        await turn(memory, f"{n}", policy=policy)
        await settled(memory)
    assert len(summarizer.asked) == 1
    assert (await settled(memory)).info.summarized == 6
