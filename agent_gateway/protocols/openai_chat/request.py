"""A conversation written as a request to a provider that speaks OpenAI chat.

Promise: what the protocol cannot say is refused by the client's name of it (`REFUSED`) or is a hint that is dropped (`DROPPED`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

import msgspec

from agent_gateway.core.conversation import (
    Conversation,
    File,
    Image,
    JsonFormat,
    Part,
    Reasoning,
    Refusal,
    Text,
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
from agent_gateway.protocols.openai_chat.conversation import AUDIO_TYPES
from agent_gateway.protocols.openai_chat.reasoning import returned_detail
from agent_gateway.protocols.openai_chat.relay import with_parameters
from agent_gateway.wire import openai_chat as wire

#: Conversation field or part → why it goes unheard.
DROPPED = {
    "metadata": "OpenAI takes it only for answers that it stores.",
    "cache_for": "Providers of this protocol cache prompts by themselves.",
    "Thinking.shown": "They show what they show.",
    "Thinking.effort": "Of the words, `none` is left out: few of this protocol's models take it.",
    "Reasoning": "Thoughts that another protocol's provider signed are left out; those that nobody signed go back only with tool calls, "
    "where DeepSeek asks for them, and never to OpenAI's models.",
    "ToolResult.is_error": "The result's own words tell of the error.",
    "ToolResult.name": "A result names its call only.",
    "tools": "Those that `tool_choice` does not allow are left out, for only OpenAI has another word for it.",
    "top_k": "OpenAI chat has no such parameter, and it only steers how words are drawn.",
}
APART = "A model's words in a user's turn, a tool's result in a model's"
#: Conversation field or part → why it is refused.
REFUSED = {
    "beyond": "It has no counterpart in OpenAI chat.",
    "stop": "OpenAI chat takes at most four stop sequences.",
    "Image": "OpenAI chat takes images by URL or as data, in a user's turn.",
    "File": "OpenAI chat takes documents as data or by file id, and audio as WAV or MP3, in a user's turn.",
    APART: "OpenAI chat's roles keep them apart.",
}
#: Stands between texts of one message, where they are sent as one string, which more providers take than lists of parts.
BETWEEN_TEXTS = "\n\n"
#: A tool's result is text here: images and files that it holds follow in a user's message, each result's behind words that name its call.
MEDIA_FOLLOW = "What the tool returned follows in the user's next message."
MEDIA_OF = "Returned by the tool call {call_id}:"
STOP_MAX = 4

_AUDIO_FORMATS = {media_type: name for name, media_type in AUDIO_TYPES.items()} | {"audio/x-wav": "wav", "audio/mp3": "mp3"}
_json = msgspec.json.Encoder()


def write_request(conversation: Conversation, deployment: Deployment) -> bytes:
    """Raises `NotExpressible`."""
    for path in conversation.beyond:
        raise NotExpressible(f"{path}: {REFUSED['beyond']}", param=path)
    if len(conversation.stop) > STOP_MAX:
        raise _not_expressible(conversation, "stop")
    # OpenAI's own models refuse the one word and take no `reasoning_content`; other providers of this protocol understand only that word.
    openais = deployment.output_limit_field == "max_completion_tokens"
    limit = conversation.max_output_tokens
    tools = _offered(conversation)
    request = wire.Request(
        model=deployment.model,
        messages=list(_messages(conversation, openais=openais)),
        stream=conversation.stream or None,
        stream_options=wire.StreamOptions(include_usage=True) if conversation.stream else None,
        max_tokens=None if openais else limit,
        max_completion_tokens=limit if openais else None,
        n=conversation.n,
        stop=list(conversation.stop) or None,
        seed=conversation.seed,
        temperature=conversation.temperature,
        top_p=conversation.top_p,
        presence_penalty=conversation.presence_penalty,
        frequency_penalty=conversation.frequency_penalty,
        logprobs=conversation.logprobs,
        top_logprobs=conversation.top_logprobs,
        tools=[_tool(tool) for tool in tools] or None,
        tool_choice=_tool_choice(conversation.tool_choice) if tools else None,
        parallel_tool_calls=conversation.parallel_tools if tools else None,
        response_format=_response_format(conversation.format),
        reasoning_effort=_effort(conversation),
        user=user_of_openai(conversation.user),
    )
    return with_parameters(_json.encode(request), deployment)


def _not_expressible(conversation: Conversation, what: str) -> NotExpressible:
    """`what` is of `REFUSED`; a part is one of the turns."""
    path = conversation.path(what if what in conversation.__struct_fields__ else "turns")
    return NotExpressible(f"{path}: {REFUSED[what]}", param=path)


# --- turns ------------------------------------------------------------------------------------------------------------


def _messages(conversation: Conversation, *, openais: bool) -> Iterator[wire.Message]:
    # A call's results have to stand in a row, so what they hold besides text waits for the last of them.
    waiting: list[Part] = []
    for turn in conversation.turns:
        results = [part for part in turn.parts if isinstance(part, ToolResult)]
        said = [part for part in turn.parts if not isinstance(part, ToolResult)]
        if waiting and not results and turn.role != "user":
            yield wire.Message("user", _content(waiting, conversation))
            waiting = []
        if turn.role == "assistant":
            yield _assistant(turn, conversation, openais=openais)
            continue
        for result in results:
            text, media = _result(result)
            yield wire.Message("tool", text, tool_call_id=result.call_id)
            waiting += media
        if said or not turn.parts:
            # `developer` is OpenAI's newer word for `system`, which OpenAI understands too, and the others only.
            role = "system" if turn.role == "developer" else turn.role
            yield wire.Message(role, _content([*waiting, *said], conversation), turn.name)
            waiting = []
    if waiting:
        yield wire.Message("user", _content(waiting, conversation))


def _result(result: ToolResult) -> tuple[str, list[Part]]:
    """Its text, and what has to follow it."""
    texts = [part.text for part in result.content if isinstance(part, Text)]
    media = [part for part in result.content if not isinstance(part, Text)]
    if not media:
        return BETWEEN_TEXTS.join(texts), []
    return BETWEEN_TEXTS.join(texts or [MEDIA_FOLLOW]), [Text(MEDIA_OF.format(call_id=result.call_id)), *media]


def _assistant(turn: Turn, conversation: Conversation, *, openais: bool) -> wire.Message:
    message = wire.Message("assistant", name=turn.name)
    said: list[Part] = []
    details: list[wire.ReasoningDetail] = []
    thoughts: list[str] = []
    calls: list[wire.ToolCall] = []
    for part in turn.parts:
        match part:
            case ToolUse(id=call_id, name=name, arguments=arguments):
                calls.append(wire.ToolCall(id=call_id, function=wire.CalledFunction(name, arguments)))
            case Refusal(text=text):
                message.refusal = text if message.refusal is None else message.refusal + text
            case Reasoning():
                if part.origin == "openai_chat":
                    if part.signature is None and part.redacted is None:
                        thoughts.append(part.text)
                    else:
                        details.append(returned_detail(part, len(details)))
            case Text():
                said.append(part)
            case Image() | File():
                raise _not_expressible(conversation, type(part).__name__)
            case ToolResult():
                raise _not_expressible(conversation, APART)
            case _:
                assert_never(part)
    if said:
        message.content = _content(said, conversation)
    elif not (calls or message.refusal):
        message.content = ""
    message.tool_calls = calls or None
    message.reasoning_details = details or None
    if calls and thoughts and not openais:
        message.reasoning_content = "".join(thoughts)
    return message


def _content(parts: list[Part], conversation: Conversation) -> str | list[wire.ContentPart]:
    texts = [part.text for part in parts if isinstance(part, Text)]
    if len(texts) == len(parts):
        return BETWEEN_TEXTS.join(texts)
    return [_content_part(part, conversation) for part in parts]


def _content_part(part: Part, conversation: Conversation) -> wire.ContentPart:
    match part:
        case Text(text=text):
            return wire.ContentPart("text", text=text)
        case Image(media=media, detail=detail):
            url = url_of_media(media)
            if url is None:
                raise _not_expressible(conversation, "Image")
            return wire.ContentPart("image_url", image_url=wire.ImageUrl(url, detail))
        case File():
            return _file_part(part, conversation)
        case Reasoning() | ToolUse() | ToolResult() | Refusal():
            raise _not_expressible(conversation, APART)
        case _:
            assert_never(part)


def _file_part(part: File, conversation: Conversation) -> wire.ContentPart:
    media = part.media
    kind = (media.media_type or "").lower()
    if media.data is not None and kind in _AUDIO_FORMATS:
        return wire.ContentPart("input_audio", input_audio=wire.InputAudio(media.data, _AUDIO_FORMATS[kind]))
    if kind.startswith(("audio/", "video/")):
        raise _not_expressible(conversation, "File")
    if media.file_id is not None:
        return wire.ContentPart("file", file=wire.InputFile(file_id=media.file_id, filename=part.name))
    if media.data is None:
        raise _not_expressible(conversation, "File")
    # The name is required with data.
    name = part.name or f"document.{kind.rpartition('/')[2] or 'pdf'}"
    return wire.ContentPart("file", file=wire.InputFile(file_data=url_of_media(media), filename=name))


# --- what is asked for ------------------------------------------------------------------------------------------------


def _offered(conversation: Conversation) -> list[Tool]:
    """Where the client allows only some of its tools, those alone: `allowed_tools` says it too, but only OpenAI understands it."""
    choice = conversation.tool_choice
    if choice is None or choice.mode == "none" or not choice.names or _is_forced(choice):
        return list(conversation.tools)
    return [tool for tool in conversation.tools if tool.name in choice.names]


def _is_forced(choice: ToolChoice) -> bool:
    """One tool must be called."""
    return choice.mode == "required" and len(choice.names) == 1


def _tool(tool: Tool) -> wire.Tool:
    return wire.Tool("function", wire.Function(tool.name, tool.description, tool.parameters, tool.strict))


def _tool_choice(choice: ToolChoice | None) -> str | wire.ToolChoice | None:
    if choice is None:
        return None
    return wire.ToolChoice("function", wire.FunctionName(choice.names[0])) if _is_forced(choice) else choice.mode


def _response_format(asked: JsonFormat | None) -> wire.ResponseFormat | None:
    if asked is None:
        return None
    if asked.schema is None:
        return wire.ResponseFormat("json_object")
    # The name is required.
    return wire.ResponseFormat("json_schema", wire.JsonSchema(asked.name or "answer", asked.schema, asked.strict, asked.description))


def _effort(conversation: Conversation) -> str | None:
    effort = effort_of(conversation.thinking) if conversation.thinking is not None else None
    return None if effort == "none" else effort
