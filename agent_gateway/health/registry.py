"""Every deployment's health, by its id; the one place that outlives reloads."""

from __future__ import annotations

from collections import OrderedDict
from random import Random

from agent_gateway.core.route import Route
from agent_gateway.core.settings import Breaker as BreakerPolicy
from agent_gateway.core.settings import Fallback
from agent_gateway.health.breaker import Breaker
from agent_gateway.health.controller import Controller
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


class DeploymentHealth:
    """`cooldown_until` (monotonic s) is the provider's own wish after a 429; it says nothing against the deployment."""

    __slots__ = ("_told", "breaker", "cooldown_until", "hedges", "load", "repeats")

    def __init__(self, policy: BreakerPolicy) -> None:
        self.load = Load()
        self.breaker = Breaker(policy)
        self.cooldown_until = 0.0
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


class Health:
    """A deployment that stands under two models is one thing with one health; its breaker follows the policy seen last."""

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()
        self._deployments: dict[str, DeploymentHealth] = {}
        self._controllers: dict[str, Controller] = {}
        self._routes: dict[str, Route] = {}
        #: In how many of `_routes` a deployment stands.
        self._uses: dict[str, int] = {}
        #: Those of `_routes` that may be forgotten; what was met last stands last.
        self._passing: OrderedDict[str, Route] = OrderedDict()

    def of(self, deployment: str) -> DeploymentHealth:
        """One that was forgotten while a request waited between two calls starts anew, for that call alone."""
        return self._deployments.get(deployment) or DeploymentHealth(BreakerPolicy())

    def controller(self, route: str) -> Controller:
        """As `of`."""
        return self._controllers.get(route) or Controller(_FALLBACK.alert_rate, _FALLBACK.trigger_rate, self._random)

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
            self._uses[deployment.id] = self._uses.get(deployment.id, 0) + 1
            known = self._deployments.get(deployment.id)
            if known is None:
                self._deployments[deployment.id] = DeploymentHealth(route.breaker)
            else:
                known.breaker.follow(route.breaker)
        policy = route.fallback
        controller = self._controllers.get(route.name)
        if controller is None:
            self._controllers[route.name] = Controller(policy.alert_rate, policy.trigger_rate, self._random)
        else:
            controller.follow(policy.alert_rate, policy.trigger_rate)
        self._release(before)

    def deployments(self) -> list[tuple[str, DeploymentHealth]]:
        return list(self._deployments.items())

    def controllers(self) -> list[tuple[str, Controller]]:
        return list(self._controllers.items())

    def _release(self, route: Route | None) -> None:
        for deployment in route.deployments if route else ():
            self._uses[deployment.id] -= 1
            if not self._uses[deployment.id]:
                del self._uses[deployment.id], self._deployments[deployment.id]
