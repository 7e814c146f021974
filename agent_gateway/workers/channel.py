"""The line between the supervisor and one worker: either side asks, the other answers, many at once.

Promise: a question is answered, or ends in `NoAnswer` by its deadline; what is under way is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

import msgspec
from msgspec import Struct

from agent_gateway.core.siblings import NoAnswer, Refusal

#: Of one message; a stream's largest event fits (bytes).
MESSAGE_MAX_BYTES = 32 * 1024 * 1024
#: Questions of one side that wait for their answer.
WAITING_MAX = 1_000

_log = logging.getLogger("agent_gateway.workers")


class _NoMessage(Exception):
    """What came is none of ours."""


class _Message(Struct, array_like=True):
    number: int
    kind: Literal["ask", "answer", "refusal"]
    topic: str
    body: bytes


#: What is asked and the body of it.
Answering = Callable[[str, bytes], Awaitable[bytes]]
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Message)


class Channel:
    """`answering` says what is answered to the other side; `ended` is called once when that is gone."""

    def __init__(self, line: socket.socket, answering: Answering, ended: Callable[[], None]) -> None:
        self._line = line
        self._answering = answering
        self._ended = ended
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._count = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        #: Of what the other side has asked.
        self._answers: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._line)
        self._reading = asyncio.create_task(self._read(reader))

    async def ask(self, topic: str, body: bytes = b"", timeout_s: float = 1.0) -> bytes:
        """Raises `NoAnswer`."""
        if len(self._waiting) >= WAITING_MAX:
            raise NoAnswer(f"{topic}: {WAITING_MAX} questions wait for an answer already")
        self._count += 1
        number = self._count
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(_Message(number, "ask", topic, body))
                return await answer
        except TimeoutError:
            raise NoAnswer(f"{topic}: no answer within {timeout_s:g} s") from None
        finally:
            del self._waiting[number]

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._cut()

    async def _send(self, message: _Message) -> None:
        if self._writer is None or self._writer.is_closing():
            raise NoAnswer(f"{message.topic}: the other side is gone")
        data = _encoder.encode(message)
        if len(data) > MESSAGE_MAX_BYTES:
            raise NoAnswer(f"{message.topic}: {len(data)} bytes are more than a message may have")
        try:
            self._writer.write(len(data).to_bytes(4, "big") + data)
            await self._writer.drain()
        except OSError as error:
            raise NoAnswer(f"{message.topic}: the other side is gone: {error}") from error

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                if length > MESSAGE_MAX_BYTES:
                    raise _NoMessage(f"a message of {length} bytes")
                self._take(_decoder.decode(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, OSError):
            pass  # gone, whether it said goodbye or not
        except (_NoMessage, msgspec.MsgspecError) as error:
            _log.error("The line between supervisor and worker is cut: %s", error)
        self._cut()
        self._ended()

    def _cut(self) -> None:
        if self._writer is None:
            self._line.close()
        else:
            self._writer.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(NoAnswer("the other side is gone"))
                answer.exception()  # who could not even send what it asks does not wait for it
        for task in self._answers:
            task.cancel()

    def _take(self, message: _Message) -> None:
        if message.kind == "ask":
            task = asyncio.create_task(self._answer(message))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)
            return
        answer = self._waiting.get(message.number)
        if answer is None or answer.done():  # not waited for any more
            return
        if message.kind == "answer":
            answer.set_result(message.body)
        else:
            answer.set_exception(Refusal(f"{message.topic}: {message.body.decode()}"))

    async def _answer(self, asked: _Message) -> None:
        kind: Literal["answer", "refusal"] = "answer"
        try:
            body = await self._answering(asked.topic, asked.body)
        except NoAnswer as error:
            kind, body = "refusal", str(error).encode()
        except Exception as error:  # a bug, or a store that is down: the asker is not left waiting
            _log.exception("What was asked under %s could not be answered", asked.topic)
            kind, body = "refusal", type(error).__name__.encode()
        with suppress(NoAnswer):
            await self._send(_Message(asked.number, kind, asked.topic, body))
