"""What gateway processes tell each other of a provider by Redis, and that no request waits for a Redis that is slow, cut or flapping."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.journeys.conftest import Launch, one_edge
from tests.kit import replies, samples
from tests.kit.client import CHAT, Reply, ask, chat
from tests.kit.eventually import PATIENCE_S
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.servers import Redis, shared
from tests.kit.slow_line import SlowLine

pytestmark = one_edge
#: Longer than it takes to hear of it and to ask ten times, on a busy machine too.
OPEN_S = 3.0
WHOLE = replies.whole(samples.COMPLETION)
STREAM = replies.stream(samples.text_frames(["it ", "is"], usage=True))
#: A request that no store holds up takes some milliseconds; a slow Redis would take 2 s. A busy machine is allowed more: as many times as
#: long as its slowest requests while all is well.
PROMPT_S = 0.15
#: Of forty requests so many may be late. A machine that stands still makes ten late at once, but not every time.
LATE_MAX = 3
ATTEMPTS = 3


@pytest.fixture
def redis(request: pytest.FixtureRequest) -> Redis:
    return shared(Redis, request.config)


def state(port: int) -> dict[str, Any]:
    return {"database": "sqlite:///agent-gateway.db", "redis": f"redis://127.0.0.1:{port}/0"}


async def metric(gateway: Gateway, line: str) -> float:
    text = (await ask(gateway.url, "/metrics")).body.decode()
    return sum(float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(line))


async def becomes(gateway: Gateway, line: str, value: float) -> None:
    until = time.monotonic() + PATIENCE_S
    while (seen := await metric(gateway, line)) != value:
        assert time.monotonic() < until, f"{line} is {seen}, not {value}"
        await asyncio.sleep(0.02)


async def test_what_fails_at_one_gateway_is_passed_by_at_the_other(launch: Launch, provider: ScriptedProvider, redis: Redis) -> None:
    broken = f"broken-{time.monotonic_ns()}"  # other tests share the Redis
    deployments = [{"provider": "scripted", "model": model} for model in (broken, "spare")]
    policies = {
        "breaker": {"consecutive_failures": 3, "open_s": OPEN_S},
        "retries": {"max_attempts": 2, "budget": 0},
        "models": {"two": {"deployments": deployments, "strategy": "priority"}},
    }
    here, there = (launch(state=state(redis.port), **policies) for _ in range(2))
    is_broken = True
    failure = replies.whole(samples.error_body("It is broken.", None, "server_error"), 500)
    provider.reply_by(lambda heard: failure if is_broken and heard.json["model"] == broken else WHOLE)

    def tried() -> int:
        return sum(heard.json["model"] == broken for heard in provider.heard)

    async def both(times: int) -> None:
        replies = await asyncio.gather(*(ask(gateway.url, CHAT, chat("two")) for gateway in (here, there) * times))
        assert {reply.status for reply in replies} == {200}

    while tried() < 3:
        assert (await ask(here.url, CHAT, chat("two"))).status == 200
    opened = time.monotonic()
    name = f'agent_gateway_breaker_state{{deployment="scripted/{broken}"}}'
    await becomes(there, name, 2)
    await both(5)
    assert tried() == 3
    await asyncio.sleep(max(opened + OPEN_S + 0.1 - time.monotonic(), 0))
    await both(5)
    assert tried() == 4  # one request of one of them has
    is_broken = False
    until = time.monotonic() + 2 * OPEN_S + PATIENCE_S  # it has been opened again, for twice as long
    while await metric(here, name) != 0:
        assert time.monotonic() < until
        await both(1)
    for gateway in (here, there):
        await becomes(gateway, name, 0)
    before = tried()
    await both(2)
    assert tried() == before + 4


async def test_a_slow_cut_or_flapping_redis_is_waited_for_by_hardly_anybody(
    launch: Launch, provider: ScriptedProvider, redis: Redis
) -> None:
    """Limits so low that every request asks, an exact cache, and streams that can be taken up elsewhere: all of it at once."""
    provider.reply_by(lambda heard: STREAM if heard.json.get("stream") else WHOLE)
    late = await late_ones(launch, redis)
    for _ in range(ATTEMPTS - 1):
        if max(late.values()) > LATE_MAX:
            late = await late_ones(launch, redis)
    assert max(late.values()) <= LATE_MAX, late


async def late_ones(launch: Launch, redis: Redis) -> dict[str, int]:
    """How many were, by what was wrong with Redis."""
    late: dict[str, int] = {}
    async with SlowLine(redis.port) as line:
        limits = {"requests_per_minute": 99_000, "per_user": {"requests_per_minute": 90, "max_parallel": 20}}
        gateway = launch(state=state(line.port), limits=limits, cache={"exact": {"enabled": True}})
        prompt_s = max(PROMPT_S, 3 * sorted(await times_s(gateway, "well"))[-3])

        async def ask_while(redis_is: str) -> None:
            late[redis_is] = max(late.get(redis_is, 0), sum(each > prompt_s for each in await times_s(gateway, redis_is)))

        line.delay_s = 2
        await ask_while("slow")
        line.delay_s = 0
        for _ in range(2):
            await line.cut()
            await ask_while("cut")
            await breakers_shared(gateway, 0)
            await line.mend()
            await ask_while("mended")
        assert await metric(gateway, 'agent_gateway_limits_failed_open_total{reason="redis_down"}') > 0
        assert await metric(gateway, "agent_gateway_cache_failures_total") > 0

        async def is_shared_again() -> bool:
            before = await metric(gateway, 'agent_gateway_limits_failed_open_total{reason="redis_down"}')
            await one(gateway, "again", 0)
            return await metric(gateway, 'agent_gateway_limits_failed_open_total{reason="redis_down"}') == before

        await breakers_shared(gateway, 1)
        until = time.monotonic() + 20
        while not await is_shared_again():
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
    return late


async def breakers_shared(gateway: Gateway, wanted: float) -> None:
    until = time.monotonic() + 20
    while await metric(gateway, "agent_gateway_breakers_shared") != wanted:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)


async def times_s(gateway: Gateway, when: str) -> list[float]:
    """How long each of forty requests took, ten at a time."""
    return [took_s for turn in range(4) for took_s in await asyncio.gather(*(one(gateway, when, 10 * turn + at) for at in range(10)))]


async def one(gateway: Gateway, when: str, number: int) -> float:
    body = chat(messages=[{"role": "user", "content": f"{when} {number}"}], user=f"{number % 7}", stream=number % 2 == 1)
    began = time.monotonic()
    reply: Reply = await ask(gateway.url, CHAT, body, headers={"x-gateway-resumable": "true"} if number % 2 else {})
    assert reply.status == 200
    assert reply.complete
    return time.monotonic() - began
