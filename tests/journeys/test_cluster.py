"""Two gateways on one Redis and one PostgreSQL, under load: limits hold and sessions move between them while one is killed and comes back.

The whole of it, with batches, streams and more load, is `benchmarks/cluster.py`.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from redis import Redis as Client

from tests.kit.client import ask
from tests.kit.cluster import Talk, Upstream, cluster, configuration, pressure
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.servers import Redis, shared
from tests.stores.stores import fresh_url

LIMITS = {"requests": {"requests_per_minute": 60}, "parallel": {"max_parallel": 4}}
RATES = {"requests": 20, "parallel": 40, "open": 20}
#: Of those under way at the gateway that is killed: no client has more than one.
CLIENTS = 16
PHASE_S = 1.5


async def test_a_gateway_that_is_killed_takes_only_what_it_was_doing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    redis = shared(Redis, request.config)
    with Client.from_url(redis.url()) as client:
        client.flushall()
    database = await fresh_url("postgres", request.config, tmp_path)
    async with ScriptedProvider() as provider:
        upstream = Upstream(provider)
        async with cluster(tmp_path, configuration(provider, database, redis.url(), LIMITS)) as (one, other):
            ended = asyncio.Event()
            talks = [Talk(f"talk-{number}") for number in range(3)]
            talking = [asyncio.create_task(talk.go_on((one, other), ended)) for talk in talks]
            async with pressure((one, other), RATES) as loads:
                await asyncio.sleep(PHASE_S)
                seen, most = len(upstream.asked["requests"]), upstream.most["parallel"]
                by_itself = await counted_alone(other)
                other.signal(signal.SIGKILL)
                await asyncio.to_thread(other.wait)
                # By whose count it let these in, nobody can ask it any more.
                untold, upstream.most["parallel"] = len(upstream.asked["requests"]) - seen, most
                await asyncio.sleep(PHASE_S)
                await asyncio.to_thread(other.start)
                before = loads["open"][1].statuses[200]
                await asyncio.sleep(PHASE_S)
                await eventually(lambda: loads["open"][1].statuses[200] > before, "it takes requests again")
                ended.set()
                await asyncio.gather(*talking)
            stayed, killed = loads["open"]
            assert (stayed.cut, set(stayed.statuses)) == (0, {200})
            answered = stayed.statuses[200] + killed.statuses[200] + sum(len(talk.told) for talk in talks)
            assert 0 <= len(upstream.asked["open"]) - answered <= CLIENTS + len(talks)
            for talk in talks:
                assert talk.told
                await talk.check(one)
                await talk.check(other)
            assert len(upstream.asked["requests"]) >= 55
            by_itself += await counted_alone(one) + await counted_alone(other)
            # Where the machine is too busy for Redis to be quick, each counts for itself.
            assert upstream.rate_over("requests", 60, but=untold) <= (1.05 if by_itself == 0 else 2.1)
            assert upstream.most["parallel"] <= (4 if by_itself == 0 else 8)
            for gateway in (one, other):
                gateway.assert_log_is_clean()


async def counted_alone(gateway: Gateway) -> float:
    """Requests that it let in without Redis."""
    metrics = (await ask(gateway.url, "/metrics")).body.decode()
    name = 'agent_gateway_limits_failed_open_total{reason="redis_down"} '
    return next(float(line.removeprefix(name)) for line in metrics.splitlines() if line.startswith(name))
