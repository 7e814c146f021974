"""From a conversation to what the simulated model goes by: what is asked, which tools are to be called, how long to think."""

from __future__ import annotations

from typing import Any

import msgspec

from agent_gateway.core.call import Dialect
from agent_gateway.core.conversation import (
    Conversation,
    File,
    Image,
    JsonFormat,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from agent_gateway.core.errors import BadRequest
from agent_gateway.protocols.effort import budget_of
from agent_gateway.simulator.manners import manners_of
from agent_gateway.simulator.rules import thinks
from agent_gateway.simulator.script import Prompt, Schema, Tool
from agent_gateway.simulator.tokens import estimated_tokens

#: Tokens that frame each message, and each prompt (https://github.com/openai/openai-cookbook, "How to count tokens").
_MESSAGE_TOKENS = 3
_PROMPT_TOKENS = 3
#: What an image or a file costs, as a small image does.
_MEDIUM_TOKENS = 85
#: Where the client sets no bound on thoughts.
_THOUGHT_TOKENS_MAX = 1024
#: Of a tool's result, so much is told again (characters).
_RESULT_REACH = 400

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
#: What JSON mode answers with, nobody having said which members are wanted.
_ANY_OBJECT: Schema = {
    "type": "object",
    "properties": {
        "answer": {"type": "string", "minLength": 20},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["answer", "confidence", "tags"],
}


def read_prompt(conversation: Conversation, dialect: Dialect) -> Prompt:
    """Raises `BadRequest` where a tool is to be called that there is not."""
    turns = conversation.turns
    begun = _begun(turns)
    said = turns[:-1] if begun else turns
    asked_at = _asked_at(said)
    question = _question_of(said[asked_at]) if said else ""
    results = [part for turn in _after_assistant(said) for part in turn.parts if isinstance(part, ToolResult)]
    thinking = conversation.thinking
    return Prompt(
        dialect=dialect,
        model=conversation.model,
        question=question,
        conversation="\x00".join([f"{turn.role}:{_text_of(turn)}" for turn in said]),
        input_tokens=_input_tokens(conversation),
        max_tokens=conversation.max_output_tokens,
        stop=conversation.stop,
        choices=conversation.n or 1,
        seed=conversation.seed,
        tools=() if begun else tuple(_tools_to_call(conversation, dialect, said[asked_at:], question, answered=bool(results))),
        parallel=conversation.parallel_tools is not False,
        schema=_schema(conversation.format),
        schema_param=conversation.path("format"),
        noticed=_noticed(said, asked_at, results),
        begun=begun,
        thought_tokens_max=_thought_tokens_max(conversation),
        shows_thoughts=thinking is None or thinking.shown,
    )


def _begun(turns: tuple[Turn, ...]) -> str:
    """What the assistant has said already of the answer that is asked for."""
    if not turns or turns[-1].role != "assistant" or any(isinstance(part, ToolUse) for part in turns[-1].parts):
        return ""
    return _text_of(turns[-1])


def _asked_at(turns: tuple[Turn, ...]) -> int:
    """The last turn in which the user said something; where there is none, the last of all."""
    for index in range(len(turns) - 1, -1, -1):
        if turns[index].role == "user" and any(not isinstance(part, ToolResult) for part in turns[index].parts):
            return index
    return max(0, len(turns) - 1)


def _after_assistant(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """What has come since the assistant last spoke."""
    spoke = [index for index, turn in enumerate(turns) if turn.role == "assistant"]
    return turns[spoke[-1] + 1 :] if spoke else turns


# --- what there is to read --------------------------------------------------------------------------------------------


def _text_of(turn: Turn) -> str:
    """All that is said; no thoughts, and no ids."""
    return "".join([_words(part) for part in turn.parts])


def _question_of(turn: Turn) -> str:
    """Results of tools are part of a question only where there is nothing else."""
    asked = [part for part in turn.parts if not isinstance(part, ToolResult)]
    return "".join([_words(part) for part in asked or turn.parts])


def _words(part: Part) -> str:
    match part:
        case Text(text=text) | Refusal(text=text):
            return text
        case ToolUse(name=name, arguments=arguments):
            return name + arguments
        case ToolResult(content=content):
            return "".join([_words(inner) for inner in content])
        case Image() | File():
            return f"[{part.media.media_type or type(part).__name__.lower()}]"
        case Reasoning():
            return ""


def _noticed(turns: tuple[Turn, ...], asked_at: int, results: list[ToolResult]) -> str:
    names = {part.id: part.name for turn in turns for part in turn.parts if isinstance(part, ToolUse)}
    parts = [part for turn in turns[asked_at:] for part in turn.parts]
    parts += [inner for result in results for inner in result.content]
    sentences = _counted("I see", "image", [part for part in parts if isinstance(part, Image)])
    sentences += _counted("I read", "file", [part for part in parts if isinstance(part, File)])
    for result in results:
        text = "".join([part.text for part in result.content if isinstance(part, Text)])[:_RESULT_REACH]
        name = result.name or names.get(result.call_id, "The tool")
        sentences.append(f"{name} {'failed' if result.is_error else 'says'}: {text}.")
    return " ".join(sentences)


def _counted(opening: str, noun: str, media: list[Image] | list[File]) -> list[str]:
    kinds = dict.fromkeys(part.media.media_type or ("by its URL" if part.media.url else "by its id") for part in media)
    return [f"{opening} {len(media)} {noun}{'s' if len(media) > 1 else ''} ({', '.join(kinds)})."] if media else []


def _input_tokens(conversation: Conversation) -> int:
    tokens = _PROMPT_TOKENS
    for turn in conversation.turns:
        tokens += _MESSAGE_TOKENS + estimated_tokens(sum([len(_words(part)) for part in turn.parts]))
        tokens += sum([_media_tokens(part) for part in turn.parts])
    if conversation.tools:
        tokens += estimated_tokens(len(msgspec.json.encode(conversation.tools)))
    return tokens


def _media_tokens(part: Part) -> int:
    if isinstance(part, ToolResult):
        return sum([_media_tokens(inner) for inner in part.content])
    return _MEDIUM_TOKENS if isinstance(part, Image | File) else 0


# --- what there is to do ----------------------------------------------------------------------------------------------


def _tools_to_call(
    conversation: Conversation, dialect: Dialect, turns: tuple[Turn, ...], question: str, *, answered: bool
) -> list[Tool]:
    """The tools of which some are to be called now.

    Results are answered in words, unless a tool is forced or the question names one more. Those not called since the question
    come first, so that no loop goes on for ever.
    """
    choice = conversation.tool_choice or ToolChoice("auto")
    if not conversation.tools or choice.mode == "none":
        return []
    path = manners_of(dialect).tool_schema_path
    tools = {
        # Arguments are an object, whatever else the schema says of them.
        tool.name: Tool(tool.name, {"type": "object"} | (tool.parameters or _NO_PARAMETERS), path.format(index=index))
        for index, tool in enumerate(conversation.tools)
    }
    if unknown := [name for name in choice.names if name not in tools]:
        param = conversation.path("tool_choice")
        raise BadRequest(f"'{param}' names {unknown[0]!r}, which is not one of 'tools'.", param=param)
    allowed = [tools[name] for name in choice.names] or list(tools.values())
    if not answered:
        return allowed
    called = {part.name for turn in turns for part in turn.parts if isinstance(part, ToolUse)}
    left = [tool for tool in allowed if tool.name not in called]
    if choice.mode == "required":
        return left or allowed
    return [tool for tool in left if tool.name in question]


def _thought_tokens_max(conversation: Conversation) -> int:
    if conversation.thinking is None or not thinks(conversation):
        return 0
    budget = budget_of(conversation.thinking)
    return _THOUGHT_TOKENS_MAX if budget is None or budget < 0 else budget


def _schema(wanted: JsonFormat | None) -> Schema | None:
    if wanted is None:
        return None
    return _ANY_OBJECT if wanted.schema is None else wanted.schema
