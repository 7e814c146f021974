"""A gateway in this process, on a simulated provider, for what cannot be seen or made from outside."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from agent_gateway.app import Gateway
from agent_gateway.control.load import compile_mapping
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.fast_lane import fast_lane
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.server import websocket_settings
from agent_gateway.edge.slow_lane import slow_lane
from tests.kit.eventually import eventually

ADMIN_KEY = "sk-admin-0123456789abcdef"


@pytest.fixture
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    """Not started: that is the app's business. Its records are kept in memory by `told`. Parametrized: more about its provider."""
    simulated = {"kind": "simulated", "ttft_ms": 60, "tokens_per_s": 0, "jitter": 0, **getattr(request, "param", {})}
    configuration = compile_mapping(
        {
            "auth": {"admin_key": ADMIN_KEY},
            "state": {"database": "sqlite:///:memory:"},
            "monitoring": {"mode": "off"},
            "providers": {"sim": simulated},
            "models": {"chat": {"deployments": [{"provider": "sim", "model": "small"}]}},
        }
    )
    gateway = Gateway(configuration, environ={})
    yield gateway
    await gateway._stop()


@pytest.fixture
def told(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    """The exchanges that were handed to the recorder, in order."""
    exchanges: list[Exchange] = []
    submit = gateway.live.runtime.recorder.submit

    def listen(exchange: Exchange) -> None:
        exchanges.append(exchange)
        submit(exchange)

    monkeypatch.setattr(gateway.live.runtime.recorder, "submit", listen)
    return exchanges


@asynccontextmanager
async def served(gateway: Gateway, limits: Limits, *, fast: bool, send_buffer: int | None = None) -> AsyncIterator[str]:
    """On a real socket, without uvicorn's server; its URL. Leaves when every connection has ended. `send_buffer` (bytes) makes the
    kernel's side small.
    """
    gateway.app._limits = limits
    state = ServerState()
    websockets = websocket_settings(gateway.live, limits)
    config = Config(gateway.app, log_config=None, access_log=False, lifespan="off", **websockets)
    config.load()
    make = fast_lane(gateway.live, limits, gateway.app.refusals) if fast else slow_lane(limits)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: make(config=config, server_state=state, app_state={}), "127.0.0.1", 0)
    if send_buffer is not None:
        server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await eventually(lambda: not state.connections and not state.tasks, "every connection ends")
