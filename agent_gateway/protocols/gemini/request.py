"""The gateway's vocabulary written as a Gemini request.

Promise: what Gemini cannot say is refused by the client's own name for it, or is in `DROPPED`.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

from agent_gateway.core.conversation import (
    Conversation,
    File,
    Image,
    Media,
    Reasoning,
    Text,
    ToolResult,
    ToolUse,
    Turn,
)
from agent_gateway.core.errors import NotExpressible
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.effort import budget_of
from agent_gateway.protocols.gemini.parameters import with_parameters
from agent_gateway.protocols.gemini.parts import NOT_SIGNED, PartWriter
from agent_gateway.wire import gemini as wire

DROPPED = {
    "user": "Gemini asks for no user; it is kept in the gateway's records.",
    "metadata": "Gemini keeps none; it is kept in the gateway's records.",
    "cache_for": "Gemini caches prompts by itself.",
    "Image.detail": "Gemini chooses an image's resolution itself; detail is a hint.",
    "File.name": "Gemini's API takes no names of files.",
    "Turn.name": "Gemini knows no participants' names.",
    "Tool.strict": "Gemini takes every declaration the same way.",
    "JsonFormat.name": "Gemini's schemas have no name.",
    "JsonFormat.description": "Gemini's schemas have no description beside their own.",
    "JsonFormat.strict": "Gemini always keeps to the schema.",
    "Reasoning of another origin": "A signature means something only to the provider that made it.",
}
REFUSED = {
    "beyond": "It belongs to another provider alone.",
    "parallel_tools": "Gemini cannot be kept from calling several tools at once.",
    "Media.file_id": "The id of a file is known only to the provider that holds the file.",
    "Media without media_type": "Gemini takes inline data only with its media type.",
    "Image or File in instructions": "Gemini's instructions are text.",
    "ToolUse.arguments that are no JSON object": "A function's arguments are an object in Gemini.",
    "ToolResult of an unknown call": "Gemini wants a result's function by name, and no call before it says which.",
    "A model's words in a user's turn, a tool's result in a model's": "Gemini's roles keep them apart.",
}

_json = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, Raw])
_turns = msgspec.json.Decoder(list[Raw])

_MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE"}
#: Words for Gemini 3 and later. Source: Google, "OpenAI compatibility" of the Gemini API.
_LEVELS = {"minimal": "LOW", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH"}
#: By what stands in a model's name: the least and the most that it may think, in tokens, and whether it may be told not to think.
#: Source: Google, "Gemini thinking", thinking budgets.
_BUDGETS = {
    "gemini-2.5-pro": (128, 32_768, False),
    "gemini-2.5-flash-lite": (512, 24_576, True),
    "gemini-2.5-flash": (1, 24_576, True),
}
_GENERATION = re.compile(r"gemini-(\d+)")


def write(conversation: Conversation, deployment: Deployment) -> bytes:
    """Raises `NotExpressible`."""
    for path in conversation.beyond:
        raise NotExpressible(f"{path}: only the provider that this belongs to knows it.", param=path)
    if conversation.parallel_tools is False and conversation.tools:
        raise _refused(conversation, "parallel_tools", "Gemini cannot be kept from calling several tools at once")
    body = _json.encode(
        wire.Request(
            contents=_Contents(conversation, deployment.model).write(),
            system_instruction=_instruction(conversation),
            tools=_tools(conversation),
            tool_config=_tool_config(conversation),
            generation_config=_generation_config(conversation, deployment),
        )
    )
    return _json.encode(with_parameters(_members.decode(body), deployment)) if deployment.default or deployment.override else body


def is_modern(model: str) -> bool:
    """Gemini 3 and later: it thinks by level, and wants the calls of tools signed."""
    return _generation_of(model, unknown=0) >= 3


def _generation_of(model: str, *, unknown: int) -> int:
    generation = _GENERATION.search(model)
    return unknown if generation is None else int(generation[1])


def _refused(conversation: Conversation, field: str, said: str) -> NotExpressible:
    path = conversation.path(field)
    return NotExpressible(f"{path}: {said}.", param=path)


# --- turns ------------------------------------------------------------------------------------------------------------


def _instruction(conversation: Conversation) -> wire.Content | None:
    """Gemini has one place for instructions, before all turns."""
    parts = []
    for turn in conversation.turns:
        if turn.role in ("system", "developer"):
            for part in turn.parts:
                if not isinstance(part, Text):
                    raise _refused(conversation, "turns", "Gemini's instructions are text")
                parts.append(wire.Part(text=part.text))
    return wire.Content(parts) if parts else None


class _Contents:
    """Turns written one after the other; those of one role in a row become one, as Gemini wants the results of one round together."""

    def __init__(self, conversation: Conversation, model: str) -> None:
        self._conversation = conversation
        self._signs_calls = is_modern(model)
        #: Source: Google, "Function calling" of the Gemini API, multimodal function responses: since Gemini 3.
        self._puts_media_in_results = _generation_of(model, unknown=3) >= 3
        #: Names of the functions called, by the call's id.
        self._names: dict[str, str] = {}

    def write(self) -> list[wire.Content]:
        contents: list[wire.Content] = []
        role, parts = "", list[wire.Part]()
        for turn in self._conversation.turns:
            if turn.role in ("system", "developer"):
                continue
            written = self._model_parts(turn) if turn.role == "assistant" else self._user_parts(turn)
            turn_role = "model" if turn.role == "assistant" else "user"
            if turn_role == role:
                parts += written
            elif written:
                role, parts = turn_role, written
                contents.append(wire.Content(parts, role))
        return contents

    def _model_parts(self, turn: Turn) -> list[wire.Part]:
        writer = PartWriter()
        parts: list[wire.Part] = []
        for part in turn.parts:
            match part:
                case Image() | File():
                    parts.append(self._media(part.media))
                case Reasoning() if part.origin != "gemini":
                    pass
                case ToolResult():
                    raise _refused(self._conversation, "turns", "a tool's result stands in the user's turn")
                case _:
                    if isinstance(part, ToolUse):
                        self._names[part.id] = part.name
                    parts += writer.write(part)
        if writer.malformed is not None:
            said = f"the arguments of the call of {writer.malformed.name!r} are no JSON object, which Gemini's have to be"
            raise _refused(self._conversation, "turns", said)
        parts += writer.end()
        first_call = next((part for part in parts if part.function_call), None)
        if self._signs_calls and first_call is not None and first_call.thought_signature is None:
            first_call.thought_signature = NOT_SIGNED
        return parts

    def _user_parts(self, turn: Turn) -> list[wire.Part]:
        parts = []
        for part in turn.parts:
            match part:
                case Text(text=text):
                    parts.append(wire.Part(text=text))
                case Image() | File():
                    parts.append(self._media(part.media))
                case ToolResult():
                    parts += self._result(part)
                case _:
                    raise _refused(self._conversation, "turns", "a user's turn holds no words of the model's")
        return parts

    def _media(self, media: Media) -> wire.Part:
        if media.url is not None:
            return wire.Part(file_data=wire.FileData(media.url, media.media_type))
        if media.data is None:
            raise _refused(self._conversation, "turns", "the id of a file is known only to the provider that holds the file")
        if media.media_type is None:
            raise _refused(self._conversation, "turns", "Gemini takes inline data only with its media type")
        return wire.Part(inline_data=wire.Blob(media.media_type, media.data))

    def _result(self, result: ToolResult) -> list[wire.Part]:
        said = "".join([part.text for part in result.content if isinstance(part, Text)])
        written = [self._media(part.media) for part in result.content if not isinstance(part, Text)]
        name = result.name or self._names.get(result.call_id)
        if name is None:
            raise _refused(self._conversation, "turns", f"no call before it has the id {result.call_id!r} of this tool's result")
        response = wire.FunctionResponse(name, _response(said, result.is_error), result.call_id)
        if written and self._puts_media_in_results:
            response.parts = [wire.MediaPart(part.inline_data, part.file_data) for part in written]
            written = []
        return [wire.Part(function_response=response), *written]


def _response(said: str, is_error: bool) -> Raw:
    """An object as it stands; anything else, and what would be taken for one of the protocol's two words, under that word."""
    try:
        members = _members.decode(said)
    except (msgspec.MsgspecError, RecursionError):
        return Raw(_json.encode({"error" if is_error else "output": said}))
    if is_error or members.keys() in ({"output"}, {"error"}):
        return Raw(_json.encode({"error" if is_error else "output": Raw(said.encode())}))
    return Raw(said.encode())


