"""What our HTTP client costs: CPU per small unary round trip and per streamed chunk, against a canned server in another process.

Run: python benchmarks/transport.py [--requests N] [--streams N]. Takes a few seconds; prints microseconds of this process's CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from typing import cast

import uvloop

from agent_gateway.upstream.transport import Origin, Transport

CHUNKS = 64
TICK_S = 0.002
CONCURRENCY = 32
BODY = b'{"id":"chatcmpl-abc123","object":"chat.completion","choices":[{"message":{"content":"' + b"x" * 480 + b'"}}]}'
EVENT = b'data: {"id":"chatcmpl-abc123","choices":[{"index":0,"delta":{"content":" token"}}]}\n\n'
UNARY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
REQUEST = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello, how are you?"}]}'


class _Canned(asyncio.Protocol):
    """Answers each request, which it takes to come in one piece."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"POST /unary"):
            self.transport.write(UNARY)
        else:
            self.transport.write(STREAM)
            asyncio.get_running_loop().call_later(TICK_S, self._tick, CHUNKS)

    def _tick(self, left: int) -> None:
        if left:
            self.transport.write(CHUNK)
            asyncio.get_running_loop().call_later(TICK_S, self._tick, left - 1)
        else:
            self.transport.write(b"0\r\n\r\n")


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Canned, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the parent goes away


def _head(path: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (path, len(REQUEST))


async def _unary(transport: Transport, origin: Origin, count: int) -> None:
    head = _head(b"/unary")
    for _ in range(count):
        now = time.monotonic()
        reply = await transport.send(origin, head, REQUEST, connect_until=now + 5, until=now + 60)
        body = await reply.read(now + 60, 1 << 20)
        reply.close()
        assert len(body) == len(BODY)


async def _stream(transport: Transport, origin: Origin, count: int) -> None:
    head = _head(b"/stream")
    for _ in range(count):
        now = time.monotonic()
        reply = await transport.send(origin, head, REQUEST, connect_until=now + 5, until=now + 60)
        received = 0
        while data := await reply.next(now + 60):
            received += len(data)
        reply.close()
        assert received == CHUNKS * len(EVENT)


async def _measure(port: int, requests: int, streams: int) -> None:
    origin = Origin("127.0.0.1", port, False)
    transport = Transport(environ={})
    for concurrency in (1, CONCURRENCY):
        await asyncio.gather(*(_unary(transport, origin, 20) for _ in range(concurrency)))
        wall, cpu = time.perf_counter(), time.process_time()
        each = requests // concurrency
        await asyncio.gather(*(_unary(transport, origin, each) for _ in range(concurrency)))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        total = each * concurrency
        print(f"unary, {concurrency:>2} at once: {cpu / total * 1e6:5.1f} µs CPU a request ({total / wall:,.0f} a second)")
    cpu = time.process_time()
    await asyncio.gather(*(_stream(transport, origin, streams // CONCURRENCY) for _ in range(CONCURRENCY)))
    cpu = time.process_time() - cpu
    print(f"stream, {CONCURRENCY} at once: {cpu / (streams // CONCURRENCY * CONCURRENCY * CHUNKS) * 1e6:5.1f} µs CPU a chunk")
    await transport.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--streams", type=int, default=640)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        uvloop.run(_serve())
        return
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            uvloop.run(_measure(int(server.stdout.readline()), arguments.requests, arguments.streams))
        finally:
            server.stdin.close()


if __name__ == "__main__":
    main()
