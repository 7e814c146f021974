"""Limits that processes share: four of them on one Redis, or on one file, let in what one would; one that dies, or Redis, takes nothing
with it.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis as Client

from agent_gateway.admission import cluster, lease
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.errors import RateLimited
from agent_gateway.core.settings import Allowance, Budget, Limits
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import SpendStore, open_store
from agent_gateway.stores.meeting_place import Place, open_meeting
from tests.admission.desk import Desk, exchange_of, route_of, spend, wait_long
from tests.admission.worker import Task, Told
from tests.kit import servers
from tests.kit.eventually import PATIENCE_S, eventually

PROCESSES = 4
#: What is let in beyond the limit, at most.
TOLERANCE = 0.05
_ROOT = Path(__file__).parents[2]


@pytest.fixture
async def redis(pytestconfig: pytest.Config) -> servers.Redis:
    """The tests' own, empty."""
    server = servers.shared(servers.Redis, pytestconfig)
    async with Client.from_url(server.url()) as client:
        await client.flushall()
    return server


@pytest.fixture
def breakable() -> Iterator[servers.Redis]:
    """One that the test may stop."""
    server = servers.own(servers.Redis)
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGKILL)  # even while it is frozen
        server.remove()


@pytest.fixture(params=["redis", "file"])
def place(request: pytest.FixtureRequest, redis: servers.Redis, tmp_path: Path) -> Place:
    return redis.url() if request.param == "redis" else tmp_path / "shared.db"


