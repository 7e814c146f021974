"""A circuit breaker: keeps calls off a deployment that fails, and lets one through now and then to see whether it still does.

Time is passed in. Only the provider's failures count; whoever reports to it has left out clients' errors and hang-ups.
"""

from __future__ import annotations

from typing import Literal

from agent_gateway.core.settings import Breaker as Policy
from agent_gateway.health.window import Window

State = Literal["closed", "half_open", "open"]

#: Each ejection in a row doubles `open_s`, up to this many times `open_s`.
LONGEST_OPEN = 10


class Breaker:
    """Opens after `consecutive_failures`, or when `failure_rate` of at least `min_requests` failed within `window_s`.

    Open for `open_s` × 2^(ejections in a row − 1). Then half open: one probe at a time decides.
    """

    __slots__ = (
        "_consecutive",
        "_policy",
        "_succeeded_at",
        "_window",
        "changed_at",
        "changes",
        "ejections",
        "probing",
        "state",
        "waits_until",
    )

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.state: State = "closed"
        self._consecutive = 0
        self._succeeded_at = 0.0
        self._window = Window(policy.window_s)
        #: In a row; 0 while it is closed.
        self.ejections = 0
        #: When it opened or closed last, and how often it did so by what was seen here.
        self.changed_at = 0.0
        self.changes = 0
        self.probing = False
        #: Half open, it leaves the probe to other processes so long.
        self.waits_until = 0.0

    def follow(self, policy: Policy) -> None:
        """Takes a reloaded policy; what is known stays."""
        if policy.window_s != self._policy.window_s:
            self._window = Window(policy.window_s)
        self._policy = policy

    def allows(self, now: float) -> bool:
        """Whether a call may go there now. Asking changes nothing but open → half open when its time has come."""
        if self.state == "closed":
            return True
        if self.state == "open" and now >= self.reopens_at:
            self.state = "half_open"
            self.probing = False
        return self.state == "half_open" and not self.probing and now >= self.waits_until

    @property
    def reopens_at(self) -> float:
        """When an open breaker lets a probe through."""
        growth = min(1 << min(max(self.ejections - 1, 0), LONGEST_OPEN), LONGEST_OPEN)
        return self.changed_at + self._policy.open_s * growth

    def begin(self, now: float) -> bool:
        """A call goes there. True when it is the probe, which must then report, be it only `abandoned`."""
        if self.state != "closed" and self.allows(now):
            self.probing = True
            return True
        return False

    def abandoned(self, probe: bool) -> None:
        """The call ended without telling anything (the client left, the request was wrong)."""
        if probe:
            self.probing = False

    def succeeded(self, now: float, probe: bool = False) -> None:
        self._consecutive = 0
        self._succeeded_at = now
        if self.state == "closed":
            self._window.add(now)
        elif probe:
            self.changes += 1
            self._close(now)

    def failed(self, now: float, probe: bool = False) -> None:
        if probe:
            self.probing = False
            self._open(now)
        elif self.state == "closed":
            self._consecutive += 1
            self._window.add(now, hits=1)
            if self._consecutive >= self._policy.consecutive_failures or self._rate_exceeded(now):
                self._open(now)

    # --- what other processes saw

    def opened_elsewhere(self, at: float, ejections: int) -> bool:
        """Whether that is news: who has seen a success since then knows better."""
        if self.state == "closed" and self._succeeded_at > at:
            return False
        self._eject(at, ejections)
        return True

    def closed_elsewhere(self, at: float) -> bool:
        if self.state == "closed":
            return False
        self._close(at)
        return True

    # ---

    def _open(self, now: float) -> None:
        self.changes += 1
        self._eject(now, self.ejections + 1)

    def _eject(self, at: float, ejections: int) -> None:
        self.state = "open"
        self.changed_at = at
        self.ejections = ejections
        self._consecutive = 0
        self._window.clear()

    def _close(self, at: float) -> None:
        self.state = "closed"
        self.changed_at = at
        self.probing = False
        self.ejections = 0
        self._window.clear()

    def _rate_exceeded(self, now: float) -> bool:
        calls, failures = self._window.counts(now)
        return calls >= self._policy.min_requests and failures >= calls * self._policy.failure_rate
