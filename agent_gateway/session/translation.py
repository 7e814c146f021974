"""Stored turns in the terms of the request that goes on from them, and what a turn weighs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import cast

from msgspec import structs

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.conversation import Conversation
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.estimate import estimate_input_tokens
from agent_gateway.protocols.turns import Kind, turns_of
from agent_gateway.stores.base import StoredTurn

#: Nothing but the turns that are put in; Anthropic wants a limit.
_BARE = b'{"model":"any","max_tokens":1}'
_ANY_MODEL = Deployment(id="any/any", provider="any", model="any")


def call_of(dialect: Dialect, turns: Sequence[bytes]) -> Call:
    """A call of nothing but these."""
    spoken = turns_of(dialect)
    assert spoken is not None, dialect
    return spoken.put(Call(dialect=dialect, model="any", body=_BARE), turns)


def kind_of(stored: StoredTurn) -> Kind:
    turns = turns_of(cast("Dialect", stored.dialect))
    assert turns is not None, stored.dialect
    return turns.kind(stored.body)


def conversation_of(stored: Sequence[StoredTurn]) -> Conversation:
    """Of turns of one protocol. Raises `BadRequest` for what cannot be read."""
    dialect = cast("Dialect", stored[0].dialect)
    return codec_of(dialect).read_conversation(call_of(dialect, [turn.body for turn in stored]))


def told_in(dialect: Dialect, stored: Sequence[StoredTurn]) -> list[StoredTurn]:
    """Those that are in it already stay byte for byte. Raises `NotExpressible` for what it has no word for."""
    told: list[StoredTurn] = []
    for spoken, run in groupby(stored, key=lambda turn: turn.dialect):
        if spoken == dialect:
            told += run
        else:
            told += [stored_turn(dialect, body) for body in _translated(dialect, conversation_of(list(run)))]
    return told


def stored_turn(dialect: Dialect, body: bytes, *, partial: bool = False) -> StoredTurn:
    return StoredTurn(dialect, body, estimate_input_tokens(call_of(dialect, [body])), partial)


def _translated(dialect: Dialect, conversation: Conversation) -> list[bytes]:
    turns = turns_of(dialect)
    assert turns is not None, dialect
    body = codec_of(dialect).write_request(structs.replace(conversation, stream=False), _ANY_MODEL)
    return turns.of(Call(dialect=dialect, model="any", body=body))
