"""A server that goes while others serve: clients are asked to go with their next answer, and nobody's connection is cut off."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from agent_gateway.app import Gateway
from agent_gateway.control.load import compile_mapping
from agent_gateway.edge import server as module
from tests.kit.client import Wire, chat_request, connect, request
from tests.kit.eventually import eventually
from tests.kit.gateway import EDGES, EdgeName

DONE = b"data: [DONE]\n\n"


@asynccontextmanager
async def serving(edge: EdgeName, drain_timeout_s: float = 10) -> AsyncIterator[tuple[Gateway, str, asyncio.Task[None]]]:
    configuration = compile_mapping(
        {
            "server": {"port": 0, "drain_timeout_s": drain_timeout_s},
            "state": {"database": "sqlite:///:memory:"},
            "providers": {"sim": {"kind": "simulated", "ttft_ms": 10, "tokens_per_s": 20, "output_tokens": 12, "jitter": 0}},
            "models": {"chat": {"deployments": [{"provider": "sim", "model": "small"}]}},
        }
    )
    gateway = Gateway(configuration, environ={**os.environ, "AGENT_GATEWAY_FAST_LANE": "on" if edge == "fast lane" else "off"})
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = gateway.server(lambda host, port: listening.set_result(f"http://{host}:{port}"))
    serve = asyncio.create_task(server.serve())
    try:
        yield gateway, await listening, serve
    except BaseException:
        server.stop()
        raise
    finally:
        await asyncio.wait_for(serve, 15)


async def answered(wire: Wire) -> bool:
    """Whether the connection goes on after it."""
    await wire.send(request("GET", "/v1/models"))
    reply = await wire.reply()
    assert (reply.status, reply.complete) == (200, True)
    return reply.headers.get("connection") != "close"


@pytest.mark.parametrize("edge", EDGES)
async def test_every_client_is_answered_once_more_and_goes(edge: EdgeName) -> None:
    async with serving(edge) as (gateway, url, _), connect(url) as idle, connect(url) as talking, connect(url) as new:
        assert await answered(idle)
        await talking.send(chat_request(stream=True))
        assert "connection" not in (await talking.head()).headers
        gateway.retire()
        await eventually(lambda: _refuses(url), "no new connection is taken")
        for wire in (idle, new):
            await wire.send(chat_request())
            reply = await wire.reply()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert await wire.closed()
        assert (await talking.pieces()).endswith(DONE), "a stream is not cut"
        # Nobody has said that its connection ends: it is there for one more.
        assert not await answered(talking)
        assert await talking.closed()


@pytest.mark.parametrize("edge", EDGES)
async def test_who_does_not_come_back_is_not_waited_for(edge: EdgeName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.3)
    async with serving(edge) as (gateway, url, serve), connect(url) as used, connect(url) as silent:
        assert await answered(used)
        gateway.retire()
        assert await used.closed()
        assert await silent.closed()
        await eventually(serve.done, "the server is gone")


async def test_late_in_the_drain_a_connection_ends_with_its_answer() -> None:
    """Or what begins on it then would be cut off."""
    async with serving("fast lane", drain_timeout_s=1) as (gateway, url, _), connect(url) as wire:
        await wire.send(chat_request(stream=True))  # 0.6 s, more than half of the time
        await wire.head()
        gateway.retire()
        assert (await wire.pieces()).endswith(DONE)
        assert await wire.closed()


def _refuses(url: str) -> bool:
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port)).close()
    except ConnectionRefusedError:
        return True
    return False
