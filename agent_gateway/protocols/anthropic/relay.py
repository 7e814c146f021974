"""Anthropic to Anthropic: bytes pass through, and only what routing requires is edited."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct, structs

from agent_gateway.core.call import Call
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.anthropic.messages import thinks_first
from agent_gateway.protocols.estimate import text_tokens
from agent_gateway.protocols.json_edit import replace_member, replace_string
from agent_gateway.protocols.signature import MARKED, holds_mark, read_signature
from agent_gateway.wire import anthropic as wire
from agent_gateway.wire.sse import data_frame, frame_data

_json = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[Raw])


#: A string that begins as a signature of another protocol's does: a quotation mark inside a JSON string is escaped.
_messages = msgspec.json.Decoder(list[dict[str, Raw]])
_role = msgspec.json.Decoder(Literal["user", "assistant", "system"])


class _Signed(Struct):
    type: str
    signature: str | None = None
    data: str | None = None


_signed = msgspec.json.Decoder(_Signed)


class _MessageStart(Struct):
    message: Raw


_message_start = msgspec.json.Decoder(_MessageStart)


def pass_request(call: Call, deployment: Deployment) -> bytes:
    """The deployment's model, and its parameters, in the client's body, without thoughts that other protocols' models had."""
    if deployment.default or deployment.override or holds_mark(call.body):
        members: dict[str, Any] = dict(deployment.default)
        members |= _members.decode(call.body)
        members |= deployment.override
        members["model"] = deployment.model
        if holds_mark(call.body):
            _leave_out_marked(members)
        return _json.encode(members)
    return with_model(call, deployment.model)


def _leave_out_marked(members: dict[str, Any]) -> None:
    """Anthropic refuses signatures that are not its own; and a budget for thoughts, where a turn goes on that then begins without one."""
    try:
        kept = [_without_marked(message) for message in _messages.decode(members["messages"])]
        messages = [message for message in kept if message is not None]
        ends = [_kinds(message) for message in messages[-2:]]
    except msgspec.ValidationError:
        return  # what is Anthropic's to refuse
    members["messages"] = messages
    thinking = members.get("thinking")
    if thinking is not None and b'"enabled"' in _json.encode(thinking) and not thinks_first(ends):
        del members["thinking"]


def _without_marked(message: dict[str, Raw]) -> dict[str, Raw] | None:
    """None where nothing of it is left."""
    content = message.get("content")
    if content is None or MARKED not in bytes(content) or bytes(content).startswith(b'"'):
        return message
    blocks = [block for block in _list.decode(content) if not _is_marked(_signed.decode(block))]
    return message | {"content": Raw(_json.encode(blocks))} if blocks else None


def _kinds(message: dict[str, Raw]) -> wire.Message:
    """The message as far as its blocks' kinds."""
    content = message["content"]
    if bytes(content).startswith(b'"'):
        return wire.Message(_role.decode(message["role"]), "")
    return wire.Message(_role.decode(message["role"]), [wire.Block(_signed.decode(block).type) for block in _list.decode(content)])


def _is_marked(block: _Signed) -> bool:
    sign = block.signature if block.type == "thinking" else block.data if block.type == "redacted_thinking" else None
    return sign is not None and read_signature(sign, "anthropic")[1] != "anthropic"


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
