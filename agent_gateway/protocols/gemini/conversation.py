"""A Gemini request read into the gateway's vocabulary.

Promise: what has no word there is named in `beyond`, never lost in silence; what is wrong is refused by the field's path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import (
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
from agent_gateway.protocols.gemini.parts import read_thought
from agent_gateway.protocols.gemini.schema import json_schema
from agent_gateway.protocols.gemini.spelling import camel_body
from agent_gateway.wire import gemini as wire

#: Where the fields of a conversation stand in a request.
PATHS = {
    "turns": "contents",
    "tool_choice": "toolConfig.functionCallingConfig",
    "max_output_tokens": "generationConfig.maxOutputTokens",
    "temperature": "generationConfig.temperature",
    "top_p": "generationConfig.topP",
    "top_k": "generationConfig.topK",
    "stop": "generationConfig.stopSequences",
    "seed": "generationConfig.seed",
    "n": "generationConfig.candidateCount",
    "presence_penalty": "generationConfig.presencePenalty",
    "frequency_penalty": "generationConfig.frequencyPenalty",
    "logprobs": "generationConfig.responseLogprobs",
    "top_logprobs": "generationConfig.logprobs",
    "format": "generationConfig.responseSchema",
    "thinking": "generationConfig.thinkingConfig",
}
_MODES: dict[str, ToolMode] = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}
_EFFORTS: dict[str, Effort] = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high", "XHIGH": "xhigh"}
#: Files that only Google can open: of its Files API, of its cloud storage, and films on YouTube.
_GOOGLES_OWN = (
    "https://generativelanguage.googleapis.com/",
    "gs://",
    "https://www.youtube.com/",
    "https://youtube.com/",
    "https://youtu.be/",
)


#: For files whose type the client leaves to Google to find out.
_IMAGE_URL = re.compile(r"\.(?:avif|bmp|gif|heic|heif|jpe?g|png|webp)(?:[?#]|$)", re.IGNORECASE)


class _ToolKinds(Struct):
    tools: list[dict[str, Raw]] | None = None


_request = msgspec.json.Decoder(wire.Request)
_tool_kinds = msgspec.json.Decoder(_ToolKinds)
_members = msgspec.json.Decoder(dict[str, Raw])
_string = msgspec.json.Decoder(str)


def read(call: Call) -> Conversation:
    """Raises `BadRequest`."""
    body = camel_body(call.body)
    request = decode(_request, body)
    config = request.generation_config or wire.GenerationConfig()
    reading = _Turns()
    turns = tuple(reading.read(request))
    return Conversation(
        model=call.model,
        turns=turns,
        stream=call.stream,
        tools=tuple(_tools(request)),
        tool_choice=_tool_choice(request),
        max_output_tokens=config.max_output_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=None if config.top_k is None else int(config.top_k),
        stop=tuple(config.stop_sequences or ()),
        seed=config.seed,
        n=config.candidate_count,
        presence_penalty=config.presence_penalty,
        frequency_penalty=config.frequency_penalty,
        logprobs=config.response_logprobs,
        top_logprobs=config.logprobs,
        format=_format(config),
        thinking=_thinking(config.thinking_config),
        beyond=(*_services(request, config), *_tools_of_google(body), *reading.beyond),
        paths=PATHS,
    )


# --- turns ------------------------------------------------------------------------------------------------------------


class _Turns:
    """Contents read in turn: tools' results are paired with the calls before them."""

    def __init__(self) -> None:
        self.beyond: list[str] = []
        self._calls = 0
        #: Calls that have had no result yet.
        self._open_calls: list[ToolUse] = []

    def read(self, request: wire.Request) -> Iterator[Turn]:
        if request.system_instruction is not None:
            yield Turn("system", self._parts(request.system_instruction, "systemInstruction"))
        contents = request.contents if isinstance(request.contents, list) else [request.contents]
        for index, content in enumerate(contents):
            path = f"contents[{index}]"
            parts = self._parts(content, path)
            match content.role:
                case None | "" | "user" | "function":
                    yield Turn("user", parts)
                case "model":
                    yield Turn("assistant", parts)
                case role:
                    raise BadRequest(f"{path}.role: expected user or model, got {role!r}.", param=f"{path}.role")

    def _parts(self, content: wire.Content, path: str) -> tuple[Part, ...]:
        told = content.parts if isinstance(content.parts, list) else [content.parts] if content.parts else []
        parts: list[Part] = []
        for index, part in enumerate(told):
            if part.thought or part.thought_signature:
                _add_thought(parts, part)
            if not part.thought:
                read = self._part(part, f"{path}.parts[{index}]")
                parts += [read] if read is not None else []
        return tuple(parts)

    def _part(self, part: wire.Part, path: str) -> Part | None:
        if part.video_metadata is not None:
            self.beyond.append(f"{path}.videoMetadata")
        if part.text is not None:
            # An empty text is there for the signature that hangs on it.
            return None if part.text == "" and part.thought_signature else Text(part.text)
        if part.inline_data is not None:
            return _media_part(Media(data=part.inline_data.data, media_type=part.inline_data.mime_type))
        if part.file_data is not None:
            return self._file(part.file_data, f"{path}.fileData")
        if part.function_call is not None:
            return self._call(part.function_call)
        if part.function_response is not None:
            return self._result(part.function_response, f"{path}.functionResponse")
        if part.thought_signature is None:
            self.beyond.append(path)
        return None

    def _file(self, file: wire.FileData, path: str) -> Image | File | None:
        if file.file_uri.startswith(_GOOGLES_OWN):
            self.beyond.append(path)
            return None
        return _media_part(Media(url=file.file_uri, media_type=file.mime_type))

    def _call(self, told: wire.FunctionCall) -> ToolUse:
        """A call without an id is known by its place among all, which stays the same while the history grows."""
        arguments = "{}" if told.args == wire.NULL else bytes(told.args).decode()
        use = ToolUse(told.id or f"call_{self._calls}", told.name, arguments)
        self._calls += 1
        self._open_calls.append(use)
        return use

    def _result(self, told: wire.FunctionResponse, path: str) -> ToolResult:
        content, is_error = _result_text(told.response)
        parts: list[Text | Image | File] = [Text(content)] if content or not told.parts else []
        for index, part in enumerate(told.parts or ()):
            media = self._result_media(part, f"{path}.parts[{index}]")
            parts += [media] if media is not None else []
        return ToolResult(self._answered(told, path), tuple(parts), told.name, is_error)

    def _result_media(self, part: wire.MediaPart, path: str) -> Image | File | None:
        if part.inline_data is not None:
            return _media_part(Media(data=part.inline_data.data, media_type=part.inline_data.mime_type))
        if part.file_data is not None:
            return self._file(part.file_data, f"{path}.fileData")
        self.beyond.append(path)
        return None

    def _answered(self, told: wire.FunctionResponse, path: str) -> str:
        """The id of the call that a result is for: the one it names, or the first one of its function that has none yet."""
        by_id = (use for use in self._open_calls if told.id and use.id == told.id)
        by_name = (use for use in self._open_calls if use.name == told.name)
        use = next(by_id, None) or next(by_name, None)
        if use is not None:
            self._open_calls.remove(use)
        elif not told.id:
            said = f"{path}.name: no functionCall of {told.name!r} before it waits for a response."
            raise BadRequest(said, param=f"{path}.name")
        return use.id if use is not None else told.id or ""


