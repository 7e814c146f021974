"""Conversations and answers out of thin air, each a valid one, as far as a protocol can express them: for the tests of all codecs.

`conversations(Expressible(...))` and `answers(Expressible(...))` are hypothesis strategies; `settled` is the equivalence under which a
conversation that was written and read back keeps its meaning; `cut` splits bytes anywhere; `fold` is the production fold of deltas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import msgspec
from hypothesis import strategies as st
from msgspec import structs

from agent_gateway.core.call import Dialect
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
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolMode,
    ToolResult,
    ToolUse,
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
from agent_gateway.protocols.fold import Answer, Choice, fold

__all__ = ["Answer", "Choice", "Expressible", "answers", "conversations", "cut", "fold", "settled"]

Source = Literal["url", "data", "file_id"]

#: Every optional field of a conversation that is a plain value; the others have switches of their own.
PLAIN_FIELDS = frozenset(
    {"stream", "max_output_tokens", "temperature", "top_p", "top_k", "stop", "seed", "n", "user", "metadata"}
) | {
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
}


@dataclass(frozen=True, slots=True)
class Expressible:
    """What a protocol can say. The defaults are what all of them can."""

    #: Of `PLAIN_FIELDS`.
    fields: frozenset[str] = frozenset({"stream", "max_output_tokens", "temperature", "top_p", "stop"})
    instruction_roles: tuple[Role, ...] = ("system",)
    #: Instructions may stand between the turns too.
    instructions_anywhere: bool = False
    turn_names: bool = False
    image_sources: tuple[Source, ...] = ("url", "data")
    image_types: tuple[str, ...] = ("image/png", "image/jpeg")
    details: tuple[str, ...] = ()
    file_sources: tuple[Source, ...] = ("data",)
    file_types: tuple[str, ...] = ("application/pdf",)
    file_names: bool = False
    cache_for: tuple[CacheFor, ...] = ()
    #: None: a reasoning cannot be sent back.
    reasoning_origin: Dialect | None = None
    unsigned_reasoning: bool = False
    redacted_reasoning: bool = False
    refusals: bool = False
    #: A tool's result may hold images, and say that it is an error.
    result_images: bool = False
    result_errors: bool = False
    tools: bool = True
    strict: bool = False
    tool_modes: tuple[ToolMode, ...] = ("auto", "none", "required")
    #: How many tools a choice may name.
    chosen_tools: Literal["none", "one", "many"] = "one"
    parallel_tools: bool = False
    json_object: bool = False
    json_schema: bool = False
    #: The schema's name, description and strictness are said too.
    schema_facts: bool = False
    efforts: tuple[Effort, ...] = ()
    budgets: tuple[int, ...] = ()
    #: Of answers.
    choices_max: int = 1
    logprobs: bool = False
    finish_reasons: tuple[FinishReason, ...] = ("stop", "length", "tool_calls")
    stop_sequences: bool = False
    cache_write: bool = False
    reasoning_tokens: bool = False


# --- pieces -----------------------------------------------------------------------------------------------------------

some_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12) | st.sampled_from(
    ['two\nlines "quoted" \\ é', "你好", "data: [DONE]\n\n", "\u2028 \r\n"]
)
some_name = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
some_base64 = st.sampled_from(["aGk=", "iVBORw0KGgo=", "JVBERi0xLjQK"])
some_json = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | some_text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(some_name, inner, max_size=2),
    max_leaves=4,
)
some_arguments = st.dictionaries(some_name, some_json, max_size=3).map(lambda value: msgspec.json.encode(value).decode())


def some_schema() -> st.SearchStrategy[dict[str, Any]]:
    types = st.sampled_from(["string", "integer", "number", "boolean"]).map(lambda kind: {"type": kind})

    def schema(properties: dict[str, Any]) -> dict[str, Any]:
        return {"type": "object", "properties": properties, "required": sorted(properties), "additionalProperties": False}

    return st.dictionaries(some_name, types, min_size=1, max_size=3).map(schema)


def _perhaps(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.sampled_from(list(values)) if values else st.none()


def _only_if(possible: bool, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy if possible else st.none()


def _media(sources: tuple[Source, ...], types: tuple[str, ...], url: str) -> st.SearchStrategy[Media]:
    by_source: dict[Source, st.SearchStrategy[Media]] = {
        "url": some_name.map(lambda name: Media(url=f"https://example.com/{name}{url}")),
        "data": st.builds(Media, data=some_base64, media_type=st.sampled_from(types)),
        "file_id": some_name.map(lambda name: Media(file_id=f"file-{name}")),
    }
    return st.one_of([by_source[source] for source in sources])


# --- conversations ----------------------------------------------------------------------------------------------------


@cache
def texts(can: Expressible) -> st.SearchStrategy[Text]:
    return st.builds(Text, some_text, _perhaps(can.cache_for))


@cache
def images(can: Expressible) -> st.SearchStrategy[Image]:
    return st.builds(Image, _media(can.image_sources, can.image_types, ".png"), _perhaps(can.details), _perhaps(can.cache_for))


@cache
def files(can: Expressible) -> st.SearchStrategy[File]:
    name = _only_if(can.file_names, some_name.map(lambda name: f"{name}.pdf"))
    return st.builds(File, _media(can.file_sources, can.file_types, ".pdf"), name, _perhaps(can.cache_for))


@cache
def user_parts(can: Expressible) -> st.SearchStrategy[list[Part]]:
    kinds: list[st.SearchStrategy[Any]] = [texts(can)]
    if can.image_sources:
        kinds.append(images(can))
    if can.file_sources:
        kinds.append(files(can))
    return st.lists(st.one_of(kinds), min_size=1, max_size=3)


@cache
def reasonings(can: Expressible) -> st.SearchStrategy[Reasoning]:
    origin = can.reasoning_origin
    kinds = [st.builds(Reasoning, some_text, some_name, origin=st.just(origin))]
    if can.unsigned_reasoning:
        kinds.append(st.builds(Reasoning, some_text, origin=st.just(origin)))
    if can.redacted_reasoning:
        kinds.append(st.builds(Reasoning, redacted=some_name, origin=st.just(origin)))
    return st.one_of(kinds)


@st.composite
def _exchanges(draw: st.DrawFn, can: Expressible, tools: Sequence[Tool], taken: set[str]) -> list[Turn]:
    """A user's turn, then the assistant's; where that calls tools, their results and its next turn."""
    name = draw(_only_if(can.turn_names, some_name))
    turns = [Turn("user", tuple(draw(user_parts(can))), name)]
    for _ in range(draw(st.integers(0, 2))):
        parts: list[Part] = [draw(reasonings(can))] if can.reasoning_origin is not None and draw(st.booleans()) else []
        uses = [_use(draw, tools, taken) for _ in range(draw(st.integers(0, 2)))] if tools else []
        if can.refusals and not uses and draw(st.booleans()):
            parts.append(Refusal(draw(some_text)))
        elif not uses or draw(st.booleans()):
            parts.append(draw(texts(can)))
        turns.append(Turn("assistant", (*parts, *uses)))
        results = [draw(_results(can, use)) for use in uses]
        more = draw(user_parts(can)) if not results or draw(st.booleans()) else []
        turns.append(Turn("user", (*results, *more)))
    return turns


def _use(draw: st.DrawFn, tools: Sequence[Tool], taken: set[str]) -> ToolUse:
    call_id = "call_" + draw(some_name.filter(lambda name: f"call_{name}" not in taken))
    taken.add(call_id)
    return ToolUse(call_id, draw(st.sampled_from(tools)).name, draw(some_arguments))


def _results(can: Expressible, use: ToolUse) -> st.SearchStrategy[ToolResult]:
    kinds: list[st.SearchStrategy[Any]] = [some_text.map(Text)]
    if can.result_images:
        kinds.append(images(_without_marks(can)))
    content = st.lists(st.one_of(kinds), min_size=1, max_size=2).map(tuple)
    is_error = st.booleans() if can.result_errors else st.just(False)
    return st.builds(ToolResult, st.just(use.id), content, st.just(use.name), is_error, _perhaps(can.cache_for))


def _without_marks(can: Expressible) -> Expressible:
    """A tool's result is marked for the cache whole."""
    return replace(can, cache_for=())


