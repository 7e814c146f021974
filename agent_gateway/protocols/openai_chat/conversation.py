"""A client's chat request read into a conversation.

Promise: what is asked for is either in the conversation, or listed in its `beyond`, or one of the hints that may go unheard.
"""

from __future__ import annotations

from typing import cast, get_args

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import (
    CacheFor,
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
from agent_gateway.protocols.media import media_of_url
from agent_gateway.protocols.openai_chat.client import read_request
from agent_gateway.protocols.openai_chat.reasoning import read_reasoning
from agent_gateway.wire import openai_chat as wire

#: Conversation's names of fields → chat's, where they differ.
_PATHS = {
    "turns": "messages",
    "parallel_tools": "parallel_tool_calls",
    "max_output_tokens": "max_completion_tokens",
    "format": "response_format",
    "thinking": "reasoning_effort",
}
#: The formats of `input_audio` → media types.
AUDIO_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}


def read_conversation(call: Call) -> Conversation:
    """Raises `BadRequest` whose `param` is the field's path."""
    asked = read_request(call.body)
    messages = _Messages()
    for index, message in enumerate(asked.messages):
        messages.add(message, f"messages[{index}]")
    beyond = messages.beyond + _asked_beyond(asked)
    paths = dict(_PATHS)
    if asked.max_completion_tokens is None:
        paths["max_output_tokens"] = "max_tokens"
    if asked.tools is None and asked.functions is not None:
        paths |= {"tools": "functions", "tool_choice": "function_call"}
    stop = asked.stop
    return Conversation(
        model=asked.model,
        turns=tuple(messages.turns),
        stream=bool(asked.stream),
        tools=_tools(asked, beyond),
        tool_choice=_tool_choice(asked, beyond),
        parallel_tools=asked.parallel_tool_calls,
        max_output_tokens=asked.max_completion_tokens or asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        seed=asked.seed,
        n=asked.n,
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        logprobs=asked.logprobs,
        top_logprobs=asked.top_logprobs,
        format=_format(asked.response_format),
        thinking=None if asked.reasoning_effort is None else Thinking(_effort(asked.reasoning_effort)),
        user=asked.user,
        metadata=asked.metadata and {name: value for name, value in asked.metadata.items() if isinstance(value, str)},
        beyond=tuple(beyond),
        paths=paths,
    )


# --- messages ---------------------------------------------------------------------------------------------------------


class _Messages:
    """Messages, one after the other, as turns: results of tools that follow each other are one turn of the user's."""

    __slots__ = ("_names", "beyond", "turns")

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        #: Of the fields that no other protocol can express.
        self.beyond: list[str] = []
        #: The tools that were called, by the call's id.
        self._names: dict[str, str] = {}

    def add(self, message: wire.Message, path: str) -> None:
        match message.role:
            case "system" | "developer" | "user" as role:
                if message.content is None:
                    raise BadRequest(f"{path}.content: this field is required.", param=f"{path}.content")
                self.turns.append(Turn(cast("Role", role), tuple(self._parts(message.content, path)), message.name))
            case "assistant":
                if parts := self._assistant_parts(message, path):
                    self.turns.append(Turn("assistant", tuple(parts), message.name))
            case "tool":
                if message.tool_call_id is None:
                    raise BadRequest(f"{path}.tool_call_id: this field is required.", param=f"{path}.tool_call_id")
                self._add_result(message.tool_call_id, message, path)
            case "function":
                self._add_result(self._function_call_id(message.name, path), message, path)
            case other:
                roles = ", ".join(get_args(wire.Role))
                raise BadRequest(f"{path}.role: {other!r} is not one of {roles}.", param=f"{path}.role")

    def _assistant_parts(self, message: wire.Message, path: str) -> list[Part]:
        if message.audio is not None:
            self.beyond.append(f"{path}.audio")
        before, thoughts = read_reasoning(message)
        parts: list[Part] = [*thoughts]
        if message.content:
            parts += self._parts(message.content, path, of_assistant=True)
        if message.refusal:
            parts.append(Refusal(message.refusal))
        for use in self._tool_uses(message, path):
            self._names[use.id] = use.name
            parts += [*before.get(use.id, ()), use]
        return parts

    def _tool_uses(self, message: wire.Message, path: str) -> list[ToolUse]:
        uses = []
        for index, call in enumerate(message.tool_calls or ()):
            if call.type == "function" and call.function is not None:
                uses.append(ToolUse(call.id, call.function.name, call.function.arguments))
            else:
                self.beyond.append(f"{path}.tool_calls[{index}]")
        if message.function_call is not None:
            # It has no id, and its result names the function: one is made up that the history itself fixes.
            uses.append(ToolUse(f"call_{len(self._names)}", message.function_call.name, message.function_call.arguments))
        return uses

    def _function_call_id(self, name: str | None, path: str) -> str:
        calls = [call_id for call_id, called in self._names.items() if called == name]
        if not calls:
            raise BadRequest(f"{path}.name: no function of this name has been called before.", param=f"{path}.name")
        return calls[-1]

    def _add_result(self, call_id: str, message: wire.Message, path: str) -> None:
        content = cast("tuple[Text | Image | File, ...]", tuple(self._parts(message.content or "", path)))
        result = ToolResult(call_id, content, self._names.get(call_id) or message.name)
        last = self.turns[-1] if self.turns else None
        if last is not None and last.parts and isinstance(last.parts[-1], ToolResult):
            self.turns[-1] = Turn("user", (*last.parts, result))
        else:
            self.turns.append(Turn("user", (result,)))

    def _parts(self, content: str | list[wire.ContentPart], path: str, *, of_assistant: bool = False) -> list[Part]:
        if isinstance(content, str):
            return [Text(content)]
        parts: list[Part] = []
        for index, part in enumerate(content):
            refused = of_assistant and part.type == "refusal" and part.refusal
            read = Refusal(refused) if refused else _read_part(part)
            if read is None:
                self.beyond.append(f"{path}.content[{index}]")
            else:
                parts.append(read)
        return parts


