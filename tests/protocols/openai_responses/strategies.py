"""What this protocol can express, made up by hypothesis, and what of it is kept: the equivalences that the tests state."""

from __future__ import annotations

import mimetypes
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Raw, structs

from agent_gateway.core.call import Dialect
from agent_gateway.core.conversation import (
    Conversation,
    File,
    Image,
    Media,
    Part,
    Reasoning,
    Refusal,
    Thinking,
    ToolResult,
    Turn,
)
from agent_gateway.core.delta import (
    ArgumentsDelta,
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.effort import effort_of
from agent_gateway.protocols.fold import Answer, AnswerPart
from agent_gateway.protocols.openai_responses.provider_request import FORMAT_NAME
from agent_gateway.protocols.openai_responses.reasoning import DIALECT, read_item, write_item
from agent_gateway.wire import openai_responses as wire
from tests.protocols.conversations import PLAIN_FIELDS, Expressible, conversations, settled, some_base64, some_name, some_text

FOREIGN: tuple[Dialect, ...] = ("openai_chat", "anthropic", "gemini")


# --- conversations ----------------------------------------------------------------------------------------------------

CAN = Expressible(
    fields=PLAIN_FIELDS - {"top_k", "stop", "seed", "n", "presence_penalty", "frequency_penalty"},
    instruction_roles=("system", "developer"),
    instructions_anywhere=True,
    image_sources=("url", "data", "file_id"),
    details=("low", "high", "auto"),
    file_sources=("url", "data", "file_id"),
    file_types=("application/pdf", "text/plain"),
    file_names=True,
    reasoning_origin=DIALECT,
    refusals=True,
    result_images=True,
    strict=True,
    chosen_tools="many",
    parallel_tools=True,
    json_object=True,
    json_schema=True,
    schema_facts=True,
    efforts=("none", "minimal", "low", "medium", "high", "xhigh"),
    budgets=(-1, 0, 512, 9_000, 99_000),
)
expressible = conversations(CAN)
native_items = st.builds(
    wire.ReasoningItem,
    summary=st.lists(st.builds(wire.ReasoningText, st.just("summary_text"), st.text(max_size=12)), max_size=3),
    id=some_name.map("rs_{}".format),
    content=st.none() | st.lists(st.builds(wire.ReasoningText, st.just("reasoning_text"), some_text), min_size=1, max_size=2),
    encrypted_content=st.none() | some_base64,
)


def kept(conversation: Conversation) -> Conversation:
    """Beyond `settled`: what the protocol has a default for is that, a tool's result forgets its tool's name, which the call
    tells, and a thought is what a client of this protocol gives back of it.
    """
    told = conversation.format
    return settled(
        structs.replace(
            conversation,
            turns=tuple(Turn(turn.role, tuple(map(_kept_part, turn.parts))) for turn in conversation.turns),
            tools=tuple(structs.replace(tool, strict=bool(tool.strict)) for tool in conversation.tools),
            logprobs=conversation.logprobs or None,
            format=structs.replace(told, name=told.name or FORMAT_NAME) if told is not None and told.schema is not None else told,
            thinking=_kept_thinking(conversation.thinking),
        )
    )


def _kept_thinking(thinking: Thinking | None) -> Thinking | None:
    if thinking is None:
        return None
    effort = effort_of(thinking)
    return Thinking(effort, shown=thinking.shown and effort != "none")


def _kept_part(part: Part) -> Part:
    match part:
        case Image():
            return structs.replace(part, detail=part.detail or "auto")
        case File(name=None, media=Media(data=str(), media_type=str(media_type))):
            return structs.replace(part, name=f"file{mimetypes.guess_extension(media_type)}")
        case ToolResult():
            content = tuple(map(_kept_part, part.content))
            return structs.replace(part, content=content, name=None)
        case Reasoning():
            return returned(part)
        case _:
            return part


def returned(thought: Reasoning) -> Reasoning:
    """As a client of this protocol gives it back."""
    item = msgspec.json.encode(write_item(thought, "rs_ours"))
    return read_item(msgspec.json.decode(item, type=wire.ReasoningItem))


# --- answers ----------------------------------------------------------------------------------------------------------

_tokens = st.builds(
    wire.Logprob,
    some_text,
    st.sampled_from([-0.5, -2.0]),
    st.none() | st.lists(st.integers(0, 255), max_size=2),
    st.lists(st.builds(wire.TopLogprob, some_text, st.just(-1.5), st.none()), max_size=1),
)
_raw_tokens = st.lists(_tokens, min_size=1, max_size=2).map(lambda tokens: Raw(msgspec.json.encode(tokens)))
_pieces = st.lists(some_text, min_size=1, max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> list[Delta]:
    """All the deltas of one answer, of a model of another protocol."""
    deltas: list[Delta] = [Started("theirs", "their-model", 1)]
    calls = 0
    for kind in draw(st.lists(st.sampled_from(["text", "thought", "refusal", "calls"]), max_size=5)):
        match kind:
            case "text":
                deltas += [TextDelta(piece, logprobs=draw(st.none() | _raw_tokens)) for piece in draw(_pieces)]
            case "refusal":
                deltas += [RefusalDelta(piece) for piece in draw(_pieces)]
            case "thought":
                deltas += draw(_thoughts())
            case "calls":
                begun = range(calls, calls := calls + draw(st.integers(1, 2)))
                deltas += [ToolCallStarted(index, f"call_{index}", draw(some_name)) for index in begun]
                deltas += [ArgumentsDelta(index, piece) for index in draw(st.permutations(begun)) for piece in draw(_pieces)]
    used = Used(Usage(input=draw(st.integers(0, 9)), output=9, cache_read=draw(st.integers(0, 9)), cache_write=1, reasoning=2))
    reason: FinishReason = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter", "refusal"]))
    return [*deltas, used, Finished(reason)]


@st.composite
def _thoughts(draw: st.DrawFn) -> list[Delta]:
    origin = draw(st.sampled_from(FOREIGN))
    if draw(st.booleans()):
        return [ReasoningDelta(redacted=draw(some_base64), origin=origin)]
    told: list[Delta] = [ReasoningDelta(piece, origin=draw(st.sampled_from([None, origin]))) for piece in draw(_pieces)]
    if draw(st.booleans()):
        told.append(ReasoningDelta(signature=draw(some_base64), origin=origin))
    return told


def kept_answer(answer: Answer) -> tuple[list[AnswerPart], FinishReason | None, list[Any], Usage | None]:
    """What is the same on the other side: thoughts as the client gives them back, the reason as far as the protocol tells it."""
    choice = answer.choices[0]
    refuses = any(isinstance(part, Refusal) for part in choice.parts)
    reason = choice.finish_reason
    if reason == "refusal" and not refuses:
        reason = "content_filter"
    elif reason not in ("length", "content_filter"):
        reason = "tool_calls" if choice.tool_uses else "refusal" if refuses else "stop"
    parts = [returned(part) if isinstance(part, Reasoning) and part.origin == DIALECT else part for part in choice.parts]
    return parts, reason, [_bytes_told(raw) for raw in choice.logprobs or ()], answer.usage


def _bytes_told(raw: Raw) -> Any:
    token = msgspec.json.decode(raw)
    for told in (token, *token["top_logprobs"]):
        told["bytes"] = told["bytes"] or []
    return token
