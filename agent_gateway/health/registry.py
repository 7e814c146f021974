"""Every deployment's health, by its id; the one place that outlives reloads."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping
from math import ceil, sqrt
from random import Random

from agent_gateway.core.route import Route
from agent_gateway.core.settings import Breaker as BreakerPolicy
from agent_gateway.core.settings import Concurrency as ConcurrencyPolicy
from agent_gateway.core.settings import Fallback
from agent_gateway.health.breaker import Breaker
from agent_gateway.health.concurrency import Concurrency
from agent_gateway.health.controller import Controller
from agent_gateway.health.line import Line, Place
from agent_gateway.health.load import Load
from agent_gateway.health.window import Window

#: Repeats are held against the traffic of this long (s), and are always allowed this many.
BUDGET_WINDOW_S = 10.0
BUDGET_FLOOR = 3
#: Routes of names that clients made up are kept this many at a time, and those with calls under way.
PASSING_MAX = 1024
#: A failure of one kind is logged once in so long (s).
TELL_EVERY_S = 60.0

_FALLBACK = Fallback()
_CONCURRENCY = ConcurrencyPolicy()


class DeploymentHealth:
    """`cooldown_until` (monotonic s) is the provider's own wish after a 429; it says nothing against the deployment."""

    __slots__ = (
        "_alone_since",
        "_alone_until",
        "_pause",
        "_told",
        "breaker",
        "concurrency",
        "cooldown_until",
        "hedges",
        "line",
        "load",
        "repeats",
    )

    def __init__(self, policy: BreakerPolicy, concurrency: ConcurrencyPolicy = _CONCURRENCY) -> None:
        self.load = Load()
        self.breaker = Breaker(policy)
        self.concurrency = Concurrency(concurrency, self.load)
        #: Requests that wait for room here.
        self.line = Line()
        self._pause: asyncio.TimerHandle | None = None
        self.cooldown_until = 0.0
        #: From when to when the provider has asked for that itself: so long nobody who waits is let through. A 429 that names no time
        #: is answered by the bound.
        self._alone_since = 0.0
        self._alone_until = 0.0
        #: First tries in total, repeats as hits.
        self.repeats = Window(BUDGET_WINDOW_S)
        #: Until when a kind of failure is not told again.
        self._told: dict[str, float] = {}
        #: First tries in total, hedges beside them as hits.
        self.hedges = Window(BUDGET_WINDOW_S)

    def tell_once(self, code: str, now: float) -> bool:
        """Whether the operator should hear of this kind of failure: the first time, and then once in `TELL_EVERY_S`."""
        if now < self._told.get(code, 0.0):
            return False
        self._told[code] = now + TELL_EVERY_S
        return True

    @property
    def full(self) -> bool:
        """No call may begin here: all slots are taken, or others wait for the next."""
        limit = self.concurrency.limit
        return limit is not None and (self.load.in_flight >= limit or len(self.line) > 0)

    def has_room(self, now: float) -> bool:
        """For the first in line. A provider that wants to be left alone is left alone by all who wait."""
        limit = self.concurrency.limit
        return now >= self._alone_until and (limit is None or self.load.in_flight < limit)

    def room_for_batches(self, now: float) -> int | None:
        """How many of their calls may be under way, so that those who come as they came lately find room; None: any number.

        Who comes at random comes at times by about the square root more than before (square-root staffing: Halfin and Whitt, 1981).
        """
        limit = self.concurrency.limit
        if limit is None:
            return None
        lately = self.load.interactive.value(now)
        return max(limit - lately - ceil(sqrt(lately)), 0)

    def expected_wait_s(self, place: Place, now: float) -> float:
        """Until it would be served if it joined the line now, by what calls took so far."""
        limit = self.concurrency.limit or 1
        wait_s = (self.line.ahead_of(place) + 1) * self.concurrency.slot_s / limit
        return max(self._alone_until - now, 0.0) + wait_s

    def ended(self, began: float, now: float, *, answered: bool) -> None:
        """A call has ended and its slot is free."""
        self.concurrency.ended(now - began, now, answered=answered)
        self.serve(now)

    def serve(self, now: float) -> None:
        """Calls as many of those who wait as there is room for, once the provider need not be left alone any more."""
        if not self.line:
            return
        if now < self._alone_until:
            if self._pause is None:
                loop = asyncio.get_running_loop()
                self._pause = loop.call_later(self._alone_until - now, self._resume, self._alone_until)
            return
        limit = self.concurrency.limit
        self.line.call(len(self.line) if limit is None else max(limit - self.load.in_flight, 0))

    def overloaded(self, began: float, now: float, wait_s: float | None, *, refused: bool) -> None:
        """A call has failed by the provider's load; `wait_s` is for how long it wants to be left alone, where it said so. To a bound that
        is learnt already, one that was made against such a wish tells nothing new.
        """
        if self.concurrency.learnt is None or not self._alone_since < began < self._alone_until:
            calls, _ = self.repeats.counts(now)
            self.concurrency.overloaded(began, now, calls, refused=refused and wait_s is None)
        if wait_s is not None:
            if now >= self._alone_until:
                self._alone_since = now
            self._alone_until = max(self._alone_until, now + wait_s)

    def cool_down(self, now: float, wait_s: float) -> None:
        self.cooldown_until = max(self.cooldown_until, now + wait_s)

    def follow(self, concurrency: ConcurrencyPolicy) -> None:
        """Takes a reloaded policy; what is known stays, and those who wait look whether they need not any more."""
        self.concurrency.follow(concurrency)
        self.line.call(len(self.line))

    def available(self, now: float) -> bool:
        return now >= self.cooldown_until and self.breaker.allows(now)

    def may_repeat(self, budget: float, now: float) -> bool:
        """Whether another repeat stays within `budget` × the deployment's traffic (at least `BUDGET_FLOOR`)."""
        total, repeats = self.repeats.counts(now)
        return repeats < max(BUDGET_FLOOR, budget * total)

    def may_hedge(self, max_share: float, now: float) -> bool:
        """Whether another hedge beside it stays within `max_share` × its traffic."""
        total, hedges = self.hedges.counts(now)
        return hedges + 1 <= max_share * total

    def _resume(self, at: float) -> None:
        self._pause = None
        self.serve(at)


