"""Every deployment's health, by its id; the one place that outlives reloads."""

from __future__ import annotations

from random import Random

from agent_gateway.core.route import Route
from agent_gateway.core.settings import Breaker as BreakerPolicy
from agent_gateway.health.breaker import Breaker
from agent_gateway.health.controller import Controller
from agent_gateway.health.load import Load
from agent_gateway.health.window import Window

#: Repeats are held against the traffic of this long (s), and are always allowed this many.
BUDGET_WINDOW_S = 10.0
BUDGET_FLOOR = 3


class DeploymentHealth:
    """`cooldown_until` (monotonic s) is the provider's own wish after a 429; it says nothing against the deployment."""

    __slots__ = ("breaker", "cooldown_until", "hedges", "load", "repeats")

    def __init__(self, policy: BreakerPolicy) -> None:
        self.load = Load()
        self.breaker = Breaker(policy)
        self.cooldown_until = 0.0
        #: First tries in total, repeats as hits.
        self.repeats = Window(BUDGET_WINDOW_S)
        #: First tries in total, hedges beside them as hits.
        self.hedges = Window(BUDGET_WINDOW_S)

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

    def of(self, deployment: str) -> DeploymentHealth:
        return self._deployments[deployment]

    def controller(self, route: str) -> Controller:
        return self._controllers[route]

    def follow(self, route: Route) -> None:
        """Makes a route and its deployments known, or has what is known of them follow a reloaded policy."""
        for deployment in route.deployments:
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

    def deployments(self) -> list[tuple[str, DeploymentHealth]]:
        return list(self._deployments.items())

    def controllers(self) -> list[tuple[str, Controller]]:
        return list(self._controllers.items())
