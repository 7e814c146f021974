"""The cache in the whole pipeline: equal requests given up at any moment leave nobody waiting, and without one nothing is loaded."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from agent_gateway.app import Gateway
from agent_gateway.control.load import load
from agent_gateway.core.call import Call
from agent_gateway.core.clock import new_request_id
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.exchange import Exchange
from agent_gateway.pipeline import run

REQUESTS = 1_500
AT_ONCE = 100
QUESTIONS = 10
CONFIGURATION = {
    "state": {"database": "sqlite:///:memory:"},
    "monitoring": {"mode": "off"},
    "retries": {"max_attempts": 1},
    "fallback": {"reply": None},
    "breaker": {"consecutive_failures": 1_000_000, "min_requests": 1_000_000},
    "providers": {
        "sim": {
            "kind": "simulated",
            "ttft_ms": 3,
            "tokens_per_s": 5_000,
            "output_tokens": 10,
            "seed": 7,
            "error_rate": 0.2,
            "cut_rate": 0.1,
        }
    },
    "models": {
        "chat": {
            "deployments": [{"provider": "sim", "model": "small", "price": {"input": 1, "output": 1}}],
            "limits": {"max_parallel": AT_ONCE},
        }
    },
    "cache": {"exact": {"enabled": True, "ttl_s": 0.05}},
}


def exchange_of(number: int, *, stream: bool) -> Exchange:
    body = msgspec.json.encode({"model": "chat", "stream": stream, "messages": [{"role": "user", "content": f"Question {number}"}]})
    now = asyncio.get_running_loop().time()
    return Exchange(id=new_request_id(0), call=Call("openai_chat", "chat", body, stream=stream), started=now, started_wall=0, timeout_s=5)


async def ask(gateway: Gateway, exchange: Exchange) -> None:
    async for _ in run(exchange, gateway.live.runtime):
        pass


async def ask_and_give_up(gateway: Gateway, exchange: Exchange, random: Random) -> None:
    request = asyncio.create_task(ask(gateway, exchange))
    if random.random() < 0.4:
        await asyncio.sleep(random.uniform(0, 0.008))
        request.cancel()
    with suppress(asyncio.CancelledError, GatewayError):
        await request


async def test_nobody_is_left_waiting(tmp_path: Path) -> None:
    random = Random(7)
    file = tmp_path / "gateway.yaml"
    file.write_bytes(msgspec.json.encode(CONFIGURATION))
    gateway = Gateway(load(file, {}), environ={})
    await gateway.app._started()
    exchanges: list[Exchange] = []
    for _ in range(REQUESTS // AT_ONCE):
        some = [exchange_of(random.randrange(QUESTIONS), stream=random.random() < 0.5) for _ in range(AT_ONCE)]
        exchanges += some
        async with asyncio.timeout(20):
            await asyncio.gather(*(ask_and_give_up(gateway, exchange, random) for exchange in some))
    gateway._recorder.fold()
    cache = gateway._exact
    assert cache is not None
    assert not cache._flights
    statuses = [exchange.status for exchange in exchanges]
    assert {"success", "cached", "error"} <= set(statuses)
    assert sum(map(len, (exchange.attempts for exchange in exchanges))) < REQUESTS / 2
    assert cache.results["hit"] + cache.results["joined"] >= statuses.count("cached")
    assert not any(account.slots.used for account in gateway._limiter._accounts)
    await gateway.app._stopped()


@pytest.mark.parametrize(("cache", "loaded"), [({}, []), ({"exact": {"enabled": True}}, ["memory"])])
def test_where_no_model_has_one_nothing_of_it_is_loaded(cache: dict[str, Any], loaded: list[str]) -> None:
    code = f"""
import sys
from agent_gateway.app import Gateway
from agent_gateway.control.load import compile_mapping
Gateway(compile_mapping({CONFIGURATION | {"cache": cache}!r}), environ={{}})
print(*(name for name in ("memory", "redis") if f"agent_gateway.cache.{{name}}" in sys.modules))
"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == loaded
