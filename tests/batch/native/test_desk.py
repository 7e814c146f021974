"""What is asked of a provider beside its models: how long it may take, and what its word on a batch means."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from agent_gateway.batch.native import base
from agent_gateway.batch.native.base import Desk, Job, Progress
from agent_gateway.batch.native.openai import OpenAIBatches
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.errors import ProviderTimeout
from agent_gateway.core.route import Deployment
from agent_gateway.upstream.providers.openai import OpenAIProvider
from agent_gateway.upstream.transport import Transport
from tests.upstream.raw_provider import Peer, RawProvider, raw_provider

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


@pytest.mark.parametrize(
    ("codes", "may_pass"),
    [(["token_limit_exceeded"], True), (["token_limit_exceeded", "invalid_json_line"], False), (["invalid_json_line"], False), ([], False)],
)
async def test_openai_may_have_room_later(codes: list[str], may_pass: bool) -> None:
    errors = {"object": "list", "data": [{"code": code, "message": f"It is {code}.", "line": None, "param": None} for code in codes]}
    said = msgspec.json.encode({"id": "batch_1", "status": "failed", "input_file_id": "file-1", "errors": errors})

    async def answering(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))
        await peer.gone()

    async with raw_provider(answering) as raw:
        transport = Transport(environ={})
        job = Job("part", Deployment("p/m", "p", "m"), "openai_chat", "", 1, 0.0, "batch_1")
        progress = await OpenAIBatches(_provider(raw, transport), SYSTEM_CLOCK).look(job)
        detail = "; ".join([f"It is {code}." for code in codes])
        assert progress == Progress("failed", files=("file-1",), detail=detail, may_pass=may_pass)
        await transport.close()


@pytest.mark.parametrize("bound", ["IDLE_S", "FILE_S"])
async def test_a_file_of_results_does_not_take_for_ever(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, bound, 0.0 if bound == "IDLE_S" else 0.1)
    async with raw_provider(dripping) as raw:
        transport = Transport(environ={})
        desk = Desk(_provider(raw, transport), SYSTEM_CLOCK)
        async with asyncio.timeout(10):
            with pytest.raises(ProviderTimeout):
                await _read(desk)
        await raw.until(lambda: not raw.open)
        await transport.close()


def _provider(raw: RawProvider, transport: Transport) -> OpenAIProvider:
    settings = OpenAIProvider.Settings(base_url=f"http://127.0.0.1:{raw.origin.port}/v1", api_key="sk-x")
    return OpenAIProvider(settings, transport, SYSTEM_CLOCK)


async def _read(desk: Desk) -> None:
    async for line in desk.lines("/v1/files/f/content", ""):
        assert line == b"{}"
