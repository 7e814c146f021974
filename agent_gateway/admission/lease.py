"""What this process holds of a limit that a cluster shares: what is in use, and a little beside it that the path takes without asking.

Promise: what is held was taken from the cluster's allowance before, so that all processes together never let in more than that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf
from typing import Literal, Protocol

#: What a process holds is its own for so long after it was last heard of (s); it says so three times in that time.
LEASE_S = 10.0
#: A process may keep this part of a limit unused, so that most requests need not ask; below a hundred that is nothing.
SPARE_SHARE = 0.01
#: Beside what it needs, a process keeps something only where it has needed some within this time (s); else that is given back.
SPARE_S = 1.0
#: What was refused is refused again without asking for so long (s).
REFUSED_S = 0.05

Kind = Literal[0, 1]
#: As `cluster.lua` has them: what a minute allows, and what is held until it is given back.
RATE: Kind = 0
HOLD: Kind = 1


class Shared(Protocol):
    """The cluster, as a lease sees it."""

    def changed(self, lease: Lease, *, at_once: bool = False) -> None:
        """It has something to say; `at_once`: others may wait for it."""


class Rate(Protocol):
    """The meter of a minute's allowance."""

    def reset_s(self, now: float) -> float: ...

    def set_reset_s(self, reset_s: float, now: float) -> None: ...


class Hold(Protocol):
    """The meter of what is held until it is given back."""

    @property
    def used(self) -> float: ...

    def set_spent(self, spent: float) -> None: ...


class Lease(ABC):
    """`name`: of the limit, in the cluster. Times are monotonic seconds."""

    __slots__ = ("_refused", "_refused_until", "_retry_at", "_shared", "block", "drawn_at", "limit", "name", "said_at", "spare")
    kind: Kind

    def __init__(self, shared: Shared, name: bytes, limit: float, block: float) -> None:
        self._shared = shared
        self.name = name
        self.limit = limit
        #: It may be kept unused.
        self.block = block
        #: It is.
        self.spare = 0.0
        self.drawn_at = -inf
        #: When the cluster last heard of it.
        self.said_at = -inf
        # The smallest amount that was refused lately, how long that is believed, and when it may be had.
        self._refused = inf
        self._refused_until = -inf
        self._retry_at = -inf

    def draw(self, amount: float, now: float) -> None:
        """Of what is spare."""
        self.spare -= amount
        self.drawn_at = now
        if self.spare < self.block / 2:
            self._shared.changed(self)

    def give_back(self, amount: float) -> None:
        """Less than 0: more was used than was taken."""
        self.spare += amount
        self._refused_until = -inf
        if not 0 <= self.spare <= self.block:
            self._shared.changed(self, at_once=self.kind == HOLD)

    def grant(self, now: float) -> None:
        """The cluster had what a request needed."""
        self.drawn_at, self._refused_until = now, -inf

    def refuse(self, amount: float, wait_s: float, now: float) -> None:
        self._refused, self._refused_until, self._retry_at = amount, now + min(wait_s, REFUSED_S), now + wait_s

    def wait_s(self, amount: float, now: float) -> float:
        """At most 0: it is not known that so much cannot be had."""
        return self._retry_at - now if amount >= self._refused and now < self._refused_until else 0.0

    @property
    def in_use(self) -> bool:
        return self.spare != 0

    def keep(self, now: float) -> float:
        """How much may stay spare."""
        return self.block if now - self.drawn_at <= SPARE_S else 0.0

    @abstractmethod
    def speak(self, now: float) -> tuple[float, ...]:
        """What the cluster is told; it counts as said."""

    @abstractmethod
    def hear(self, topped_up: float, state: float, now: float) -> None:
        """What the cluster answers."""

    def lose(self) -> None:  # noqa: B027 – of a minute's allowance, what is at hand was taken for good
        """The cluster could not be asked."""


class RateLease(Lease):
    __slots__ = ("_meter",)
    kind = RATE

    def __init__(self, shared: Shared, name: bytes, per_minute: int, meter: Rate) -> None:
        super().__init__(shared, name, per_minute, per_minute // round(1 / SPARE_SHARE))
        self._meter = meter

    def speak(self, now: float) -> tuple[float, ...]:
        most = self.keep(now)
        kept = min(max(self.spare, 0.0), most)
        used, self.spare, self.said_at = kept - self.spare, kept, now
        return self.kind, self.limit, used, most - kept, self._meter.reset_s(now) * 1000

    def hear(self, topped_up: float, state: float, now: float) -> None:
        self.spare += topped_up
        self._meter.set_reset_s(state / 1000, now)


class HoldLease(Lease):
    """What it says of itself is the whole and not the change, so that an answer that was lost does no harm."""

    __slots__ = ("_meter", "_said_as", "known_spent", "unsaid_spent")
    kind = HOLD

    def __init__(self, shared: Shared, name: bytes, limit: float, block: float, meter: Hold) -> None:
        super().__init__(shared, name, limit, block)
        self._meter = meter
        self._said_as = name
        #: Spent here, and not told yet; spent by all for certain, as the database says.
        self.unsaid_spent = 0.0
        self.known_spent = 0.0

    def allow(self, limit: float, block: float) -> None:
        self.limit, self.block = limit, block

    def begin(self, name: bytes) -> None:
        """Another period: nothing is spent of it. What is in use goes on."""
        self.name = name
        self.spare = self.unsaid_spent = self.known_spent = 0.0

    def spend(self, amount: float) -> None:
        self.unsaid_spent += amount
        self._shared.changed(self)

    def change(self) -> None:
        """What is in use has become less, though it was not drawn here."""
        self._shared.changed(self)

    @property
    def in_use(self) -> bool:
        return self.spare != 0 or self._meter.used > 0 or self.unsaid_spent > 0

    def speak(self, now: float) -> tuple[float, ...]:
        most = self.keep(now)
        self.spare = min(max(self.spare, 0.0), most)
        spent, self.unsaid_spent, self.said_at, self._said_as = self.unsaid_spent, 0.0, now, self.name
        return self.kind, self.limit, self._meter.used + self.spare, most - self.spare, spent, self.known_spent

    def hear(self, topped_up: float, state: float, now: float) -> None:
        if self._said_as == self.name:
            self.spare += topped_up
            self._meter.set_spent(state + self.unsaid_spent)

    def lose(self) -> None:
        """Others may have it soon."""
        self.spare = 0.0
