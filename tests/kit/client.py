"""An HTTP/1.1 client that hides nothing: exact bytes out, exact bytes back, chunks as they were framed."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

from tests.kit.samples import frames_of

#: No answer is waited for longer than this; every timeout under test is far shorter.
PATIENCE_S = 15.0
CHAT = "/v1/chat/completions"
_BUFFER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    #: Lower-case names.
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    #: As it came, still compressed where it was.
    body: bytes
    #: The body ended as its framing says, not by a lost connection.
    complete: bool

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.content)

    @property
    def content(self) -> bytes:
        return gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body

    @property
    def error(self) -> dict[str, Any]:
        """The error in OpenAI's shape; fails when the body is anything else."""
        assert set(self.json) == {"error"}, self.json
        assert {"message", "type", "param", "code"} <= set(self.json["error"]), self.json
        return cast("dict[str, Any]", self.json["error"])

    @property
    def frames(self) -> list[bytes]:
        return frames_of(self.body)


class Wire:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._left = 0
        self._chunked = False

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            await self._writer.drain()

    async def head(self) -> Head:
        """Status line and headers of the next reply."""
        async with asyncio.timeout(PATIENCE_S):
            text = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = text.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._chunked = headers.get("transfer-encoding") == "chunked"
        self._left = int(headers.get("content-length", "0"))
        return Head(int(status_line.split(" ")[1]), headers)

    async def piece(self) -> bytes:
        """The next part of the body as it was framed; `b""` at its end. `IncompleteReadError` when it was cut."""
        async with asyncio.timeout(PATIENCE_S):
            if not self._chunked:
                data = await self._reader.readexactly(self._left)
                self._left = 0
                return data
            size = int((await self._reader.readuntil(b"\r\n")).strip(), 16)
            return (await self._reader.readexactly(size + 2))[:-2]

    async def pieces(self) -> bytes:
        """What is left of the body. `IncompleteReadError` when it was cut."""
        body = b""
        while piece := await self.piece():
            body += piece
        return body

    async def reply(self, *, to_head: bool = False) -> Reply:
        """The whole next reply. An interim 1xx is skipped. `to_head`: it answers a HEAD, so no body follows."""
        head = await self.head()
        while head.status < 200:
            head = await self.head()
        pieces: list[bytes] = []
        try:
            while not to_head and (piece := await self.piece()):
                pieces.append(piece)
        except asyncio.IncompleteReadError as error:
            return Reply(head.status, head.headers, b"".join(pieces) + error.partial, complete=False)
        return Reply(head.status, head.headers, b"".join(pieces), complete=True)

    async def exactly(self, size: int) -> bytes:
        """So many bytes, for what is no HTTP any more."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        """Everything until the gateway closes the connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read(-1)

    async def closed(self) -> bool:
        """The gateway closes the connection and says nothing more; waits for it."""
        try:
            return await self.rest() == b""
        except ConnectionResetError:
            return True

    def hang_up(self) -> None:
        self._writer.transport.abort()

    def half_close(self) -> None:
        self._writer.write_eof()

    def stop_reading(self) -> None:
        """A slow reader: the kernel's buffers fill, and then the gateway's."""
        cast(asyncio.Transport, self._writer.transport).pause_reading()

    def read_on(self) -> None:
        cast(asyncio.Transport, self._writer.transport).resume_reading()


@asynccontextmanager
async def connect(url: str, *, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """`receive_buffer` (bytes) makes the kernel's side small, for tests of back-pressure."""
    address = urlsplit(url)
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (address.hostname, address.port))
        name = None if tls is None else address.hostname
        reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer or _BUFFER_BYTES, ssl=tls, server_hostname=name)
    except BaseException:
        sock.close()
        raise
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def request(method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, version: str = "1.1") -> bytes:
    """One request's bytes. Headers given here win over the usual ones; an empty value leaves one out."""
    usual = {"host": "localhost", "authorization": "Bearer sk-client"}
    if body is not None:
        usual |= {"content-type": "application/json", "content-length": str(len(body))}
    lines = [f"{name}: {value}" for name, value in (usual | dict(headers or {})).items() if value]
    return "\r\n".join([f"{method} {target} HTTP/{version}", *lines, "", ""]).encode("latin-1") + (body or b"")


async def ask(
    url: str,
    target: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """One request on a connection of its own. `body`: bytes as they are, or a value that is sent as JSON."""
    data = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
    method = method or ("GET" if data is None else "POST")
    async with connect(url, tls=tls) as wire:
        await wire.send(request(method, target, data, headers))
        return await wire.reply(to_head=method == "HEAD")


def chat(model: str = "chat", *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """A chat request; `stream` is left out when it is not asked for, as clients do."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Who are you?"}], **more}
    return body | {"stream": True} if stream else body


def chat_request(model: str = "chat", headers: Mapping[str, str] | None = None, **more: Any) -> bytes:
    """The bytes of a chat request."""
    return request("POST", CHAT, msgspec.json.encode(chat(model, **more)), headers)
