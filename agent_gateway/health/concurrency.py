"""How many calls may be under way at one deployment: the bound that is configured, and the one that its overloads teach.

Promise: `max` is never passed; where nothing was overloaded there is no other bound, and a stray failure makes none.
"""

from __future__ import annotations

from math import sqrt

from agent_gateway.core.settings import Concurrency as Policy
from agent_gateway.health.first_tokens import FirstTokens
from agent_gateway.health.load import Load
from agent_gateway.health.window import Window

#: A bound is learnt from so many signs of overload within this time (s), and from this share of the calls that began in it;
SIGNS_WINDOW_S = 10.0
SIGNS_MIN = 2
SIGNS_SHARE = 0.05
#: with so many calls under way: what fails with fewer fails for another reason.
CROWD_MIN = 4
#: What is left of a learnt bound after another sign. Between signs it grows by its square root in as many answers as it has slots.
BACKOFF = 0.8
#: It is forgotten when less than half of it has been used for so long (s).
FORGET_S = 60.0
#: Weight of the latest call in the mean time that a slot is held.
_SLOT_WEIGHT = 0.1


class Concurrency:
    """Whole answers differ too much in length for their time to say anything: what counts is who is turned away, who gets no answer
    in time, and how late streams begin.
    """

    __slots__ = ("_crowd_at", "_first_tokens", "_late", "_load", "_policy", "_signs", "_used_at", "learnt", "limit", "slot_s")

    def __init__(self, policy: Policy, load: Load) -> None:
        self._policy = policy
        self._load = load
        #: What holds; None: there is no bound.
        self.limit: int | None = policy.max
        self.learnt: float | None = None
        #: Mean time that a slot is held, while there is a bound; 0: not known.
        self.slot_s = 0.0
        self._signs = Window(SIGNS_WINDOW_S)
        self._first_tokens = FirstTokens()
        #: The last window of first tokens was late.
        self._late = False
        #: When the bound was last lowered: calls begun before are the crowd that it was lowered for.
        self._crowd_at = 0.0
        #: When half of the learnt bound was last in use.
        self._used_at = 0.0

    @property
    def queue_max(self) -> int:
        return self._policy.queue_max

    @property
    def adaptive(self) -> bool:
        return self._policy.adaptive

    def follow(self, policy: Policy) -> None:
        """Takes a reloaded policy; what is learnt stays, unless nothing is to be learnt any more."""
        self._policy = policy
        self._learn(self.learnt if policy.adaptive else None)

    def overloaded(self, began: float, now: float, calls: int, *, refused: bool) -> None:
        """A call that has ended was turned away, or had no answer in time. `calls` began in the last `SIGNS_WINDOW_S`. `refused`: the
        provider named no time to wait, so what it does carry now is what it can.
        """
        if not self._policy.adaptive:
            return
        carried = self._load.in_flight
        if self.learnt is None:
            self._signs.add(now)
            signs, _ = self._signs.counts(now)
            if carried + 1 >= CROWD_MIN and signs >= max(SIGNS_MIN, SIGNS_SHARE * calls):
                self._lower(carried + 1, now)
        elif began <= self._crowd_at:
            if refused and carried < self.learnt:
                self._learn(carried)
        elif carried + 1 >= self.learnt / 2:
            self._lower(min(self.learnt, carried + 1) * BACKOFF, now)

    def first_token(self, seconds: float, input_tokens: int, now: float) -> None:
        """A stream's first content has come."""
        in_flight = self._load.in_flight
        late = self._first_tokens.observe(seconds, input_tokens, in_flight, now)
        if late is None:
            return
        late_again = self._late and late > 1
        self._late = late > 1
        if self.learnt is None:
            if late_again and in_flight >= CROWD_MIN:
                self._lower(in_flight, now)
        elif self._late and in_flight >= self.learnt / 2:
            self._lower(self.learnt * max(BACKOFF, 1 / late), now)

    def ended(self, held_s: float, now: float, *, answered: bool) -> None:
        """A call has ended, while there is a bound."""
        self.slot_s += (held_s - self.slot_s) * (_SLOT_WEIGHT if self.slot_s else 1.0)
        learnt = self.learnt
        if learnt is None:
            return
        used = self._load.in_flight + 1
        if used < learnt / 2:
            self.forget_unused(now)
            return
        self._used_at = now
        if answered and not self._late and used >= int(learnt):
            self._learn(learnt + 1 / sqrt(learnt))

    def forget_unused(self, now: float) -> None:
        if self.learnt is not None and now - self._used_at >= FORGET_S:
            self._signs.clear()
            self._late = False
            self._learn(None)

    def _lower(self, learnt: float, now: float) -> None:
        self._crowd_at = self._used_at = now
        self._learn(learnt)

    def _learn(self, learnt: float | None) -> None:
        self.learnt = None if learnt is None else max(learnt, 1.0)
        bounds = [bound for bound in (self._policy.max, self.learnt) if bound is not None]
        self.limit = int(min(bounds)) if bounds else None
