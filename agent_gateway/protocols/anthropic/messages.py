"""The turns of a conversation as Anthropic's `system` and `messages`.

Promise: instructions are hoisted in their order, turns of one role in a row become one, and what tools returned comes first in its turn.
"""

from __future__ import annotations

import base64
import binascii
import re

import msgspec
from msgspec import Raw

from agent_gateway.core.conversation import (
    CacheFor,
    Conversation,
    File,
    Image,
    Media,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolResult,
    ToolUse,
    Turn,
)
from agent_gateway.core.errors import NotExpressible
from agent_gateway.protocols.anthropic.expressible import REFUSED
from agent_gateway.wire import anthropic as wire

#: Source: the media types of `Base64ImageSourceParam` in Anthropic's API reference.
IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
#: Where a tool was called with arguments that are no JSON object, they are kept under this name.
#: Source: Anthropic, "Fine-grained tool streaming", handling invalid JSON in tool responses.
INVALID_JSON = "INVALID_JSON"
_NO_TOOL_ID = re.compile(r"[^a-zA-Z0-9_-]")

_json = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, Raw])


def write_turns(conversation: Conversation) -> tuple[list[wire.Block], list[wire.Message]]:
    """Raises `NotExpressible`."""
    path = conversation.path("turns")
    system: list[wire.Block] = []
    messages: list[wire.Message] = []
    last: list[wire.Block] = []
    for turn in conversation.turns:
        blocks = _blocks(turn, path)
        if turn.role in ("system", "developer"):
            system += blocks
        elif not blocks:
            if turn.role == "user":  # without it, the turn before would be the one to complete
                raise NotExpressible(f"{path}: {REFUSED['turns']}", param=path)
        elif messages and messages[-1].role == turn.role:
            last += blocks
        else:
            last = blocks
            messages.append(wire.Message("assistant" if turn.role == "assistant" else "user", last))
    for message in messages:
        if message.role == "user" and isinstance(message.content, list):
            message.content.sort(key=_is_not_a_result)
    if not messages:
        raise NotExpressible(f"{path}: {REFUSED['turns']}", param=path)
    return system, messages


def thinks_first(messages: list[wire.Message]) -> bool:
    """Whether the turn that the model goes on with began with a thought. One that began without, since the client kept no thoughts or
    another provider had it, cannot be gone on with thinking by budget. Source: Anthropic, "Extended thinking", preserving thinking blocks.
    """
    begun = messages[-1] if messages[-1].role == "assistant" else messages[-2] if _answers_a_tool(messages) else None
    if begun is None:
        return True
    return isinstance(begun.content, list) and bool(begun.content) and begun.content[0].type in ("thinking", "redacted_thinking")


def tool_input(arguments: str) -> Raw:
    """The arguments as the JSON object that they are; other text inside one."""
    if not arguments.strip():
        return Raw(b"{}")
    return Raw(arguments.encode()) if is_object(arguments) else Raw(_json.encode({INVALID_JSON: arguments}))


def is_object(arguments: str) -> bool:
    """They are whole, and what the protocol takes."""
    try:
        _members.decode(arguments)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def cache_control(cache_for: CacheFor | None) -> wire.CacheControl | None:
    """5 minutes are the protocol's default."""
    return None if cache_for is None else wire.CacheControl("ephemeral", None if cache_for == "5m" else cache_for)


# --- blocks -----------------------------------------------------------------------------------------------------------


def _blocks(turn: Turn, path: str) -> list[wire.Block]:
    blocks = [_block(part, path) for part in turn.parts]
    told = [block for block in blocks if block is not None]
    if turn.role in ("system", "developer") and any(block.type != "text" for block in told):
        raise NotExpressible(f"{path}: {REFUSED['turns']}", param=path)
    return told


def _block(part: Part, path: str) -> wire.Block | None:
    """None where nothing is left to say."""
    match part:
        case Text(text=text) | Refusal(text=text):
            # Anthropic refuses blocks without anything but white space.
            cache = cache_control(part.cache_for) if isinstance(part, Text) else None
            return wire.Block("text", text=text, cache_control=cache) if text.strip() else None
        case Image():
            return wire.Block("image", source=_image(part.media, path), cache_control=cache_control(part.cache_for))
        case File(media=media) if media.media_type in IMAGE_TYPES:
            return wire.Block("image", source=_image(media, path), cache_control=cache_control(part.cache_for))
        case File():
            source = _document(part.media, path)
            return wire.Block("document", source=source, title=part.name, cache_control=cache_control(part.cache_for))
        case Reasoning():
            return _thought(part)
        case ToolUse():
            return wire.Block("tool_use", id=_tool_id(part.id), name=part.name, input=tool_input(part.arguments))
        case ToolResult():
            return wire.Block(
                "tool_result",
                tool_use_id=_tool_id(part.call_id),
                content=[block for inner in part.content if (block := _block(inner, path)) is not None] or None,
                is_error=part.is_error or None,
                cache_control=cache_control(part.cache_for),
            )


def _thought(reasoning: Reasoning) -> wire.Block | None:
    """What Anthropic did not sign, it refuses."""
    if reasoning.origin != "anthropic":
        return None
    if reasoning.redacted is not None:
        return wire.Block("redacted_thinking", data=reasoning.redacted)
    return wire.Block("thinking", thinking=reasoning.text, signature=reasoning.signature) if reasoning.signature else None


def _image(media: Media, path: str) -> wire.Source:
    if media.data is not None and media.media_type not in IMAGE_TYPES:
        raise _refused("Image", media, path)
    return _source("Image", media, path)


def _document(media: Media, path: str) -> wire.Source:
    if media.media_type == "application/pdf" or (media.url is not None and media.media_type is None):
        return _source("File", media, path)
    if media.data is None or not (media.media_type or "").startswith("text/"):
        raise _refused("File", media, path)
    try:
        text = base64.b64decode(media.data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise _refused("File", media, path) from None
    return wire.Source("text", "text/plain", text)


def _source(part: str, media: Media, path: str) -> wire.Source:
    if media.data is not None:
        return wire.Source("base64", media.media_type, media.data)
    if media.url is None or not media.url.startswith(("https://", "http://")):
        raise _refused(part, media, path)
    return wire.Source("url", url=media.url)


def _refused(part: str, media: Media, path: str) -> NotExpressible:
    return NotExpressible(f"{path}: {REFUSED[part]} Got {media.media_type or 'no type'}.", param=path)


def _answers_a_tool(messages: list[wire.Message]) -> bool:
    content = messages[-1].content
    return len(messages) > 1 and isinstance(content, list) and bool(content) and content[0].type == "tool_result"


def _is_not_a_result(block: wire.Block) -> bool:
    return block.type != "tool_result"


def _tool_id(call_id: str) -> str:
    """Anthropic's are of letters, digits, `_` and `-`; another character would have the request refused."""
    return _NO_TOOL_ID.sub("_", call_id)
