"""A model's thoughts in chat: `reasoning_content`, and OpenRouter's `reasoning_details`, which carry signatures.

Promise: what a client was shown and sends back unchanged is the reasoning that the provider gave, in its place before a tool call.
"""

from __future__ import annotations

from agent_gateway.core.conversation import Reasoning
from agent_gateway.core.delta import ReasoningDelta
from agent_gateway.protocols.signature import read_signature, shown_signature
from agent_gateway.wire import openai_chat as wire

#: Stands between a provider's name of the signature's format and the signature, where the two travel as one.
_FORMAT_END = " "


# --- to and from clients ----------------------------------------------------------------------------------------------


def shown_detail(thought: Reasoning | ReasoningDelta, index: int, tool_call_id: str | None = None) -> wire.ReasoningDetail:
    """A thought, or a piece of one, as the client gets it; `tool_call_id` where it stands right before that tool call."""
    if thought.redacted is not None:
        data = shown_signature(thought.redacted, thought.origin, "openai_chat")
        return wire.ReasoningDetail("reasoning.encrypted", data=data, id=thought.id, index=index, tool_call_id=tool_call_id)
    signature = None if thought.signature is None else shown_signature(thought.signature, thought.origin, "openai_chat")
    text = thought.text or None
    return wire.ReasoningDetail("reasoning.text", text=text, signature=signature, id=thought.id, index=index, tool_call_id=tool_call_id)


def read_reasoning(message: wire.Message) -> tuple[dict[str, list[Reasoning]], list[Reasoning]]:
    """What an assistant's message holds of thoughts: those that stand before a tool call, by its id, and those before all else."""
    before: dict[str, list[Reasoning]] = {}
    first: list[Reasoning] = []
    for detail in message.reasoning_details or ():
        thoughts = first if detail.tool_call_id is None else before.setdefault(detail.tool_call_id, [])
        thoughts.append(_of_client(detail))
    plain = message.reasoning_content or message.reasoning
    if plain and not message.reasoning_details:
        first.append(Reasoning(plain, origin="openai_chat"))
    return before, first


def _of_client(detail: wire.ReasoningDetail) -> Reasoning:
    if detail.data is not None:
        data, origin = read_signature(detail.data, "openai_chat")
        return Reasoning(redacted=_with_format(detail, data) if origin == "openai_chat" else data, origin=origin, id=detail.id)
    text = detail.text or detail.summary or ""
    if detail.signature is None:
        return Reasoning(text, origin="openai_chat", id=detail.id)
    signature, origin = read_signature(detail.signature, "openai_chat")
    return Reasoning(text, _with_format(detail, signature) if origin == "openai_chat" else signature, None, origin, detail.id)


# --- to and from providers --------------------------------------------------------------------------------------------


def told_thought(detail: wire.ReasoningDetail, choice: int) -> ReasoningDelta:
    """A provider's detail."""
    if detail.data is not None:
        return ReasoningDelta("", None, _with_format(detail, detail.data), "openai_chat", choice, detail.id)
    signature = None if detail.signature is None else _with_format(detail, detail.signature)
    return ReasoningDelta(detail.text or detail.summary or "", signature, None, "openai_chat", choice, detail.id)


def returned_detail(thought: Reasoning, index: int) -> wire.ReasoningDetail:
    """A signed or redacted thought, as the provider that it came from told it."""
    mark, separator, value = (thought.redacted or thought.signature or "").rpartition(_FORMAT_END)
    kind_format = mark if separator else None
    if thought.redacted is not None:
        return wire.ReasoningDetail("reasoning.encrypted", data=value, format=kind_format, id=thought.id, index=index)
    return wire.ReasoningDetail("reasoning.text", text=thought.text, signature=value, format=kind_format, id=thought.id, index=index)


def _with_format(detail: wire.ReasoningDetail, signature: str) -> str:
    """The format's name goes with the signature: its provider wants both back."""
    return f"{detail.format}{_FORMAT_END}{signature}" if detail.format else signature