# --- tools and the rest -----------------------------------------------------------------------------------------------


def _tools(conversation: Conversation) -> list[wire.Tool] | None:
    functions = [
        wire.FunctionDeclaration(tool.name, tool.description, parameters_json_schema=tool.parameters) for tool in conversation.tools
    ]
    return [wire.Tool(functions)] if functions else None


def _tool_config(conversation: Conversation) -> wire.ToolConfig | None:
    """Only the modes that are not AUTO may name functions; VALIDATED is AUTO otherwise."""
    choice = conversation.tool_choice
    if choice is None:
        return None
    mode = "VALIDATED" if choice.mode == "auto" and choice.names else _MODES[choice.mode]
    return wire.ToolConfig(wire.FunctionCallingConfig(mode, list(choice.names) or None))


def _generation_config(conversation: Conversation, deployment: Deployment) -> wire.GenerationConfig | None:
    said = conversation
    config = wire.GenerationConfig(
        temperature=said.temperature,
        top_p=said.top_p,
        top_k=said.top_k,
        max_output_tokens=said.max_output_tokens,
        stop_sequences=list(said.stop) or None,
        candidate_count=said.n,
        seed=said.seed,
        presence_penalty=said.presence_penalty,
        frequency_penalty=said.frequency_penalty,
        response_logprobs=said.logprobs,
        logprobs=said.top_logprobs,
        response_mime_type="application/json" if said.format is not None else None,
        response_json_schema=said.format.schema if said.format is not None else None,
        thinking_config=_thinking_config(conversation, deployment.model),
    )
    return config if config != wire.GenerationConfig() else None


