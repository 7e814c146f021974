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

    __slots__ = ("_consecutive", "_ejections", "_opened_at", "_policy", "_probing", "_window", "state")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.state: State = "closed"
        self._consecutive = 0
        self._ejections = 0
        self._opened_at = 0.0
        self._probing = False
        self._window = Window(policy.window_s)

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
            self._probing = False
        return self.state == "half_open" and not self._probing

    @property
    def reopens_at(self) -> float:
        """When an open breaker lets a probe through."""
        growth = min(1 << min(max(self._ejections - 1, 0), LONGEST_OPEN), LONGEST_OPEN)
        return self._opened_at + self._policy.open_s * growth

    def begin(self, now: float) -> bool:
        """A call goes there. True when it is the probe, which must then report, be it only `abandoned`."""
        if self.state != "closed" and self.allows(now):
            self._probing = True
            return True
        return False

    def abandoned(self, probe: bool) -> None:
        """The call ended without telling anything (the client left, the request was wrong)."""
        if probe:
            self._probing = False

    def succeeded(self, now: float, probe: bool = False) -> None:
        self._consecutive = 0
        if self.state == "closed":
            self._window.add(now)
        elif probe:
            self.state = "closed"
            self._probing = False
            self._ejections = 0
            self._window.clear()

    def failed(self, now: float, probe: bool = False) -> None:
        if probe:
            self._probing = False
            self._open(now)
        elif self.state == "closed":
            self._consecutive += 1
            self._window.add(now, hits=1)
            if self._consecutive >= self._policy.consecutive_failures or self._rate_exceeded(now):
                self._open(now)

    def _open(self, now: float) -> None:
        self.state = "open"
        self._opened_at = now
        self._ejections += 1
        self._consecutive = 0
        self._window.clear()

    def _rate_exceeded(self, now: float) -> bool:
        calls, failures = self._window.counts(now)
        return calls >= self._policy.min_requests and failures >= calls * self._policy.failure_rate
