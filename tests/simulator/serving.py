"""The simulator on a real socket, for the official SDKs and for plain sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from agent_gateway.simulator.batches.settings import BatchSettings
from agent_gateway.simulator.server import Server, server
from agent_gateway.simulator.settings import SimulatorSettings

#: Fast, and long enough for a stream to be left in the middle.
SETTINGS = SimulatorSettings(ttft_ms=1, tokens_per_s=2000, output_tokens=20, output_spread=0, jitter=0, retry_after_s=0)
#: Long enough for a batch to be met on its way.
BATCH_SETTINGS = BatchSettings(batch_ms=50)


class Provider:
    def __init__(self, port: int, running: Server) -> None:
        self.port = port
        self.running = running

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def exchange(self, request: bytes) -> bytes:
        """Everything that comes until the simulator closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        data = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return data

    async def get(self, path: str, headers: str = "") -> bytes:
        return await self.exchange(f"GET {path} HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n".encode())

    async def post(self, body: bytes, path: str = "/v1/chat/completions", headers: str = "") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n"
        return await self.exchange(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)

    @property
    def requests_under_way(self) -> int:
        return len(self.running.server_state.tasks)


@contextmanager
def served(settings: SimulatorSettings = SETTINGS, batch_settings: BatchSettings = BATCH_SETTINGS) -> Iterator[Provider]:
    """On a thread and a loop of its own, so that one serves the tests of many loops."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = server(settings, batch_settings, drain_s=1)
        thread = threading.Thread(target=_serve, args=(running, listener))
        thread.start()
        yield Provider(listener.getsockname()[1], running)
        running.should_exit = True
        running.force_exit = True
        thread.join()


def _serve(running: Server, listener: socket.socket) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(running._serve([listener]))
