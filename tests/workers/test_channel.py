"""The line between supervisor and worker, over a real pair of sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator

import pytest

from agent_gateway.core.siblings import NoAnswer, Refusal
from agent_gateway.workers import channel as module
from agent_gateway.workers.channel import Channel
from tests.kit.eventually import PATIENCE_S


class Side:
    """One end; answers `echo`, refuses `refuse`, fails at `fail`, and says nothing to `wait` until it is told to."""

    def __init__(self, line: socket.socket) -> None:
        self.ended = asyncio.Event()
        self.go_on = asyncio.Event()
        self.channel = Channel(line, self._answer, self.ended.set)

    async def _answer(self, topic: str, body: bytes) -> bytes:
        match topic:
            case "echo":
                return body
            case "wait":
                await self.go_on.wait()
                return b"at last"
            case "fail":
                raise ZeroDivisionError
        raise NoAnswer("not I")


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Side, Side]]:
    sides = [Side(line) for line in socket.socketpair()]
    for side in sides:
        await side.channel.open()
    yield sides[0], sides[1]
    for side in sides:
        side.channel.close()
    await asyncio.sleep(0)


async def test_many_are_answered_at_once_in_both_directions(pair: tuple[Side, Side]) -> None:
    here, there = pair
    slow = asyncio.create_task(here.channel.ask("wait", timeout_s=PATIENCE_S))
    bodies = [os.urandom(size) for size in (0, 1, 1000, 3_000_000)]
    asked = [side.channel.ask("echo", body, PATIENCE_S) for body in bodies for side in pair]
    assert await asyncio.gather(*asked) == [body for body in bodies for _ in pair]
    assert not slow.done()
    there.go_on.set()
    assert await slow == b"at last"


async def test_who_cannot_tell_says_so(pair: tuple[Side, Side], caplog: pytest.LogCaptureFixture) -> None:
    here, _ = pair
    with pytest.raises(Refusal, match="not I"):
        await here.channel.ask("refuse", timeout_s=PATIENCE_S)
    with caplog.at_level(logging.CRITICAL), pytest.raises(Refusal, match="ZeroDivisionError"):
        await here.channel.ask("fail", timeout_s=PATIENCE_S)
    assert await here.channel.ask("echo", b"still there", PATIENCE_S) == b"still there"


async def test_nobody_waits_longer_than_they_say(pair: tuple[Side, Side]) -> None:
    here, there = pair
    with pytest.raises(NoAnswer, match=r"no answer within 0\.01 s"):
        await here.channel.ask("wait", timeout_s=0.01)
    there.go_on.set()  # what comes too late is nobody's answer
    assert await here.channel.ask("echo", b"mine", PATIENCE_S) == b"mine"


async def test_an_end_ends_what_is_waited_for(pair: tuple[Side, Side]) -> None:
    here, there = pair
    waiting = asyncio.create_task(here.channel.ask("wait", timeout_s=PATIENCE_S))
    await asyncio.sleep(0.01)
    there.channel.close()
    with pytest.raises(NoAnswer, match="gone"):
        await waiting
    async with asyncio.timeout(PATIENCE_S):
        await here.ended.wait()
    with pytest.raises(NoAnswer, match="gone"):
        await here.channel.ask("echo")
    assert not there.ended.is_set(), "who ends it knows"


async def test_what_is_under_way_is_bounded(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = pair
    monkeypatch.setattr(module, "WAITING_MAX", 2)
    monkeypatch.setattr(module, "MESSAGE_MAX_BYTES", 1000)
    waiting = [asyncio.create_task(here.channel.ask("wait", timeout_s=PATIENCE_S)) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(NoAnswer, match="2 questions wait"):
        await here.channel.ask("echo")
    there.go_on.set()
    await asyncio.gather(*waiting)
    with pytest.raises(NoAnswer, match="more than a message may have"):
        await here.channel.ask("echo", bytes(2000))


async def test_what_is_no_message_ends_the_line(caplog: pytest.LogCaptureFixture) -> None:
    line, other = socket.socketpair()
    side = Side(line)
    await side.channel.open()
    with caplog.at_level(logging.CRITICAL), other:
        other.sendall(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await side.ended.wait()
