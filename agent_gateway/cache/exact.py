"""The exact cache: the same request of the same key and user gets the answer that was given before, or is being given now.

Promise: of requests that come together one goes to the model, and who waits for it loses nothing when it fails.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Literal, get_args

from agent_gateway.cache.base import ANSWER_MAX_BYTES, Entries, Entry, Place
from agent_gateway.cache.place import place_of, user_digest
from agent_gateway.cache.replay import entry_of, replayed
from agent_gateway.core.clock import Clock
from agent_gateway.core.event import Chunk, Event, Failure, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.plan import Plan
from agent_gateway.core.route import Route
from agent_gateway.core.settings import Settings
from agent_gateway.protocols.keeping import is_to_be_kept

#: A request waits for so many others, one after the other, that fail; then it goes to the model whoever else does.
LEADERS_MAX = 3

#: How it ended with who went to the model: it failed, or has an answer that is not for others.
Outcome = Entry | Literal["failed", "private"]
_Ask = Callable[[], AsyncGenerator[Event, None]]
#: Finds who may be asked, and has them asked.
FindPlan = Callable[[Exchange, Route], Plan]
AskModel = Callable[[Exchange, Plan], AsyncGenerator[Event, None]]
Result = Literal["hit", "joined", "miss", "skipped"]


class Exact:
    """One a process; outlives every reload. `settle` works out what an exchange used, where its provider did not say."""

    def __init__(self, entries: Entries, settle: Callable[[Exchange], None], clock: Clock) -> None:
        self._entries = entries
        self._settle = settle
        self._counts: Counter[str] = Counter(dict.fromkeys(get_args(Result), 0))
        self._clock = clock
        self._addresses: dict[str, str] = {}
        #: Requests that are at the model, or whose answers are being kept.
        self._flights: dict[Place, asyncio.Future[Outcome]] = {}

    def configure(self, settings: Settings, *, enabled: bool) -> None:
        """At every reload. Not enabled: no model has one, and nothing is kept."""
        self._entries.limit(int(settings.cache.exact.max_mb * 1024 * 1024) if enabled else 0)
        self._addresses = {name: f"{one.kind} {getattr(one, 'base_url', None) or ''}" for name, one in settings.providers.items()}

    async def erase(self, user: str) -> int:
        """How many answers there were. Raises `StoreDown`."""
        return await self._entries.erase(user_digest(user))

    async def close(self, timeout_s: float) -> None:
        await self._entries.close(timeout_s)

    # --- as metrics tell it

    @property
    def results(self) -> Mapping[str, int]:
        return self._counts

    @property
    def failures(self) -> int:
        return self._entries.failures

    @property
    def kept_bytes(self) -> int:
        return self._entries.kept_bytes

    # --- of an exchange

    def answer(self, exchange: Exchange, route: Route, find_plan: FindPlan, ask_model: AskModel) -> AsyncGenerator[Event, None]:
        """Raises what these do. Where the model has no cache, the very answer of the model."""

        def ask() -> AsyncGenerator[Event, None]:
            return ask_model(exchange, find_plan(exchange, route))

        if not route.cache.exact.enabled:
            return ask()
        if not _may_be_cached(exchange):
            self._counts["skipped"] += 1
            return ask()
        return self._sought(exchange, route, ask)

    async def has(self, exchange: Exchange, route: Route) -> bool:
        """Whether it would be answered from what is kept. Nothing is counted."""
        if not route.cache.exact.enabled or not _may_be_cached(exchange):
            return False
        return await self._entries.find(await place_of(exchange, route, self._addresses)) is not None

    async def _sought(self, exchange: Exchange, route: Route, ask: _Ask) -> AsyncGenerator[Event, None]:
        place = await place_of(exchange, route, self._addresses)
        entry = await self._joined(place, exchange)
        if entry is not None:
            events = self._again(exchange, entry)
        elif place in self._flights:
            self._counts["miss"] += 1
            events = ask()
        else:
            events = self._led(place, exchange, route, ask)
        async with aclosing(events):
            async for event in events:
                yield event

    async def _joined(self, place: Place, exchange: Exchange) -> Entry | None:
        """The answer that another gets just now. None: nobody does, or it is not to be waited for any longer."""
        for _ in range(LEADERS_MAX):
            flight = self._flights.get(place)
            if flight is None:
                return None
            result: Result = "hit"
            if not flight.done():
                result = "joined"
                since = self._clock.monotonic()
                await asyncio.wait([flight], timeout=max(exchange.deadline - since, 0.0))
                exchange.queued_s += self._clock.monotonic() - since
                if not flight.done():
                    return None
            outcome = flight.result()
            if isinstance(outcome, Entry):
                self._counts[result] += 1
                return outcome
            if outcome == "private":
                return None
        return None

    async def _again(self, exchange: Exchange, entry: Entry) -> AsyncGenerator[Event, None]:
        yield replayed(exchange, entry, self._clock.monotonic())
        exchange.answered = exchange.call.stream

    async def _led(self, place: Place, exchange: Exchange, route: Route, ask: _Ask) -> AsyncGenerator[Event, None]:
        """Of the one that goes ahead: those that come meanwhile wait for what becomes of it."""
        flight = self._flights[place] = asyncio.get_running_loop().create_future()
        answer = _Answer()
        try:
            entry = await self._entries.find(place)
            if entry is None:
                self._counts["miss"] += 1
                exchange.tap = None  # every frame is kept
                events = ask()
            else:
                self._counts["hit"] += 1
                self._land(place, entry)
                events = self._again(exchange, entry)
            async with aclosing(events):
                async for event in events:
                    answer.note(event)
                    yield event
            answer.ended = True
        finally:
            if not flight.done():
                self._keep(place, exchange, answer, route.cache.exact.ttl_s)

    def _keep(self, place: Place, exchange: Exchange, answer: _Answer, ttl_s: float) -> None:
        outcome: Outcome = "failed"
        keeping: asyncio.Task[None] | None = None
        try:
            if answer.is_whole(exchange) and exchange.status != "degraded":
                self._settle(exchange)
                outcome = answer.entry(exchange) or "private"
            if isinstance(outcome, Entry):
                keeping = self._entries.keep(place, outcome, ttl_s)
        finally:
            self._land(place, outcome, keeping)

    def _land(self, place: Place, outcome: Outcome, keeping: asyncio.Task[None] | None = None) -> None:
        """Those who wait go on. Until the answer can be found where it is kept, it is found here."""
        self._flights[place].set_result(outcome)
        if keeping is None:
            del self._flights[place]
        else:
            keeping.add_done_callback(lambda _: self._flights.pop(place))


def _may_be_cached(exchange: Exchange) -> bool:
    return exchange.uses_cache and not exchange.call.in_background and is_to_be_kept(exchange.call)


class _Answer:
    """What an answer consists of, gathered as it passes by."""

    __slots__ = ("_bytes", "_has_failed", "_parts", "ended")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._bytes = 0
        self._has_failed = False
        #: Nothing more comes, and who got it has taken all.
        self.ended = False

    def note(self, event: Event) -> None:
        match event:
            case Chunk(data=data) | Whole(body=data):
                self._bytes += len(data)
                if self._bytes <= ANSWER_MAX_BYTES:
                    self._parts.append(data)
            case Failure():
                self._has_failed = True

    def is_whole(self, exchange: Exchange) -> bool:
        return not self._has_failed and (self.ended or exchange.answered)

    def entry(self, exchange: Exchange) -> Entry | None:
        """None: it is not one to be given again."""
        return entry_of(exchange, b"".join(self._parts)) if self._bytes <= ANSWER_MAX_BYTES else None
