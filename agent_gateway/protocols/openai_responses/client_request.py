"""A client's request, read: its head for every call, all of it where it has to be translated.

Promise: nothing is left out in silence but what `codec.UNREAD` lists; a refusal names the client's own field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from agent_gateway.core.call import NO_NEEDS, Call, Keeping, Need
from agent_gateway.core.conversation import (
    Conversation,
    Effort,
    File,
    Image,
    JsonFormat,
    Media,
    Part,
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from agent_gateway.core.errors import BadRequest
from agent_gateway.protocols.decoding import check_utf8, decode
from agent_gateway.protocols.media import media_of_url
from agent_gateway.protocols.openai_responses.reasoning import read_item
from agent_gateway.wire import openai_responses as wire

_head = msgspec.json.Decoder(wire.RequestHead)
_request = msgspec.json.Decoder(wire.Request)
_item_head = msgspec.json.Decoder(wire.ItemHead)
_message = msgspec.json.Decoder(wire.MessageItem)
_function_call = msgspec.json.Decoder(wire.FunctionCallItem)
_function_output = msgspec.json.Decoder(wire.FunctionOutputItem)
_reasoning = msgspec.json.Decoder(wire.ReasoningItem)
_Read = TypeVar("_Read")

_SOME_INPUT = re.compile(rb'"|\[\s*[^\s\]]')
LOGPROBS: wire.Include = "message.output_text.logprobs"
#: Where a request has what the vocabulary calls otherwise.
_PATHS = {
    "turns": "input",
    "parallel_tools": "parallel_tool_calls",
    "logprobs": "include",
    "format": "text.format",
    "thinking": "reasoning",
}


# --- the head ---------------------------------------------------------------------------------------------------------


def read_call(body: bytes, forward_headers: dict[str, str]) -> Call:
    """What the gateway acts on; the input is not looked at. Raises `BadRequest` whose `param` is the field's path."""
    if not body.isascii():
        check_utf8(body)
    head = decode(_head, body)
    if head.prompt is not None:
        raise BadRequest("prompt: not available yet. Send its text in instructions and input.", param="prompt")
    if not _SOME_INPUT.match(head.input):
        raise BadRequest("input: expected a string or a non-empty array of items.", param="input")
    limit = head.max_output_tokens
    format_type = head.text.format.type if head.text and head.text.format else None
    wants_json = format_type in ("json_object", "json_schema")
    return Call(
        dialect="openai_responses",
        model=head.model,
        body=body,
        stream=bool(head.stream),
        max_output_tokens=limit if limit and limit > 0 else None,
        user=head.user or head.safety_identifier,
        wants_json=wants_json,
        conversational=not wants_json and head.tool_choice in (None, "auto", "none"),
        forward_headers=forward_headers,
        needs=_needs(head, format_type),
        keeping=_keeping(head),
    )


def _keeping(head: wire.RequestHead) -> Keeping | None:
    """All that presumes an answer that somebody keeps; None: nothing does."""
    store, background = head.store is not False, bool(head.background)
    conversation = head.conversation.id if isinstance(head.conversation, wire.ConversationRef) else head.conversation
    if head.previous_response_id is not None and conversation is not None:
        raise BadRequest("previous_response_id: it cannot be used together with conversation.", param="previous_response_id")
    if background and not store:
        raise BadRequest("background: it needs store to be true, for the answer is fetched later.", param="background")
    keeping = Keeping(store, head.previous_response_id, conversation, background)
    return keeping if store or keeping.goes_on else None


def _needs(head: wire.RequestHead, format_type: str | None) -> frozenset[Need]:
    """By the bytes of the input: a quotation mark inside a JSON string is escaped, so these stand for nothing but themselves."""
    needs: list[Need] = []
    shown = bytes(head.input)
    if b'"input_image"' in shown:
        needs.append("vision")
    if b'"input_file"' in shown:
        needs.append("documents")
    if head.tools:
        needs.append("tools")
    if format_type == "json_schema":
        needs.append("json_schema")
    if head.reasoning is not None and head.reasoning.effort not in (None, "none"):
        needs.append("reasoning")
    return frozenset(needs) if needs else NO_NEEDS


# --- the whole --------------------------------------------------------------------------------------------------------


def read_conversation(call: Call) -> Conversation:
    """Raises `BadRequest` whose `param` is the field's path."""
    request = decode(_request, call.body)
    beyond: list[str] = []
    turns = [Turn("system", (Text(request.instructions),))] if request.instructions else []
    turns += _turns(request.input, beyond)
    if request.moderation is not None:
        beyond.append("moderation")
    asks_logprobs = LOGPROBS in (request.include or ())
    return Conversation(
        model=request.model,
        turns=tuple(turns),
        stream=bool(request.stream),
        tools=tuple(_tools(request.tools or (), beyond)),
        tool_choice=_tool_choice(request.tool_choice, beyond),
        parallel_tools=request.parallel_tool_calls,
        max_output_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        logprobs=True if asks_logprobs else None,
        top_logprobs=request.top_logprobs,
        format=_format(request.text, beyond),
        thinking=_thinking(request.reasoning),
        user=request.user or request.safety_identifier,
        metadata=request.metadata,
        beyond=tuple(beyond),
        paths=_PATHS if request.user else _PATHS | {"user": "safety_identifier"},
    )


def _tools(tools: list[wire.Tool] | tuple[()], beyond: list[str]) -> Iterator[Tool]:
    for index, tool in enumerate(tools):
        if tool.type != "function":
            beyond.append(f"tools[{index}]")
        elif tool.name is None:
            raise BadRequest(f"tools[{index}].name: this field is required.", param=f"tools[{index}].name")
        else:
            yield Tool(tool.name, tool.description, tool.parameters, tool.strict)


