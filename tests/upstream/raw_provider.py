"""A provider on a real socket, byte by byte as a test's script wants it, and what the tests say to it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic

from agent_gateway.upstream.transport import Origin, Reply, Transport

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: provider\r\ncontent-length: 2\r\n\r\n"
BODY = b"{}"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
#: Long enough for anything that is meant to happen, on any machine.
PLENTY_S = 20.0


class Peer:
    """One connection, seen from the provider."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """The next request, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return head + await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Returns when the gateway has closed the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Ends it with an RST."""
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class RawProvider:
    """Plays `script` on each connection; the connection is closed when the script returns."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.peers: list[Peer] = []
        self.open = 0
        self.failures: list[BaseException] = []
        self.origin = Origin("127.0.0.1", 0, False)
        self._changed = asyncio.Event()

    async def until(self, met: Callable[[], bool]) -> None:
        """Waits for a condition on `peers` and `open`."""
        async with asyncio.timeout(PLENTY_S):
            while not met():
                self._changed.clear()
                await self._changed.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        self.open += 1
        self._changed.set()
        try:
            await self._script(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway left: what the test then asserts is on the gateway's side
        except Exception as error:
            self.failures.append(error)
        finally:
            self.open -= 1
            self._changed.set()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def raw_provider(
    script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[RawProvider]:
    provider = RawProvider(script)
    server = await asyncio.start_server(provider.serve, host, port, ssl=tls, backlog=2048)
    provider.origin = Origin(host, server.sockets[0].getsockname()[1], tls is not None)
    try:
        yield provider
    finally:
        server.close()
        for peer in provider.peers:
            peer.reset()
        await server.wait_closed()
        await provider.until(lambda: provider.open == 0)
    assert provider.failures == []


async def answering(peer: Peer) -> None:
    """The script of a provider that is well."""
    while True:
        await peer.request()
        await peer.send(OK)


async def ask(
    transport: Transport,
    origin: Origin,
    head: bytes = HEAD,
    body: bytes = BODY,
    within_s: float = PLENTY_S,
    connect_s: float | None = None,
) -> Reply:
    """`connect_s`: as long as `within_s`, unless it is said; with plenty of it, a standstill of the machine is no failed connection."""
    now = monotonic()
    return await transport.send(
        origin, head, body, connect_until=now + (within_s if connect_s is None else connect_s), until=now + within_s
    )


async def read(reply: Reply, max_bytes: int = 1 << 20) -> bytes:
    return await reply.read(monotonic() + PLENTY_S, max_bytes)


async def whole(transport: Transport, origin: Origin) -> bytes:
    return await read(await ask(transport, origin))
