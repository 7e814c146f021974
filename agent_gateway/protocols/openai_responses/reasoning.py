"""Thoughts as reasoning items, and back: the one place that knows how the two hold the same.

An item that a provider of this protocol made becomes a `Reasoning` whose `text` is the parts of its summary and its content,
joined by blank lines; whose `id` is its id; and whose `signature` is a seal of all that the text cannot tell: the id, where the
parts begin, and `encrypted_content`. So it comes back exactly from a client of any protocol that keeps text and signature.
A thought of another origin becomes an item with one summary part, and its signature marked in `encrypted_content`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from agent_gateway.core.call import Dialect
from agent_gateway.core.conversation import Reasoning
from agent_gateway.protocols.signature import MARK, read_signature, shown_signature
from agent_gateway.wire import openai_responses as wire

PartKind: TypeAlias = Literal["summary", "content"]
DIALECT: Dialect = "openai_responses"
#: Between the parts of one thought.
BREAK = "\n\n"
#: That of a thought that nobody signed and whose origin is not known.
UNSIGNED = f"{MARK}unsigned:"
#: Tells what stands for a whole thought from what signs one. No provider's signature holds a colon.
_REDACTED = "redacted:"


class Seal(Struct, array_like=True):
    """Of a native item. `parts`: kind and length (characters) of each, in the order in which `Reasoning.text` has them."""

    id: str | None
    parts: list[tuple[PartKind, int]]
    encrypted_content: str | None

    def signature(self) -> str:
        return _json.encode(self).decode()


_json = msgspec.json.Encoder()
_seal = msgspec.json.Decoder(Seal)


# --- reading ----------------------------------------------------------------------------------------------------------


def read_item(item: wire.ReasoningItem) -> Reasoning:
    """A reasoning item of a request, or of a provider's answer."""
    texts = [part.text for part in item.summary]
    encrypted = item.encrypted_content
    if encrypted is None or not encrypted.startswith(MARK):
        spelled_out = [part.text for part in item.content or ()]
        parts: list[tuple[PartKind, int]] = [("summary", len(text)) for text in texts]
        parts += [("content", len(text)) for text in spelled_out]
        seal = Seal(item.id, parts, encrypted)
        return Reasoning(BREAK.join(texts + spelled_out), seal.signature(), None, DIALECT, item.id)
    text = BREAK.join(texts)
    if encrypted == UNSIGNED:
        return Reasoning(text)
    signature, origin = read_signature(encrypted, DIALECT)
    if signature.startswith(_REDACTED):
        return Reasoning(text, redacted=signature.removeprefix(_REDACTED), origin=origin)
    return Reasoning(text, signature or None, origin=origin)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_item(thought: Reasoning, item_id: str) -> wire.OutputReasoning:
    """For a client: a native item as it was, any other under `item_id`."""
    if thought.origin == DIALECT:
        return _native_item(thought, item_id)
    summary = [wire.SummaryText(thought.text)] if thought.text else []
    return wire.OutputReasoning(id=item_id, summary=summary, encrypted_content=_marked(thought))


def returned_item(thought: Reasoning) -> wire.OutputReasoning | None:
    """For a provider: what one of this protocol made; None for any other thought, and for one that is a mere reference.

    An item that is neither encrypted nor spelled out is known to its provider by its id alone, if it has kept it, and it is
    asked to keep nothing (`store: false`).
    """
    if thought.origin != DIALECT:
        return None
    item = _native_item(thought, thought.id or UNSET)
    return item if item.encrypted_content or item.content else None


def _native_item(thought: Reasoning, item_id: str | UnsetType) -> wire.OutputReasoning:
    try:
        seal = _seal.decode(thought.signature or "")
    except msgspec.MsgspecError:
        # Not sealed here: then it is what OpenAI itself calls a signature.
        seal = Seal(thought.id, [], thought.signature)
    item = wire.OutputReasoning(id=seal.id or item_id, summary=[], encrypted_content=seal.encrypted_content)
    text = thought.text
    if len(text) != sum(length for _, length in seal.parts) + len(BREAK) * max(0, len(seal.parts) - 1):
        # A client has cut or left out the text; the seal is what counts.
        item.summary = [wire.SummaryText(text)] if text else []
        return item
    content: list[wire.ThoughtText] = []
    start = 0
    for kind, length in seal.parts:
        part = text[start : start + length]
        start += length + len(BREAK)
        if kind == "summary":
            item.summary.append(wire.SummaryText(part))
        else:
            content.append(wire.ThoughtText(part))
    item.content = content or UNSET
    return item


def _marked(thought: Reasoning) -> str:
    if thought.redacted is not None:
        return shown_signature(_REDACTED + thought.redacted, thought.origin, DIALECT)
    if thought.origin is None and thought.signature is None:
        return UNSIGNED
    return shown_signature(thought.signature or "", thought.origin, DIALECT)
