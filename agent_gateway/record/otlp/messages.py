"""What was asked and answered, in the shape that OpenTelemetry's conventions give to messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import File, Image, Part, Reasoning, Refusal, Text, ToolResult, ToolUse
from agent_gateway.core.errors import GatewayError
from agent_gateway.protocols.base import CODECS, Codec
from agent_gateway.protocols.transcript import Answer, Content
from agent_gateway.record.row import Record, unpacked

Message = dict[str, Any]

_answer = msgspec.json.Decoder(Answer)


def messages(record: Record) -> tuple[list[Message], list[Message]]:
    """What was asked and what was answered; empty where it was not kept, was cut, or is no conversation (embeddings)."""
    return _asked(record), _answered(record)


def _asked(record: Record) -> list[Message]:
    body = unpacked(record.request)
    if not body:
        return []
    try:
        codec: Codec = CODECS.load(record.dialect)()
        turns = codec.read_conversation(Call(record.dialect, record.model, body)).turns  # type: ignore[arg-type]
    except (GatewayError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    return [{"role": _role(turn.role, turn.parts), "parts": [_part(part) for part in turn.parts]} for turn in turns]


def _role(role: str, parts: Iterable[Part]) -> str:
    if any(isinstance(part, ToolResult) for part in parts):
        return "tool"
    return "system" if role == "developer" else role


def _part(part: Part) -> Message:
    match part:
        case Text():
            return {"type": "text", "content": part.text}
        case Reasoning():
            return {"type": "reasoning", "content": part.text}
        case Refusal():
            return {"type": "refusal", "content": part.text}
        case ToolUse():
            return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": part.arguments}
        case ToolResult():
            return {"type": "tool_call_response", "id": part.call_id, "response": [_part(item) for item in part.content]}
        case Image() | File():
            return _media(part)


def _media(part: Image | File) -> Message:
    """Where it is, or how large: pictures are no matter for a log."""
    media = part.media
    kind = "image" if isinstance(part, Image) else (media.media_type or "file").partition("/")[0]
    about: Message = {"modality": kind, "mime_type": media.media_type}
    if media.url is not None:
        return {"type": "uri", **about, "uri": media.url}
    if media.file_id is not None:
        return {"type": "file", **about, "file_id": media.file_id}
    return {"type": "blob", **about, "base64_bytes": len(media.data or "")}


def _answered(record: Record) -> list[Message]:
    stored = unpacked(record.answer)
    if not stored:
        return []
    try:
        answer = _answer.decode(stored)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []
    return [_choice(content) for content in (answer, *(answer.choices or ())) if content.finish_reason or _parts(content)]


def _choice(content: Content) -> Message:
    return {"role": "assistant", "parts": _parts(content), "finish_reason": content.finish_reason or "error"}


def _parts(content: Content) -> list[Message]:
    texts = (("reasoning", content.reasoning), ("text", content.content), ("refusal", content.refusal))
    parts: list[Message] = [{"type": kind, "content": text} for kind, text in texts if text]
    calls = content.tool_calls or ()
    return parts + [{"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]