class Health:
    """A deployment that stands under two models is one thing with one health; its breaker follows the policy seen last, its concurrency
    the tightest.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()
        self._deployments: dict[str, DeploymentHealth] = {}
        self._controllers: dict[str, Controller] = {}
        self._routes: dict[str, Route] = {}
        #: By deployment, the policies of those of `_routes` in which it stands, by the route's identity. None: that is not known.
        self._uses: dict[str, dict[int, ConcurrencyPolicy | None]] = {}
        #: Those of `_routes` that may be forgotten; what was met last stands last.
        self._passing: OrderedDict[str, Route] = OrderedDict()
        #: What operators decided, by deployment: `drain` or `prefer`. Replaced whole, never changed.
        self.interventions: Mapping[str, str] = {}

    def of(self, deployment: str) -> DeploymentHealth:
        """One that was forgotten while a request waited between two calls starts anew, for that call alone."""
        return self._deployments.get(deployment) or DeploymentHealth(BreakerPolicy())

    def controller(self, route: str) -> Controller:
        """As `of`."""
        return self._controllers.get(route) or Controller(_FALLBACK.alert_rate, _FALLBACK.trigger_rate, self._random)

    def configure(self, routes: Collection[Route]) -> None:
        """At every reload: follows these, and forgets those that are not configured any more. What was met stays, but for what it wants of
        its deployments: that is known when it is met again.
        """
        for route in routes:
            self.follow(route)
        for name in self._routes.keys() - {route.name for route in routes}:
            if name not in self._passing:
                self.forget(self._routes[name])
        for route in self._passing.values():
            for deployment in route.deployments:
                self._uses[deployment.id][id(route)] = None
                self._settle(deployment.id)

    def meet(self, route: Route) -> None:
        """Follows a route that no configuration names; it is forgotten when `PASSING_MAX` others were met after it."""
        passing = self._passing
        if passing.get(route.name) is route:
            passing.move_to_end(route.name)
            return
        self.follow(route)
        passing[route.name] = route
        for _ in range(len(passing) - PASSING_MAX):
            name, oldest = passing.popitem(last=False)
            if any(self.of(deployment.id).load.in_flight for deployment in oldest.deployments):
                passing[name] = oldest  # its turn comes again
            else:
                self.forget(oldest)

    def passing(self) -> list[Route]:
        """Routes that were met, and are not forgotten."""
        return list(self._passing.values())

    def forget(self, route: Route) -> None:
        """Its deployments too, but for those that stand under another route."""
        self._passing.pop(route.name, None)
        self._controllers.pop(route.name, None)
        self._release(self._routes.pop(route.name, None))

    def follow(self, route: Route) -> None:
        """Makes a route and its deployments known, or has what is known of them follow a reloaded policy."""
        self._passing.pop(route.name, None)
        before = self._routes.get(route.name)
        self._routes[route.name] = route
        for deployment in route.deployments:
            uses = self._uses.setdefault(deployment.id, {})
            uses[id(route)] = route.concurrency
            known = self._deployments.get(deployment.id)
            if known is None:
                self._deployments[deployment.id] = DeploymentHealth(route.breaker, route.concurrency)
            else:
                known.breaker.follow(route.breaker)
                self._settle(deployment.id)
        policy = route.fallback
        controller = self._controllers.get(route.name)
        if controller is None:
            self._controllers[route.name] = Controller(policy.alert_rate, policy.trigger_rate, self._random)
        else:
            controller.follow(policy.alert_rate, policy.trigger_rate)
        if before is not route:
            self._release(before)

    def deployments(self) -> list[tuple[str, DeploymentHealth]]:
        return list(self._deployments.items())

    def controllers(self) -> list[tuple[str, Controller]]:
        return list(self._controllers.items())

    def _release(self, route: Route | None) -> None:
        for deployment in route.deployments if route else ():
            uses = self._uses.get(deployment.id, {})
            uses.pop(id(route), None)
            if uses:
                self._settle(deployment.id)
            elif deployment.id in self._uses:
                del self._uses[deployment.id], self._deployments[deployment.id]

    def _settle(self, deployment: str) -> None:
        """On the tightest bound that is wanted of it; where none is known, it stays as it is."""
        policies = [policy for policy in self._uses[deployment].values() if policy is not None]
        if policies:
            self._deployments[deployment].follow(_tightest(policies))


def _tightest(policies: Collection[ConcurrencyPolicy]) -> ConcurrencyPolicy:
    return ConcurrencyPolicy(
        max=min([policy.max for policy in policies if policy.max is not None], default=None),
        adaptive=all(policy.adaptive for policy in policies),
        queue_max=min(policy.queue_max for policy in policies),
    )
