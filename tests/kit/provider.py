"""A model provider under script: a real socket, raw HTTP/1.1 bytes out, and a note of everything that came in."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import msgspec

#: What is done with one request.
Script = Callable[["Peer"], Awaitable[None]]


@dataclass(eq=False, slots=True)
class Heard:
    """One request as it arrived. Times are monotonic seconds."""

    method: str
    target: str
    headers: dict[str, str]
    connection: int
    at: float
    body: bytes = b""
    #: Bytes of the reply handed to the socket so far.
    sent: int = 0
    #: Set when the gateway closed the connection before the script had ended.
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up_at: float | None = None
    #: Set when the script has ended, whichever way.
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> dict[str, Any]:
        return cast("dict[str, Any]", msgspec.json.decode(self.body))


class Peer:
    """A script's side of the connection."""

    def __init__(self, heard: Heard, transport: asyncio.Transport, writable: asyncio.Event) -> None:
        self.heard = heard
        self._transport = transport
        self._writable = writable

    async def send(self, data: bytes) -> None:
        """Returns when the socket has room again, so a slow reader holds the script back."""
        self._transport.write(data)
        self.heard.sent += len(data)
        await self._writable.wait()

    async def hang_up(self) -> None:
        """Sends what is buffered, then closes."""
        self._transport.close()

    def cut(self) -> None:
        """A reset, as from a crashed process."""
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._transport.abort()

    async def forever(self) -> None:
        """Until the gateway hangs up."""
        await asyncio.Event().wait()


class ScriptedProvider:
    """Listens on loopback while it is entered. `reply` sets what every request gets, `reply_in_turn` what the next ones get."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._tls = tls
        self.heard: list[Heard] = []
        self.connections = 0
        self._choose: Callable[[Heard], Script] | None = None
        self._turns: list[Script] = []
        self._open: set[_Connection] = set()
        self._failures: list[BaseException] = []
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    @property
    def last(self) -> Heard:
        return self.heard[-1]

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def reply(self, script: Script) -> None:
        self._choose = lambda heard: script

    def reply_by(self, choose: Callable[[Heard], Script]) -> None:
        """The script is chosen by the request."""
        self._choose = choose

    def reply_in_turn(self, *scripts: Script) -> None:
        self._turns.extend(scripts)

    async def __aenter__(self) -> ScriptedProvider:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._open):
            connection.drop()
        await self._server.wait_closed()
        await asyncio.gather(*(heard.over.wait() for heard in self.heard))
        if self._failures:
            raise self._failures[0]

    def script_for(self, heard: Heard) -> Script:
        self.heard.append(heard)
        if self._turns:
            return self._turns.pop(0)
        assert self._choose is not None, f"the provider was asked without a script: {heard.method} {heard.target}"
        return self._choose(heard)

    def opened(self, connection: _Connection) -> int:
        self._open.add(connection)
        self.connections += 1
        return self.connections

    def closed(self, connection: _Connection) -> None:
        self._open.discard(connection)

    def failed(self, error: BaseException) -> None:
        self._failures.append(error)


class _Connection(asyncio.Protocol):
    """Reads requests with httptools; runs their scripts one after the other."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self._provider = provider
        self._parser = httptools.HttpRequestParser(self)
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self._number = 0
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._running: tuple[Heard, asyncio.Task[None]] | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._number = self._provider.opened(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._provider.closed(self)
        self._writable.set()
        if self._running is not None:
            heard, task = self._running
            if not heard.over.is_set():
                heard.hung_up_at = time.monotonic()
                heard.hung_up.set()
                task.cancel()

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._target, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        heard = Heard(
            self._parser.get_method().decode(),
            self._target.decode(),
            self._headers,
            self._number,
            time.monotonic(),
            b"".join(self._body),
        )
        self._running = (heard, asyncio.create_task(self._play(heard)))

    async def _play(self, heard: Heard) -> None:
        assert self._transport is not None
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._provider.script_for(heard)(Peer(heard, self._transport, self._writable))
        except BaseException as error:
            self._provider.failed(error)
            self._transport.abort()
        finally:
            heard.over.set()

    def drop(self) -> None:
        if self._running is not None:
            self._running[1].cancel()
        if self._transport is not None:
            self._transport.abort()
