"""A conversation written as a request to a provider that speaks Responses.

Promise: what cannot be said in it is refused by the client's name of it; only what `codec.DROPPED` lists is left out.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from typing import Any, assert_never

import msgspec

from agent_gateway.core.conversation import (
    Conversation,
    File,
    Image,
    JsonFormat,
    Media,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from agent_gateway.core.errors import NotExpressible
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.effort import effort_of
from agent_gateway.protocols.end_user import user_of_openai
from agent_gateway.protocols.media import url_of_media
from agent_gateway.protocols.openai_responses.client_request import LOGPROBS
from agent_gateway.protocols.openai_responses.reasoning import returned_item
from agent_gateway.wire import openai_responses as wire

_json = msgspec.json.Encoder()
_Object = dict[str, Any]

#: A schema has to have a name here.
FORMAT_NAME = "answer"
ENCRYPTED: wire.Include = "reasoning.encrypted_content"
#: What configurations, and other protocols of OpenAI's, call a parameter that has another name here.
_NAMES = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}


def write_request(conversation: Conversation, deployment: Deployment) -> bytes:
    _refuse(conversation)
    # Nothing is to be kept there that the client does not know of; so a thought has to come encrypted to be handed back.
    body: _Object = {"model": deployment.model, "input": list(_items(conversation)), "store": False}
    include: list[wire.Include] = []
    if conversation.stream:
        body["stream"] = True
    if conversation.tools:
        body["tools"] = [_tool(tool) for tool in conversation.tools]
    if conversation.tool_choice is not None:
        body["tool_choice"] = _tool_choice(conversation.tool_choice)
    if conversation.format is not None:
        body["text"] = {"format": _format(conversation.format)}
    if conversation.thinking is not None:
        body["reasoning"] = _thinking(conversation.thinking)
        if effort_of(conversation.thinking) != "none":
            include.append(ENCRYPTED)
    if conversation.logprobs:
        include.append(LOGPROBS)
    if include:
        body["include"] = include
    same = {
        "parallel_tool_calls": conversation.parallel_tools,
        "max_output_tokens": conversation.max_output_tokens,
        "temperature": conversation.temperature,
        "top_p": conversation.top_p,
        "top_logprobs": conversation.top_logprobs,
        "user": user_of_openai(conversation.user),
        "metadata": conversation.metadata,
    }
    body |= {name: value for name, value in same.items() if value is not None}
    return _json.encode(configured(deployment.default) | body | configured(deployment.override))


def configured(parameters: dict[str, Any]) -> _Object:
    """A deployment's parameters, by this protocol's names."""
    return {_NAMES.get(name, name): value for name, value in parameters.items()}


# --- what cannot be said ----------------------------------------------------------------------------------------------


def _refuse(conversation: Conversation) -> None:
    for path in conversation.beyond:
        raise NotExpressible(f"{path}: only a provider of the client's own protocol can do this.", param=path)
    asked = {
        "stop": bool(conversation.stop),
        "seed": conversation.seed is not None,
        "n": conversation.n not in (None, 1),
        "presence_penalty": bool(conversation.presence_penalty),
        "frequency_penalty": bool(conversation.frequency_penalty),
    }
    for field, given in asked.items():
        if given:
            raise _not_expressible(conversation, field, "the Responses protocol of this model's provider has no such parameter.")


def _not_expressible(conversation: Conversation, field: str, why: str) -> NotExpressible:
    path = conversation.path(field)
    return NotExpressible(f"{path}: {why}", param=path)


# --- the input --------------------------------------------------------------------------------------------------------


def _items(conversation: Conversation) -> Iterator[_Object | wire.OutputReasoning]:
    for turn in conversation.turns:
        said: list[_Object] = []
        for part in turn.parts:
            item: _Object | wire.OutputReasoning | None
            match part:
                case Text() | Image() | File() | Refusal():
                    said.append(_part(part, turn, conversation))
                    continue
                case ToolUse():
                    item = {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments}
                case ToolResult():
                    item = {"type": "function_call_output", "call_id": part.call_id, "output": _output(part, turn, conversation)}
                case Reasoning():
                    item = returned_item(part)
                case _:
                    assert_never(part)
            if item is not None:
                if said:
                    yield _message(turn, said)
                    said = []
                yield item
        if said:
            yield _message(turn, said)


def _message(turn: Turn, parts: list[_Object]) -> _Object:
    lone = parts[0].get("text") if len(parts) == 1 else None
    return {"type": "message", "role": turn.role, "content": parts if lone is None else lone}


def _output(result: ToolResult, turn: Turn, conversation: Conversation) -> str | list[_Object]:
    match result.content:
        case ():
            return ""
        case (Text(text=text),):
            return text
    return [_part(part, turn, conversation) for part in result.content]


def _part(part: Text | Image | File | Refusal, turn: Turn, conversation: Conversation) -> _Object:
    is_answer = turn.role == "assistant"
    match part:
        case Refusal():
            return {"type": "refusal", "refusal": part.text}
        case Text() if is_answer:
            return {"type": "output_text", "text": part.text, "annotations": []}
        case Text():
            return {"type": "input_text", "text": part.text}
        case Image() | File() if is_answer:
            raise _not_expressible(conversation, "turns", "an assistant's message holds nothing but text at this model's provider.")
        case Image():
            return {"type": "input_image", "detail": part.detail or "auto", **_media(part.media, "image_url", "image_url")}
        case File():
            return _file(part, conversation)
    assert_never(part)


def _file(part: File, conversation: Conversation) -> _Object:
    media_type = part.media.media_type or ""
    if media_type.startswith(("audio/", "video/")):
        raise _not_expressible(conversation, "turns", f"this model's provider takes documents and images, no {media_type}.")
    said = {"type": "input_file", **_media(part.media, "file_url", "file_data")}
    if part.media.data is not None:
        # Its content is read by its name's ending.
        said["filename"] = part.name or f"file{mimetypes.guess_extension(media_type) or ''}"
    elif part.name is not None:
        said["filename"] = part.name
    return said


def _media(media: Media, url_field: str, data_field: str) -> dict[str, str | None]:
    if media.file_id is not None:
        return {"file_id": media.file_id}
    return {data_field if media.data is not None else url_field: url_of_media(media)}


# --- tools and format -------------------------------------------------------------------------------------------------


def _tool(tool: Tool) -> _Object:
    """Left out, `strict` is on here and off everywhere else, so it is always said."""
    said: _Object = {"type": "function", "name": tool.name, "parameters": tool.parameters, "strict": bool(tool.strict)}
    if tool.description is not None:
        said["description"] = tool.description
    return said


def _tool_choice(choice: ToolChoice) -> str | _Object:
    if choice.mode == "none" or not choice.names:
        return choice.mode
    if choice.mode == "required" and len(choice.names) == 1:
        return {"type": "function", "name": choice.names[0]}
    tools = [{"type": "function", "name": name} for name in choice.names]
    return {"type": "allowed_tools", "mode": choice.mode, "tools": tools}


def _format(told: JsonFormat) -> _Object:
    if told.schema is None:
        return {"type": "json_object"}
    said: _Object = {"type": "json_schema", "name": told.name or FORMAT_NAME, "schema": told.schema}
    if told.description is not None:
        said["description"] = told.description
    if told.strict is not None:
        said["strict"] = told.strict
    return said


def _thinking(thinking: Thinking) -> _Object:
    effort = effort_of(thinking)
    said: _Object = {} if effort is None else {"effort": effort}
    if thinking.shown and effort != "none":
        said["summary"] = "auto"
    return said
