"""Which items of a batch go to a provider's own batches, and until when they may stay there.

Promise: what goes there can still be run live within the window, whatever the provider makes of it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf

from agent_gateway.admission.budgets import Purse
from agent_gateway.admission.keys import KeyRing
from agent_gateway.batch.identity import key_of
from agent_gateway.batch.native.base import BATCH_APIS, BatchApi
from agent_gateway.batch.native.plan import Part, Plan, Target, parts_of
from agent_gateway.batch.submission import ENDPOINTS
from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock, new_request_id
from agent_gateway.core.errors import ClientError, GatewayError
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.pricing import Price
from agent_gateway.core.route import Deployment, Route
from agent_gateway.health.registry import Health
from agent_gateway.pipeline import Live, Runtime
from agent_gateway.stores.batches import NewItem, StoredBatch
from agent_gateway.upstream.http_provider import HttpProvider, HttpSettings
from agent_gateway.upstream.known_providers import known_batches

#: What a window must have (s): by itself as much as providers promise, else as much as leaves time for both ways.
AUTO_WINDOW_S = 24 * 3_600.0
ON_WINDOW_S = 3_600.0
#: Of the window, the share that is kept for live calls at least, and at most.
LIVE_SHARE_MIN = 0.25
LIVE_SHARE_MAX = 0.75
#: Of that share, the part in which a provider may still wind up what it was told to stop.
STOP_SHARE = 0.2
STOP_MAX_S = 900.0
#: A call of a deployment that has not answered yet is expected to take so long (s); and all of them together, by this factor longer.
EXPECTED_S = 5.0
CAUTION = 1.2

IsCached = Callable[[Call], Awaitable[bool]]

_log = logging.getLogger("agent_gateway.batch")


@dataclass(frozen=True, slots=True)
class Place:
    """Where batches can be run natively: a deployment and what there is to know of it."""

    route: Route
    deployment: Deployment
    provider: HttpProvider
    api: BatchApi
    dialect: Dialect
    #: Of the deployment, as a batch there is billed; None: not known.
    price: Price | None


class Planner:
    def __init__(self, live: Live, keys: KeyRing, health: Health, clock: Clock) -> None:
        self._live = live
        self._keys = keys
        self._health = health
        self._clock = clock

    def place(self, batch: StoredBatch, model: str) -> Place | None:
        """The one that an operator prefers, or else the cheapest, for the items of that model; None: they are run live."""
        runtime = self._live.runtime
        route = runtime.gate.route(model)
        if route is None or route.batching.native == "off" or route.guards.input or route.guards.output:
            return None
        window_s = batch.expires_at - batch.created_at
        if window_s < (AUTO_WINDOW_S if route.batching.native == "auto" else ON_WINDOW_S):
            return None
        candidates = [each for each in route.deployments if not self.is_drained(each.id)]
        places = [place for each in candidates if (place := self._place_at(runtime, batch.endpoint, route, each)) is not None]
        modes = self._health.interventions
        return min(places, key=lambda place: (modes.get(place.deployment.id) != "prefer", _rate(place)), default=None)

    def is_drained(self, deployment: str) -> bool:
        """An operator has taken it out: it gets no new batch, and what it has already ends as usual."""
        return self._health.interventions.get(deployment) == "drain"

    def is_stranded(self, part: Part) -> bool:
        """It waits to be sent where nothing is sent any more."""
        return part.is_unsent and self.is_drained(part.deployment)

    def has_stranded(self, batch: StoredBatch) -> bool:
        return bool(self._health.interventions) and any(map(self.is_stranded, parts_of(batch)))

    def place_at(self, batch: StoredBatch, model: str, deployment: str) -> Place | None:
        """Of a part that is there already; None: the configuration does not have it any more."""
        runtime = self._live.runtime
        route = runtime.gate.route(model)
        if route is None:
            return None
        found = next((each for each in route.deployments if each.id == deployment), None)
        return None if found is None else self._place_at(runtime, batch.endpoint, route, found, anywhere=True)

    def _place_at(self, runtime: Runtime, endpoint: str, route: Route, deployment: Deployment, *, anywhere: bool = False) -> Place | None:
        settings: object = runtime.settings.providers.get(deployment.provider)
        provider: object = runtime.upstream.provider(deployment.provider)
        if not (isinstance(settings, HttpSettings) and isinstance(provider, HttpProvider)):
            return None
        known = known_batches(settings.kind, settings.base_url, anywhere=anywhere or route.batching.native == "on")
        if known is None:
            return None
        api: BatchApi = BATCH_APIS.load(known.api)(provider, self._clock)
        try:
            dialect = provider.speaks(Call(dialect=ENDPOINTS[endpoint], model=route.name, body=b""), deployment)
        except GatewayError:
            return None
        if dialect not in api.dialects:
            return None
        price = None if deployment.price is None else deployment.price.at(known.price_share)
        return Place(route, deployment, provider, api, dialect, price)

    async def left_usd(self, batch: StoredBatch, place: Place, open_ones: Iterable[StoredBatch], without: str | None = None) -> float:
        """What its key may still spend beside what all parts of the open batches are expected to cost, but for the one that is `without`.
        0 where it may not do this at all: live calls are told why. Raises `StoreDown`.
        """
        try:
            left_usd = await self._budgets(batch, place.route.name)
        except ClientError as error:
            _log.info("the batch %s is not sent to %s: %s", batch.id, place.deployment.id, error.message)
            return 0.0
        if left_usd:
            for other in open_ones:
                for part in parts_of(other):
                    if part.estimated_usd and part.id != without:
                        with suppress(ClientError):  # of those who may not any more, nobody pays
                            for purse in left_usd.keys() & (await self._budgets(other, part.model)).keys():
                                left_usd[purse] -= part.estimated_usd
        return min(left_usd.values(), default=inf)

    async def _budgets(self, batch: StoredBatch, model: str) -> dict[Purse, float]:
        """Those that its items of a model draw on, and what each still has (USD)."""
        exchange = self._exchange(Call(dialect=ENDPOINTS[batch.endpoint], model=model, body=b"", user=batch.owner.user or None))
        gate = self._live.runtime.gate
        exchange.key = await key_of(self._keys, batch.owner.key, batch.key)
        return await gate.left_usd(exchange, gate.admit(exchange))

    async def cached(self, batch: StoredBatch, place: Place) -> IsCached | None:
        """Whether a live call would be answered from the cache, for nothing. None: none would. Raises `StoreDown`."""
        cache = self._live.runtime.cache
        if cache is None or not place.route.cache.exact.enabled:
            return None
        try:
            key = await key_of(self._keys, batch.owner.key, batch.key)
        except ClientError:
            return None

        async def is_cached(call: Call) -> bool:
            exchange = self._exchange(call)
            exchange.key = key
            return await cache.has(exchange, place.route)

        return is_cached

    def _exchange(self, call: Call) -> Exchange:
        """For questions; it is never run."""
        wall = self._clock.wall()
        return Exchange(id=new_request_id(wall), call=call, started=self._clock.monotonic(), started_wall=wall, edge="native")

    def give_up_at(self, batch: StoredBatch, place: Place) -> float:
        """When live calls begin instead (Unix s): in time for all of the batch, at the concurrency and speed there is."""
        load = self._health.of(place.deployment.id).load.latency(stream=False)
        call_s = load.expected_s(0, self._clock.monotonic()) or EXPECTED_S
        window_s = batch.expires_at - batch.created_at
        live_s = CAUTION * batch.total * call_s / place.route.batching.concurrency
        return batch.expires_at - min(max(live_s, LIVE_SHARE_MIN * window_s), LIVE_SHARE_MAX * window_s)


class Targets:
    """What of one batch goes where, as its items are read."""

    def __init__(self, planner: Planner, batch: StoredBatch) -> None:
        self._planner = planner
        self._batch = batch
        self._due_at = due_at(batch)
        self._by_model: dict[str, Target | None] = {}

    def meant(self, item: NewItem) -> NewItem:
        """One that goes to a provider is not due before the last moment: nobody else is to take it first."""
        if item.model not in self._by_model:
            place = self._planner.place(self._batch, item.model)
            self._by_model[item.model] = None if place is None else Target(model=item.model, deployment=place.deployment.id)
        return item if self._by_model[item.model] is None else replace(item, due_at=self._due_at)

    @property
    def models(self) -> set[str]:
        """Those whose items go to a provider, when all of it is read."""
        return {model for model, target in self._by_model.items() if target is not None}

    def plan(self) -> bytes | None:
        """`StoredBatch.plan`, as above."""
        return Plan(targets=[target for target in self._by_model.values() if target is not None]).written()


def due_at(batch: StoredBatch) -> float:
    """When items that were meant for a provider are due by themselves, whatever became of that (Unix s)."""
    return batch.expires_at - LIVE_SHARE_MIN * (batch.expires_at - batch.created_at)


def stop_s(batch: StoredBatch) -> float:
    """How long a part that was told to stop is waited for."""
    return min(STOP_SHARE * LIVE_SHARE_MIN * (batch.expires_at - batch.created_at), STOP_MAX_S)


def _rate(place: Place) -> float:
    """Of a million tokens in and as many out; what has no price comes last."""
    return inf if place.price is None else place.price.input + place.price.output
