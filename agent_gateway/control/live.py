"""What changes, told to whoever listens, as server-sent events: looked at once a second for all of them together, and not at all for none.

Promise: nothing is kept for a listener but the newest of each topic; who is too slow to take them all is told how many it missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from typing import Any

import msgspec

from agent_gateway.core.errors import GatewayError, Overloaded

EVERY_S = 1.0
LISTENERS_MAX = 100
#: How long a browser waits before it comes again (ms).
_AGAIN = b"retry: 2000\n\n"

#: What there is to tell of a topic now; None: nothing.
Source = Callable[[], Awaitable[Any]]

_log = logging.getLogger("agent_gateway.control")


class _Listener:
    __slots__ = ("missed", "pending", "ready", "topics")

    def __init__(self, topics: Collection[str]) -> None:
        self.topics = topics
        #: What it has not taken yet, by topic.
        self.pending: dict[str, bytes] = {}
        self.missed = 0
        self.ready = asyncio.Event()

    def tell(self, topic: str, frame: bytes) -> None:
        self.missed += topic in self.pending
        self.pending[topic] = frame
        self.ready.set()


class LiveFeed:
    """Belongs to the event loop. `states`: topics that are told whole, when they are not as they were; `news`: those of which only what is
    new is told. `begin` and `end` are called as the first listener comes and the last one goes; `over`: whether all have to.
    """

    def __init__(
        self,
        states: Mapping[str, Source],
        news: Mapping[str, Source],
        *,
        begin: Callable[[], None],
        end: Callable[[], None],
        over: Callable[[], bool],
    ) -> None:
        self._states = states
        self._sources = {**states, **news}
        self._begin = begin
        self._end = end
        self._over = over
        self._listeners: set[_Listener] = set()
        #: Of states that are listened to, as they were told last.
        self._told: dict[str, bytes] = {}
        self._task: asyncio.Task[None] | None = None
        self._failed: set[str] = set()

    @property
    def topics(self) -> Collection[str]:
        return self._sources.keys()

    def listen(self, topics: Collection[str]) -> AsyncGenerator[bytes, None]:
        """Raises `Overloaded`."""
        if len(self._listeners) >= LISTENERS_MAX:
            raise Overloaded(f"{LISTENERS_MAX} listen to this gateway already. Close a dashboard that nobody looks at.", retry_after_s=10)
        return self._events(_Listener(frozenset(topics)))

    async def _events(self, listener: _Listener) -> AsyncGenerator[bytes, None]:
        self._enter(listener)
        try:
            yield _AGAIN
            while listener in self._listeners:
                await listener.ready.wait()
                listener.ready.clear()
                frames, listener.pending = listener.pending, {}
                missed, listener.missed = listener.missed, 0
                if missed:
                    yield _frame("missed", msgspec.json.encode({"events": missed}))
                if frames:
                    yield b"".join(frames.values())
        finally:
            self._leave(listener)

    def _enter(self, listener: _Listener) -> None:
        if self._task is None:
            self._begin()
            self._task = asyncio.get_running_loop().create_task(self._run())
        for topic, body in self._told.items():
            if topic in listener.topics:
                listener.tell(topic, _frame(topic, body))
        self._listeners.add(listener)

    def _leave(self, listener: _Listener) -> None:
        self._listeners.discard(listener)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None
            self._told.clear()
            self._end()

    async def _run(self) -> None:
        looks: dict[str, asyncio.Task[None]] = {}
        try:
            while not self._over():
                wanted = frozenset().union(*(listener.topics for listener in self._listeners))
                for topic in [topic for topic in self._told if topic not in wanted]:
                    del self._told[topic]
                for topic, source in self._sources.items():
                    if topic in wanted and (topic not in looks or looks[topic].done()):  # one that waits for a store holds up no other
                        looks[topic] = asyncio.create_task(self._look(topic, source))
                await asyncio.sleep(EVERY_S)
        finally:
            for look in looks.values():
                look.cancel()
        for listener in self._listeners:
            listener.ready.set()
        self._listeners.clear()

    async def _look(self, topic: str, source: Source) -> None:
        try:
            found = await source()
        except GatewayError:  # a store is down: its topic is told again when it is back
            return
        except Exception:
            if topic not in self._failed:
                self._failed.add(topic)
                _log.exception("What is told live of %s could not be worked out. It is tried again, and not told again.", topic)
            return
        if found is None:
            return
        body = msgspec.json.encode(found)
        if topic in self._states:
            if self._told.get(topic) == body:
                return
            self._told[topic] = body
        frame = _frame(topic, body)
        for listener in self._listeners:
            if topic in listener.topics:
                listener.tell(topic, frame)


def _frame(topic: str, body: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (topic.encode(), body)
