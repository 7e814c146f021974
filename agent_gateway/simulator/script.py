"""A request and its answer in no protocol's terms: what the model was told, and what it will say when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from agent_gateway.core.usage import Usage

Reason = Literal["stop", "length", "tool_calls"]
#: A JSON schema (draft 2020-12).
Schema = dict[str, Any] | bool


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    parameters: Schema
    #: Where the schema stands in the request, for the error that refuses it.
    param: str


@dataclass(frozen=True, slots=True)
class Prompt:
    model: str
    #: What the user asks: the last user message.
    question: str
    #: All that was said, as one text: the same conversation gets the same answer.
    conversation: str
    input_tokens: int
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    choices: int = 1
    seed: int | None = None
    #: Those that are to be called now.
    tools: tuple[Tool, ...] = ()
    #: Each of `tools` has to be called, not one of them.
    all_tools: bool = False
    parallel: bool = True
    #: The answer is JSON valid for this.
    schema: Schema | None = None


@dataclass(frozen=True, slots=True)
class Text:
    at_s: float
    choice: int
    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call begins; `index` counts the calls of a choice. The protocol puts its own prefix before `id`."""

    at_s: float
    choice: int
    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """A piece of a call's arguments, as JSON text."""

    at_s: float
    choice: int
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    at_s: float
    choice: int
    reason: Reason


Step = Text | ToolCall | Arguments | Finish


@dataclass(frozen=True, slots=True)
class Script:
    """`steps` are in order of time, in seconds since the request came; `usage` is the whole answer's."""

    steps: tuple[Step, ...]
    usage: Usage

    @property
    def starts_at_s(self) -> float:
        return self.steps[0].at_s

    @property
    def ends_at_s(self) -> float:
        return self.steps[-1].at_s
