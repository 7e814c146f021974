"""An Anthropic request read into the gateway's vocabulary.

Promise: what has no word there is named in `beyond`, never lost in silence; what is wrong is refused by the field's path.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

import msgspec

from agent_gateway.core.conversation import (
    CacheFor,
    Conversation,
    Effort,
    File,
    Image,
    JsonFormat,
    Media,
    Part,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolMode,
    ToolResult,
    ToolUse,
    Turn,
)
from agent_gateway.core.errors import BadRequest
from agent_gateway.protocols.decoding import decode
from agent_gateway.protocols.signature import read_signature
from agent_gateway.wire import anthropic as wire

_request = msgspec.json.Decoder(wire.Request)

#: Where the fields of a conversation stand in a request, where their names differ.
PATHS = {
    "turns": "messages",
    "max_output_tokens": "max_tokens",
    "stop": "stop_sequences",
    "user": "metadata.user_id",
    "format": "output_config.format",
    "parallel_tools": "tool_choice.disable_parallel_tool_use",
}
_MODES: dict[str, ToolMode] = {"auto": "auto", "none": "none", "any": "required", "tool": "required"}
_EFFORTS: dict[str, Effort] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "xhigh"}


def read(body: bytes) -> Conversation:
    """Raises `BadRequest`."""
    request = decode(_request, body)
    notes = _Notes()
    choice = request.tool_choice
    return Conversation(
        model=request.model,
        turns=_turns(request, notes),
        stream=bool(request.stream),
        tools=tuple(_tools(request.tools or (), notes)),
        tool_choice=_tool_choice(choice),
        parallel_tools=None if choice is None or choice.disable_parallel_tool_use is None else not choice.disable_parallel_tool_use,
        max_output_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        stop=tuple(request.stop_sequences or ()),
        format=_format(request.output_config, notes),
        thinking=_thinking(request),
        user=request.metadata.user_id if request.metadata else None,
        beyond=(*_services(request), *notes.beyond),
        paths=PATHS,
    )


class _Notes:
    """Taken while a request is read."""

    __slots__ = ("beyond", "tool_names")

    def __init__(self) -> None:
        #: Paths of what the vocabulary has no word for.
        self.beyond: list[str] = []
        #: By the id of the call.
        self.tool_names: dict[str, str] = {}


def _services(request: wire.Request) -> Iterable[str]:
    """What Anthropic does for a request besides answering it."""
    if request.container is not None:
        yield "container"
    if request.mcp_servers:
        yield "mcp_servers"
    if request.inference_geo not in (None, "global"):
        yield "inference_geo"


# --- turns ------------------------------------------------------------------------------------------------------------


def _turns(request: wire.Request, notes: _Notes) -> tuple[Turn, ...]:
    turns = []
    if request.system:
        turns.append(Turn("system", _parts(request.system, "system", notes)))
    for index, message in enumerate(request.messages):
        turns.append(Turn(message.role, _parts(message.content, f"messages[{index}].content", notes)))
    return tuple(turns)


def _parts(content: str | list[wire.Block], path: str, notes: _Notes) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),) if content else ()
    parts = [_part(block, f"{path}[{index}]", notes) for index, block in enumerate(content)]
    return tuple([part for part in parts if part is not None])


def _part(block: wire.Block, path: str, notes: _Notes) -> Part | None:
    match block.type:
        case "text":
            return Text(_said(block.text, f"{path}.text"), _cache_for(block))
        case "image":
            media = _media(block, path, notes)
            return None if media is None else Image(media, cache_for=_cache_for(block))
        case "document":
            return _document(block, path, notes)
        case "thinking":
            signature, origin = read_signature(block.signature or "", "anthropic")
            return Reasoning(block.thinking or "", signature or None, origin=origin)
        case "redacted_thinking":
            data, origin = read_signature(_said(block.data, f"{path}.data"), "anthropic")
            return Reasoning(redacted=data, origin=origin)
        case "tool_use" if block.toolset_name is None:
            arguments = bytes(block.input).decode()
            use = ToolUse(_said(block.id, f"{path}.id"), _said(block.name, f"{path}.name"), arguments or "{}")
            notes.tool_names[use.id] = use.name
            return use
        case "tool_result":
            return _tool_result(block, path, notes)
    notes.beyond.append(path)
    return None


def _tool_result(block: wire.Block, path: str, notes: _Notes) -> ToolResult:
    parts: list[Text | Image | File] = [Text(block.content)] if isinstance(block.content, str) and block.content else []
    for index, inner in enumerate(block.content if isinstance(block.content, list) else ()):
        inner_path = f"{path}.content[{index}]"
        part = _part(inner, inner_path, notes)
        if isinstance(part, Text | Image | File):
            parts.append(part)
        elif part is not None:
            notes.beyond.append(inner_path)
    call_id = _said(block.tool_use_id, f"{path}.tool_use_id")
    return ToolResult(call_id, tuple(parts), notes.tool_names.get(call_id), bool(block.is_error), _cache_for(block))


def _document(block: wire.Block, path: str, notes: _Notes) -> File | None:
    if block.context is not None:
        notes.beyond.append(f"{path}.context")
    if isinstance(block.citations, wire.Citations) and block.citations.enabled:
        notes.beyond.append(f"{path}.citations")
    media = _media(block, path, notes)
    return None if media is None else File(media, block.title, _cache_for(block))


def _media(block: wire.Block, path: str, notes: _Notes) -> Media | None:
    source = block.source
    if not isinstance(source, wire.Source):
        raise _required(f"{path}.source")
    match source.type:
        case "base64":
            return Media(data=_said(source.data, f"{path}.source.data"), media_type=source.media_type)
        case "url":
            media_type = "application/pdf" if block.type == "document" else None
            return Media(url=_said(source.url, f"{path}.source.url"), media_type=media_type)
        case "file":
            return Media(file_id=_said(source.file_id, f"{path}.source.file_id"))
        case "text":
            return _plain_text(_said(source.data, f"{path}.source.data"))
        case "content" if isinstance(source.content, str):
            return _plain_text(source.content)
    notes.beyond.append(f"{path}.source")
    return None


def _plain_text(text: str) -> Media:
    return Media(data=base64.b64encode(text.encode()).decode(), media_type="text/plain")


def _cache_for(block: wire.Block | wire.Tool) -> CacheFor | None:
    control = block.cache_control
    return None if control is None else control.ttl or "5m"


def _said(value: str | None, path: str) -> str:
    if value is None:
        raise _required(path)
    return value


def _required(path: str) -> BadRequest:
    return BadRequest(f"{path}: this field is required.", param=path)


# --- what is asked for ------------------------------------------------------------------------------------------------


def _tools(tools: Iterable[wire.Tool], notes: _Notes) -> Iterable[Tool]:
    for index, tool in enumerate(tools):
        if tool.type not in (None, "custom"):
            notes.beyond.append(f"tools[{index}]")
        elif not tool.name:
            raise _required(f"tools[{index}].name")
        else:
            yield Tool(tool.name, tool.description, tool.input_schema, tool.strict, _cache_for(tool))


def _tool_choice(choice: wire.ToolChoice | None) -> ToolChoice | None:
    if choice is None:
        return None
    mode = _MODES.get(choice.type)
    if mode is None:
        raise BadRequest(f"tool_choice.type: expected one of {', '.join(_MODES)}, got {choice.type!r}.", param="tool_choice.type")
    return ToolChoice(mode, (_said(choice.name, "tool_choice.name"),) if choice.type == "tool" else ())


def _format(config: wire.OutputConfig | None, notes: _Notes) -> JsonFormat | None:
    if config is None or config.format is None:
        return None
    if config.format.type != "json_schema":
        notes.beyond.append("output_config.format")
        return None
    if config.format.schema is None:
        raise _required("output_config.format.schema")
    return JsonFormat(config.format.schema)


def _thinking(request: wire.Request) -> Thinking | None:
    """`between_tools` is thinking turned off, but for notes between tool calls."""
    told = request.output_config.effort if request.output_config else None
    effort = None if told is None else _EFFORTS[told]
    thinking = request.thinking
    if thinking is None:
        return None if effort is None else Thinking(effort)
    shown = thinking.display != "omitted"
    match thinking.type:
        case "enabled":
            if thinking.budget_tokens is None:
                raise _required("thinking.budget_tokens")
            return Thinking(budget_tokens=thinking.budget_tokens, shown=shown)
        case "disabled" | "between_tools":
            return Thinking(budget_tokens=0)
        case "adaptive":
            return Thinking(effort, None if effort else -1, shown)
    said = f"thinking.type: expected one of enabled, disabled, adaptive, between_tools, got {thinking.type!r}."
    raise BadRequest(said, param="thinking.type")
