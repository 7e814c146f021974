"""One exchange's part in its session: what is sent of it, what is kept of it, and the end of its turn.

Promise: only an answer that came to its end is kept; or, where that is asked for, the text of one that broke off, marked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from math import inf

from msgspec import structs

from agent_gateway.core.call import Call
from agent_gateway.core.errors import Conflict, StoreDown
from agent_gateway.core.event import Chunk, Event, Failure, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Deployment
from agent_gateway.core.settings import Sessions
from agent_gateway.protocols.estimate import estimate_input_tokens
from agent_gateway.protocols.turns import Turns
from agent_gateway.session.ledger import Ledger
from agent_gateway.session.translation import stored_turn
from agent_gateway.session.turnstile import Place
from agent_gateway.session.window import newest, room_for_input
from agent_gateway.stores.base import StoredTurn

#: No model's tokens are shorter on average (bytes): a call that fits by this measure need not be read to know it.
BYTES_PER_TOKEN_MIN = 2


@dataclass(frozen=True, slots=True)
class Started:
    """How a turn begins. All turns are in the request's protocol."""

    place: Place
    #: Instructions that stand among the turns.
    system: Sequence[bytes]
    summary: Sequence[StoredTurn]
    before: Sequence[StoredTurn]
    new: Sequence[bytes]
    #: The session's, where it is to change.
    metadata: bytes | None
    version: int
    #: False: the request says `store: false`, or nothing is to be kept here at all.
    is_kept: bool


class Attached:
    __slots__ = (
        "_call",
        "_collector",
        "_exchange",
        "_is_complete",
        "_is_over",
        "_ledger",
        "_policy",
        "_started",
        "_turns",
        "_whole",
        "was_kept",
    )

    def __init__(self, exchange: Exchange, turns: Turns, started: Started, policy: Sessions, ledger: Ledger) -> None:
        self._exchange = exchange
        self._turns = turns
        self._started = started
        self._policy = policy
        self._ledger = ledger
        self._call = exchange.call
        self._collector = turns.collector(exchange.call)
        self._whole = self._call_with(started.before)
        #: The answer is in the session.
        self.was_kept = False
        #: All of the answer is there: it is kept as a whole, or not at all.
        self._is_complete = False
        #: The session's turn was given back.
        self._is_over = False
        # Candidates are planned by what must be sent; each gets as much more as it holds.
        exchange.call = self._whole if policy.compaction == "off" else structs.replace(self._call, needs=self._whole.needs)
        exchange.fit = self.fit
        exchange.tap = None  # every frame is looked at

    @property
    def place(self) -> Place:
        return self._started.place

    # --- what is sent

    def fit(self, deployment: Deployment) -> Call:
        """The call as this deployment gets it."""
        policy, started = self._policy, self._started
        if policy.compaction == "off" or not started.before or self._fits(deployment.context_window):
            return self._whole
        room: float = inf
        if deployment.context_window is not None:
            room = room_for_input(deployment.context_window, self._call.max_output_tokens)
            room -= estimate_input_tokens(self._call_with(())) + sum(turn.tokens for turn in started.summary)
        places = newest(
            [self._turns.kind(turn.body) for turn in started.before],
            [turn.tokens for turn in started.before],
            tokens_max=room,
            turns_max=policy.max_messages - len(started.new),
            goes_on=bool(started.new) and self._turns.kind(started.new[0]) not in ("user", "system"),
        )
        return self._call_with([started.before[place] for place in places])

    def _fits(self, context_window: int | None) -> bool:
        if len(self._started.before) + len(self._started.new) > self._policy.max_messages:
            return False
        if context_window is None:
            return True
        return len(self._whole.body) <= BYTES_PER_TOKEN_MIN * room_for_input(context_window, self._call.max_output_tokens)

    def _call_with(self, before: Sequence[StoredTurn]) -> Call:
        started = self._started
        remembered = [turn.body for turn in (*started.summary, *before)]
        return self._turns.put(self._call, [*started.system, *remembered, *started.new])

    # --- what is kept

    async def keep(self, answer: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The same events; the one with which the answer is complete comes when the session has it."""
        has_failed = False
        async with aclosing(answer):
            async for event in answer:
                failure: Failure | None = None
                match event:
                    case Whole():
                        await self._keep(self._turns.answer(event.body))
                    case Chunk():
                        self._collector.feed(event.data)
                        if self._collector.done:
                            failure = await self._keep_stream()
                    case Failure():
                        has_failed = True
                yield failure or event
                if failure is not None:
                    return
        if not (self._is_complete or has_failed) and self._exchange.call.stream:  # the protocol has no end mark
            failure = await self._keep_stream()
            if failure is not None:
                yield failure

    def leave(self) -> None:
        """When nothing more will happen; the rest is done beside."""
        self._exchange.fit = None
        if not self._is_over:
            self._is_over = True
            self._ledger.spawn(self._end())

    async def _keep_stream(self) -> Failure | None:
        try:
            await self._keep(self._collector.turns())
        except (StoreDown, Conflict) as error:
            return Failure(error)
        return None

    async def _keep(self, answer: Sequence[bytes]) -> None:
        """Then the session's turn is over, so that the client's next one finds it free."""
        if self._is_complete or self._is_over:
            return
        self._is_complete = True
        if answer and self._started.is_kept and self._exchange.status != "degraded":
            try:
                await self._append(answer)
            except StoreDown:
                if self._policy.on_store_down == "fail":
                    raise
                self._ledger.forgotten += 1
                return  # the turn is given back beside: the client does not wait twice for a store that is down
            self.was_kept = True
        self._is_over = True
        await self._ledger.leave(self._started.place)

    async def _append(self, answer: Sequence[bytes], *, partial: bool = False) -> None:
        started, dialect = self._started, self._call.dialect
        turns = [stored_turn(dialect, turn) for turn in started.new]
        turns += [stored_turn(dialect, turn, partial=partial) for turn in answer]
        await self._ledger.append(started.place, turns, version=started.version, ttl_s=self._policy.ttl_s, metadata=started.metadata)

    async def _end(self) -> None:
        """Of a turn whose answer did not come to its end."""
        try:
            keeps = self._policy.keep_partial and self._started.is_kept and not self._is_complete
            text = self._collector.text() if keeps else ""
            if text and self._exchange.status != "degraded":
                await self._append([self._turns.said(text)], partial=True)
        finally:
            await self._ledger.leave(self._started.place)
