"""One scenario, drawn: of which model, from when to when, how bad, and what traffic there is.

Promise: a scenario depends on the seed, its kind and its number alone, not on which others are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.settings import Budget
from agent_gateway.core.usage import Usage
from agent_gateway.rehearsal.kinds import KINDS, Kind

#: Of one scenario (s).
LENGTH_S = 3600.0
#: An incident begins and ends within (s since the scenario began).
_BEGINS_S = (600.0, 1500.0)
_LASTS_S = (600.0, 1200.0)
#: Requests a second: what an alert is to tell of is asked for often enough to be seen.
_PER_S = (0.15, 0.4)
_QUIET_PER_S = (1 / 60, 0.4)
#: Of the requests, those by the key whose budget is spent.
SPENDER_SHARE = 0.3
#: The model that an incident is at is asked for about so many times as often as another.
_TARGET_WEIGHT = 2.5
#: Of a burst: times the mean, and how long (s).
_BURST = 10.0
_BURST_S = 60.0
#: What a request takes, about.
USUAL = Usage(input=40, output=5)


@dataclass(frozen=True, slots=True)
class Demand:
    """What clients ask; seconds since the scenario began."""

    #: Requests a second, in the mean.
    per_s: float
    #: By model, how often it is asked for beside the others.
    weights: Mapping[str, float]
    #: Of the mean, what waves add and take away, and how long one is.
    swing: float = 0.0
    wave_s: float = LENGTH_S
    #: When there is ten times as much for a minute.
    bursts: tuple[float, ...] = ()
    #: Of clients, those who leave early.
    leave: float = 0.0

    @property
    def most_per_s(self) -> float:
        return self.per_s * max(1 + self.swing, _BURST if self.bursts else 1.0)

    def per_s_at(self, at: float) -> float:
        if any(begins <= at < begins + _BURST_S for begins in self.bursts):
            return self.per_s * _BURST
        return self.per_s * (1 + self.swing * math.sin(2 * math.pi * at / self.wave_s))


@dataclass(frozen=True, slots=True)
class Scenario:
    """`models` and `deployments`: what is hit, directly or by its deployments."""

    name: str
    #: Of whatever else is left to chance while it is played.
    seed: int
    kind: Kind
    demand: Demand
    begins_s: float
    ends_s: float
    models: frozenset[str]
    deployments: frozenset[str]
    #: Of the calls of these deployments, those that are hit.
    share: float
    #: Down for so long, and back for so long (s).
    flaps_s: tuple[float, float] | None
    #: Of prompts, while they have grown.
    prompt_tokens: int = 0
    budget: Budget | None = None

    def is_on(self, at: float) -> bool:
        """What is wrong is so at `at` (s since it began)."""
        if not self.begins_s <= at < self.ends_s:
            return False
        return self.flaps_s is None or (at - self.begins_s) % sum(self.flaps_s) < self.flaps_s[0]


class Draw:
    """Scenarios over these routes. `cost_usd`: what a request may cost before it is told."""

    def __init__(self, routes: Mapping[str, Route], cost_usd: float, seed: int) -> None:
        self._routes = routes
        self._cost_usd = cost_usd
        self._seed = seed
        #: Models of which it is known what they cost.
        self._priced = [name for name, route in routes.items() if all(_is_priced(deployment) for deployment in route.deployments)]

    def several(self, number: int, kinds: Collection[str] = KINDS.keys()) -> list[Scenario]:
        """Of each kind as many as of any other of its sort; where there are quiet kinds and others, half are quiet."""
        possible = [KINDS[name] for name in kinds if KINDS[name].spends is None or self._priced]
        sorts = [sort for sort in ([kind for kind in possible if kind.quiet], [kind for kind in possible if not kind.quiet]) if sort]
        drawn = [self._each(sort) for sort in sorts]
        return [next(drawn[place % len(drawn)]) for place in range(number)] if drawn else []

    def _each(self, kinds: Sequence[Kind]) -> Iterator[Scenario]:
        for nth in count(1):
            for kind in kinds:
                yield self._one(kind, nth)

    def _one(self, kind: Kind, nth: int) -> Scenario:
        chance = Random(f"{self._seed}/{kind.name}/{nth}")
        model = chance.choice(self._priced if kind.spends else list(self._routes))
        hit = self._hit(kind, model, chance)
        quiet = kind.quiet and kind.calls_max is None
        begins_s = 0.0 if quiet else chance.uniform(*_BEGINS_S)
        ends_s = LENGTH_S if quiet or kind.spends == "budget" else begins_s + chance.uniform(*_LASTS_S)
        demand = self._demand(kind, model, chance)
        return Scenario(
            name=f"{kind.name}-{nth}",
            seed=chance.getrandbits(64),
            kind=kind,
            demand=demand,
            begins_s=begins_s,
            ends_s=ends_s,
            models=frozenset(name for name, route in self._routes.items() if hit & {each.id for each in route.deployments}),
            deployments=hit,
            share=chance.uniform(*kind.share),
            flaps_s=None if kind.flaps_s is None else (chance.uniform(*kind.flaps_s), chance.uniform(*kind.flaps_s)),
            prompt_tokens=self._prompt_tokens(kind, model, chance) if kind.spends == "prompts" else 0,
            budget=self._budget(demand, begins_s) if kind.spends == "budget" else None,
        )

    def _hit(self, kind: Kind, model: str, chance: Random) -> frozenset[str]:
        deployments = [deployment.id for deployment in self._routes[model].deployments]
        if kind.down is not None or kind.spends == "budget":
            return frozenset(deployment.id for route in self._routes.values() for deployment in route.deployments)
        if kind.whole_model or kind.spends == "prompts" or chance.random() < 0.5:
            return frozenset(deployments)
        return frozenset([chance.choice(deployments)])

    def _demand(self, kind: Kind, model: str, chance: Random) -> Demand:
        low, high = _QUIET_PER_S if kind.quiet else _PER_S
        per_s = 0.0 if kind.shape == "nobody" else low * (high / low) ** chance.random()
        weights = {name: chance.uniform(0.5, 1.0) for name in self._routes}
        weights[model] = _TARGET_WEIGHT
        bursts: tuple[float, ...] = ()
        if kind.shape == "bursts":
            per_s /= 2
            bursts = tuple(sorted(chance.uniform(0, LENGTH_S - _BURST_S) for _ in range(chance.randint(2, 4))))
        swing = chance.uniform(0.6, 1.0) if kind.shape == "waves" else chance.uniform(0.0, 0.3)
        return Demand(per_s, weights, swing, chance.uniform(0.5, 1.0) * LENGTH_S, bursts, kind.leave)

    def _prompt_tokens(self, kind: Kind, model: str, chance: Random) -> int:
        least = min(_input_usd(deployment) for deployment in self._routes[model].deployments)
        return math.ceil(self._cost_usd * chance.uniform(*kind.times) / least)

    def _budget(self, demand: Demand, begins_s: float) -> Budget:
        """Of which the soft share is spent about then."""
        whole = sum(demand.weights.values())
        cost_usd = 0.0
        for name, weight in demand.weights.items():
            prices = [deployment.price for deployment in self._routes[name].deployments if deployment.price is not None]
            each = [price.cost_usd(USUAL) for price in prices]
            cost_usd += weight / whole * (sum(each) / len(each) if each else 0.0)
        soft = Budget(usd=1).soft
        return Budget(usd=max(begins_s * demand.per_s * SPENDER_SHARE * cost_usd / soft, 1e-9), per="day")


def _is_priced(deployment: Deployment) -> bool:
    return _input_usd(deployment) > 0


def _input_usd(deployment: Deployment) -> float:
    return 0.0 if deployment.price is None else deployment.price.input / 1_000_000
