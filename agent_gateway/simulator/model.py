"""The simulated model itself: from a prompt to the script of its answer.

Promise: what is said depends only on the prompt and the seeds; chance of its own moves only when it is said.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from agent_gateway.core.errors import BadRequest
from agent_gateway.core.usage import Usage
from agent_gateway.simulator.prose import prose
from agent_gateway.simulator.schema import valid_value
from agent_gateway.simulator.schema_merge import UnsupportedSchema
from agent_gateway.simulator.script import Arguments, Finish, Prompt, Reason, Schema, Script, Step, Text, Tool, ToolCall
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.simulator.tokens import pieces_of_json, pieces_of_text

#: Tools called in parallel, at most.
_PARALLEL_MAX = 8


@dataclass(frozen=True, slots=True)
class _Call:
    index: int
    tool: Tool


@dataclass(frozen=True, slots=True)
class _Arguments:
    index: int
    text: str


_Piece = str | _Call | _Arguments


def write_script(
    prompt: Prompt, settings: SimulatorSettings, chance: random.Random, *, late_s: float = 0, mute: bool = False
) -> Script:
    """`chance` gives waits and the ids of tool calls. `mute`: an answer that says nothing.

    Raises `BadRequest` for a schema that no value can be made for.
    """
    steps: list[Step] = []
    output = 0
    starts_at_s = late_s + settings.ttft_ms / 1000 * _wobble(settings, chance)
    gap_s = 1 / settings.tokens_per_s if settings.tokens_per_s else 0.0
    for choice in range(prompt.choices):
        pieces, reason = ([], "stop") if mute else _said(prompt, settings, choice)
        output += len(pieces)
        at_s = starts_at_s
        for position, piece in enumerate(pieces):
            if position:
                at_s += gap_s * _wobble(settings, chance)
            steps.append(_step(piece, at_s, choice, chance))
        steps.append(Finish(at_s, choice, reason))
    if prompt.choices > 1:
        steps.sort(key=lambda step: step.at_s)
    return Script(tuple(steps), Usage(input=prompt.input_tokens, output=output))


def _said(prompt: Prompt, settings: SimulatorSettings, choice: int) -> tuple[list[_Piece], Reason]:
    chance = random.Random(_fingerprint(prompt, settings, choice))
    reason: Reason = "stop"
    pieces: list[_Piece]
    if prompt.tools:
        pieces, reason = _calls(prompt, chance), "tool_calls"
    elif prompt.schema is not None:
        pieces = [*_before_stop(pieces_of_json(_json_for(prompt.schema, chance, "response_format")), prompt.stop)]
    else:
        pieces = [*_before_stop(prose(prompt.question, _length(settings, chance), chance), prompt.stop)]
    if prompt.max_tokens is not None and len(pieces) > prompt.max_tokens:
        return pieces[: prompt.max_tokens], "length"
    return pieces, reason


def _calls(prompt: Prompt, chance: random.Random) -> list[_Piece]:
    pieces: list[_Piece] = []
    for index, tool in enumerate(_chosen_tools(prompt, chance)):
        pieces.append(_Call(index, tool))
        pieces += [_Arguments(index, text) for text in pieces_of_json(_json_for(tool.parameters, chance, tool.param))]
    return pieces


def _chosen_tools(prompt: Prompt, chance: random.Random) -> list[Tool]:
    """All where each is required or the question says "parallel" (one alone is called twice); else those it names; else any."""
    tools = list(prompt.tools[:_PARALLEL_MAX])
    if not prompt.parallel:
        return [next((tool for tool in tools if tool.name in prompt.question), None) or chance.choice(tools)]
    if prompt.all_tools:
        return tools
    if "parallel" in prompt.question.lower():
        return tools if len(tools) > 1 else tools * 2
    return [tool for tool in tools if tool.name in prompt.question] or [chance.choice(tools)]


def _json_for(schema: Schema, chance: random.Random, param: str) -> str:
    try:
        return msgspec.json.encode(valid_value(schema, chance)).decode()
    except UnsupportedSchema as error:
        raise BadRequest(f"Invalid schema in '{param}': {error}.", param=param) from None


def _before_stop(pieces: list[str], stop: tuple[str, ...]) -> list[str]:
    text = "".join(pieces)
    ends = [end for sequence in stop if sequence and (end := text.find(sequence)) >= 0]
    return pieces_of_text(text[: min(ends)]) if ends else pieces


def _length(settings: SimulatorSettings, chance: random.Random) -> int:
    """Lognormal with the mean and the relative standard deviation of the settings."""
    sigma = math.sqrt(math.log(1 + settings.output_spread**2))
    return max(1, round(settings.output_tokens * _lognormal(sigma, chance)))


def _wobble(settings: SimulatorSettings, chance: random.Random) -> float:
    return _lognormal(settings.jitter, chance) if settings.jitter else 1.0


def _lognormal(sigma: float, chance: random.Random) -> float:
    """Of mean 1."""
    return math.exp(chance.gauss(-sigma * sigma / 2, sigma)) if sigma else 1.0


def _step(piece: _Piece, at_s: float, choice: int, chance: random.Random) -> Step:
    match piece:
        case _Call(index, tool):
            return ToolCall(at_s, choice, index, f"{chance.getrandbits(96):024x}", tool.name)
        case _Arguments(index, text):
            return Arguments(at_s, choice, index, text)
        case str():
            return Text(at_s, choice, piece)


def _fingerprint(prompt: Prompt, settings: SimulatorSettings, choice: int) -> bytes:
    key = f"{settings.seed}|{prompt.seed}|{choice}|{prompt.model}|"
    return blake2b(key.encode() + prompt.conversation.encode("utf-8", "surrogatepass"), digest_size=16).digest()
