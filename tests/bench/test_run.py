"""Loops of a load: users who wait for their answers, and arrivals that wait for nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from time import monotonic
from typing import Any

import pytest

from agent_gateway.bench import run as run_module
from agent_gateway.bench.client import Client
from agent_gateway.bench.run import Run
from agent_gateway.bench.tally import Figures
from agent_gateway.upstream.transport import Transport
from tests.bench.loads import load
from tests.kit import replies, samples
from tests.kit.eventually import eventually
from tests.kit.ports import free_port
from tests.kit.provider import Heard, Script, ScriptedProvider

ANSWER = replies.whole(samples.COMPLETION)


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        provider.reply(ANSWER)
        yield provider


async def run(url: str, **changes: Any) -> Figures:
    async with running(url, **changes) as one:
        return await one.figures()


async def run_until(holds: Callable[[], bool], url: str, **changes: Any) -> Figures:
    """Ended early: as soon as that holds, however long a busy machine takes for it."""
    async with running(url, **changes, duration_s=60) as one:
        figures = asyncio.ensure_future(one.figures())
        try:
            await eventually(holds, "what it is to be run until")
        finally:
            one.stop()
            ended = await figures
        return ended


@asynccontextmanager
async def running(url: str, **changes: Any) -> AsyncIterator[Run]:
    transport = Transport(environ={})
    try:
        yield Run(load(url, **changes), Client(load(url, **changes), None, transport))
    finally:
        await transport.close()


async def test_users_wait_for_their_answers(gateway: ScriptedProvider) -> None:
    gateway.reply(replies.later(0.05, ANSWER))
    figures = await run_until(lambda: len(gateway.heard) >= 4 * 8, gateway.base_url, concurrency=4)
    assert gateway.connections == 4
    assert figures.requests == figures.answered == len(gateway.heard)
    assert 4 * 8 <= figures.requests <= 4 * (figures.measured_s / 0.05 + 1)
    assert figures.latency is not None
    assert figures.latency["p50"] >= 0.05
    assert max(point.in_flight for point in figures.timeline) == 4


async def test_what_begins_as_the_time_ends_is_counted(gateway: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who saw that there is time left asks: the process may stand still just then."""
    async with running(gateway.base_url) as one:
        looked = False

        def clock() -> float:
            nonlocal looked
            if looked or not gateway.heard:
                return monotonic()
            looked = True
            time.sleep(max(one._ends - monotonic(), 0))
            return one._ends - 1e-6

        monkeypatch.setattr(run_module, "monotonic", clock)
        figures = await one.figures()
    assert figures.requests == len(gateway.heard)


async def test_arrivals_come_at_their_rate(gateway: ScriptedProvider) -> None:
    figures = await run(gateway.base_url, rate=100, arrivals="even", concurrency=50, duration_s=0.5)
    assert figures.requests == pytest.approx(50, abs=1)
    figures = await run(gateway.base_url, rate=400, concurrency=400, duration_s=0.5)
    assert figures.requests == pytest.approx(200, abs=75), "at random, but so many"


async def test_what_a_standstill_holds_up_is_counted(gateway: ScriptedProvider) -> None:
    """Coordinated omission: only one request met the standstill, but those that were to be sent in it had to wait."""
    numbers = count()

    def choose(_: Heard) -> Script:
        return replies.later(0.4, ANSWER) if next(numbers) == 5 else ANSWER

    gateway.reply_by(choose)
    figures = await run(gateway.base_url, rate=100, arrivals="even", concurrency=1, duration_s=0.8)
    assert figures.latency is not None
    assert figures.service is not None
    assert figures.service["p75"] < 0.1
    assert figures.latency["p75"] > 0.1
    assert figures.requests == pytest.approx(80, abs=1), "nothing is left out"


async def test_the_warm_up_is_not_measured(gateway: ScriptedProvider) -> None:
    figures = await run(gateway.base_url, rate=100, arrivals="even", concurrency=50, warm_up_s=0.5, duration_s=0.5)
    assert len(gateway.heard) == pytest.approx(100, abs=2)
    assert figures.requests == pytest.approx(50, abs=2)


async def test_users_of_a_ramp_begin_one_after_the_other(gateway: ScriptedProvider) -> None:
    gateway.reply(replies.later(2, ANSWER))
    began = monotonic()
    await run_until(lambda: len(gateway.heard) == 5, gateway.base_url, concurrency=5, ramp_s=0.5)
    at_s = [heard.at - began for heard in gateway.heard]
    assert len(at_s) == 5
    assert all(at >= 0.1 * number - 0.01 for number, at in enumerate(at_s)), at_s


async def test_ended_early_it_tells_what_it_has(gateway: ScriptedProvider) -> None:
    began = monotonic()
    figures = await run_until(lambda: len(gateway.heard) > 20, gateway.base_url, rate=100, concurrency=50)
    assert 0 < figures.measured_s < monotonic() - began < 30
    assert figures.answered > 20


async def test_who_refuses_connections_is_not_stormed() -> None:
    figures = await run(f"http://127.0.0.1:{free_port()}", concurrency=1, duration_s=0.5)
    assert figures.answered == 0
    assert 1 <= figures.errors["no connection"] <= 4


async def test_turns_of_a_conversation_go_under_one_session(gateway: ScriptedProvider) -> None:
    figures = await run_until(lambda: len(gateway.heard) >= 4 * 3, gateway.base_url, concurrency=2, turns=3)
    sessions = [heard.headers["x-session-id"] for heard in gateway.heard]
    assert max(sessions.count(session) for session in sessions) == 3
    assert len(set(sessions)) >= figures.requests / 3
