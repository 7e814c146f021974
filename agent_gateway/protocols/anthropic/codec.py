"""The codec of Anthropic Messages: what `protocols.base.Codec` promises, for this protocol."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from agent_gateway.core.call import Call, Dialect, Need
from agent_gateway.core.conversation import Conversation
from agent_gateway.core.delta import Delta
from agent_gateway.core.errors import BadRequest, GatewayError
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.anthropic import conversation, deltas, errors, relay, request, stream
from agent_gateway.protocols.anthropic.expressible import DROPPED, REFUSED
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.decoding import check_utf8, decode
from agent_gateway.wire import anthropic as wire

__all__ = ["DROPPED", "REFUSED", "Anthropic", "read_call"]

_head = msgspec.json.Decoder(wire.RequestHead)

_SOME = re.compile(rb"\[\s*[^\s\]]")
#: A quotation mark inside a JSON string is escaped, so this is found in no text; it may be in what a tool was called with.
_MEDIA = re.compile(rb'"type"\s*:\s*"(?:image|document)"')
_MEDIA_NEEDS: dict[str, Need] = {"image": "vision", "document": "documents"}


def read_call(body: bytes, forward_headers: dict[str, str], dialect: Dialect) -> Call:
    """The conversation is not looked at, but for the kinds of media in it. Raises `BadRequest` whose `param` is the field's path."""
    if not body.isascii():
        check_utf8(body)
    head = decode(_head, body)
    if not _SOME.match(head.messages):
        raise BadRequest("messages: expected a non-empty array of messages.", param="messages")
    wants_json = head.output_config is not None and head.output_config.format is not None
    return Call(
        dialect=dialect,
        model=head.model,
        body=body,
        stream=bool(head.stream),
        max_output_tokens=head.max_tokens if head.max_tokens and head.max_tokens > 0 else None,
        user=head.metadata.user_id if head.metadata else None,
        wants_json=wants_json,
        conversational=not wants_json and (head.tool_choice is None or head.tool_choice.type in ("auto", "none")),
        forward_headers=forward_headers,
        needs=_needs(head),
    )


def _needs(head: wire.RequestHead) -> frozenset[Need]:
    needs: set[Need] = set()
    messages = bytes(head.messages)
    if (b'"image"' in messages or b'"document"' in messages) and _MEDIA.search(messages):
        for message in decode(_messages, messages):
            needs.update(_media_needs(message.content))
    if _SOME.match(head.tools):
        needs.add("tools")
    if head.output_config is not None and head.output_config.format is not None:
        needs.add("json_schema")
    if head.thinking is not None and head.thinking.type in ("enabled", "adaptive"):
        needs.add("reasoning")
    return frozenset(needs)


class _Part(Struct):
    type: str | None = None
    content: str | list[_Part] | dict[str, Any] | None = None


class _Message(Struct):
    content: str | list[_Part] | None = None


_messages = msgspec.json.Decoder(list[_Message])


def _media_needs(content: str | list[_Part] | dict[str, Any] | None) -> set[Need]:
    """Of what stands in the place of content, a tool's result's included: what a tool was called with is none."""
    needs: set[Need] = set()
    for part in content if isinstance(content, list) else ():
        if part.type in _MEDIA_NEEDS:
            needs.add(_MEDIA_NEEDS[part.type])
        needs |= _media_needs(part.content)
    return needs


class Anthropic:
    dialect: ClassVar[Dialect] = "anthropic"
    heartbeat: ClassVar[bytes] = b'event: ping\ndata: {"type":"ping"}\n\n'

    # --- the client's side ---

    def read_call(self, body: bytes, forward_headers: dict[str, str], path: str) -> Call:
        return read_call(body, forward_headers, self.dialect)

    def read_conversation(self, call: Call) -> Conversation:
        return conversation.read(call.body)

    def stream_writer(self, head: AnswerHead, call: Call) -> stream.StreamWriter:
        return stream.StreamWriter(head)

    def write_answer(self, head: AnswerHead, deltas: Sequence[Delta], call: Call) -> bytes:
        return stream.write_answer(head, deltas)

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        return errors.write_error(error, request_id)

    def write_stream_error(self, error: GatewayError, request_id: str, fallback_model: str | None) -> bytes:
        return errors.write_stream_error(error, request_id, fallback_model)

    # --- the provider's side ---

    def write_request(self, conversation: Conversation, deployment: Deployment) -> bytes:
        return request.write(conversation, deployment)

    def stream_reader(self) -> deltas.StreamReader:
        return deltas.StreamReader()

    def read_answer(self, body: bytes) -> list[Delta]:
        return deltas.read_answer(body)

    # --- both sides the same ---

    def pass_request(self, call: Call, deployment: Deployment) -> bytes:
        return relay.pass_request(call, deployment)

    def as_unary(self, call: Call) -> Call:
        return relay.as_unary(call)

    def renamed(self, data: bytes, model: str) -> bytes:
        return relay.renamed(data, model)

    def continued(self, call: Call, text: str, deployment: Deployment) -> Call:
        return relay.continued(call, text)
