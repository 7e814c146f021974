"""Conversations of the Responses API: each is a session of the same id, whose turns are its items.

Promise: items keep their order and their bytes; one that was deleted is nowhere any more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import structs

from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import Clock, new_request_id
from agent_gateway.core.errors import BadRequest, Conflict, NotFound
from agent_gateway.protocols.decoding import decode
from agent_gateway.session.items import Page, checked_items, page_of, told_item
from agent_gateway.session.notes import Notes, notes_of
from agent_gateway.session.translation import stored_turn, told_in
from agent_gateway.stores.base import TURNS_MAX, Owner, Session, SessionStore, StoredTurn
from agent_gateway.wire import openai_responses as wire

#: How often items are added anew behind those that came between.
APPENDS_MAX = 5

_DIALECT: Dialect = "openai_responses"


@dataclass(frozen=True, slots=True)
class Item:
    body: bytes
    #: As it is listed.
    told: dict[str, Any]
    #: Of the turn that it is; None: it is a part of one, or a summary.
    place: int | None


_new = msgspec.json.Decoder(wire.NewConversation)
_change = msgspec.json.Decoder(wire.ConversationChange)
_items = msgspec.json.Decoder(wire.NewItems)


class Conversations:
    """Conversations of other owners are not found. Everything raises `StoreDown`; `ttl_s`: how long one lives unused."""

    def __init__(self, store: SessionStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(self, owner: Owner, body: bytes, ttl_s: float) -> wire.ConversationObject:
        asked = decode(_new, body or b"{}")
        now = self._clock.wall()
        conversation_id = f"conv_{new_request_id(now).removeprefix('req_')}"
        turns = [stored_turn(_DIALECT, item) for item in checked_items(asked.items or (), "items")]
        notes = Notes(labels=asked.metadata or {})
        await self._store.append(owner, conversation_id, turns, expected_version=0, now=now, ttl_s=ttl_s, metadata=notes.encode())
        return wire.ConversationObject(conversation_id, int(now), notes.labels)

    async def show(self, owner: Owner, conversation_id: str) -> wire.ConversationObject:
        return _shown(await self.fetch(owner, conversation_id, newest=0))

    async def change(self, owner: Owner, conversation_id: str, body: bytes, ttl_s: float) -> wire.ConversationObject:
        labels = decode(_change, body).metadata
        await self._extend(owner, conversation_id, (), ttl_s, labels)
        return await self.show(owner, conversation_id)

    async def delete(self, owner: Owner, conversation_id: str) -> wire.Deleted:
        if not await self._store.delete_session(owner, conversation_id, now=self._clock.wall()):
            raise NotFound(f"Conversation with id '{conversation_id[:100]}' not found.")
        return wire.Deleted(conversation_id, "conversation.deleted")

    # --- items

    async def add(self, owner: Owner, conversation_id: str, body: bytes, ttl_s: float) -> wire.ItemList:
        new = checked_items(decode(_items, body).items, "items")
        place = await self.append(owner, conversation_id, new, ttl_s)
        added = [told_item(item, _place(conversation_id, place + index)) for index, item in enumerate(new)]
        return page_of(added, Page(limit=len(added), order="asc"))

    async def listed(self, owner: Owner, conversation_id: str, page: Page) -> wire.ItemList:
        return page_of([item.told for item in items_of(await self.fetch(owner, conversation_id))], page)

    async def item(self, owner: Owner, conversation_id: str, item_id: str) -> dict[str, Any]:
        return (await self._item(owner, conversation_id, item_id)).told

    async def delete_item(self, owner: Owner, conversation_id: str, item_id: str, ttl_s: float) -> wire.ConversationObject:
        """Raises `BadRequest` for a part of a turn that came in another protocol: what is left of it would be nobody's words."""
        item, now = await self._item(owner, conversation_id, item_id), self._clock.wall()
        if item.place is None:
            raise BadRequest("This item is a part of a turn that came in another protocol; only the conversation can be deleted.")
        if not await self._store.delete_turn(owner, conversation_id, item.place, now=now):
            raise _no_item(item_id)
        await self._store.touch(owner, conversation_id, now=now, ttl_s=ttl_s)
        return await self.show(owner, conversation_id)

    async def _item(self, owner: Owner, conversation_id: str, item_id: str) -> Item:
        for item in items_of(await self.fetch(owner, conversation_id)):
            if item.told["id"] == item_id:
                return item
        raise _no_item(item_id)

    # --- for answers that are made in them

    async def fetch(self, owner: Owner, conversation_id: str, *, newest: int = TURNS_MAX) -> Session:
        """Raises `NotFound`."""
        session = await self._store.fetch(owner, conversation_id, self._clock.wall(), newest=newest)
        if session is None:
            raise NotFound(f"Conversation with id '{conversation_id[:100]}' not found.", param="conversation")
        return session

    async def append(self, owner: Owner, conversation_id: str, items: Collection[bytes], ttl_s: float) -> int:
        """At its end, whatever came to it meanwhile; how many turns were there before. Raises `NotFound`."""
        return await self._extend(owner, conversation_id, [stored_turn(_DIALECT, item) for item in items], ttl_s)

    async def _extend(
        self,
        owner: Owner,
        conversation_id: str,
        turns: Sequence[StoredTurn],
        ttl_s: float,
        labels: dict[str, str] | None = None,
    ) -> int:
        for _ in range(APPENDS_MAX):
            session = await self.fetch(owner, conversation_id, newest=0)
            with suppress(Conflict):
                await self._store.append(
                    owner,
                    conversation_id,
                    turns,
                    expected_version=session.info.version,
                    now=self._clock.wall(),
                    ttl_s=ttl_s,
                    metadata=None if labels is None else structs.replace(notes_of(session), labels=labels).encode(),
                )
                return session.info.turns
        raise Conflict("The conversation changes too often at the moment. Try again.", retry_after_s=1)


def items_of(session: Session) -> list[Item]:
    """In order. Turns that came in another protocol, by session memory, are told in this one."""
    items: list[Item] = []
    stored: list[tuple[int | None, StoredTurn]] = list(zip(session.places, session.turns, strict=True))
    if session.summary is not None:
        stored.insert(0, (None, session.summary))
    for place, turn in stored:
        parts = told_in(_DIALECT, [turn])
        for number, told in enumerate(parts):
            name = _place(session.info.id, "summary" if place is None else place) + (f"_{number}" if number else "")
            items.append(Item(told.body, told_item(told.body, name), place if len(parts) == 1 else None))
    return items


def _place(conversation_id: str, place: int | str) -> str:
    return f"{conversation_id.removeprefix('conv_')}_{place}"


def _no_item(item_id: str) -> NotFound:
    return NotFound(f"Item with id '{item_id[:100]}' not found.")


def _shown(session: Session) -> wire.ConversationObject:
    return wire.ConversationObject(session.info.id, int(session.info.created_at), notes_of(session).labels)
