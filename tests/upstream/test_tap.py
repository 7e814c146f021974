"""Text that leaves by the tap: in order with the rest, counted and kept like the rest, and only while nothing has to look at it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from time import monotonic
from typing import cast

import pytest

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.delta import Finished, Started, TextDelta
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.plan import Candidate
from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.settings import Timeouts
from agent_gateway.health.registry import Health
from agent_gateway.protocols.base import AnswerHead, codec_of
from agent_gateway.protocols.openai_chat.relay import StreamRelay
from agent_gateway.protocols.relay import Relay, TranslatingRelay
from agent_gateway.protocols.transcript import COMPACT_BYTES, read_answer
from agent_gateway.upstream.attempt import BegunStream, Running
from agent_gateway.upstream.base import Answer, Provider
from agent_gateway.upstream.reply import Reply, Taker
from agent_gateway.wire.sse import DONE
from tests.upstream.stage import CLOCK, FakeProvider, call, frame


class Pipe:
    """A reply's source that a test feeds."""

    def __init__(self) -> None:
        self.paused = self.eager = False
        self.taker: Taker | None = None
        self.until: float | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.reply = Reply(self)

    def wait(self, until: float) -> asyncio.Future[None]:
        self.until = until
        self.waiter = asyncio.get_running_loop().create_future()
        return self.waiter

    def feed(self, data: bytes) -> bool:
        """Whether the tap took it."""
        until = self.taker(data) if self.taker is not None else None
        if until is None:
            self.reply.body += data
            assert self.waiter is not None
            self.waiter.set_result(None)
            return False
        self.until = until
        return True

    def hold_up_to(self, held_max_bytes: int) -> None: ...

    def resume(self) -> None: ...

    def abort(self, error: object = None) -> None: ...


class Tapped:
    """A begun stream, its source, and what came out of either end."""

    def __init__(self, relay: Relay | None = None, *, takes: Callable[[bytes], bool] = lambda frames: True) -> None:
        target = Deployment("fake/a", "fake", "a")
        route = Route(name="chat", deployments=(target,), timeouts=Timeouts(idle_s=30.0))
        health = Health(Random(1))
        health.follow(route)
        self.exchange = Exchange(
            id="req_1", call=call(stream=True), started=monotonic(), started_wall=0.0, attempts=[], answer=[], deadline=monotonic() + 600
        )
        self.tapped: list[bytes] = []
        self._takes = takes
        self.exchange.tap = self._tap
        self.pipe = Pipe()
        provider, at = cast(Provider, FakeProvider()), health.of(target.id)
        running = Running(self.exchange, self.exchange.call, Candidate(target, route), provider, at, CLOCK)
        relay = relay or StreamRelay("chat", strip_usage=True)
        self.stream = BegunStream(running, cast(Answer, self.pipe.reply), relay, relay.feed(sent("one")))
        self.stream.keep_in(self.exchange.answer)
        self.stream.pass_by(self.exchange)

    def _tap(self, frames: bytes) -> bool:
        self.tapped.append(frames)
        return self._takes(frames)

    async def next(self, data: bytes) -> bytes:
        """What `next` returns for it, which the tap must not have taken."""
        asked = await self.waits()
        assert not self.pipe.feed(data)
        return await asked

    async def begins_to_wait(self) -> None:
        self.task = await self.waits()

    async def waits(self) -> asyncio.Task[bytes]:
        asked = asyncio.ensure_future(self.stream.next())
        await asyncio.sleep(0)
        return asked


def sent(said: str) -> bytes:
    """As the provider sends it."""
    return frame({"content": said})


def text(said: str) -> bytes:
    """As the client gets it."""
    return sent(said).replace(b'"model":"m"', b'"model":"chat"')


async def test_text_leaves_by_the_tap_and_the_rest_by_the_task() -> None:
    tapped = Tapped()
    asked = await tapped.waits()
    assert tapped.pipe.feed(sent("two"))
    assert tapped.pipe.feed(sent("three"))
    assert not asked.done()
    assert tapped.exchange.answer_bytes == len(text("two")) + len(text("three"))
    assert not tapped.pipe.feed(frame({}, finish="stop") + DONE)
    assert b'"stop"' in await asked
    tapped.pipe.reply.end()
    assert await tapped.stream.next() == b""
    assert tapped.tapped == [text("two"), text("three")]
    answer = read_answer(tapped.exchange).answer()
    assert answer is not None
    assert (answer.content, answer.finish_reason) == ("onetwothree", "stop")