def _add_thought(parts: list[Part], part: wire.Part) -> None:
    """Pieces of a thought follow each other, and the signature on what comes after them is theirs."""
    text = part.text or "" if part.thought else ""
    thought = read_thought(text, part.thought_signature) if part.thought_signature else Reasoning(text, origin="gemini")
    last = parts[-1] if parts else None
    if isinstance(last, Reasoning) and not (last.signature or last.redacted):
        parts.pop()
        thought = Reasoning(last.text + thought.text, thought.signature, thought.redacted, thought.origin, thought.id)
    parts.append(thought)


def _media_part(media: Media) -> Image | File:
    if media.media_type is None:
        return Image(media) if _IMAGE_URL.search(media.url or "") else File(media)
    return Image(media) if media.media_type.startswith("image/") else File(media)


def _result_text(response: Raw) -> tuple[str, bool]:
    """What a function said, and whether it failed: `output` and `error` are the protocol's words for it, where they stand alone."""
    if response == wire.NULL:
        return "", False
    try:
        members = _members.decode(response)
    except msgspec.MsgspecError:
        members = {}
    if len(members) == 1 and (name := next(iter(members))) in ("output", "error"):
        try:
            return _string.decode(members[name]), name == "error"
        except msgspec.MsgspecError:
            return bytes(members[name]).decode(), name == "error"
    return bytes(response).decode(), False


# --- tools and the rest -----------------------------------------------------------------------------------------------


def _tools(request: wire.Request) -> Iterator[Tool]:
    for tool in request.tools or ():
        for function in tool.function_declarations or ():
            schema = function.parameters_json_schema
            if schema is None and function.parameters is not None:
                schema = json_schema(function.parameters)
            yield Tool(function.name, function.description, schema)


def _tools_of_google(body: bytes) -> Iterator[str]:
    for index, tool in enumerate(_tool_kinds.decode(body).tools or ()):
        yield from (f"tools[{index}].{name}" for name in tool if name != "functionDeclarations")


def _tool_choice(request: wire.Request) -> ToolChoice | None:
    calling = request.tool_config.function_calling_config if request.tool_config else None
    if calling is None or calling.mode in (None, "MODE_UNSPECIFIED"):
        return None
    mode = _MODES.get(calling.mode or "")
    if mode is None:
        path = "toolConfig.functionCallingConfig.mode"
        raise BadRequest(f"{path}: expected AUTO, ANY, NONE or VALIDATED, got {calling.mode!r}.", param=path)
    return ToolChoice(mode, tuple(calling.allowed_function_names or ()))


def _format(config: wire.GenerationConfig) -> JsonFormat | None:
    if config.response_json_schema is not None:
        return JsonFormat(config.response_json_schema)
    if config.response_schema is not None:
        return JsonFormat(json_schema(config.response_schema))
    return JsonFormat() if config.response_mime_type == "application/json" else None


def _thinking(config: wire.ThinkingConfig | None) -> Thinking | None:
    """A level that is none of those known is the model's default."""
    if config is None:
        return None
    shown = bool(config.include_thoughts) or config.thinking_budget == 0  # there is nothing to show
    return Thinking(_EFFORTS.get(config.thinking_level or ""), config.thinking_budget, shown)


def _services(request: wire.Request, config: wire.GenerationConfig) -> Iterator[str]:
    """What Gemini does for a request that no other protocol does."""
    if request.cached_content:
        yield "cachedContent"
    if request.continuation_token is not None:
        yield "continuationToken"
    if any(modality != "TEXT" for modality in config.response_modalities or ()):
        yield "generationConfig.responseModalities"
    if config.response_mime_type not in (None, "", "text/plain", "application/json"):
        yield "generationConfig.responseMimeType"
    for name, value in (
        ("speechConfig", config.speech_config),
        ("imageConfig", config.image_config),
        ("audioTranscriptionConfig", config.audio_transcription_config),
    ):
        if value is not None:
            yield f"generationConfig.{name}"