@pytest.fixture(autouse=True)
def _asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is."""
    wait_long(monkeypatch.setattr)


#: Of what Redis and the file do by the same steps, one is enough.
by_redis = pytest.mark.parametrize("place", ["redis"], indirect=True)


@asynccontextmanager
async def members(place: Place, count: int = 2, store: SpendStore | None = None, **options: Any) -> AsyncIterator[list[Desk]]:
    """So many limiters at one place, as if each was a process."""
    desks = [Desk(store or MemoryStore(), SYSTEM_CLOCK, place, **options) for _ in range(count)]
    try:
        for desk in desks:
            await desk.limiter.start()
        yield desks
    finally:
        for desk in desks:
            await desk.limiter.close(5)


# --- several processes ------------------------------------------------------------------------------------------------


async def start(task: Task) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "tests.admission.worker", msgspec.json.encode(task).decode()]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=_ROOT, limit=2**26)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def finish(process: asyncio.subprocess.Process) -> Told:
    output, _ = await process.communicate(b"go\n")
    assert process.returncode == 0
    return msgspec.json.decode(output, type=Told)


async def together(task: Task) -> tuple[list[tuple[float, float, int, float]], float]:
    """What all processes were let in for, and for how long they asked (s)."""
    processes = await asyncio.gather(*(start(task) for _ in range(PROCESSES)))
    told = await asyncio.gather(*map(finish, processes))
    assert sum(one.unshared for one in told) == 0, "all have asked where all meet"
    assert sum(one.refused for one in told) > 0
    let_in = [request for one in told for request in one.let_in]
    return let_in, max(ended for _, ended, _, _ in let_in) - min(began for began, _, _, _ in let_in)


@pytest.fixture
def task(place: Place, tmp_path: Path) -> Task:
    return Task(str(place), f"sqlite:///{tmp_path}/gateway.db", {})


@pytest.mark.parametrize(("place", "limit"), [("redis", 60), ("redis", 1200), ("file", 1200)], indirect=["place"])
async def test_four_processes_let_in_the_minutes_requests(task: Task, limit: int) -> None:
    task.limits, task.until_refused = {"requests_per_minute": limit}, True
    let_in, asked_s = await together(task)
    allowed = limit * (1 + asked_s / 60)
    assert allowed * (1 - 2 * TOLERANCE) <= len(let_in) <= allowed * (1 + TOLERANCE)


@by_redis
async def test_four_processes_use_the_minutes_tokens(task: Task) -> None:
    task.limits, task.until_refused = {"tokens_per_minute": 50_000}, True
    let_in, asked_s = await together(task)
    used, allowed = sum(tokens for _, _, tokens, _ in let_in), 50_000 * (1 + asked_s / 60)
    assert allowed * (1 - 2 * TOLERANCE) <= used <= allowed * (1 + TOLERANCE)


@pytest.mark.parametrize(("place", "limit"), [("redis", 5), ("redis", 200), ("file", 5)], indirect=["place"])
async def test_four_processes_run_so_many_requests_at_once(task: Task, limit: int) -> None:
    task.limits = {"max_parallel": limit}
    task.callers = min(limit, 80)
    let_in, _ = await together(task)
    changes = sorted([(began, 1) for began, _, _, _ in let_in] + [(ended, -1) for _, ended, _, _ in let_in])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    assert limit * 0.6 <= most <= limit * (1 + TOLERANCE)
    assert len(let_in) > 2 * limit, "slots come back, again and again"


async def test_four_processes_spend_a_budget(task: Task) -> None:
    """By no more than one estimate (0.25 USD) more, and the store knows it to the cent."""
    task.limits = {"budget": {"usd": 20, "per": "total"}}
    let_in, _ = await together(task)
    spent = sum(cost_usd for _, _, _, cost_usd in let_in)
    assert 20 * (1 - TOLERANCE) <= spent <= 20 + 0.25
    desk = Desk(open_store(task.database))
    with pytest.raises(RateLimited, match="The budget of this key is spent"):
        await desk.ask(Limits(budget=Budget(usd=spent - 0.001, per="total")))


async def test_what_a_process_held_comes_back_when_it_is_killed(task: Task, place: Place) -> None:
    task.limits = {"max_parallel": 8, "budget": {"usd": 2, "per": "total"}}
    task.hold, task.callers, task.for_s, task.lease_s = True, 20, 0.5, 1.5
    killed = await start(task)
    assert killed.stdin is not None
    assert killed.stdout is not None
    killed.stdin.write(b"go\n")
    assert await killed.stdout.readline() == b"holding\n"
    limits = msgspec.convert(task.limits, Limits)
    async with members(place, 3, lease_s=1.5) as desks:
        with pytest.raises(RateLimited, match=r"8 requests at once|set aside for requests"):
            await desks[0].ask(limits)
        await asyncio.sleep(2)  # it lives, so what it holds stays held for longer than a lease
        with pytest.raises(RateLimited):
            await desks[1].ask(limits)
        killed.kill()
        await killed.wait()
        gone = time.monotonic()
        reservation = None
        while reservation is None:
            assert time.monotonic() - gone < PATIENCE_S
            await asyncio.sleep(0.05)
            try:
                reservation = await desks[1].ask(limits)
            except RateLimited:
                continue
        for number in range(7):  # and all of it
            await desks[number % 3].ask(limits)


# --- within a process -------------------------------------------------------------------------------------------------


async def test_who_asks_one_after_the_other_is_never_refused_whichever_process_answers(place: Place) -> None:
    limits = Limits(max_parallel=1, budget=Budget(usd=0.3, per="total"))
    async with members(place, 3) as desks:
        for number in range(100):
            spend(await desks[number % 3].ask(limits), 0, 0.001)


async def test_all_accounts_or_none_across_processes(place: Place) -> None:
    limits = Limits(requests_per_minute=3, per_user=Allowance(max_parallel=1))
    async with members(place) as (one, other):
        began = time.monotonic()
        held = await one.ask(limits, user="ann")
        for _ in range(5):
            with pytest.raises(RateLimited, match="the user 'ann'"):
                await other.ask(limits, user="ann")
        held.release()
        await asyncio.sleep(2 * lease.REFUSED_S)  # what was refused just now is refused again
        for _ in range(2):
            (await other.ask(limits, user="ann")).release()
        with pytest.raises(RateLimited, match="3 requests a minute") as refused:
            await one.ask(limits, user="ann")
        assert refused.value.retry_after_s is not None
        assert 20 - (time.monotonic() - began) <= refused.value.retry_after_s + 0.1 <= 20.2
        assert "x-ratelimit-remaining-requests: 0" in refused.value.limit_lines


async def test_most_requests_ask_nobody(place: Place) -> None:
    limits = Limits(requests_per_minute=100_000, tokens_per_minute=10_000_000, max_parallel=1000, budget=Budget(usd=10_000))
    async with members(place, 1) as (desk,):
        spend(await desk.ask(limits), 100, 0.01)
        asked = 0
        for number in range(500):
            exchange = exchange_of()
            waiting = desk.limiter.reserve(exchange, route_of(), None, limits)
            if waiting is not None:
                asked += 1
                await waiting
            assert exchange.reservation is not None
            spend(exchange.reservation, 100, 0.01)
            if number % 10 == 0:
                await asyncio.sleep(0)
        assert asked < 25


async def test_no_slot_is_lost_by_a_thousand_cancels(redis: servers.Redis) -> None:
    limits = Limits(max_parallel=10, budget=Budget(usd=100, per="total"))
    async with members(redis.url()) as desks, Client.from_url(redis.url()) as client:

        async def call(desk: Desk) -> None:
            exchange = exchange_of()
            try:
                waiting = desk.limiter.reserve(exchange, route_of(), None, limits)
                if waiting is not None:
                    await waiting
                await asyncio.sleep(random.uniform(0, 0.005))
            except RateLimited:
                pass
            finally:
                if exchange.reservation is not None:
                    spend(exchange.reservation, 0, 0)

        async def call_and_leave(desk: Desk) -> None:
            request = asyncio.create_task(call(desk))
            await asyncio.sleep(random.uniform(0, 0.006))
            request.cancel()
            await asyncio.wait([request])

        for _ in range(20):
            await asyncio.gather(*(call_and_leave(random.choice(desks)) for _ in range(50)))

        async def held() -> list[bytes | str]:
            keys = await client.keys("agent-gateway:limit:*")
            return [field for key in keys for field in await client.hkeys(key) if field != b"spent"]

        until = time.monotonic() + PATIENCE_S
        while await held():
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        for _ in range(5):
            for desk in desks:
                await desk.ask(limits)
        with pytest.raises(RateLimited):
            await desks[0].ask(limits)


async def test_a_file_answers_as_redis_does(redis: servers.Redis, tmp_path: Path) -> None:
    """Any exchange, step by step. Half a second is between any state and a refusal, so that the two clocks do not decide; where the
    machine stood still between the two, the round is over.
    """
    dice, compared = random.Random(910), 0
    meetings = [open_meeting(place, cluster._SCRIPT) for place in (redis.url(), tmp_path / "shared.db")]
    for round_number in range(20):
        names = [b"agent-gateway:limit:%d:%d" % (round_number, number) for number in range(6)]
        for _ in range(12):
            rates = [(lease.RATE, 60 * 10**number, dice.randint(0, 12), dice.choice([0, 0.5]), 500.0) for number in range(3)]
            holds = [
                (lease.HOLD, 4 * number, dice.randint(0, 3), dice.choice([0, 0.5]), dice.choice([0, 0, 0.5]), dice.choice([0, 2]))
                for number in range(1, 4)
            ]
            wishes = [[dice.randint(1, len(names)), dice.randint(1, 9)] for _ in range(dice.randint(0, 4))]
            message = (dice.choice(["ann", "bob", "eve"]), 60_000.0, [*rates, *holds], wishes)
            began = time.monotonic()
            there, here = [await meeting.exchange(names, message, within_s=5) for meeting in meetings]
            if time.monotonic() - began > 0.3:
                break
            compared += 1
            assert [refused for refused, _ in here[1]] == [refused for refused, _ in there[1]]
            for by_file, by_redis in zip([*here[0], *here[1]], [*there[0], *there[1]], strict=True):
                assert by_file == pytest.approx(by_redis, abs=400)
    assert compared > 100
    for meeting in meetings:
        await meeting.close()


# --- Redis ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_redis_that_is_gone_holds_nobody_up_and_heals_by_itself(
    breakable: servers.Redis, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # as users' requests wait
    limits = Limits(requests_per_minute=40, max_parallel=5, budget=Budget(usd=100))
    async with members(breakable.url()) as (one, other):
        started = time.monotonic()
        for desk in (one, other):
            for _ in range(5):
                spend(await desk.ask(limits), 0, 0)
        unshared = one.limiter.unshared
        breakable.stop() if how == "stopped" else breakable.freeze()
        slowest, let_in = 0.0, 0
        for _ in range(60):
            began = time.monotonic()
            try:
                spend(await one.ask(limits), 0, 0)
                let_in += 1
            except RateLimited:
                pass
            slowest = max(slowest, time.monotonic() - began)
        breakable.start() if how == "stopped" else breakable.thaw()
        assert slowest < cluster.ANSWER_TIMEOUT_S, "nobody waited for its answer"
        back = 40 * (time.monotonic() - started) / 60
        assert 30 <= let_in <= 36 + back  # of 40; 5 were its own, of the other 5 it may not have heard
        assert one.limiter.unshared - unshared == let_in
        wait_long(monkeypatch.setattr)
        await eventually(lambda: all(_up(desk) for desk in (one, other)), "Redis is asked again")
        held = [await one.ask(Limits(max_parallel=5)) for _ in range(5)]
        with pytest.raises(RateLimited, match="5 requests at once"):
            await other.ask(Limits(max_parallel=5))
        for reservation in held:
            reservation.release()


async def test_a_redis_that_has_forgotten_everything_is_told_again(redis: servers.Redis) -> None:
    limits = Limits(max_parallel=3, tokens_per_minute=10_000, budget=Budget(usd=1, per="total"))
    store = MemoryStore()
    async with members(redis.url(), 2, store, lease_s=1.5) as (one, other), Client.from_url(redis.url()) as client:
        await one.ask(limits, tokens=200)
        spend(await one.ask(limits, tokens=200), 200, 0.4)
        await eventually(lambda: dict(store._spend), "what was spent is in the store")
        await client.flushall()
        until = time.monotonic() + PATIENCE_S
        while not (await client.keys("*:parallel") and await client.keys("*:budget:*")):
            assert time.monotonic() < until, "what is held is said again"
            await asyncio.sleep(0.02)
        # Of the dollar, 0.40 are spent and 0.25 set aside by the one; the other finds room for two.
        await other.ask(limits, tokens=200)
        await other.ask(limits, tokens=200)
        with pytest.raises(RateLimited) as refused:
            await other.ask(limits, tokens=200)
        assert refused.value.param in ("budget", "parallel")


def _up(desk: Desk) -> bool:
    assert desk.limiter._cluster is not None
    return desk.limiter._cluster.up


async def test_a_start_does_not_wait_for_a_redis_that_is_down() -> None:
    desk = Desk(clock=SYSTEM_CLOCK, place="redis://127.0.0.1:9/0")
    began = time.monotonic()
    await desk.limiter.start()
    await desk.ask(Limits(max_parallel=1))
    with pytest.raises(RateLimited):
        await desk.ask(Limits(max_parallel=1))
    assert time.monotonic() - began < cluster.CONNECT_TIMEOUT_S
    assert desk.limiter.unshared == 1
    await desk.limiter.close(1)
