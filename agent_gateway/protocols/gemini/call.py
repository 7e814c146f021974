"""What the gateway acts on of a Gemini request: the model and the method stand in its path, the rest is read as cheaply as can be."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, unquote

import msgspec
from msgspec import Struct

from agent_gateway.core.call import Call, Need
from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.protocols.decoding import check_utf8, decode
from agent_gateway.protocols.gemini.spelling import camel_body
from agent_gateway.wire import gemini as wire

_head = msgspec.json.Decoder(wire.RequestHead)

_METHOD = re.compile(r"/v1(?:beta)?/(?:models/(?=.)|(?=tunedModels/))(?P<model>.+):(?P<method>generateContent|streamGenerateContent)")
_SOME_CONTENTS = re.compile(rb"\[\s*[^\s\]]|\{")
_SOME_MEDIA = re.compile(rb'"(?:inlineData|fileData)"\s*:')


def read_call(body: bytes, forward_headers: dict[str, str], path: str) -> Call:
    """Raises `BadRequest` whose `param` is the field's path, and `NotFound` for a path that names no model and method."""
    place, _, query = path.partition("?")
    # Escapes are undone before the pattern is matched: SDKs escape the slashes of a model's name, and some the colon.
    method = _METHOD.fullmatch(unquote(place))
    if method is None:
        raise NotFound(f"{place} is no method of the Gemini API; use /v1beta/models/{{model}}:generateContent.")
    if not body.isascii():
        check_utf8(body)
    head = decode(_head, camel_body(body))
    if not _SOME_CONTENTS.match(head.contents):
        raise BadRequest("contents: expected a non-empty array of contents.", param="contents")
    config = head.generation_config or wire.GenerationHead()
    stream = method["method"] == "streamGenerateContent"
    limit = config.max_output_tokens
    wants_json = config.response_mime_type == "application/json"
    return Call(
        dialect="gemini",
        model=method["model"],
        body=body,
        stream=stream,
        max_output_tokens=limit if limit and limit > 0 else None,
        wants_json=wants_json,
        conversational=not wants_json and _mode(head.tool_config) != "ANY",
        forward_headers=forward_headers,
        needs=_needs(head, config),
        framing="json_array" if stream and "sse" not in parse_qs(query).get("alt", ()) else "sse",
    )


def _mode(config: wire.ToolConfig | None) -> str | None:
    calling = config.function_calling_config if config else None
    return calling.mode if calling else None


# --- what it asks of a model ------------------------------------------------------------------------------------------


class _Typed(Struct, rename="camel"):
    mime_type: str | None = None


class _Part(Struct, rename="camel"):
    inline_data: _Typed | None = None
    file_data: _Typed | None = None


class _Content(Struct):
    parts: list[_Part] | _Part | None = None


_contents = msgspec.json.Decoder(list[_Content] | _Content)


def _needs(head: wire.RequestHead, config: wire.GenerationHead) -> frozenset[Need]:
    needs: set[Need] = set()
    if head.tools:
        needs.add("tools")
    if config.response_schema != wire.NULL or config.response_json_schema != wire.NULL:
        needs.add("json_schema")
    thinking = config.thinking_config
    if thinking is not None and (thinking.thinking_budget or thinking.thinking_level):
        needs.add("reasoning")
    if _SOME_MEDIA.search(head.contents):
        needs.update(_media_needs(head.contents))
    return frozenset(needs)


def _media_needs(contents: msgspec.Raw) -> set[Need]:
    needs: set[Need] = set()
    read = decode(_contents, bytes(contents))
    for content in read if isinstance(read, list) else [read]:
        for part in content.parts if isinstance(content.parts, list) else [content.parts] if content.parts else ():
            for media in (part.inline_data, part.file_data):
                if media is not None:
                    needs.add(_need_of(media.mime_type or ""))
    return needs


def _need_of(media_type: str) -> Need:
    if media_type.startswith(("image/", "video/")):
        return "vision"
    return "audio" if media_type.startswith("audio/") else "documents"