def _read_part(part: wire.ContentPart) -> Text | Image | File | None:
    """None: a kind that is not known here, or one without its content."""
    cache_for = _cache_for(part.cache_control)
    match part:
        case wire.ContentPart(type="text", text=str(text)):
            return Text(text, cache_for)
        case wire.ContentPart(type="image_url", image_url=wire.ImageUrl(url=url, detail=detail)):
            return Image(media_of_url(url), detail, cache_for)
        case wire.ContentPart(type="input_audio", input_audio=wire.InputAudio(data=data, format=kind)):
            return File(Media(data=data, media_type=AUDIO_TYPES.get(kind, f"audio/{kind}")), None, cache_for)
        case wire.ContentPart(type="file", file=wire.InputFile() as file) if file.file_data or file.file_id:
            return File(_file_media(file), file.filename, cache_for)
        case _:
            return None


def _file_media(file: wire.InputFile) -> Media:
    if not file.file_data:
        return Media(file_id=file.file_id)
    media = media_of_url(file.file_data)
    # Base64 alone, which OpenAI takes too: all that it takes as a file in chat are PDFs.
    return media if media.data is not None else Media(data=file.file_data, media_type="application/pdf")


def _cache_for(mark: wire.CacheControl | None) -> CacheFor | None:
    if mark is None or mark.type != "ephemeral":
        return None
    return "1h" if mark.ttl == "1h" else "5m"


# --- what is asked for ------------------------------------------------------------------------------------------------


def _asked_beyond(asked: wire.Request) -> list[str]:
    beyond = [name for name in ("logit_bias", "moderation") if getattr(asked, name)]
    if asked.web_search_options is not None:  # an empty object asks for a search too
        beyond.append("web_search_options")
    if asked.modalities not in (None, ["text"], []):
        beyond.append("modalities")
    return beyond


def _tools(asked: wire.Request, beyond: list[str]) -> tuple[Tool, ...]:
    tools = []
    for index, tool in enumerate(asked.tools or ()):
        if tool.type == "function" and tool.function is not None:
            tools.append(_tool(tool.function, _cache_for(tool.cache_control)))
        else:
            beyond.append(f"tools[{index}]")
    return (*tools, *[_tool(function) for function in asked.functions or ()])


def _tool(function: wire.Function, cache_for: CacheFor | None = None) -> Tool:
    return Tool(function.name, function.description, function.parameters, function.strict, cache_for)


def _tool_choice(asked: wire.Request, beyond: list[str]) -> ToolChoice | None:
    match asked.function_call if asked.tool_choice is None else asked.tool_choice:
        case None:
            return None
        case "auto" | "none" | "required" as mode:
            return ToolChoice(mode)
        case wire.FunctionName(name=name) | wire.ToolChoice(type="function", function=wire.FunctionName(name=name)):
            return ToolChoice("required", (name,))
        case wire.ToolChoice(type="allowed_tools", allowed_tools=wire.AllowedTools(mode=mode, tools=tools)):
            return ToolChoice(mode, tuple([tool.function.name for tool in tools if tool.function is not None]))
        case wire.ToolChoice():
            beyond.append("tool_choice")
            return None
        case other:
            raise BadRequest(f"tool_choice: {other!r} is not one of none, auto, required, or an object.", param="tool_choice")


def _format(asked: wire.ResponseFormat | None) -> JsonFormat | None:
    match asked:
        case wire.ResponseFormat(type="json_object"):
            return JsonFormat()
        case wire.ResponseFormat(type="json_schema", json_schema=wire.JsonSchema() as asked_schema):
            return JsonFormat(asked_schema.schema, asked_schema.name, asked_schema.description, asked_schema.strict)
        case wire.ResponseFormat(type="json_schema"):
            raise BadRequest("response_format.json_schema: this field is required.", param="response_format.json_schema")
        case None | wire.ResponseFormat(type="text"):
            return None
        case _:
            message = f"response_format.type: {asked.type!r} is not one of text, json_object, json_schema."
            raise BadRequest(message, param="response_format.type")


def _effort(said: str) -> Effort:
    if said == "max":
        return "xhigh"
    if said not in get_args(Effort):
        words = ", ".join(get_args(Effort))
        raise BadRequest(f"reasoning_effort: {said!r} is not one of {words}, max.", param="reasoning_effort")
    return cast("Effort", said)
