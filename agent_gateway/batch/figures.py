"""What metrics tell of batches, counted by the process that brought it about."""

from __future__ import annotations

from collections import Counter

from agent_gateway.record.family import Histogram
from agent_gateway.record.metrics import BATCH_S


class BatchFigures:
    def __init__(self) -> None:
        #: By what became of them.
        self.items: Counter[str] = Counter()
        #: From creation to end.
        self.durations = Histogram(BATCH_S)
