"""A load test that has ended, as it is told to programs: what was asked, what came of it, and which targets it met."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from agent_gateway.bench.load import Load
from agent_gateway.bench.tally import Figures
from agent_gateway.bench.targets import PresetName
from agent_gateway.bench.times import Told
from agent_gateway.record.slo import Unit, Verdict

#: Times that are told, by the figures' name for them.
TIMES = {
    "latency": "time of an answer",
    "service": "time of an answer since it was sent",
    "first_token": "time to first token",
    "gap": "gap between pieces of a stream",
    "overhead": "what the gateway says that it added",
    "late": "requests were sent late by",
}
#: Percentiles that a person looks at.
LOOKED_AT = ("p50", "p90", "p95", "p99", "p99.9")


class Report(Struct, frozen=True, kw_only=True):
    #: Of the program that made it, and when it had ended.
    version: str
    at: str
    preset: PresetName | None = None
    load: Load
    figures: Figures
    targets: Sequence[Verdict]

    def times(self) -> Iterator[tuple[str, Told]]:
        """Those that there are."""
        for name, title in TIMES.items():
            told: Told | None = getattr(self.figures, name)
            if told is not None:
                yield title, told

    @property
    def met(self) -> bool:
        return all(verdict.met is not False for verdict in self.targets)


class Unreadable(Exception):
    """A file is no report; the text says which, and why."""


def read_report(path: Path) -> Report:
    """Raises `Unreadable`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}") from None
    except msgspec.MsgspecError as error:
        raise Unreadable(f"{path} is no report of `agent-gateway bench --output`: {error}") from None


class Compared(Struct, frozen=True, kw_only=True):
    """One figure of two load tests. `better`: whether it grew better; None: neither way is better, or it did not move."""

    what: str
    unit: Unit
    figure: float
    other: float
    better: bool | None

    @property
    def change(self) -> float | None:
        """As a share of the other; None: that is 0."""
        return self.figure / self.other - 1 if self.other else None


def compared(mine: Report, other: Report) -> list[Compared]:
    """What both have, in one order."""
    return [
        Compared(what=what, unit=unit, figure=figure, other=theirs[what], better=_better(figure, theirs[what], more_is_better=more))
        for theirs in [{what: value for what, _, value, _ in _told(other)}]
        for what, unit, figure, more in _told(mine)
        if what in theirs
    ]


def _told(report: Report) -> Iterator[tuple[str, Unit, float, bool]]:
    """What, in which unit, how much, and whether more is better."""
    figures = report.figures
    yield "requests answered a second", "per_s", figures.per_s, True
    if figures.requests:
        yield "requests that failed", "share", figures.failed / figures.requests, False
    if figures.cost_usd is not None and figures.answered:
        yield "cost of a request", "usd", figures.cost_usd / figures.answered, False
    for name in ("latency", "first_token", "gap", "overhead"):
        told: Told | None = getattr(figures, name)
        if told is not None:
            for percentile in LOOKED_AT:
                yield f"{TIMES[name]}, {percentile}", "s", told[percentile], False


def _better(figure: float, other: float, *, more_is_better: bool) -> bool | None:
    return None if figure == other else (figure > other) == more_is_better
