"""For how long what is known in memory stays good while the store cannot say whether it still is: `auth.grace_s`."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import StoreDown

_log = logging.getLogger("agent_gateway.admission")


class Grace:
    """`what`: how the log names them."""

    def __init__(self, what: str, clock: Clock) -> None:
        self._what = what
        self._clock = clock
        self._store_was_down = False
        self.confirm()

    def confirm(self) -> None:
        """The store has answered."""
        self._store_was_down = False
        self._confirmed_at = self._clock.monotonic()

    def bear(self, error: Exception, grace_s: float, known: MutableMapping[Any, Any]) -> None:
        """The store is down, or tells what cannot be read; where the grace is over, what is known is forgotten."""
        if not self._store_was_down:
            why = error.detail if isinstance(error, StoreDown) else repr(error)
            _log.warning("%s cannot be read; those already known go on working for %g s: %s", self._what, grace_s, why)
        self._store_was_down = True
        if known and self._clock.monotonic() - self._confirmed_at >= grace_s:
            _log.error("%s could not be read for %g s (auth.grace_s): those known are let in no more", self._what, grace_s)
            known.clear()
