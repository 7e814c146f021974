"""What processes tell each other of deployments, on a real Redis and on a file: each board is as one process."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis as Client

from agent_gateway.core.clock import Clock
from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.settings import Breaker as Policy
from agent_gateway.health import board as board_module
from agent_gateway.health.board import Board
from agent_gateway.health.breaker import Breaker
from agent_gateway.health.registry import DeploymentHealth, Health
from agent_gateway.stores.meeting_place import Place
from tests.kit.eventually import eventually
from tests.kit.servers import Redis, shared
from tests.kit.slow_line import SlowLine

NAME = "p/m"
POLICY = Policy(consecutive_failures=2, open_s=30)


#: As long as no test lasts: a machine that stands still for a moment makes nobody gone.
LONG_S = 120.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "LIFE_S", LONG_S)


@pytest.fixture
def redis(pytestconfig: pytest.Config) -> Redis:
    server = shared(Redis, pytestconfig)
    with Client.from_url(server.url()) as client:
        client.flushall()
    return server


@pytest.fixture(params=["redis", "file"])
def place(request: pytest.FixtureRequest, redis: Redis, tmp_path: Path) -> Place:
    return redis.url() if request.param == "redis" else tmp_path / "shared.db"


class Process:
    """Its clock is its own: the machine's monotonic times differ, too."""

    def __init__(self, place: Place, began: float) -> None:
        self.ahead_s = began
        loop = asyncio.get_running_loop()
        self.clock = Clock(monotonic=lambda: loop.time() + self.ahead_s)
        self.health = Health()
        self.health.follow(Route(name="m", deployments=(Deployment(NAME, "p", "m"),), breaker=POLICY))
        self.board = Board(place, self.health, self.clock)

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    @property
    def deployment(self) -> DeploymentHealth:
        return self.health.of(NAME)

    @property
    def breaker(self) -> Breaker:
        return self.deployment.breaker

    def fail(self, times: int = 2) -> None:
        for _ in range(times):
            self.breaker.failed(self.now, self.breaker.begin(self.now))

    async def look(self) -> None:
        """What its task does four times a second."""
        await self.board._exchange(5)


class Left:
    """`left == seconds`: so many, less the time that has passed since it was made, by the machine's clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began = time.monotonic()

    def __eq__(self, told: object) -> bool:
        assert isinstance(told, float)
        return self._seconds - (time.monotonic() - self._began) - 0.5 <= told <= self._seconds + 0.5

    def __repr__(self) -> str:
        return f"{self._seconds} s, {time.monotonic() - self._began:.1f} s ago"


@asynccontextmanager
async def processes(place: Place, count: int) -> AsyncIterator[list[Process]]:
    """That look when they are told to."""
    made = [Process(place, 1000.0 * number) for number in range(count)]
    try:
        for process in made:
            await process.look()
        yield made
    finally:
        for process in made:
            await process.board.close()


async def test_who_sees_nothing_itself_follows_who_does(place: Place) -> None:
    async with processes(place, 3) as (one, other, third):
        left = Left(30)
        one.fail()
        for process in (one, other, third):
            await process.look()
        for process in (one, other, third):
            assert process.breaker.state == "open"
            assert process.breaker.reopens_at - process.now == left
            assert not process.deployment.available(process.now)


async def test_a_breaker_opens_everywhere_within_a_second(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """By the boards' own tasks, each of which says and hears what is new in its next two looks."""
    assert 2 * board_module.LOOK_S < 1
    caplog.set_level(logging.WARNING)
    one, other = Process(place, 0), Process(place, 5000)
    await asyncio.gather(one.board.start(), other.board.start())
    try:
        one.fail()
        await eventually(lambda: other.breaker.state == "open", "the other process passes it by")
        assert re.search(r"p/m is passed by for (30|29) s: its breaker opened in another process", caplog.text)
        one.ahead_s += 60
        assert one.breaker.begin(one.now)
        one.breaker.succeeded(one.now, probe=True)
        await eventually(lambda: other.breaker.state == "closed", "the other process uses it again")
    finally:
        await asyncio.gather(one.board.close(), other.board.close())


async def test_a_process_that_comes_later_knows_too(place: Place) -> None:
    async with processes(place, 1) as (one,):
        left = Left(50)
        one.fail()
        one.deployment.cool_down(one.now, 50)
        await one.look()
        late = Process(place, -70)
        await late.board.start()
        await eventually(lambda: late.breaker.state == "open", "it knows")  # at once, if the place is quick
        assert late.deployment.cooldown_until - late.now == left
        await late.board.close()


async def test_who_has_seen_a_success_since_knows_better(place: Place) -> None:
    """A process that cannot reach the provider does not take it from all others."""
    async with processes(place, 3) as (broken, busy, idle):
        broken.fail()
        await asyncio.sleep(0.02)
        busy.breaker.succeeded(busy.now)
        for process in (broken, busy, idle, busy, broken):
            await process.look()
        assert [process.breaker.state for process in (broken, busy, idle)] == ["open", "closed", "open"]
        busy.fail()  # by its own count
        await busy.look()
        assert busy.breaker.state == "open"


