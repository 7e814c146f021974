"""One worker as its supervisor sees it: a process of its own, with the listening sockets and a line to ask by.

Promise: it is not left running: who was told to go and does not is killed.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from agent_gateway.control.source import Source
from agent_gateway.core.own_module import own_module
from agent_gateway.core.siblings import ANSWER_S, NoAnswer
from agent_gateway.workers import messages
from agent_gateway.workers.channel import Channel

#: From its start until it takes requests (s).
START_TIMEOUT_S = 60.0
#: Without an answer (s).
SILENT_MAX_S = 60.0
#: To hear that it is to go: one that has much to do may take its time, and who is not told so is ended less gently (s).
RETIRE_S = 10.0

_log = logging.getLogger("agent_gateway.workers")

#: The worker's number, what it asks, and the body of that.
Asked = Callable[[int, str, bytes], Awaitable[bytes]]


class WorkerProcess:
    """`begin` is what it is given to serve."""

    def __init__(self, number: int, files: Sequence[int], begin: messages.Begin, asked: Asked, turn: Callable[[], Awaitable[Any]]) -> None:
        """`files`: open ones that it is handed, beside its end of the line. `turn`: waited for before it takes requests."""
        self.number = number
        self.begin = begin
        #: What it has taken up since; None: it did not say whether it has.
        self.source: Source | None = begin.source
        #: When it was ready (monotonic).
        self.ready_at: float | None = None
        #: Since when it does not answer (monotonic).
        self.silent_since: float | None = None
        #: It was told to go.
        self.leaving = False
        self._files = files
        self._asked = asked
        self._turn = turn
        self._ready = asyncio.Event()
        self._channel: Channel | None = None
        self._process: asyncio.subprocess.Process | None = None
        #: Why there is no process.
        self._failure: OSError | None = None

    @property
    def serves(self) -> bool:
        return self.ready_at is not None and not self.leaving and self.status is None

    @property
    def id(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def status(self) -> int | None:
        """How it ended; below 0: by that signal. None: it has not."""
        return None if self._process is None else self._process.returncode

    @property
    def end(self) -> str:
        """As operators are told."""
        if self._failure is not None:
            return f"could not be started: {self._failure}"
        status = self.status
        if status is None or status >= 0:
            return f"ended with status {status}"
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"

    async def start(self) -> bool:
        """Whether it came to be ready."""
        begun = asyncio.create_task(self._begin())
        try:
            await asyncio.shield(begun)
        except OSError as failure:  # no room for another process or file, or the interpreter is gone
            self._failure = failure
            return False
        except asyncio.CancelledError:  # half of a process cannot be ended
            await asyncio.wait([begun])
            raise
        ended, ready = asyncio.create_task(self.ended()), asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait([ended, ready], timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (ended, ready):
                task.cancel()
        if self._ready.is_set():
            return True
        self.kill()
        await self.ended()
        return False

    async def _begin(self) -> None:
        here, there = socket.socketpair()
        self._channel = Channel(here, self._answer, lambda: None)
        with there:
            await self._channel.open()
            files = [there.fileno(), *self._files]
            # In a session of its own: Ctrl-C is the supervisor's to hear.
            self._process = await asyncio.create_subprocess_exec(
                *_command(files), stdin=asyncio.subprocess.DEVNULL, pass_fds=files, start_new_session=True
            )

    async def ended(self) -> None:
        """Returns when there is no process, or none any more."""
        if self._process is not None:
            await self._process.wait()

    async def ask(self, topic: str, body: bytes = b"", timeout_s: float = ANSWER_S) -> bytes:
        """Raises `NoAnswer`."""
        if self._channel is None:
            raise NoAnswer(f"worker {self.number} has not begun")
        return await self._channel.ask(topic, body, timeout_s)

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def miss(self, now: float) -> None:
        """It did not answer. One whose loop stands still serves nobody, and keeps the clients that it has."""
        self.silent_since = now if self.silent_since is None else self.silent_since
        if now - self.silent_since >= SILENT_MAX_S:
            _log.error("worker %d (process %s) has not answered for %.0f s and is killed", self.number, self.id, SILENT_MAX_S)
            self.kill()

    async def retire(self, within_s: float) -> None:
        """It goes while others serve; returns when it is gone."""
        self.leaving = True
        try:
            await self.ask(messages.RETIRE, timeout_s=RETIRE_S)
        except NoAnswer:
            self.signal(signal.SIGTERM)
        await self.gone(within_s)

    async def gone(self, within_s: float) -> None:
        """It was told to go, or never came to be started."""
        if self._process is None:
            return
        try:
            async with asyncio.timeout(within_s):
                await self.ended()
        except TimeoutError:
            self.kill()
            await self.ended()

    def close(self) -> None:
        """Of one that has ended."""
        if self._channel is not None:
            self._channel.close()

    async def _answer(self, topic: str, body: bytes) -> bytes:
        if topic == messages.BEGIN:
            return messages.pack(self.begin)
        if topic == messages.READY:
            self.ready_at = time.monotonic()
            self._ready.set()
            await self._turn()
            return b""
        return await self._asked(self.number, topic, body)


def _command(files: Sequence[int]) -> list[str]:
    return own_module("cli.worker", *map(str, files))
