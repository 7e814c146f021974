"""Conversations of the Responses API: each is a session of the same id, whose turns are its items.

Promise: items keep their order and their bytes; one that was deleted is shown to nobody and goes to no model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import Clock, new_request_id
from agent_gateway.core.errors import Conflict, NotFound
from agent_gateway.protocols.decoding import decode
from agent_gateway.session.items import Page, checked_items, page_of, told_item
from agent_gateway.session.translation import stored_turn, told_in
from agent_gateway.stores.base import Owner, Session, SessionStore, StoredTurn
from agent_gateway.wire import openai_responses as wire

#: How often items are added anew behind those that came between.
APPENDS_MAX = 5

_DIALECT: Dialect = "openai_responses"


class _Notes(Struct):
    """A session's metadata, as session memory keeps it (`dialect`, `turns`), and what is a conversation's own."""

    dialect: str = _DIALECT
    turns: list[Raw] = []
    labels: dict[str, str] = {}
    #: The store only ever adds: ids of items that are there no more.
    deleted: list[str] = []


@dataclass(frozen=True, slots=True)
class Item:
    body: bytes
    #: As it is listed.
    told: dict[str, Any]


_json = msgspec.json.Encoder()
_notes = msgspec.json.Decoder(_Notes)
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
        notes = _Notes(labels=asked.metadata or {})
        await self._store.append(
            owner, conversation_id, turns, expected_version=0, now=now, ttl_s=ttl_s, metadata=_json.encode(notes)
        )
        return wire.ConversationObject(conversation_id, int(now), notes.labels)

    async def show(self, owner: Owner, conversation_id: str) -> wire.ConversationObject:
        return _shown(await self.fetch(owner, conversation_id))

    async def change(self, owner: Owner, conversation_id: str, body: bytes, ttl_s: float) -> wire.ConversationObject:
        labels = decode(_change, body).metadata
        await self._extend(owner, conversation_id, (), ttl_s, lambda notes: structs.replace(notes, labels=labels))
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
        for item in items_of(await self.fetch(owner, conversation_id)):
            if item.told["id"] == item_id:
                return item.told
        raise NotFound(f"Item with id '{item_id[:100]}' not found.")

    async def delete_item(self, owner: Owner, conversation_id: str, item_id: str, ttl_s: float) -> wire.ConversationObject:
        await self.item(owner, conversation_id, item_id)
        await self._extend(
            owner, conversation_id, (), ttl_s, lambda notes: structs.replace(notes, deleted=[*notes.deleted, item_id])
        )
        return await self.show(owner, conversation_id)

    # --- for answers that are made in them

    async def fetch(self, owner: Owner, conversation_id: str) -> Session:
        """Raises `NotFound`."""
        session = await self._store.fetch(owner, conversation_id, self._clock.wall())
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
        noting: Callable[[_Notes], _Notes] | None = None,
    ) -> int:
        for _ in range(APPENDS_MAX):
            session = await self.fetch(owner, conversation_id)
            with suppress(Conflict):
                await self._store.append(
                    owner,
                    conversation_id,
                    turns,
                    expected_version=session.info.version,
                    now=self._clock.wall(),
                    ttl_s=ttl_s,
                    metadata=None if noting is None else _json.encode(noting(_notes_of(session))),
                )
                return session.info.turns
        raise Conflict("The conversation changes too often at the moment. Try again.", retry_after_s=1)


def items_of(session: Session) -> list[Item]:
    """In order. Turns that came in another protocol, by session memory, are told in this one."""
    deleted = set(_notes_of(session).deleted)
    items: list[Item] = []
    places = range(session.info.turns - len(session.turns), session.info.turns)
    stored = [(f"{place}", turn) for place, turn in zip(places, session.turns, strict=True)]
    if session.summary is not None:
        stored.insert(0, ("summary", session.summary))
    for place, turn in stored:
        for number, told in enumerate(told_in(_DIALECT, [turn])):
            item = Item(told.body, told_item(told.body, _place(session.info.id, place) + (f"_{number}" if number else "")))
            if item.told["id"] not in deleted:
                items.append(item)
    return items


def _place(conversation_id: str, place: int | str) -> str:
    return f"{conversation_id.removeprefix('conv_')}_{place}"


def _notes_of(session: Session) -> _Notes:
    return _Notes() if session.info.metadata is None else _notes.decode(session.info.metadata)


def _shown(session: Session) -> wire.ConversationObject:
    return wire.ConversationObject(session.info.id, int(session.info.created_at), _notes_of(session).labels)
