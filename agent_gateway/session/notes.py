"""What is known of a session beside its turns, kept as its metadata: session memory's part, and a conversation's."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from agent_gateway.stores.base import Session


class Notes(Struct, frozen=True):
    #: In which the instructions are.
    dialect: str = ""
    #: The newest that stood among a request's turns.
    instructions: tuple[Raw, ...] = ()
    #: A conversation's `metadata`.
    labels: dict[str, str] = {}

    def encode(self) -> bytes:
        return _json.encode(self)


def notes_of(session: Session | None) -> Notes:
    return Notes() if session is None or session.info.metadata is None else _notes.decode(session.info.metadata)


_json = msgspec.json.Encoder()
_notes = msgspec.json.Decoder(Notes)
