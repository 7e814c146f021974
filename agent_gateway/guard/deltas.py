"""An answer's deltas on their way through a set of rules: each text of each choice is held by itself, and their order stays.

Promise: however the texts are cut into deltas, the same texts come out, in the same places.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from agent_gateway.core.delta import (
    ArgumentsDelta,
    Delta,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallStarted,
)
from agent_gateway.guard.hold import ArgumentsHold, Hold, Rules

_Kind = Literal["text", "refusal", "thought"]


class _Choice:
    __slots__ = ("arguments", "hold", "kind", "last")

    def __init__(self) -> None:
        #: The text that is open.
        self.kind: _Kind | None = None
        self.hold: Hold | None = None
        #: Its latest delta.
        self.last: TextDelta | RefusalDelta | ReasoningDelta | None = None
        #: Of the tool calls, by their index.
        self.arguments: dict[int, ArgumentsHold] = {}


class DeltaGuard:
    """`rules` for what is said and asked of tools, `thought_rules` for thoughts, which nothing may change."""

    __slots__ = ("_choices", "_rules", "_thought_rules")

    def __init__(self, rules: Rules, thought_rules: Rules) -> None:
        assert not thought_rules.edits
        self._rules = rules
        self._thought_rules = thought_rules
        self._choices: dict[int, _Choice] = {}

    @property
    def blocked(self) -> str | None:
        return self._rules.blocked or self._thought_rules.blocked

    def feed(self, deltas: Iterable[Delta]) -> list[Delta]:
        """What can go on. Nothing comes behind what blocks it."""
        out: list[Delta] = []
        for delta in deltas:
            if self.blocked is not None:
                break
            match delta:
                case TextDelta():
                    self._text("text", delta, out)
                case RefusalDelta():
                    self._text("refusal", delta, out)
                case ReasoningDelta():
                    self._thought(delta, out)
                case ToolCallStarted():
                    self._close(delta.choice, out)
                    self._pass(delta, out)
                case ArgumentsDelta():
                    self._arguments(delta, out)
                case Finished():
                    self._end(delta.choice, out)
                    self._pass(delta, out)
                case _:
                    out.append(delta)
        return out

    def end(self) -> list[Delta]:
        """Of an answer that is complete, whether or not it said so of each choice."""
        out: list[Delta] = []
        for choice in self._choices:
            self._end(choice, out)
        return out

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        return choice

    def _open(self, kind: _Kind, delta: TextDelta | RefusalDelta | ReasoningDelta, out: list[Delta]) -> Hold:
        choice = self._choice(delta.choice)
        if choice.kind != kind or choice.hold is None:
            self._close(delta.choice, out)
            choice.kind = kind
            choice.hold = Hold(self._thought_rules if kind == "thought" else self._rules)
        choice.last = delta
        return choice.hold

    def _text(self, kind: _Kind, delta: TextDelta | RefusalDelta, out: list[Delta]) -> None:
        hold = self._open(kind, delta, out)
        if self.blocked is None and (text := hold.feed(delta.text)):
            out.append(_like(delta, text))

    def _thought(self, delta: ReasoningDelta, out: list[Delta]) -> None:
        hold = self._open("thought", delta, out)
        if self.blocked is not None:
            return
        ends = delta.signature is not None or delta.redacted is not None
        text = hold.feed(delta.text, is_last=ends)
        if text:
            out.append(_like(delta, text))
        if ends:
            self._choice(delta.choice).hold = None
            self._pass(ReasoningDelta("", delta.signature, delta.redacted, delta.origin, delta.choice, delta.id), out)

    def _arguments(self, delta: ArgumentsDelta, out: list[Delta]) -> None:
        holds = self._choice(delta.choice).arguments
        hold = holds.get(delta.index)
        if hold is None:
            hold = holds[delta.index] = ArgumentsHold(self._rules)
        if text := hold.feed(delta.arguments):
            out.append(ArgumentsDelta(delta.index, text, delta.choice))

    def _close(self, index: int, out: list[Delta]) -> None:
        """The text that is open ends here."""
        choice = self._choice(index)
        if choice.hold is not None and choice.last is not None and (text := choice.hold.feed("", is_last=True)):
            out.append(_like(choice.last, text))
        choice.hold = None

    def _end(self, index: int, out: list[Delta]) -> None:
        self._close(index, out)
        choice = self._choice(index)
        for call, hold in choice.arguments.items():
            if text := hold.feed("", is_last=True):
                out.append(ArgumentsDelta(call, text, index))
        choice.arguments.clear()

    def _pass(self, delta: Delta, out: list[Delta]) -> None:
        if self.blocked is None:
            out.append(delta)


def _like(delta: TextDelta | RefusalDelta | ReasoningDelta, text: str) -> Delta:
    """Another piece of the same. What is told of single tokens (`logprobs`) would tell of what is hidden, and is left out."""
    match delta:
        case TextDelta():
            return TextDelta(text, delta.choice)
        case RefusalDelta():
            return RefusalDelta(text, delta.choice)
        case ReasoningDelta():
            return ReasoningDelta(text, origin=delta.origin, choice=delta.choice, id=delta.id)