@cache
def tools(can: Expressible) -> st.SearchStrategy[list[Tool]]:
    strict = _only_if(can.strict, st.booleans())
    tool = st.builds(Tool, some_name, st.none() | some_text, some_schema(), strict, _perhaps(can.cache_for))
    return st.lists(tool, max_size=3, unique_by=lambda tool: tool.name) if can.tools else st.just([])


def _tool_choice(can: Expressible, tools: Sequence[Tool]) -> st.SearchStrategy[ToolChoice | None]:
    if not tools:
        return st.none()
    kinds: list[st.SearchStrategy[Any]] = [st.none(), st.sampled_from(can.tool_modes).map(ToolChoice)]
    names = [tool.name for tool in tools]
    if can.chosen_tools != "none":
        kinds.append(st.sampled_from(names).map(lambda name: ToolChoice("required", (name,))))
    if can.chosen_tools == "many" and len(names) > 1:
        some = st.lists(st.sampled_from(names), min_size=2, unique=True).map(tuple)
        kinds.append(st.builds(ToolChoice, st.sampled_from(["auto", "required"]), some))
    return st.one_of(kinds)


@cache
def _format(can: Expressible) -> st.SearchStrategy[JsonFormat | None]:
    kinds: list[st.SearchStrategy[Any]] = [st.none()]
    if can.json_object:
        kinds.append(st.just(JsonFormat()))
    if can.json_schema:
        facts = [some_name, st.none() | some_text, st.none() | st.booleans()] if can.schema_facts else []
        kinds.append(st.builds(JsonFormat, some_schema(), *facts))
    return st.one_of(kinds)


