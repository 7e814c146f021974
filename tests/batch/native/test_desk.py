"""What is asked of a provider beside its models: how long it may take."""

from __future__ import annotations

import asyncio

import pytest

from agent_gateway.batch.native import base
from agent_gateway.batch.native.base import Desk
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.errors import ProviderTimeout
from agent_gateway.upstream.providers.openai import OpenAIProvider
from agent_gateway.upstream.transport import Transport
from tests.upstream.raw_provider import Peer, raw_provider

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def dripping(peer: Peer) -> None:
    """A line every now and then, for as long as somebody listens."""
    await peer.request()
    await peer.send(CHUNKED)
    drops = asyncio.create_task(_drip(peer))
    await peer.gone()
    drops.cancel()


async def _drip(peer: Peer) -> None:
    while True:
        await peer.send(b"3\r\n{}\n\r\n")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("bound", ["IDLE_S", "FILE_S"])
async def test_a_file_of_results_does_not_take_for_ever(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, bound, 0.0 if bound == "IDLE_S" else 0.1)
    async with raw_provider(dripping) as raw:
        settings = OpenAIProvider.Settings(base_url=f"http://127.0.0.1:{raw.origin.port}/v1", api_key="sk-x")
        transport = Transport(environ={})
        desk = Desk(OpenAIProvider(settings, transport, SYSTEM_CLOCK), SYSTEM_CLOCK)
        async with asyncio.timeout(10):
            with pytest.raises(ProviderTimeout):
                await _read(desk)
        await raw.until(lambda: not raw.open)
        await transport.close()


async def _read(desk: Desk) -> None:
    async for line in desk.lines("/v1/files/f/content", ""):
        assert line == b"{}"
