"""A request and its answer in no protocol's terms: what the model was told, and what it will say when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from msgspec.structs import replace

from agent_gateway.core.call import Dialect
from agent_gateway.core.delta import Delta, Finished, TextDelta
from agent_gateway.core.usage import Usage

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
    #: Decides who can read the signatures of thoughts and how ids of tool calls look; of what is said, nothing.
    dialect: Dialect
    model: str
    #: What the user asks: the last thing that a user said, results of tools aside.
    question: str
    #: All that was said, as one text: the same conversation gets the same answer, in whatever protocol it is told.
    conversation: str
    input_tokens: int
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    choices: int = 1
    seed: int | None = None
    #: Those of which one or more are to be called now.
    tools: tuple[Tool, ...] = ()
    parallel: bool = True
    #: The answer is JSON valid for this.
    schema: Schema | None = None
    #: Where the schema stands in the request.
    schema_param: str = "response_format"
    #: An answer in words begins with this: what was seen of images and files, and what the tools have told.
    noticed: str = ""
    #: The answer so far, which is to be carried on.
    begun: str = ""
    #: Before it answers the model thinks so many tokens at most; 0: it does not.
    thought_tokens_max: int = 0
    #: Thoughts are told, not only signed.
    shows_thoughts: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of the answer, so many seconds after the request came."""

    at_s: float
    delta: Delta


@dataclass(frozen=True, slots=True)
class Script:
    """`steps` are in order of time, and the last one finishes a choice; `usage` is the whole answer's."""

    steps: tuple[Step, ...]
    usage: Usage

    @property
    def starts_at_s(self) -> float:
        return self.steps[0].at_s

    @property
    def ends_at_s(self) -> float:
        return self.steps[-1].at_s


def together(scripts: Sequence[Script]) -> Script:
    """One answer with the choices of all, in their order."""
    if len(scripts) == 1:
        return scripts[0]
    steps = []
    choices = 0
    for script in scripts:
        steps += [Step(step.at_s, _moved(step.delta, choices)) for step in script.steps]
        choices += len([step for step in script.steps if isinstance(step.delta, Finished)])
    return Script(tuple(sorted(steps, key=lambda step: step.at_s)), reduce(add, [script.usage for script in scripts]))


def _moved(delta: Delta, choices: int) -> Delta:
    return replace(delta, choice=delta.choice + choices) if isinstance(delta, TextDelta | Finished) else delta
