"""Which session a request names, in its head or its body, and whose it is."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.call import Call
from agent_gateway.core.errors import BadRequest
from agent_gateway.core.exchange import Exchange
from agent_gateway.protocols.turns import members_of, with_body
from agent_gateway.stores.base import Owner

#: Of a user's name (characters).
USER_MAX_LENGTH = 200
_ID = re.compile(r"[A-Za-z0-9._~:@+=,-]{1,128}", re.ASCII)
_ID_TEXT = "letters, digits and . _ ~ : @ + = , - (at most 128 characters)"
_MARK = b'"session_id"'


class _Metadata(Struct):
    session_id: Any = None


class _Body(Struct):
    metadata: _Metadata | None = None


_body = msgspec.json.Decoder(_Body)
_json = msgspec.json.Encoder()


def session_in(body: bytes) -> str | None:
    """`metadata.session_id`, checked. Raises `BadRequest`."""
    if body.find(_MARK) < 0:  # `in` costs three times as much
        return None
    try:
        metadata = _body.decode(body).metadata
    except msgspec.MsgspecError:  # another's `metadata`: what it must be is its protocol's to say
        return None
    if metadata is None or metadata.session_id is None:
        return None
    if not isinstance(metadata.session_id, str):
        raise BadRequest("metadata.session_id: expected a string.", param="metadata.session_id")
    return checked_session(metadata.session_id, "metadata.session_id")


def checked_session(session_id: str, where: str) -> str:
    """Raises `BadRequest` for what is no session's id."""
    if _ID.fullmatch(session_id) is None:
        raise BadRequest(f"{where}: {session_id[:140]!r} is not a session's id; use {_ID_TEXT}.", param=where)
    return session_id


def checked_user(user: str) -> str:
    if len(user) > USER_MAX_LENGTH:
        raise BadRequest(f"x-user-id: has {len(user)} characters; the limit is {USER_MAX_LENGTH}.", param="x-user-id")
    return user


def owner_of(exchange: Exchange) -> Owner:
    key = exchange.key
    return Owner("" if key is None else key.id, exchange.call.user or "")


def without_session(call: Call) -> Call:
    """The call without `metadata.session_id`, which is the gateway's to read: providers refuse what they do not know there."""
    if _MARK not in call.body:
        return call
    members = members_of(call.body)
    try:
        metadata = members_of(members.get("metadata", Raw(b"{}")))
    except msgspec.MsgspecError:
        return call
    if metadata.pop("session_id", None) is None:
        return call
    if metadata:
        members["metadata"] = Raw(_json.encode(metadata))
    else:
        del members["metadata"]
    return with_body(call, _json.encode(members))
