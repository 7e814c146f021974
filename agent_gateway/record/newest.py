"""The records of just now, for who looks on: each of several readers sees each of them once, or not at all."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from agent_gateway.record.row import Record

#: Kept, and told at once.
NEWEST_MAX = 50


class Newest:
    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=NEWEST_MAX)
        #: How many there have been.
        self.count = 0

    def extend(self, records: Sequence[Record]) -> None:
        self._records.extend(records)
        self.count += len(records)

    def after(self, count: int) -> list[Record]:
        """Those that came since there were so many, the newest first, as far as they are kept."""
        missing = min(self.count - count, len(self._records))
        return [self._records[-place] for place in range(1, missing + 1)]
