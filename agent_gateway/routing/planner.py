"""From a model's route to the order in which its deployments, and then its fallbacks', are tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from agent_gateway.core.call import Call
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import Overloaded
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.plan import Candidate, Detour, Plan
from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.usage import Usage
from agent_gateway.health.registry import Health
from agent_gateway.routing.base import Strategy, View
from agent_gateway.routing.capability import Demand, unmet

#: Output tokens expected of a deployment that has not answered yet.
EXPECTED_OUTPUT_TOKENS = 256
#: Plans kept: names that clients make up have one each.
PLANS_MAX = 1024


class Planner:
    """`find` knows every name that a fallback names: the configuration has been checked for that. `routes` are those it holds."""

    def __init__(
        self,
        find: Callable[[str], Route | None],
        strategy_of: Callable[[Route], Strategy],
        health: Health,
        clock: Clock,
        random: Random | None = None,
        routes: Mapping[str, Route] | None = None,
    ) -> None:
        self._find = find
        self._strategy_of = strategy_of
        self._health = health
        self._clock = clock
        self._random = random or Random()
        self._routes = routes or {}
        #: Of routes with several deployments: those of the configuration.
        self._strategies: dict[str, Strategy] = {}
        #: Routes with one deployment and no fallback have one plan, ever.
        self._only_plans: dict[str, Plan] = {}

    def plan(self, exchange: Exchange, route: Route) -> Plan:
        """The model's own deployments in their strategy's order, then each fallback's in theirs.

        The controller may put the fallbacks first. What is ejected or cooling down comes last, never not at all: it may be all there is.
        Who cannot take the request is left out, and who would take it without its wishes comes behind the others of its model.
        Raises `NotCapable` or `ContextTooLong` where nobody can.
        """
        demand = Demand.of(exchange.call)
        if len(route.deployments) == 1 and not route.fallbacks:
            if demand is not None and not demand.met_by(route.deployments[0]):
                raise unmet(demand, exchange, route.deployments, self._routes)
            if self._health.interventions.get(route.deployments[0].id) == "drain":
                raise _all_drained(route)
            return self._only_plan(route)
        now = self._clock.monotonic()
        own = self._ordered(route, exchange.call, demand, now, fallback=False)
        others: list[Candidate] = []
        for name in route.fallbacks:
            fallback = self._find(name)
            assert fallback is not None, name
            others += self._ordered(fallback, exchange.call, demand, now, fallback=True)
        detour: Detour | None = None
        if self._health.interventions:
            own, others, is_drained = self._intervened(own), self._intervened(others), bool(own)
            if not own and is_drained:
                if not others:
                    raise _all_drained(route)
                detour = "drained"
        if detour is not None:
            candidates = others
        elif not own:
            if not others:
                assert demand is not None, "a route has deployments"
                raise unmet(demand, exchange, self._chain(route), self._routes)
            detour = "capability"
            candidates = others
        elif others and not self._health.controller(route.name).admits_primary(now):
            detour = "controller"
            candidates = others + own
        else:
            candidates = own + others
        candidates.sort(key=lambda candidate: not self._health.of(candidate.deployment.id).available(now))
        if detour is None and candidates[0].fallback:
            detour = "cooling" if any(self._health.of(each.deployment.id).breaker.allows(now) for each in own) else "unavailable"
        return Plan(route, tuple(candidates), detour)

    def _intervened(self, candidates: list[Candidate]) -> list[Candidate]:
        """As operators decided: without those taken out; of each model, those preferred first."""
        modes = self._health.interventions
        left = [candidate for candidate in candidates if modes.get(candidate.deployment.id) != "drain"]
        places = {candidate.route.name: place for place, candidate in reversed(list(enumerate(left)))}
        return sorted(left, key=lambda each: (places[each.route.name], modes.get(each.deployment.id) != "prefer"))

    def _strategy(self, route: Route) -> Strategy:
        strategy = self._strategies.get(route.name)
        if strategy is None:
            strategy = self._strategies[route.name] = self._strategy_of(route)
        return strategy

    def _only_plan(self, route: Route) -> Plan:
        plan = self._only_plans.get(route.name)
        if plan is None:
            if len(self._only_plans) >= PLANS_MAX:
                self._only_plans.clear()  # a plan is quickly made
            plan = self._only_plans[route.name] = Plan(route, (Candidate(route.deployments[0], route),))
        return plan

    def _ordered(self, route: Route, call: Call, demand: Demand | None, now: float, *, fallback: bool) -> list[Candidate]:
        deployments: Sequence[Deployment] = route.deployments
        if demand is not None:
            deployments = [deployment for deployment in deployments if demand.met_by(deployment)]
        if len(deployments) > 1:
            stream = call.stream and route.streaming.enabled
            views = [self._view(deployment, call, now, stream=stream) for deployment in deployments]
            ordered = [deployments[index] for index in self._strategy(route).order(views, self._random)]
            deployments = ordered if demand is None else sorted(ordered, key=demand.disappointed_by)
        return [Candidate(deployment, route, fallback) for deployment in deployments]

    def _chain(self, route: Route) -> list[Deployment]:
        """The model's own deployments and its fallbacks'."""
        fallbacks = [fallback for name in route.fallbacks if (fallback := self._find(name)) is not None]
        return [deployment for each in (route, *fallbacks) for deployment in each.deployments]

    def _view(self, deployment: Deployment, call: Call, now: float, *, stream: bool) -> View:
        load = self._health.of(deployment.id).load
        input_tokens = call.estimated_input_tokens
        cost_usd = None
        if deployment.price is not None:
            output = min(load.tokens_per_call or EXPECTED_OUTPUT_TOKENS, call.max_output_tokens or float("inf"))
            cost_usd = deployment.price.cost_usd(Usage(input=input_tokens, output=int(output)))
        return View(deployment.weight, load.in_flight, load.latency(stream=stream).expected_s(input_tokens, now), cost_usd)


def _all_drained(route: Route) -> Overloaded:
    return Overloaded(
        f"An operator has taken every deployment of the model {route.name[:200]!r} out of service. Ask another model, or try again later.",
        param="drained",
        retry_after_s=10,
    )
