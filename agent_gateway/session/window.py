"""How much of a session goes in front of a request: the newest of it that a model's context holds.

Promise: a tool's result never goes without its call, nor an answer without what it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agent_gateway.protocols.turns import Kind

#: Of a context window this share is filled by our own count of tokens, which is rough.
FILLED_MAX = 0.9
#: Kept free for the answer, where the request sets no limit to it: so many tokens, but no more than this share of the window.
ANSWER_TOKENS = 4_096
ANSWER_SHARE = 0.25


def room_for_input(context_window: int, max_output_tokens: int | None) -> int:
    """Tokens of the prompt that a model with this window may get."""
    answer = min(ANSWER_TOKENS, int(context_window * ANSWER_SHARE)) if max_output_tokens is None else max_output_tokens
    return max(int(context_window * FILLED_MAX) - answer, 0)


@dataclass(slots=True)
class _Step:
    """Turns that stay together: what a user says, or an answer with the results of the tools that it calls."""

    kind: Kind
    places: list[int] = field(default_factory=list)
    tokens: int = 0


def second_round(kinds: Sequence[Kind]) -> int | None:
    """Where the first round ends and another begins; None: there is no other."""
    rounds = _rounds(kinds, [0] * len(kinds))
    return rounds[1][0].places[0] if len(rounds) > 1 else None


def newest(kinds: Sequence[Kind], tokens: Sequence[int], *, tokens_max: float, turns_max: float, goes_on: bool) -> list[int]:
    """The places of the turns that are kept, in order: whole rounds of question and answers, newest first, as many as fit.

    Of a round that does not fit as a whole, if it is the newest, what the user said stays with the newest steps. `goes_on`: what
    follows belongs to the last step (a tool's result), so that one stays whatever it weighs.
    """
    kept: list[int] = []
    for steps in reversed(_rounds(kinds, tokens)):
        weight, turns = sum(step.tokens for step in steps), sum(len(step.places) for step in steps)
        if weight <= tokens_max and turns <= turns_max:
            kept = [place for step in steps for place in step.places] + kept
            tokens_max -= weight
            turns_max -= turns
            continue
        if not kept:
            kept = _newest_steps(steps, tokens_max, turns_max, goes_on=goes_on)
        break
    return kept


def _newest_steps(steps: Sequence[_Step], tokens_max: float, turns_max: float, *, goes_on: bool) -> list[int]:
    asked = [step for step in steps if step.kind == "user"]
    answers = steps[len(asked) :]
    kept: list[_Step] = []
    tokens_max -= sum(step.tokens for step in asked)
    turns_max -= sum(len(step.places) for step in asked)
    for step in reversed(answers):
        tokens_max -= step.tokens
        turns_max -= len(step.places)
        is_needed = goes_on and step is answers[-1]
        if not is_needed and (tokens_max < 0 or turns_max < 0):
            break
        kept.insert(0, step)
    return [place for step in (*asked, *kept) for place in step.places] if kept else []


def _rounds(kinds: Sequence[Kind], tokens: Sequence[int]) -> list[list[_Step]]:
    """A round begins with what a user says."""
    rounds: list[list[_Step]] = []
    before: Kind | None = None
    for place, kind in enumerate(kinds):
        if kind in ("user", "system"):
            if not rounds or before not in ("user", "system"):
                rounds.append([])
            begins = not rounds[-1]
        else:
            if not rounds:
                rounds.append([])
            begins = kind == "assistant" and before != "assistant"
        if begins or not rounds[-1]:
            rounds[-1].append(_Step("user" if kind in ("user", "system") else "assistant"))
        step = rounds[-1][-1]
        step.places.append(place)
        step.tokens += tokens[place]
        before = kind
    return rounds
