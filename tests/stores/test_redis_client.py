"""The client of Redis that every room uses (`stores/redis_client.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from redis.asyncio import Redis as Client
from redis.exceptions import ConnectionError as NotConnected

from agent_gateway.stores.redis_client import redis_client
from tests.kit.eventually import PATIENCE_S
from tests.kit.servers import Redis, shared
from tests.kit.slow_line import SlowLine

#: More turns of the event loop than it takes to send a command.
TURNS = 20
CONNECTIONS = 5


@pytest.mark.parametrize("turns", range(TURNS))
async def test_a_cancellation_at_any_moment_is_heard(request: pytest.FixtureRequest, turns: int) -> None:
    client = _client(shared(Redis, request.config).url())
    await client.ping()  # what follows is sent on a connection that stands

    async def ask() -> None:
        await client.blpop("agent-gateway:tests:nothing", timeout=0)

    asking = asyncio.create_task(ask())
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking], timeout=PATIENCE_S)
    assert asking.cancelled()
    assert await client.ping(), "what was cut off is not answered to the next"
    await client.aclose(close_connection_pool=True)


def test_a_connection_that_broke_off_is_told_so(request: pytest.FixtureRequest) -> None:
    """By every event loop: the gateway's own calls it a `RuntimeError`."""

    async def send() -> None:
        client = _client(shared(Redis, request.config).url())
        connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        connection._writer.transport.abort()
        await asyncio.sleep(0.01)
        with pytest.raises(NotConnected):
            await connection.send_command("PING")
        await client.connection_pool.release(connection)
        assert await client.ping(), "the next one connects anew"
        await client.aclose(close_connection_pool=True)

    uvloop.run(send())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_server_that_comes_back_is_there_for_the_first_who_asks(request: pytest.FixtureRequest, run: Callable[..., None]) -> None:
    """Whichever of the connections it is asked over, all of which broke off."""

    async def ask() -> None:
        async with SlowLine(shared(Redis, request.config).port) as line:
            client = _client(f"redis://127.0.0.1:{line.port}/0", connections=CONNECTIONS)
            await asyncio.gather(*[client.ping() for _ in range(CONNECTIONS)])
            await line.cut()
            await line.mend()
            await asyncio.sleep(0.01)
            assert all(await asyncio.gather(*[client.ping() for _ in range(CONNECTIONS)]))
            await client.aclose(close_connection_pool=True)

    run(ask())


def _client(url: str, connections: int = 1) -> Client:
    return redis_client(url, connections_max=connections, wait_s=10, connect_s=10, answer_s=10)