@cache
def _plain_fields(can: Expressible) -> st.SearchStrategy[dict[str, Any]]:
    share = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    values: dict[str, st.SearchStrategy[Any]] = {
        "stream": st.booleans(),
        "max_output_tokens": st.integers(1, 10**6),
        "temperature": share,
        "top_p": share,
        "top_k": st.integers(1, 100),
        "stop": st.lists(some_text, min_size=1, max_size=3).map(tuple),
        "seed": st.integers(0, 2**31 - 1),
        "n": st.integers(1, 4),
        "presence_penalty": share,
        "frequency_penalty": share,
        "logprobs": st.booleans(),
        "user": some_name,
        "metadata": st.dictionaries(some_name, some_text, min_size=1, max_size=2),
    }
    return st.fixed_dictionaries({}, optional={name: values[name] for name in sorted(can.fields)})


@st.composite
def conversations(draw: st.DrawFn, can: Expressible) -> Conversation:
    """A valid conversation that ends with the user's turn."""
    offered = draw(tools(can))
    taken: set[str] = set()
    instruction = st.builds(Turn, st.sampled_from(can.instruction_roles), st.lists(texts(can), min_size=1, max_size=2).map(tuple))
    turns = draw(st.lists(instruction, max_size=1))
    for _ in range(draw(st.integers(1, 2))):
        rounds = draw(_exchanges(can, offered, taken))
        if turns and turns[-1].role == "user":
            turns.append(Turn("assistant", (draw(texts(can)),)))
        if can.instructions_anywhere and draw(st.booleans()):
            turns.append(draw(instruction))
        turns += rounds
    thinking: list[st.SearchStrategy[Any]] = [st.none()]
    if can.efforts:
        thinking.append(st.sampled_from(can.efforts).map(Thinking))
    if can.budgets:
        thinking.append(st.sampled_from(can.budgets).map(lambda budget: Thinking(budget_tokens=budget)))
    plain = draw(_plain_fields(can))
    return Conversation(
        model="the-model",
        turns=tuple(turns),
        tools=tuple(offered),
        tool_choice=draw(_tool_choice(can, offered)),
        parallel_tools=draw(_only_if(can.parallel_tools and bool(offered), st.booleans())),
        format=draw(_format(can)),
        thinking=draw(st.one_of(thinking)),
        top_logprobs=draw(st.none() | st.integers(0, 5)) if plain.get("logprobs") else None,
        **plain,
    )


