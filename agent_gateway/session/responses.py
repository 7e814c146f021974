"""The state of OpenAI's Responses API, kept for any provider: responses, what they go on from, and those in the background.

Promise: what the client was told is what is found, by its owner alone; a response whose maker is gone is found failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.call import Keeping
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, Conflict, ConversationLocked, GatewayError, NotFound, PreviousResponseNotFound
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import Settings
from agent_gateway.protocols.turns import listed, members_of, turns_of
from agent_gateway.session import references
from agent_gateway.session.conversations import Conversations, items_of
from agent_gateway.session.identity import owner_of
from agent_gateway.session.items import Page, page_of, told_item
from agent_gateway.session.kept_response import DEGRADED, UNDER_WAY, KeptResponse, with_status
from agent_gateway.session.turnstile import LEASE_S, Place, Turnstile
from agent_gateway.stores.base import CHAIN_MAX, Owner, Store, StoredResponse
from agent_gateway.wire.openai_responses import Deleted, ItemList

#: Who looks after a response that nobody seems to make any more.
_READER = "reader"


class _Background(Struct):
    background: bool = False


_background = msgspec.json.Decoder(_Background)


class Responses:
    """One a process. Everything raises `StoreDown`; `ttl_s`: how long what is written lives on."""

    def __init__(self, store: Store, clock: Clock, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.conversations = Conversations(store, clock)
        #: Answers that went out without being kept, because the store was down.
        self.unsaved = 0
        self.store = store
        self.clock = clock
        self.sleep = sleep
        #: Whose work goes on: answers in the background, and conversations that one is made in.
        self.turnstile = Turnstile(store, clock, sleep=sleep)
        #: Answers that are made in the background here.
        self.running: dict[Place, KeptResponse] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self, timeout_s: float) -> None:
        """Once no answer is made any more."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        await self.turnstile.close()

    # --- a request

    async def attach(self, exchange: Exchange, settings: Settings) -> KeptResponse | None:
        """Puts what the request goes on from in front of its input. None: nothing is kept of it.

        Raises `PreviousResponseNotFound`, `NotFound` (the conversation), `ConversationLocked`, `BadRequest`, `StoreDown`.
        """
        call, keeping, owner = exchange.call, exchange.call.keeping, owner_of(exchange)
        assert keeping is not None
        if settings.monitoring.mode == "minimal":
            _refuse_unkept(keeping)
            return None
        if exchange.session is not None and keeping.goes_on:
            raise BadRequest("A session cannot be used together with previous_response_id or conversation.")
        before: Sequence[bytes] = ()
        if keeping.previous is not None:
            before = await self._chain(owner, keeping.previous)
        elif keeping.conversation is not None:
            before = await self._enter(Place(owner, keeping.conversation), exchange.deadline)
        kept = KeptResponse(self, exchange, owner, keeping)
        try:
            if before or references.MARK in call.body:
                await self._put_in_front(exchange, owner, before, kept)
        except BaseException:
            kept.leave()
            raise
        return kept

    async def _put_in_front(self, exchange: Exchange, owner: Owner, before: Sequence[bytes], kept: KeptResponse) -> None:
        call = exchange.call
        turns = turns_of(call.dialect)
        assert turns is not None
        new = turns.of(call)
        if references.MARK in call.body:

            async def output_of(response_id: str) -> list[bytes]:
                found = await self.store.fetch_chain(owner, response_id, now=self.clock.wall(), limit=1)
                return _output(found[0]) if found else []

            new = kept.new = await references.resolved(new, before, output_of)
        exchange.call = turns.put(call, [*before, *new])

    async def _chain(self, owner: Owner, response_id: str) -> list[bytes]:
        """All items up to and with the response's output."""
        chain = await self.store.fetch_chain(owner, response_id, now=self.clock.wall())
        if not chain:
            raise _previous_not_found(f"Previous response with id '{response_id[:100]}' not found.")
        first, last = chain[0], chain[-1]
        if first.parent is not None and len(chain) == CHAIN_MAX:
            raise _previous_not_found(f"More than {CHAIN_MAX} responses come before it; begin a new chain.")
        if first.parent is not None:
            raise _previous_not_found(f"Response with id '{first.parent}', from which the previous one goes on, is gone.")
        if first.conversation is not None:
            raise BadRequest(
                "previous_response_id: that response is part of a conversation; go on with conversation.",
                param="previous_response_id",
            )
        if last.status in (*UNDER_WAY, "failed", "cancelled"):
            raise BadRequest(
                f"previous_response_id: that response is {last.status}; only one that has an answer can be gone on from.",
                param="previous_response_id",
            )
        return [item for response in chain for item in _said(response)]

    async def _enter(self, place: Place, until: float) -> list[bytes]:
        """All items of a conversation that nobody else answers in now; `leave_soon` must follow."""
        try:
            await self.turnstile.enter(place, until)
        except Conflict as error:
            said = "Another process is currently operating on this conversation. Please retry in a few seconds."
            raise ConversationLocked(said, param="conversation", retry_after_s=1) from error
        try:
            return [item.body for item in items_of(await self.conversations.fetch(*place))]
        except BaseException:
            self.leave_soon(place)
            raise

    def leave_soon(self, place: Place) -> None:
        task = asyncio.get_running_loop().create_task(self.turnstile.leave(place))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what was kept

    async def find(self, owner: Owner, response_id: str, ttl_s: float) -> StoredResponse:
        """Raises `NotFound`. One that is under way though nobody makes it any more is failed from now on."""
        found = await self._stored(owner, response_id)
        place = Place(owner, response_id)
        if found.status not in UNDER_WAY or place in self.running:
            return found
        now = self.clock.wall()
        if not await self.store.acquire(owner, response_id, _READER, now=now, lease_s=LEASE_S):
            return found
        try:
            found = await self._stored(owner, response_id)  # it may have ended just now
            if found.status in UNDER_WAY:
                error = {"code": "server_error", "message": "The gateway that made this response has stopped. Ask again."}
                found = replace(found, status="failed", body=with_status(found.body, "failed", error))
                await self.store.put_response(owner, found, now=now, ttl_s=ttl_s)
        finally:
            with suppress(GatewayError):
                await self.store.release(owner, response_id, _READER)
        return found

    async def delete(self, owner: Owner, response_id: str) -> Deleted:
        if not await self.store.delete_response(owner, response_id, now=self.clock.wall()):
            raise _not_found(response_id)
        if (running := self.running.get(Place(owner, response_id))) is not None:
            running.cancel()
        return Deleted(response_id, "response.deleted")

    async def cancel(self, owner: Owner, response_id: str, ttl_s: float) -> StoredResponse:
        """One that has ended stays as it is. Its maker may be another process, which will see it."""
        found = await self.find(owner, response_id, ttl_s)
        if not _background.decode(found.body).background:
            raise BadRequest("Only responses that were made with background: true can be cancelled.")
        if found.status in UNDER_WAY:
            if (running := self.running.get(Place(owner, response_id))) is not None:
                running.cancel()
            found = replace(found, status="cancelled", body=with_status(found.body, "cancelled"))
            await self.store.put_response(owner, found, now=self.clock.wall(), ttl_s=ttl_s)
        return found

    async def input_items(self, owner: Owner, response_id: str, page: Page) -> ItemList:
        found = await self._stored(owner, response_id)
        stem = response_id.removeprefix("resp_")
        return page_of([told_item(item, f"{stem}_in{place}") for place, item in enumerate(listed(found.input))], page)

    async def _stored(self, owner: Owner, response_id: str) -> StoredResponse:
        found = await self.store.fetch_chain(owner, response_id, now=self.clock.wall(), limit=1)
        if not found:
            raise _not_found(response_id)
        return found[0]


def _said(response: StoredResponse) -> list[bytes]:
    """What a response adds to those that go on from it. A fixed reply is no model's: it is left out."""
    return [*listed(response.input), *([] if response.status == DEGRADED else _output(response))]


def _output(response: StoredResponse) -> list[bytes]:
    return listed(members_of(response.body).get("output", Raw(b"[]")))


def _refuse_unkept(keeping: Keeping) -> None:
    """Raises `BadRequest` for what cannot be had where nothing is kept."""
    wishes = {
        "previous_response_id": keeping.previous is not None,
        "conversation": keeping.conversation is not None,
        "background": keeping.background,
    }
    for field, asked in wishes.items():
        if asked:
            raise BadRequest(f"{field}: this gateway keeps no content (monitoring.mode). Send all of the input.", param=field)


def _previous_not_found(said: str) -> PreviousResponseNotFound:
    return PreviousResponseNotFound(said, param="previous_response_id")


def _not_found(response_id: str) -> NotFound:
    return NotFound(f"Response with id '{response_id[:100]}' not found.")
