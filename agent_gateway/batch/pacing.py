"""How long a batch and its items wait after a failure that may pass.

Promise: a limit or a provider that is down is asked again now and then, not by every item of a batch.
"""

from __future__ import annotations

from random import Random

from agent_gateway.core.errors import GatewayError, ProviderError

#: Of an item, doubled at every further attempt; and the longest wait of an item, and of a batch (s).
ITEM_WAIT_S = 1.0
ITEM_WAIT_MAX_S = 300.0
BATCH_WAIT_S = 1.0
BATCH_WAIT_MAX_S = 60.0
#: So many failures of providers, with no success between them, make a batch wait. One that comes from limits does so at once.
FAILURES_MIN = 4


def may_pass(error: GatewayError) -> bool:
    """Whether it is worth another attempt: limits, overload, timeouts and faults, ours and providers', are; clients' errors are not."""
    return error.shown_status == 429 or error.shown_status >= 500


class Pacing:
    """Of one process. Times are monotonic seconds."""

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()
        #: Of each batch that fails at present: failures in a row, pauses in a row, and the end of the last.
        self._failing: dict[str, tuple[int, int, float]] = {}

    def failed(self, batch: str, error: GatewayError, attempts: int, now: float) -> float:
        """How long the item waits (s)."""
        failures, pauses, until = self._failing.get(batch, (0, 0, 0.0))
        failures += 1
        # What was begun before a pause tells nothing new.
        if now >= until and (failures >= FAILURES_MIN or not isinstance(error, ProviderError)):
            wait_s = max(BATCH_WAIT_S * 2.0 ** min(pauses, 10), error.retry_after_s or 0.0)
            pauses, until = pauses + 1, now + min(wait_s, BATCH_WAIT_MAX_S)
        self._failing[batch] = (failures, pauses, until)
        wait_s = max(ITEM_WAIT_S * 2.0 ** min(attempts - 1, 20), error.retry_after_s or 0.0)
        return min(wait_s, ITEM_WAIT_MAX_S) * self._random.uniform(0.5, 1.0)

    def succeeded(self, batch: str) -> None:
        if self._failing:
            self._failing.pop(batch, None)

    def paused(self, now: float) -> frozenset[str]:
        return frozenset(batch for batch, (_, _, until) in self._failing.items() if now < until)

    def keep_only(self, batches: frozenset[str]) -> None:
        """Of others nothing need be known."""
        for batch in self._failing.keys() - batches:
            del self._failing[batch]
