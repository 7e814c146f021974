"""Responses to Responses: bytes pass through, and only what routing requires is edited.

Promise: every other byte of an answer reaches the client as the provider sent it; of a request, every other member.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, structs

from agent_gateway.core.call import Call
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.estimate import text_tokens
from agent_gateway.protocols.json_edit import replace_member, replace_nested
from agent_gateway.protocols.openai_responses.provider_request import ENCRYPTED, configured
from agent_gateway.protocols.signature import MARK, MARKED, holds_mark
from agent_gateway.wire import openai_responses as wire
from agent_gateway.wire.sse import data_frame, frame_data

_json = msgspec.json.Encoder()
_include = msgspec.json.Decoder(wire.IncludeHead)
_members = msgspec.json.Decoder(dict[str, Raw])
_items = msgspec.json.Decoder(list[Raw])


#: A string that begins with the mark: a quotation mark inside a JSON string is escaped.
#: Only in events that hold the response: a delta's text has its quotation marks escaped.
_HOLDS_RESPONSE = b'"response"'
_INCLUDE = "include"


def pass_request(call: Call, deployment: Deployment) -> bytes:
    """The client's body with the deployment's model and parameters, without thoughts that other protocols' models had, and
    without what the gateway itself keeps and goes on from.
    """
    holds_marked = holds_mark(call.body)
    wishes = _wishes(call)
    if deployment.model == call.model and not (holds_marked or wishes or deployment.default or deployment.override):
        return call.body
    members = _members.decode(call.body)
    members["model"] = Raw(_json.encode(deployment.model))
    for name, value in configured(deployment.default).items():
        members.setdefault(name, Raw(_json.encode(value)))
    members |= {name: Raw(_json.encode(value)) for name, value in configured(deployment.override).items()}
    if holds_marked:
        members["input"] = _without_marked(members["input"])
    for name in wishes:
        members.pop(name, None)
    if _INCLUDE in wishes:
        members[_INCLUDE] = Raw(_json.encode([*_included(call.body), ENCRYPTED]))
    return _json.encode(members)


def _wishes(call: Call) -> list[str]:
    """Members that are not for the provider as they stand. An answer that is kept may be gone on from anywhere: its thoughts have
    to be in it. Models that do not think refuse to be asked for them.
    """
    keeping = call.keeping
    if keeping is None:
        return []
    wishes = ["previous_response_id", "conversation"] if keeping.goes_on else []
    if keeping.background:
        wishes.append("background")
    if keeping.store and "reasoning" in call.needs and ENCRYPTED not in _included(call.body):
        wishes.append(_INCLUDE)
    return wishes


def _included(body: bytes) -> list[str]:
    return _include.decode(body).include or []


def renamed(data: bytes, model: str) -> bytes:
    """A whole answer has the model's name at its top, an event in its `response`."""
    if data.lstrip()[:1] == b"{":
        return replace_member(data, b"model", _json.encode(model))
    if _HOLDS_RESPONSE not in data:
        return data
    event = frame_data(data)
    if event is None:
        return data
    edited = replace_nested(event, (b"response", b"model"), _json.encode(model))
    if edited is event:
        return data
    at = data.find(event)
    # Data on several lines is put on one; a lone line keeps what stands around it.
    return data_frame(edited) if at < 0 else data[:at] + edited + data[at + len(event) :]


def continued(call: Call, text: str, deployment: Deployment) -> Call:
    """With the answer so far as the last message of the input, told in the deployment's way."""
    members = _members.decode(call.body)
    items = _input_items(members["input"])
    begun: dict[str, Any] = {"type": "message", "role": "assistant", "content": text}
    if deployment.prefill == "prefix":
        begun["prefix"] = True
    elif deployment.prefill == "continue_final_message":
        members["continue_final_message"] = Raw(b"true")
        members["add_generation_prompt"] = Raw(b"false")
    members["input"] = Raw(_json.encode([*items, begun]))
    if call.max_output_tokens is not None:
        members["max_output_tokens"] = Raw(b"%d" % max(call.max_output_tokens - text_tokens(text), 1))
    return structs.replace(call, body=_json.encode(members))


def _input_items(told: Raw) -> list[Any]:
    if bytes(told).lstrip().startswith(b'"'):
        return [{"type": "message", "role": "user", "content": told}]
    return list(_items.decode(told))


def _without_marked(told: Raw) -> Raw:
    if bytes(told).lstrip().startswith(b'"'):
        return told
    return Raw(_json.encode([item for item in _items.decode(told) if not _is_marked(bytes(item))]))


def _is_marked(item: bytes) -> bool:
    if MARKED not in item:
        return False
    members = msgspec.json.decode(item)
    encrypted = members.get("encrypted_content") if isinstance(members, dict) else None
    return isinstance(encrypted, str) and encrypted.startswith(MARK)
