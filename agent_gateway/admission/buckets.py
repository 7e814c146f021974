"""What a minute allows, and how many may run at once: the meters of an account that are counted in this process.

Promise: exact to the request; asking changes nothing, so that a refused request costs nothing.
"""

from __future__ import annotations

from math import inf
from typing import Literal, Protocol

from agent_gateway.admission.lease import HoldLease, Lease, RateLease
from agent_gateway.core.errors import RateLimited

LimitName = Literal["parallel", "requests", "tokens", "budget"]

#: The burst is the minute's allowance.
MINUTE_S = 60.0
#: A wait that is shorter is none: what is added up from floats is not exact.
EPSILON_S = 1e-6
#: Who finds all slots taken is told to come back after so long.
SLOT_WAIT_S = 1.0


class Meter(Protocol):
    """One limit of one account. `lease`: its share of what the cluster has; None: this process counts for itself."""

    @property
    def limit(self) -> LimitName: ...

    @property
    def lease(self) -> Lease | None: ...

    def wait_s(self, amount: float, now: float) -> float:
        """How long until so much may be taken; at most 0: now."""

    def take(self, amount: float, now: float) -> None:
        """By this process's own count."""

    def hold(self, amount: float) -> None:
        """It was drawn from the lease, or (< 0) is given back to it."""

    def refusal(self, wait_s: float) -> RateLimited: ...


class Bucket:
    """A generic cell rate algorithm (ITU-T I.371): `_full_at` is when all of the allowance is there again."""

    __slots__ = ("_full_at", "_lines", "lease", "limit", "per_minute", "whose")

    def __init__(self, limit: Literal["requests", "tokens"], per_minute: int, whose: str) -> None:
        """`whose`: as people are told."""
        self.limit: LimitName = limit
        self.per_minute = per_minute
        self.whose = whose
        self.lease: RateLease | None = None
        self._full_at = -inf
        self._lines = (
            f"x-ratelimit-limit-{limit}: {per_minute}\r\nx-ratelimit-remaining-{limit}: ",
            f"\r\nx-ratelimit-reset-{limit}: ",
        )

    def wait_s(self, amount: float, now: float) -> float:
        """More than the whole allowance waits until that is there."""
        spent_s = self._full_at - now
        amount_s = amount / self.per_minute * MINUTE_S if amount < self.per_minute else MINUTE_S
        return (spent_s if spent_s > 0 else 0.0) + amount_s - MINUTE_S - EPSILON_S

    def take(self, amount: float, now: float) -> None:
        """Also a negative amount: what was taken and is not needed. What is used beyond the allowance is waited for later."""
        full_at = self._full_at
        self._full_at = (full_at if full_at > now else now) + amount * MINUTE_S / self.per_minute

    def hold(self, amount: float) -> None:
        """The cluster has counted it."""

    def set_reset_s(self, reset_s: float, now: float) -> None:
        """As the cluster has it."""
        self._full_at = now + reset_s

    def reset_s(self, now: float) -> float:
        """Until the allowance is whole."""
        spent_s = self._full_at - now
        return spent_s if spent_s > 0 else 0.0

    def remaining(self, now: float) -> int:
        spent_s = self._full_at - now
        left = self.per_minute if spent_s <= 0 else (1 - spent_s / MINUTE_S) * self.per_minute + 1e-6
        if self.lease is not None:
            left = min(left + self.lease.spare, self.per_minute)
        return int(left) if left > 0 else 0

    def lines(self, now: float) -> str:
        limit_line, reset_line = self._lines
        spent_s = self._full_at - now
        return f"{limit_line}{self.remaining(now)}{reset_line}{int(spent_s * 1000) if spent_s > 0 else 0}ms\r\n"

    def refusal(self, wait_s: float) -> RateLimited:
        message = f"The limit of {self.whose} is reached: {self.per_minute} {self.limit} a minute. Try again in {shown(wait_s)}."
        return RateLimited(message, param=self.limit, retry_after_s=wait_s)


class Slots:
    """Requests under way."""

    __slots__ = ("lease", "limit", "most", "used", "whose")

    def __init__(self, whose: str) -> None:
        self.limit: LimitName = "parallel"
        #: Infinite where there is no limit: they are counted all the same, for one may come while they run.
        self.most = inf
        self.whose = whose
        self.lease: HoldLease | None = None
        self.used = 0

    def wait_s(self, amount: float, now: float) -> float:
        return 0.0 if self.used < self.most else SLOT_WAIT_S

    def take(self, amount: float, now: float) -> None:
        self.used += 1

    def hold(self, amount: float) -> None:
        self.used += int(amount)

    def set_spent(self, spent: float) -> None:
        """They come back; nothing is spent of them."""

    def refusal(self, wait_s: float) -> RateLimited:
        message = f"The limit of {self.whose} is reached: {self.most:.0f} requests at once. Try again when one of them has ended."
        return RateLimited(message, param=self.limit, retry_after_s=wait_s)


def shown(wait_s: float) -> str:
    return f"{max(wait_s, 0.001):.3g} s" if wait_s < 1000 else f"{wait_s:.0f} s"