def settled(conversation: Conversation, between: str = "") -> Conversation:
    """What two conversations that mean the same have in common.

    Turns of one role (and name) in a row are one, texts in a row within a turn are one (with `between` them), and where the client's
    fields stand is forgotten.
    """
    turns: list[Turn] = []
    for turn in conversation.turns:
        if turns and (turns[-1].role, turns[-1].name) == (turn.role, turn.name):
            turn = Turn(turn.role, (*turns.pop().parts, *turn.parts), turn.name)
        turns.append(turn)
    whole = tuple([structs.replace(turn, parts=_joined(turn.parts, between)) for turn in turns])
    thinking = conversation.thinking
    if thinking is not None and thinking.budget_tokens == 0:  # no thought is had, so none is shown
        thinking = structs.replace(thinking, shown=True)
    return structs.replace(conversation, turns=whole, thinking=thinking, paths={})


def _joined(parts: Iterable[Part], between: str) -> tuple[Part, ...]:
    """Texts in a row as one; a mark for the cache ends a text."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Text) and isinstance(last, Text) and last.cache_for is None:
            joined[-1] = Text(last.text + between + part.text, part.cache_for)
        elif isinstance(part, ToolResult):
            joined.append(structs.replace(part, content=_joined(part.content, between)))
        else:
            joined.append(part)
    return tuple(joined)


# --- answers ----------------------------------------------------------------------------------------------------------


@st.composite
def answers(draw: st.DrawFn, can: Expressible) -> list[Delta]:
    """The deltas of a complete answer: choices in turn, tool calls one after the other, each text in any pieces."""
    deltas: list[Delta] = [Started("abc123", "provider-model", 1_700_000_000)]
    taken: set[str] = set()
    for choice in range(draw(st.integers(1, can.choices_max))):
        deltas += draw(_choice(can, choice, taken))
    usage = Usage(
        input=draw(st.integers(100, 900)),
        output=draw(st.integers(50, 500)),
        cache_read=draw(st.integers(0, 50)),
        cache_write=draw(st.integers(0, 50)) if can.cache_write else 0,
        reasoning=draw(st.integers(0, 50)) if can.reasoning_tokens else 0,
    )
    return [*deltas, Used(usage)]


@st.composite
def _choice(draw: st.DrawFn, can: Expressible, choice: int, taken: set[str]) -> list[Delta]:
    deltas: list[Delta] = []
    if can.reasoning_origin is not None and draw(st.booleans()):
        thought = draw(reasonings(can))
        deltas += [ReasoningDelta(piece, origin=thought.origin, choice=choice) for piece in draw(_pieces(thought.text))]
        if thought.signature or thought.redacted:
            deltas.append(ReasoningDelta("", thought.signature, thought.redacted, thought.origin, choice))
    uses = [_use(draw, [Tool(draw(some_name))], taken) for _ in range(draw(st.integers(0, 2)))] if can.tools else []
    refuses = can.refusals and not uses and draw(st.booleans())
    if refuses:
        deltas += [RefusalDelta(piece, choice) for piece in draw(_pieces(draw(some_text)))]
    elif not uses or draw(st.booleans()):
        for piece in draw(_pieces(draw(some_text))):
            logprobs = (
                [{"token": piece, "logprob": -0.5, "bytes": list(piece.encode()), "top_logprobs": []}] if can.logprobs else None
            )
            deltas.append(TextDelta(piece, choice, None if logprobs is None else msgspec.Raw(msgspec.json.encode(logprobs))))
    for index, use in enumerate(uses):
        deltas.append(ToolCallStarted(index, use.id, use.name, choice))
        deltas += [ArgumentsDelta(index, piece, choice) for piece in draw(_pieces(use.arguments))]
    if uses:
        reason: FinishReason = "tool_calls"
    elif refuses and "refusal" in can.finish_reasons:
        reason = "refusal"
    else:
        reason = draw(st.sampled_from([reason for reason in can.finish_reasons if reason not in ("tool_calls", "refusal")]))
    stop = draw(_only_if(can.stop_sequences and reason == "stop", some_text))
    return [*deltas, Finished(reason, choice, stop)]


def _pieces(text: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.integers(0, len(text)), max_size=3).map(lambda cuts: _cut_at(text, cuts))


def _cut_at(whole: Any, cuts: Sequence[int]) -> list[Any]:
    edges = [0, *sorted(set(cuts)), len(whole)]
    return [whole[start:end] for start, end in pairwise(edges) if end > start]


def cut(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Bytes in pieces of any size, as a connection may bring them."""
    return st.lists(st.integers(0, len(data)), max_size=12).map(lambda cuts: _cut_at(data, cuts))
