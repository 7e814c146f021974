"""Ten thousand requests that are given up at any moment, through the whole pipeline: no slot, token or dollar stays set aside."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, suppress
from pathlib import Path

import msgspec

from agent_gateway.app import Gateway
from agent_gateway.control.load import load
from agent_gateway.core.call import Call
from agent_gateway.core.clock import new_request_id
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.exchange import Exchange
from agent_gateway.pipeline import run

REQUESTS = 10_000
AT_ONCE = 200
CONFIGURATION = {
    "state": {"database": "sqlite:///:memory:"},
    "monitoring": {"mode": "off"},
    "providers": {"sim": {"kind": "simulated"}},
    "models": {
        "chat": {
            "deployments": [{"provider": "sim", "model": "small", "price": {"input": 1, "output": 1}}],
            "limits": {"max_parallel": 90},
        }
    },
    "limits": {
        "max_parallel": 80,
        "tokens_per_minute": 1_000_000_000,
        "budget": {"usd": 1_000_000},
        "per_user": {"max_parallel": 30},
    },
}


def exchange_of(*, stream: bool, user: str) -> Exchange:
    body = msgspec.json.encode({"model": "chat", "stream": stream, "messages": [{"role": "user", "content": "Hi"}]})
    call = Call("openai_chat", "chat", body, stream=stream, user=user)
    return Exchange(id=new_request_id(0), call=call, started=asyncio.get_running_loop().time(), started_wall=0)


async def ask(gateway: Gateway, refused: list[GatewayError]) -> None:
    exchange = exchange_of(stream=random.random() < 0.5, user=random.choice("abcd"))
    try:
        async with aclosing(run(exchange, gateway.live.runtime)) as events:
            async for _ in events:
                pass
    except GatewayError as error:
        refused.append(error)


async def ask_and_give_up(gateway: Gateway, refused: list[GatewayError]) -> None:
    request = asyncio.create_task(ask(gateway, refused))
    for _ in range(random.randrange(8)):
        await asyncio.sleep(0)
    if random.random() < 0.3:
        await asyncio.sleep(random.uniform(0, 0.01))
    request.cancel()
    with suppress(asyncio.CancelledError):
        await request


async def test_ten_thousand_requests_given_up_leave_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_bytes(msgspec.json.encode(CONFIGURATION))
    gateway = Gateway(load(file, {}), environ={})
    await gateway.app._started()
    refused: list[GatewayError] = []
    for _ in range(REQUESTS // AT_ONCE):
        await asyncio.gather(*(ask_and_give_up(gateway, refused) for _ in range(AT_ONCE)))
    gateway._recorder.fold()
    accounts = list(gateway._limiter._accounts)
    assert len(accounts) == 6  # of all without a key, of four users, of the model
    assert {error.code for error in refused} == {"rate_limit_exceeded"}  # the limits were reached
    assert [account.slots.used for account in accounts] == [0] * 6
    assert [account.purse.used for account in accounts if account.purse is not None] == [0]
    await asyncio.gather(*(ask(gateway, refused := []) for _ in range(20)))
    assert not refused
    await gateway.app._stopped()
