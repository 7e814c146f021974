"""The simulated model itself: from a prompt to the script of its answer.

Promise: what is said depends only on the prompt and the seeds; chance of its own moves only when it is said.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from agent_gateway.core.delta import ArgumentsDelta, Delta, Finished, FinishReason, ReasoningDelta, TextDelta, ToolCallStarted
from agent_gateway.core.errors import BadRequest
from agent_gateway.core.usage import Usage
from agent_gateway.simulator.manners import manners_of
from agent_gateway.simulator.prose import prose
from agent_gateway.simulator.schema import valid_value
from agent_gateway.simulator.schema_merge import UnsupportedSchema
from agent_gateway.simulator.script import Prompt, Schema, Script, Step, Tool
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.simulator.thoughts import signature_of
from agent_gateway.simulator.tokens import pieces_of_json, pieces_of_text

#: Tools called in parallel, at most.
_PARALLEL_MAX = 8
#: Of the length of an answer, so much is thought before it.
_THOUGHT_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class _Call:
    index: int
    tool: Tool


@dataclass(frozen=True, slots=True)
class _Arguments:
    index: int
    text: str


#: A token each; text as it is.
_Piece = str | _Call | _Arguments


@dataclass(frozen=True, slots=True)
class _Said:
    """One choice of an answer."""

    thought: list[str]
    pieces: list[_Piece]
    reason: FinishReason
    stop_sequence: str | None = None


def write_script(
    prompt: Prompt, settings: SimulatorSettings, chance: random.Random, *, late_s: float = 0, mute: bool = False
) -> Script:
    """`chance` gives waits and the ids of tool calls. `mute`: an answer that says nothing.

    Raises `BadRequest` for a schema that no value can be made for.
    """
    steps: list[Step] = []
    output = reasoning = 0
    starts_at_s = late_s + settings.ttft_ms / 1000 * _wobble(settings, chance)
    gap_s = 1 / settings.tokens_per_s if settings.tokens_per_s else 0.0
    for choice in range(prompt.choices):
        said = _Said([], [], "stop") if mute else _said(prompt, settings, choice)
        reasoning += len(said.thought)
        output += len(said.thought) + len(said.pieces)
        at_s = starts_at_s
        for position, delta in enumerate(_deltas(said, prompt, choice, chance)):
            if position and not isinstance(delta, Finished):
                at_s += gap_s * _wobble(settings, chance)
            steps.append(Step(at_s, delta))
    if prompt.choices > 1:
        steps.sort(key=lambda step: step.at_s)
    return Script(tuple(steps), Usage(input=prompt.input_tokens, output=output, reasoning=reasoning))


# --- what is said -----------------------------------------------------------------------------------------------------


def _said(prompt: Prompt, settings: SimulatorSettings, choice: int) -> _Said:
    chance = random.Random(_fingerprint(prompt, settings, choice))
    reason: FinishReason = "stop"
    stop_sequence: str | None = None
    pieces: list[_Piece]
    if prompt.tools:
        pieces, reason = _calls(prompt, chance), "tool_calls"
    else:
        words, stop_sequence = _before_stop(_carried_on(_words(prompt, settings, chance), prompt.begun), prompt.stop)
        pieces = [*words]
    thought = _thought(prompt, settings)
    if prompt.max_tokens is not None and len(thought) + len(pieces) > prompt.max_tokens:
        thought = thought[: prompt.max_tokens]
        return _Said(thought, pieces[: prompt.max_tokens - len(thought)], "length")
    return _Said(thought, pieces, reason, stop_sequence)


def _words(prompt: Prompt, settings: SimulatorSettings, chance: random.Random) -> list[str]:
    if prompt.schema is not None:
        return pieces_of_json(_json_for(prompt.schema, chance, prompt.schema_param))
    words = prose(prompt.question, _length(settings, chance), chance)
    return pieces_of_text(f"{prompt.noticed} {''.join(words)}") if prompt.noticed else words


def _thought(prompt: Prompt, settings: SimulatorSettings) -> list[str]:
    """Has a chance of its own, so that what is said does not change with what is thought."""
    if not prompt.thought_tokens_max:
        return []
    chance = random.Random(b"thought" + _fingerprint(prompt, settings, 0))
    length = math.ceil(_length(settings, chance) * _THOUGHT_SHARE)
    return prose(prompt.question, min(length, prompt.thought_tokens_max), chance)


def _carried_on(pieces: list[str], begun: str) -> list[str]:
    """What is still to be said: the rest of the answer where it was begun like this, else all of it."""
    if not begun:
        return pieces
    whole = "".join(pieces)
    if whole.startswith(begun):
        return pieces_of_text(whole[len(begun) :])
    return pieces_of_text(whole if begun[-1].isspace() else f" {whole}")


def _before_stop(pieces: list[str], stop: tuple[str, ...]) -> tuple[list[str], str | None]:
    """What comes before the first stop sequence, and which it was."""
    text = "".join(pieces)
    ends = [(end, sequence) for sequence in stop if sequence and (end := text.find(sequence)) >= 0]
    if not ends:
        return pieces, None
    end, sequence = min(ends)
    return pieces_of_text(text[:end]), sequence


def _calls(prompt: Prompt, chance: random.Random) -> list[_Piece]:
    pieces: list[_Piece] = []
    for index, tool in enumerate(_chosen_tools(prompt, chance)):
        pieces.append(_Call(index, tool))
        pieces += [_Arguments(index, text) for text in pieces_of_json(_json_for(tool.parameters, chance, tool.param))]
    return pieces


def _chosen_tools(prompt: Prompt, chance: random.Random) -> list[Tool]:
    """All where the question says "parallel" (one alone is called twice); else those it names; else any."""
    tools = list(prompt.tools[:_PARALLEL_MAX])
    named = [tool for tool in tools if tool.name in prompt.question]
    if not prompt.parallel:
        return named[:1] or [chance.choice(tools)]
    if "parallel" in prompt.question.lower():
        return tools if len(tools) > 1 else tools * 2
    return named or [chance.choice(tools)]


def _json_for(schema: Schema, chance: random.Random, param: str) -> str:
    try:
        return msgspec.json.encode(valid_value(schema, chance)).decode()
    except UnsupportedSchema as error:
        raise BadRequest(f"Invalid schema in '{param}': {error}.", param=param) from None


def _length(settings: SimulatorSettings, chance: random.Random) -> int:
    """Lognormal with the mean and the relative standard deviation of the settings."""
    sigma = math.sqrt(math.log(1 + settings.output_spread**2))
    return max(1, round(settings.output_tokens * _lognormal(sigma, chance)))


def _fingerprint(prompt: Prompt, settings: SimulatorSettings, choice: int) -> bytes:
    key = f"{settings.seed}|{prompt.seed}|{choice}|{prompt.model}|"
    return blake2b(key.encode() + prompt.conversation.encode("utf-8", "surrogatepass"), digest_size=16).digest()


# --- how it is said ---------------------------------------------------------------------------------------------------


def _deltas(said: _Said, prompt: Prompt, choice: int, chance: random.Random) -> Iterator[Delta]:
    if said.thought:
        yield from _thinking(said.thought, prompt, choice)
    for piece in said.pieces:
        match piece:
            case _Call(index, tool):
                call_id = f"{manners_of(prompt.dialect).call_prefix}{chance.getrandbits(96):024x}"
                yield ToolCallStarted(index, call_id, tool.name, choice)
            case _Arguments(index, text):
                yield ArgumentsDelta(index, text, choice)
            case str():
                yield TextDelta(piece, choice)
    yield Finished(said.reason, choice, said.stop_sequence)


def _thinking(thought: list[str], prompt: Prompt, choice: int) -> Iterator[Delta]:
    text = "".join(thought)
    if prompt.shows_thoughts:
        for piece in thought:
            yield ReasoningDelta(piece, origin=prompt.dialect, choice=choice)
    # OpenAI's chat completions know no signature.
    if prompt.dialect != "openai_chat":
        yield ReasoningDelta(signature=signature_of(text, prompt.dialect), origin=prompt.dialect, choice=choice)


def _wobble(settings: SimulatorSettings, chance: random.Random) -> float:
    return _lognormal(settings.jitter, chance) if settings.jitter else 1.0


def _lognormal(sigma: float, chance: random.Random) -> float:
    """Of mean 1."""
    return math.exp(chance.gauss(-sigma * sigma / 2, sigma)) if sigma else 1.0