def _thinking_config(conversation: Conversation, model: str) -> wire.ThinkingConfig | None:
    """Tokens are taken by every model that thinks; words only by later ones, of which none can be kept from thinking."""
    thinking = conversation.thinking
    if thinking is None:
        return None
    asked = budget_of(thinking)
    level = None
    if is_modern(model):
        level = "LOW" if asked == 0 else _LEVELS.get(thinking.effort or "") if thinking.budget_tokens is None else None
    budget = None if level or asked is None else _budget(asked, model)
    # Thoughts that are not to be had may not be asked for.
    return wire.ThinkingConfig(include_thoughts=(thinking.shown and asked != 0) or None, thinking_budget=budget, thinking_level=level)


def _budget(tokens: int, model: str) -> int:
    """The nearest that the model takes; -1: as it likes."""
    least, most, may_be_none = next((bounds for name, bounds in _BUDGETS.items() if name in model), (0, tokens, True))
    if tokens < 0 or (tokens == 0 and may_be_none):
        return tokens
    return min(max(tokens, least), most)


def continued(body: bytes, text: str) -> bytes:
    """The client's request with a last turn of the model's, for it to go on from."""
    members = _members.decode(body)
    turn = Raw(_json.encode(wire.Content([wire.Part(text=text)], "model")))
    contents = members["contents"]
    turns = _turns.decode(contents) if bytes(contents).startswith(b"[") else [contents]
    return _json.encode(members | {"contents": [*turns, turn]})
