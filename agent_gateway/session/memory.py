"""Conversations that the gateway remembers: stored turns go in front of a request, its own and the answer are kept behind them.

Promise: a turn is in its session before the answer's last byte is sent, whole or not at all; a session has one turn at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import msgspec
from msgspec import Raw, structs

from agent_gateway.core.call import Call
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, StoreDown
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import MonitoringMode, Sessions
from agent_gateway.protocols.keeping import is_to_be_kept
from agent_gateway.protocols.turns import Turns, turns_of
from agent_gateway.session.attached import Attached, Started
from agent_gateway.session.history import merge
from agent_gateway.session.identity import owner_of, without_session
from agent_gateway.session.ledger import Ledger
from agent_gateway.session.notes import Notes, notes_of
from agent_gateway.session.summary import Ask, Summaries
from agent_gateway.session.sweeper import Sweeper
from agent_gateway.session.translation import kind_of, told_in
from agent_gateway.session.turnstile import Place, Turnstile
from agent_gateway.session.window import second_round
from agent_gateway.stores.base import TURNS_MAX, Session, SessionStore, StoredTurn


class Memory:
    """One a process. `ask` has a chat call answered, for summaries."""

    def __init__(self, store: SessionStore, clock: Clock, ask: Ask, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.store = store
        self._clock = clock
        self._turnstile = Turnstile(store, clock, sleep=sleep)
        self._ledger = Ledger(store, self._turnstile, clock)
        self._sweeper = Sweeper(store, clock, sleep=sleep)
        self._summaries = Summaries(store, clock, ask)

    def start(self) -> None:
        self._sweeper.start()

    async def close(self, timeout_s: float) -> None:
        """Answers are kept and leases given back; summaries are left."""
        await self._sweeper.close()
        await self._summaries.close()
        await self._ledger.close(timeout_s)

    # --- as metrics tell it

    @property
    def active(self) -> int:
        """Sessions, as they were last counted."""
        return self._sweeper.active

    @property
    def expired(self) -> int:
        return self._sweeper.expired

    @property
    def forgotten(self) -> int:
        return self._ledger.forgotten

    # --- of an exchange

    async def attach(self, exchange: Exchange, mode: MonitoringMode = "full") -> Attached | None:
        """Waits for the session's turn, and puts what is remembered in front of the call. None: the request goes on without, for its
        protocol knows no turns, or the store is down and that is allowed. Raises `Conflict`, `StoreDown`, and `NotExpressible` for a
        memory that the request's protocol cannot tell. In mode `minimal` nothing that is said is kept.
        """
        assert exchange.route is not None
        assert exchange.session is not None
        exchange.call = without_session(exchange.call)
        turns = turns_of(exchange.call.dialect)
        if turns is None:
            return None
        policy = exchange.route.sessions
        place = Place(owner_of(exchange), exchange.session)
        try:
            await self._turnstile.enter(place, exchange.deadline)
            try:
                session = await self._fetch(place, policy)
                is_kept = mode != "minimal" and is_to_be_kept(exchange.call)
                started = _started(place, exchange.call, turns, session, is_kept=is_kept)
                return Attached(exchange, turns, started, policy, self._ledger)
            except BaseException as error:
                self._ledger.spawn(self._ledger.leave(place))
                if isinstance(error, msgspec.MsgspecError):
                    raise BadRequest(f"A turn of the conversation cannot be read: {error}.") from None
                raise
        except StoreDown:
            if policy.on_store_down == "fail":
                raise
            self._ledger.forgotten += 1
            return None

    async def _fetch(self, place: Place, policy: Sessions) -> Session | None:
        """Of a session that is longer than what may be sent of it, the whole rounds at its end that are read with that much."""
        now, newest = self._clock.wall(), policy.max_messages + 1  # the round that the first of them is part of cannot be sent whole
        session = await self.store.fetch(*place, now, newest=TURNS_MAX if policy.compaction == "off" else newest)
        if session is None or policy.compaction == "off" or session.info.turns - session.info.summarized <= newest:
            return session
        start = second_round([kind_of(turn) for turn in session.turns])
        if start is None:  # one long round, of which the question is wanted too
            return await self.store.fetch(*place, now)
        return replace(session, turns=session.turns[start:], places=session.places[start:])

    def end(self, exchange: Exchange, attached: Attached) -> None:
        """When the exchange has ended, however that was."""
        attached.leave()
        if attached.was_kept:
            self._summaries.consider(attached.place, exchange)


def _started(place: Place, call: Call, turns: Turns, session: Session | None, *, is_kept: bool) -> Started:
    before: Sequence[StoredTurn] = ()
    summary: Sequence[StoredTurn] = ()
    if session is not None:
        before = told_in(call.dialect, session.turns)
        summary = told_in(call.dialect, [session.summary]) if session.summary is not None else ()
    merged = merge(call, turns, before, truncated=session is not None and bool(session.places) and session.places[0] > 0)
    notes = notes_of(session)
    remembered = [bytes(turn) for turn in notes.instructions] if notes.dialect == call.dialect else []
    is_new = merged.system and list(merged.system) != remembered
    return Started(
        place=place,
        system=merged.system or remembered,
        summary=summary,
        before=merged.before,
        new=merged.new,
        metadata=_with_instructions(notes, call.dialect, merged.system) if is_new else None,
        version=0 if session is None else session.info.version,
        is_kept=is_kept,
    )


def _with_instructions(notes: Notes, dialect: str, turns: Sequence[bytes]) -> bytes:
    return structs.replace(notes, dialect=dialect, instructions=tuple(map(Raw, turns))).encode()