async def test_frames_of_text_that_come_together_leave_together() -> None:
    tapped = Tapped()
    await tapped.begins_to_wait()
    assert tapped.pipe.feed(sent("two") + sent("three"))
    assert not tapped.pipe.feed(sent("four") + b": comment\n\n" + sent("five"))
    assert tapped.tapped == [text("two") + text("three")]
    assert await tapped.task == text("four") + b": comment\n\n" + text("five")


@pytest.mark.parametrize(
    "odd",
    [sent('a"b'), sent("a") + sent('a"b'), sent("a") + sent("b")[:-1], sent("a")[:-1], b": comment\n\n", frame({"refusal": "no"})],
)
async def test_what_is_not_frames_of_text_wakes_the_task(odd: bytes) -> None:
    tapped = Tapped()
    asked = await tapped.waits()
    assert not tapped.pipe.feed(odd)
    await asyncio.wait([asked], timeout=0.01)
    assert tapped.tapped == []


async def test_a_stage_that_looks_at_every_event_closes_it() -> None:
    tapped = Tapped()
    asked = await tapped.waits()
    tapped.exchange.tap = None
    assert not tapped.pipe.feed(sent("two"))
    assert await asked == text("two")


async def test_a_slow_client_is_waited_for_by_the_task_and_then_has_the_tap_again() -> None:
    takes = [False, True]
    tapped = Tapped(takes=lambda frames: takes.pop(0))
    asked = await tapped.waits()
    assert tapped.pipe.feed(sent("two"))
    assert not tapped.pipe.feed(sent("three"))
    assert await asked == text("three")
    await tapped.begins_to_wait()
    assert tapped.pipe.feed(sent("four"))
    assert tapped.tapped == [text("two"), text("four")]


async def test_what_has_to_be_compacted_passes_the_pipeline() -> None:
    tapped = Tapped()
    tapped.exchange.answer_bytes = COMPACT_BYTES + 1
    assert await tapped.next(sent("two")) == text("two")
    tapped.exchange.compacted_bytes = COMPACT_BYTES
    await tapped.begins_to_wait()
    assert tapped.pipe.feed(sent("three"))


async def test_it_moves_the_idle_timeout_up_to_the_deadline() -> None:
    tapped = Tapped()
    await tapped.begins_to_wait()
    first = tapped.pipe.until
    await asyncio.sleep(0.002)
    assert tapped.pipe.feed(sent("two"))
    assert first is not None
    assert tapped.pipe.until is not None
    assert first < tapped.pipe.until < monotonic() + 30
    tapped.stream._deadline = monotonic() + 1
    assert tapped.pipe.feed(sent("three"))
    assert tapped.pipe.until == tapped.stream._deadline


async def test_without_a_tap_nothing_is_offered() -> None:
    tapped = Tapped()
    tapped.exchange.tap = None
    tapped.stream.pass_by(tapped.exchange)
    await tapped.begins_to_wait()
    assert tapped.pipe.taker is None


@pytest.mark.parametrize("client", ["anthropic", "openai_responses", "gemini", "openai_completions"])
async def test_translated_text_leaves_by_it_too(client: Dialect) -> None:
    codec = codec_of(client)
    call = Call(client, "chat", b"{}", stream=True)
    head = AnswerHead("1", 1, "chat")
    expected = codec.stream_writer(head, call)
    expected.write([Started(), TextDelta("one")])
    tapped = Tapped(TranslatingRelay(codec_of("openai_chat").stream_reader(), codec.stream_writer(head, call)))
    assert await tapped.next(sent("two")) == expected.write([TextDelta("two")])
    asked = await tapped.waits()
    assert tapped.pipe.feed(sent('th"ree\n'))
    assert tapped.pipe.feed(sent("four"))
    assert tapped.tapped == [expected.write([TextDelta('th"ree\n')]), expected.write([TextDelta("four")])]
    assert tapped.exchange.answer_bytes == sum(map(len, tapped.tapped))
    assert not tapped.pipe.feed(frame({}, finish="stop") + DONE)
    assert await asked == expected.write([Finished("stop")]) + expected.end()
    tapped.pipe.reply.end()
    assert await tapped.stream.next() == b""
    answer = read_answer(tapped.exchange).answer()
    assert answer is not None
    assert (answer.content, answer.finish_reason) == ('onetwoth"ree\nfour', "stop")
