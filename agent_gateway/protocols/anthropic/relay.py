"""Anthropic to Anthropic: bytes pass through, and only what routing requires is edited."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from agent_gateway.core.call import Call
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.estimate import text_tokens
from agent_gateway.protocols.json_edit import replace_member, replace_string
from agent_gateway.wire.sse import data_frame, frame_data

_json = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[Raw])


class _MessageStart(Struct):
    message: Raw


_message_start = msgspec.json.Decoder(_MessageStart)


def pass_request(call: Call, deployment: Deployment) -> bytes:
    """The deployment's model, and its parameters, in the client's body."""
    if deployment.default or deployment.override:
        members: dict[str, Any] = dict(deployment.default)
        members |= _members.decode(call.body)
        members |= deployment.override
        members["model"] = deployment.model
        return _json.encode(members)
    return with_model(call, deployment.model)


def with_model(call: Call, model: str) -> bytes:
    """The client's body, and not a byte of it changed but for the model's name."""
    if model == call.model:
        return call.body
    return replace_string(call.body, b"model", _json.encode(call.model), _json.encode(model))


def as_unary(call: Call) -> Call:
    members = _members.decode(call.body)
    members.pop("stream", None)
    return structs.replace(call, stream=False, body=_json.encode(members))


def renamed(data: bytes, model: str) -> bytes:
    """In a stream only `message_start` names the model, in a whole answer its top level."""
    if data.lstrip().startswith(b"{"):
        return replace_member(data, b"model", _json.encode(model))
    if b'"message_start"' not in data:
        return data
    payload = frame_data(data)
    if payload is None:
        return data
    try:
        message = bytes(_message_start.decode(payload).message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return data
    edited = replace_member(message, b"model", _json.encode(model))
    if message in data:
        return data.replace(message, edited, 1)
    return b"event: message_start\n" + data_frame(payload.replace(message, edited, 1))


def continued(call: Call, text: str) -> Call:
    """The answer so far as the assistant's turn to complete; with a turn of the assistant's before it, the two are one.

    A turn that the model completes may not end in white space, and it cannot think first.
    """
    members = _members.decode(call.body)
    messages = [*_list.decode(members["messages"]), {"role": "assistant", "content": text.rstrip()}]
    members["messages"] = Raw(_json.encode(messages))
    members.pop("thinking", None)
    if call.max_output_tokens is not None:
        members["max_tokens"] = Raw(b"%d" % max(call.max_output_tokens - text_tokens(text), 1))
    return structs.replace(call, body=_json.encode(members))