async def test_one_process_at_a_time_tries_it(place: Place) -> None:
    async with processes(place, 5) as made:
        made[0].fail()
        for process in (*made, *made):
            await process.look()
        (prober,) = [process for process in made if process.breaker.allows(process.breaker.reopens_at + 0.1)]
        for process in made:
            process.ahead_s += 30.1
        assert prober.breaker.begin(prober.now)
        for process in (prober, *made):
            await process.look()
        for process in made:
            process.ahead_s += LONG_S / 2
        assert not any(process.breaker.allows(process.now) for process in made)
        left = Left(60)
        prober.breaker.failed(prober.now, probe=True)
        for process in (prober, *made):
            await process.look()
        for process in made:
            assert (process.breaker.state, process.breaker.ejections) == ("open", 2)
            assert process.breaker.reopens_at - process.now == left


async def test_turns_at_the_probe_pass_to_who_has_traffic(place: Place) -> None:
    """One more process each second, until it is everybody's."""
    async with processes(place, 4) as made:
        made[0].fail()
        for process in (*made, *made):
            await process.look()
        breakers = [process.breaker for process in made]
        allowed = [sum(breaker.allows(breaker.reopens_at + after_s + 0.2) for breaker in breakers) for after_s in range(4)]
        assert allowed == [1, 2, 3, 4]


async def test_a_probe_of_a_process_that_died_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with processes(place, 2) as made:
        made[0].fail()
        for process in (*made, *made):
            await process.look()
        for process in made:
            process.ahead_s += 32
        dying, other = made
        assert dying.breaker.begin(dying.now)
        await dying.look()
        await other.look()
        assert not other.breaker.allows(other.now)
        monkeypatch.setattr(board_module, "LIFE_S", 0.1)
        await dying.look()
        await asyncio.sleep(0.2)
        await other.look()
        assert other.breaker.allows(other.now)


async def test_a_provider_is_left_alone_by_all(place: Place) -> None:
    async with processes(place, 2) as (one, other):
        left = Left(20)
        one.deployment.cool_down(one.now, 20)
        await one.look()
        await other.look()
        assert other.deployment.cooldown_until - other.now == left
        left = Left(40)
        other.deployment.cool_down(other.now, 40)
        for process in (other, one, other):
            await process.look()
        assert one.deployment.cooldown_until - one.now == left
        before = other.deployment.cooldown_until
        for process in (one, other) * 3:  # nobody is told his own word as another's
            await process.look()
        assert other.deployment.cooldown_until == before


async def test_what_happens_while_it_is_told_is_not_undone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with processes(place, 2) as (one, other):
        other.fail()
        await other.look()
        exchange = one.board._meeting.exchange

        async def and_meanwhile(*words: object, **more: object) -> object:
            answer = await exchange(*words, **more)  # type: ignore[arg-type]
            one.fail(2)
            one.ahead_s += 31
            assert one.breaker.begin(one.now)
            one.breaker.succeeded(one.now, probe=True)
            return answer

        monkeypatch.setattr(one.board._meeting, "exchange", and_meanwhile)
        await one.look()
        assert one.breaker.state == "closed"


async def test_any_name_can_be_told(place: Place) -> None:
    name = "p/\ud800 model\nof\0mine"
    async with processes(place, 2) as made:
        for process in made:
            process.health.follow(Route(name="odd", deployments=(Deployment(name, "p", "m"),), breaker=POLICY))
        one, other = made
        one.health.of(name).breaker.failed(one.now)
        one.health.of(name).breaker.failed(one.now)
        await one.look()
        await other.look()
        assert other.health.of(name).breaker.state == "open"


async def test_a_redis_that_goes_takes_nothing_with_it(
    redis: Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each goes on by what it sees; what was seen meanwhile is told when it is back, even if it has forgotten all."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(board_module, "RETRY_S", 0.1)
    async with SlowLine(redis.port) as line:
        place = f"redis://127.0.0.1:{line.port}/0"
        one, other = Process(place, 0), Process(place, 70)
        await asyncio.gather(one.board.start(), other.board.start())
        try:
            one.fail()
            await eventually(lambda: other.breaker.state == "open", "the other one knows")
            await line.cut()
            await eventually(lambda: not one.board.up and not other.board.up, "both notice")
            with Client.from_url(redis.url()) as client:
                client.flushall()
            late = Process(place, 7)
            await late.board.start()
            assert late.breaker.state == "closed"
            await line.mend()
            await eventually(lambda: late.breaker.state == "open", "they are told again")
            await late.board.close()
            assert caplog.text.count("Breakers go by what this process sees until Redis is back") >= 2
            await eventually(lambda: caplog.text.count("Breakers are shared by Redis again") >= 2, "it is said")
        finally:
            await asyncio.gather(one.board.close(), other.board.close())
