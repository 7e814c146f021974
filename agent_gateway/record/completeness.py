"""The books of records: what came in at the edge against what became of its record, for each sink.

Everything that has ended is in one place of four: it still waits in the recorder, it was lost there and counted, it was handed to the
sinks, or it is missing, which is a mistake of ours. What was handed to a sink is written, dropped and counted, or waits there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

#: Outcomes of `records_total`: known to be lost, and gone without a trace.
RECORDS_LOST = ("dropped", "missing")


class Counted(Protocol):
    """What a sink tells of itself."""

    name: str

    @property
    def written(self) -> int: ...

    @property
    def adopted(self) -> int: ...

    @property
    def dropped(self) -> int: ...


@dataclass(slots=True)
class Tally:
    """Since the start; `ended` is counted at the edge, the others where records are made."""

    #: Requests that came in and are not under way any more.
    ended: int = 0
    #: Those of them that leave no record (`monitoring.mode: off`).
    exempt: int = 0
    #: Of the others, those whose record waits to be made, was lost before any sink had it, or was handed to the sinks.
    waiting: int = 0
    dropped: int = 0
    handed: int = 0

    @property
    def missing(self) -> int:
        return self.ended - self.exempt - self.waiting - self.dropped - self.handed

    def less(self, before: Tally) -> Tally:
        """What came since then."""
        return Tally(
            self.ended - before.ended,
            self.exempt - before.exempt,
            self.waiting - before.waiting,
            self.dropped - before.dropped,
            self.handed - before.handed,
        )


@dataclass(frozen=True, slots=True)
class Completeness:
    """Of one sink, since it is there."""

    #: Records that are safe, of those that are safe or lost: 1 until the first loss. What waits is neither yet.
    ratio: float
    written: int
    #: Beside those: of requests of an earlier process.
    adopted: int
    dropped: int
    #: In the recorder and in the sink, a spill file included.
    waiting: int
    #: Requests that ended and left no trace in the books. Always 0, but for a mistake in the gateway.
    missing: int


class Books:
    """Of all sinks. One a process."""

    def __init__(self) -> None:
        self._opened: dict[Counted, Tally] = {}

    def open(self, sink: Counted, tally: Tally) -> None:
        """From now on it is handed every record."""
        self._opened[sink] = replace(tally)

    def close(self, sink: Counted) -> None:
        self._opened.pop(sink, None)

    def balance(self, tally: Tally) -> dict[str, Completeness]:
        """By the sinks' names."""
        return {sink.name: _balance(sink, tally.less(opened)) for sink, opened in self._opened.items()}


def _balance(sink: Counted, tally: Tally) -> Completeness:
    written, dropped = sink.written - sink.adopted, sink.dropped + tally.dropped
    lost = dropped + max(tally.missing, 0)
    waiting = tally.waiting + max(tally.handed - written - sink.dropped, 0)
    ratio = written / (written + lost) if lost else 1.0
    return Completeness(ratio, written, sink.adopted, dropped, waiting, tally.missing)
