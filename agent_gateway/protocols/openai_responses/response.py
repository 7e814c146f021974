"""The `response` object: what it repeats of the request, how it ended, and its usage in this protocol's way of counting."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import structs

from agent_gateway.core.call import Call
from agent_gateway.core.delta import FinishReason
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.wire import openai_responses as wire

_settings = msgspec.json.Decoder(wire.Settings)
_DEFAULTS = wire.Settings()
#: Fields that are never null in a response, whatever the request says.
_NEVER_NULL = ("metadata", "parallel_tool_calls", "store", "tool_choice", "tools", "truncation")


def new_response(head: AnswerHead, call: Call) -> wire.Response:
    """Of an answer in progress."""
    said = structs.asdict(_settings.decode(call.body))
    for name in _NEVER_NULL:
        if said[name] is None:
            said[name] = getattr(_DEFAULTS, name)
    said["text"] = {"format": {"type": "text"}} | _given(said["text"])
    said["reasoning"] = {"effort": None, "summary": None} | _given(said["reasoning"])
    return wire.Response(id=f"resp_{head.id}", created_at=head.created, status="in_progress", model=head.model, output=[], **said)


def _given(settings: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (settings or {}).items() if value is not None}


def incomplete_details(reason: FinishReason, *, says_refusal: bool) -> wire.IncompleteDetails | None:
    """None: it is complete. A model that declined without a word of refusal is told as a filter: its text is not all there is."""
    match reason:
        case "length":
            return wire.IncompleteDetails("max_output_tokens")
        case "content_filter":
            return wire.IncompleteDetails("content_filter")
        case "refusal" if not says_refusal:
            return wire.IncompleteDetails("content_filter")
    return None


def usage_to_wire(usage: Usage) -> wire.Usage:
    return wire.Usage(
        input_tokens=usage.input,
        input_tokens_details=wire.InputDetails(usage.cache_read, usage.cache_write),
        output_tokens=usage.output,
        output_tokens_details=wire.OutputDetails(usage.reasoning),
        total_tokens=usage.total,
    )
