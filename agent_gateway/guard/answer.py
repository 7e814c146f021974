"""An answer on its way to the client: checked as it comes, judged as a whole where that is asked for, and what was hidden put back.

Promise: what the record keeps is what the checks let through, before anything is put back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from agent_gateway.core.delta import ArgumentsDelta, Delta, Finished, ReasoningDelta, RefusalDelta, TextDelta, ToolCallStarted
from agent_gateway.guard.base import Judge, Role, Said
from agent_gateway.guard.deltas import DeltaGuard
from agent_gateway.guard.hold import Rules
from agent_gateway.protocols.transcript import Transcript

#: An answer that is held until it is judged is refused beyond this (characters); one that goes out meanwhile is judged then.
JUDGED_MAX_CHARS = 1024 * 1024

_Piece = TextDelta | RefusalDelta | ReasoningDelta | ArgumentsDelta


@dataclass(frozen=True, slots=True)
class Bench:
    """The judges of an answer. `ask` has one of them say: the texts as they are to be, None where the answer is refused."""

    judges: Sequence[tuple[str, Judge]]
    ask: Callable[[str, Judge, Sequence[Said]], Awaitable[Sequence[str] | None]]
    #: Nothing goes out before all have said.
    holds: bool


class AnswerGuard:
    """`rules` and `thought_rules`: what is looked for. `restore`: what is put back behind that."""

    def __init__(self, rules: Rules, thought_rules: Rules, bench: Bench, restore: Rules) -> None:
        self._rules = rules
        self._restore = restore
        self._first = DeltaGuard(rules, thought_rules) if rules or thought_rules else None
        self._last = DeltaGuard(restore, Rules()) if restore else None
        self._bench = bench
        self._gathered: list[Delta] = []
        self._gathered_chars = 0
        #: Where nothing is held, what a judge lets pass ends no answer.
        passed = 0 if bench.holds else max((judge.stream_max_chars or 0 for _, judge in bench.judges), default=0)
        self._gathered_max_chars = max(JUDGED_MAX_CHARS, passed)
        self._told: set[str] = set()
        self._judged_change = False
        self._transcript = Transcript() if self._first is not None or bench.judges else None
        #: The check that the answer ends at.
        self.blocked: str | None = None

    @property
    def has_changed(self) -> bool:
        return bool(self._rules.masked or self._restore.masked) or self._judged_change

    @property
    def changes_record(self) -> bool:
        """The answer that its provider gave is not what may be kept."""
        return bool(self._rules.masked) or self._judged_change or self.blocked is not None

    @property
    def transcript(self) -> Transcript | None:
        return self._transcript

    async def feed(self, deltas: Sequence[Delta], *, is_last: bool = False) -> list[Delta]:
        """What can go on; after `blocked` is set, nothing more."""
        out = [*deltas]
        if self._first is not None:
            out = self._first.feed(out)
            if is_last:
                out += self._first.end()
            self.blocked = self._first.blocked
        if self._bench.judges and self.blocked is None:
            out = await self._judge(out, is_last=is_last)
        if self._transcript is not None:
            self._transcript.read_deltas(out)
        if self._last is not None:
            out = self._last.feed(out)
            if is_last and self.blocked is None:
                out += self._last.end()
        return out

    async def _judge(self, deltas: list[Delta], *, is_last: bool) -> list[Delta]:
        bench = self._bench
        if not bench.holds and len(self._told) == len(bench.judges):
            return deltas
        self._gathered += deltas
        self._gathered_chars += sum(len(_text(delta)) for delta in deltas)
        is_too_long = self._gathered_chars > self._gathered_max_chars
        if is_too_long and bench.holds:
            self.blocked = bench.judges[0][0]
            return []
        for title, judge in bench.judges:
            limit = judge.stream_max_chars
            is_due = is_last or is_too_long or (limit is not None and self._gathered_chars > limit)
            if not is_due or title in self._told:
                continue
            self._told.add(title)
            runs = _runs(self._gathered)
            texts = await bench.ask(title, judge, [run.said for run in runs])
            if texts is None:
                self.blocked = title
                return []
            self._put(runs, texts)
        if not bench.holds:
            return deltas
        return self._gathered if is_last else []

    def _put(self, runs: Sequence[_Run], texts: Sequence[str]) -> None:
        changed = {run.places[0]: text for run, text in zip(runs, texts, strict=True) if text != run.said.text}
        if not changed or not self._bench.holds:
            return
        self._judged_change = True
        gone = {place for run in runs if run.places[0] in changed for place in run.places[1:]}
        self._gathered = [
            _with_text(delta, changed[place]) if place in changed else delta
            for place, delta in enumerate(self._gathered)
            if place not in gone
        ]


@dataclass(slots=True)
class _Run:
    """One text: the places of its pieces."""

    places: list[int]
    said: Said


def _runs(deltas: Sequence[Delta]) -> list[_Run]:
    """The texts of an answer, in order of their beginnings; a tool call's arguments are one."""
    growing: dict[tuple[object, ...], list[int]] = {}
    part: dict[int, tuple[type[Delta], int]] = {}
    for place, delta in enumerate(deltas):
        if not isinstance(delta, _Piece):
            if isinstance(delta, ToolCallStarted | Finished):
                part.pop(delta.choice, None)
            continue
        if isinstance(delta, ArgumentsDelta):
            key: tuple[object, ...] = (ArgumentsDelta, delta.choice, delta.index)
        else:
            kind, begun = part.get(delta.choice, (None, 0))
            if kind is not type(delta):
                part[delta.choice] = type(delta), place
                begun = place
            key = (type(delta), delta.choice, begun)
        growing.setdefault(key, []).append(place)
    return [
        _Run(places, Said("".join([_text(deltas[place]) for place in places]), _role(deltas[places[0]]))) for places in growing.values()
    ]


def _text(delta: Delta) -> str:
    if isinstance(delta, TextDelta | RefusalDelta | ReasoningDelta):
        return delta.text
    return delta.arguments if isinstance(delta, ArgumentsDelta) else ""


def _role(delta: Delta) -> Role:
    if isinstance(delta, ReasoningDelta):
        return "thought"
    return "arguments" if isinstance(delta, ArgumentsDelta) else "assistant"


def _with_text(delta: Delta, text: str) -> Delta:
    match delta:
        case TextDelta():
            return TextDelta(text, delta.choice)
        case RefusalDelta():
            return RefusalDelta(text, delta.choice)
        case ArgumentsDelta():
            return ArgumentsDelta(delta.index, text, delta.choice)
        case _:
            return delta  # a thought: its provider may have signed it
