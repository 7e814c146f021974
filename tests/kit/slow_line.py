"""A line to a server that can be made slow, cut and mended: what lies between a gateway and its Redis."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from tests.kit.ports import free_port

_READ_BYTES = 64 * 1024


class SlowLine:
    """Listens on `port` and passes everything on to `to_port`, both ways, each piece `delay_s` later."""

    def __init__(self, to_port: int) -> None:
        self.port = free_port()
        self.delay_s = 0.0
        self._to_port = to_port
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> SlowLine:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Connections break off, and nobody listens any more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        ends = list(self._ends)
        for end in ends:
            end.cancel()
        if ends:
            await asyncio.wait(ends)

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = asyncio.create_task(self._carry(reader, writer))
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there: asyncio.StreamWriter | None = None
        try:
            answers, there = await asyncio.open_connection("127.0.0.1", self._to_port)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, there))
                both.create_task(self._pass_on(answers, writer))
        except (OSError, ExceptionGroup):
            pass
        finally:
            for end in (writer, there):
                if end is not None and not end.is_closing():  # a reset, as from a crashed process
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                    end.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pieces follow each other at the distance at which they came."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def write() -> None:
            while True:
                at, piece = await pieces.get()
                await asyncio.sleep(at - loop.time())
                with suppress(ConnectionError):
                    writer.write(piece)
                    if not piece:
                        writer.write_eof()
                if not piece:
                    return

        async with asyncio.TaskGroup() as both:
            both.create_task(write())
            while True:
                piece = await reader.read(_READ_BYTES)
                pieces.put_nowait((loop.time() + self.delay_s, piece))
                if not piece:
                    break
