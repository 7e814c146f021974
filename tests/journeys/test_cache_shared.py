"""The cache of a gateway with keys and budgets, of batches, of several gateways on one Redis, and through reloads."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.journeys.conftest import Launch, one_edge
from tests.kit import batches, samples
from tests.kit.caching import CACHED, new_chat, numbered, results, twice
from tests.kit.chains import deployment, gateway_says, recorded, running
from tests.kit.client import CHAT, Reply, ask
from tests.kit.configuration import configuration
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import EdgeName, Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.servers import Redis, own

pytestmark = one_edge
ADMIN = {"authorization": "Bearer sk-admin-0123456789abcdef"}
AUTH = {"admin_key": "sk-admin-0123456789abcdef"}
#: Requests that a key may make.
A_MINUTE = 50


async def test_keys_share_nothing_and_a_hit_spends_nothing_of_a_budget(launch: Launch, provider: ScriptedProvider) -> None:
    provider.reply_by(numbered())
    dear = {"dear": {"deployments": [deployment("chat") | {"price": {"input": 1_000, "output": 1_000}}]}}
    gateway = launch(auth=AUTH, cache=CACHED, models=dear, limits={"requests_per_minute": A_MINUTE})
    made = {}
    for name in ("ann", "bob"):
        done = gateway.command("keys", "create", name, "--budget", "0.1", "--per", "total", "--json")
        made[name] = samples.decode(done.stdout)

    async def asked(name: str, body: Any) -> Reply:
        return await ask(gateway.url, CHAT, body, headers={"authorization": f"Bearer {made[name]['key']}"})

    body = new_chat(model="dear", max_tokens=10)
    began = time.monotonic()
    ann, bob = await asked("ann", body), await asked("bob", body)
    assert ann.body != bob.body
    assert ann.headers["x-gateway-cost-usd"] == "0.02900000"
    await recorded(gateway, ann)  # what was set aside for it is settled
    again = [await asked("ann", body) for _ in range(10)]
    assert {(reply.status, reply.body) for reply in again} == {(200, ann.body)}
    filled_up = (time.monotonic() - began) / 60 * A_MINUTE
    for spent, reply in enumerate(again, 2):
        assert A_MINUTE - spent <= int(reply.headers["x-ratelimit-remaining-requests"]) <= A_MINUTE - spent + filled_up
    more = []
    for _ in range(4):
        more.append(await asked("ann", new_chat(model="dear", max_tokens=10)))
        await recorded(gateway, more[-1])
    assert [reply.status for reply in more] == [200, 200, 200, 429]
    assert (await asked("ann", body)).error["code"] == "budget_exceeded", "who has spent it is let in to nothing"
    usage = (await ask(gateway.url, "/admin/v1/usage?group_by=key", headers=ADMIN)).json["data"]
    row = next(row for row in usage if row["group"] == made["ann"]["id"])
    assert row["cost_usd"] == pytest.approx(4 * 0.029)


@pytest.fixture
def launch_batches(edge: EdgeName, tmp_path: Path) -> Iterator[Gateway]:
    with running(tmp_path, edge, batches.configuration(cache=CACHED)) as gateway:
        yield gateway


async def test_a_batch_tells_what_the_cache_has_saved(launch_batches: Gateway) -> None:
    gateway = launch_batches
    key = batches.new_key(gateway, "ann")
    lines = batches.chats(10)
    told: list[Any] = []
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, timeout=15) as client:
        for _ in range(2):
            file = await client.files.create(file=("in.jsonl", batches.jsonl(lines)), purpose="batch")
            batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
            while batch.status != "completed":
                assert batch.status in ("validating", "in_progress", "finalizing")
                await asyncio.sleep(0.05)
                batch = await client.batches.retrieve(batch.id)
            told.append(batch.model_extra)
            assert batch.output_file_id is not None
            results = batches.read_jsonl((await client.files.content(batch.output_file_id)).content)
            assert len({result["response"]["body"]["id"] for result in results}) == 10
    first, again = told
    assert (first["saved_by"]["cache"], first["cost_usd"]) == (0, first["single_call_cost_usd"])
    assert first["cost_usd"] > 0
    assert again["cost_usd"] == 0
    assert again["single_call_cost_usd"] == pytest.approx(first["cost_usd"])
    assert again["saved_by"] == {"native": 0, "duplicate": 0, "cache": again["single_call_cost_usd"]}
    assert again["saved_ratio"] == 1
    records = await eventually(lambda: (found := gateway.records)[19:] and found, "20 records")
    assert sum(record["cost_usd"] for record in records) == pytest.approx(first["cost_usd"])
    assert [record["status"] for record in records] == ["success"] * 10 + ["cached"] * 10


# --- Redis, reloads, erasure ------------------------------------------------------------------------------------------


@pytest.fixture
def redis() -> Iterator[Redis]:
    """For a journey that stops it."""
    server = own(Redis)
    server.start()
    yield server
    server.remove()


def state(redis: Redis) -> dict[str, str]:
    return {"database": "sqlite:///agent-gateway.db", "redis": redis.url()}


async def pair(one: Gateway, other: Gateway, body: Any) -> bool:
    """Whether the second of two answers is the first, from the cache."""
    first, again = await ask(one.url, CHAT, body), await ask(other.url, CHAT, body)
    return (again.body, gateway_says(again)[0]) == (first.body, "cached")


async def until_cached(is_cached: Callable[[Any], Awaitable[bool]], **more: Any) -> Any:
    """The first new request of which that is so."""
    until = time.monotonic() + PATIENCE_S
    while not await is_cached(body := new_chat(**more)):
        assert time.monotonic() < until, "nothing comes from the cache"
        await asyncio.sleep(0.05)
    return body


async def test_two_gateways_share_what_redis_has_and_go_on_without_it(launch: Launch, provider: ScriptedProvider, redis: Redis) -> None:
    provider.reply_by(numbered())
    here, there = (launch(state=state(redis), cache=CACHED) for _ in range(2))
    # An answer is written behind the request, and who waits too long for Redis goes without it: on a slow machine the first may miss.
    body = await until_cached(lambda body: pair(here, there, body), stream=True)
    # What another gateway finds is in Redis: nothing of it is still to be written when it is erased.
    await until_cached(lambda body: pair(here, there, body), user="ann")
    hers = await until_cached(lambda body: pair(here, there, body), user="ann")
    assert (await ask(there.url, "/admin/v1/users/ann", method="DELETE")).json["cached_answers"] >= 2
    assert gateway_says(await ask(here.url, CHAT, hers))[0] == "success"
    here.kill()
    await until_cached(lambda _: pair(there, there, body))
    redis.stop()
    without = [await ask(there.url, CHAT, body) for _ in range(3)]
    assert [(reply.status, gateway_says(reply)[0]) for reply in without] == [(200, "success")] * 3
    assert "Requests go without the cache until Redis is back" in there.log
    failures = (await ask(there.url, "/metrics")).body.decode().partition("\nagent_gateway_cache_failures_total ")[2]
    assert float(failures.splitlines()[0]) >= 3
    redis.start()

    await until_cached(lambda body: pair(there, there, body))


async def test_a_reload_turns_it_on_and_off(launch: Launch, provider: ScriptedProvider, closed_port: int) -> None:
    provider.reply_by(numbered())
    gateway = launch()
    body = new_chat()
    assert gateway_says((await twice(gateway, body))[1])[0] == "success"
    assert await results(gateway) == {}
    for cache, status in ((CACHED, "cached"), ({}, "success"), (CACHED, "cached")):
        before = gateway.log.count("the configuration was reloaded")
        gateway.write_config(configuration(provider.port, closed_port, cache=cache))
        gateway.signal(signal.SIGHUP)
        await eventually(lambda seen=before: gateway.log.count("the configuration was reloaded") > seen, "the reload")  # type: ignore[misc]
        first, again = await twice(gateway, body)
        assert gateway_says(first)[0] == "success", "what was kept before it was turned off is gone"
        assert gateway_says(again)[0] == status


async def test_where_nothing_may_be_kept_there_is_none(launch: Launch, provider: ScriptedProvider) -> None:
    provider.reply_by(numbered())
    gateway = launch(cache=CACHED, monitoring={"mode": "minimal"})
    assert gateway_says((await twice(gateway, new_chat()))[1])[0] == "success"
