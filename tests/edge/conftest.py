"""A gateway in this process, on a simulated provider, for what cannot be seen or made from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agent_gateway.app import Gateway
from agent_gateway.control.load import compile_mapping
from agent_gateway.core.exchange import Exchange

ADMIN_KEY = "sk-admin-0123456789abcdef"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """Not started: that is the app's business. Its records are kept in memory by `told`."""
    configuration = compile_mapping(
        {
            "auth": {"admin_key": ADMIN_KEY},
            "state": {"database": "sqlite:///:memory:"},
            "monitoring": {"mode": "off"},
            "providers": {"sim": {"kind": "simulated", "ttft_ms": 60, "tokens_per_s": 0, "jitter": 0}},
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