def _tool_choice(choice: str | wire.ToolChoice | None, beyond: list[str]) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(choice)
        case str():
            raise BadRequest("tool_choice: expected auto, none, required or an object.", param="tool_choice")
        case wire.ToolChoice(type="function", name=str(name)):
            return ToolChoice("required", (name,))
        case wire.ToolChoice(type="function"):
            raise BadRequest("tool_choice.name: this field is required.", param="tool_choice.name")
        case wire.ToolChoice(type="allowed_tools", tools=list(tools)):
            names = [tool.name for tool in tools if tool.type == "function" and tool.name is not None]
            if len(names) == len(tools):
                return ToolChoice(choice.mode or "auto", tuple(names))
    beyond.append("tool_choice")
    return None


def _format(text: wire.TextSettings | None, beyond: list[str]) -> JsonFormat | None:
    told = text.format if text is not None else None
    match told:
        case None | wire.Format(type="text"):
            return None
        case wire.Format(type="json_object"):
            return JsonFormat()
        case wire.Format(type="json_schema"):
            if told.schema is None:
                raise BadRequest("text.format.schema: this field is required.", param="text.format.schema")
            return JsonFormat(told.schema, told.name, told.description, told.strict)
    beyond.append("text.format")
    return None


def _thinking(told: wire.Thinking | None) -> Thinking | None:
    if told is None:
        return None
    shown = (told.summary or told.generate_summary) is not None
    if told.effort is None and not shown:
        return None
    effort: Effort | None = "xhigh" if told.effort == "max" else told.effort
    return Thinking(effort, shown=shown)


# --- the input --------------------------------------------------------------------------------------------------------


class _Said(NamedTuple):
    """What an item adds. `joins`: an answer's items, and results that follow each other, make one turn together."""

    role: Role
    parts: tuple[Part, ...]
    joins: bool


def _turns(told: str | list[Raw], beyond: list[str]) -> list[Turn]:
    if isinstance(told, str):
        return [Turn("user", (Text(told),))]
    turns: list[Turn] = []
    before: _Said | None = None
    for index, raw in enumerate(told):
        said = _item(raw, f"input[{index}]", beyond)
        if said is None:
            continue
        if before is not None and before.joins and said.joins and before.role == said.role:
            turns[-1] = Turn(said.role, turns[-1].parts + said.parts)
        else:
            turns.append(Turn(said.role, said.parts))
        before = said
    return turns


def _item(raw: Raw, path: str, beyond: list[str]) -> _Said | None:
    head = _decode_at(path, _item_head, raw)
    match head.type or ("message" if head.role else "item_reference" if head.id else None):
        case "message":
            message = _decode_at(path, _message, raw)
            return _Said(message.role, tuple(_content(message.content, f"{path}.content", beyond)), message.role == "assistant")
        case "function_call":
            call = _decode_at(path, _function_call, raw)
            return _Said("assistant", (ToolUse(call.call_id, call.name, call.arguments),), True)
        case "function_call_output":
            output = _decode_at(path, _function_output, raw)
            return _Said("user", (_tool_result(output, f"{path}.output", beyond),), True)
        case "reasoning":
            return _Said("assistant", (read_item(_decode_at(path, _reasoning, raw)),), True)
        case "item_reference":
            raise BadRequest(f"{path}: no item of that id is kept here. Send the item itself.", param=path)
        case None:
            raise BadRequest(f"{path}.type: this field is required.", param=f"{path}.type")
    beyond.append(path)
    return None


def _decode_at(path: str, decoder: msgspec.json.Decoder[_Read], raw: Raw) -> _Read:
    try:
        return decode(decoder, bytes(raw))
    except BadRequest as error:
        if error.param is None:
            raise BadRequest(f"{path}: expected an object.", param=path) from None
        raise BadRequest(f"{path}.{error.message}", param=f"{path}.{error.param}") from None


def _tool_result(output: wire.FunctionOutputItem, path: str, beyond: list[str]) -> ToolResult:
    content = [part for part in _content(output.output, path, beyond) if not isinstance(part, Refusal)]
    return ToolResult(output.call_id, tuple(content), output.name)


def _content(content: str | list[wire.Part], path: str, beyond: list[str]) -> Iterator[Text | Image | File | Refusal]:
    if isinstance(content, str):
        yield Text(content)
        return
    for index, part in enumerate(content):
        at = f"{path}[{index}]"
        match part.type:
            case "input_text" | "output_text":
                yield Text(_required(part.text, f"{at}.text"))
            case "refusal":
                yield Refusal(_required(part.refusal, f"{at}.refusal"))
            case "input_image":
                yield Image(_image_media(part, at), part.detail)
            case "input_file":
                yield File(_file_media(part, at), part.filename)
            case _:
                beyond.append(at)


def _required(value: str | None, path: str) -> str:
    if value is None:
        raise BadRequest(f"{path}: this field is required.", param=path)
    return value


def _image_media(part: wire.Part, path: str) -> Media:
    if part.file_id is not None:
        return Media(file_id=part.file_id)
    return media_of_url(_required(part.image_url, f"{path}.image_url"))


def _file_media(part: wire.Part, path: str) -> Media:
    if part.file_id is not None:
        return Media(file_id=part.file_id)
    if part.file_url is not None:
        return Media(url=part.file_url)
    data = _required(part.file_data, f"{path}.file_data")
    return media_of_url(data) if data.startswith("data:") else Media(data=data)
