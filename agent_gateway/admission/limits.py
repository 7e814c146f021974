"""How much a request may ask for: requests and tokens a minute, requests at once, and money, of its key, user, team and model.

Promise: a refused request costs nothing, and what was reserved for one that was let in is settled or given back exactly once.
Exact to the request in this process; where processes share, all together let in what one would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import TYPE_CHECKING

from agent_gateway.admission.accounts import Accounts, Standing
from agent_gateway.admission.buckets import Meter
from agent_gateway.admission.budgets import Ledger, OnSoft, Purse
from agent_gateway.admission.lease import HOLD, LEASE_S, HoldLease, Lease
from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import RateLimited
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Route
from agent_gateway.core.settings import Allowance, Limits
from agent_gateway.stores.base import Key, SpendStore, Team
from agent_gateway.stores.meeting_place import Place

if TYPE_CHECKING:
    from agent_gateway.admission.cluster import Cluster

#: Output tokens reserved for a request that does not say how many it wants at most.
EXPECTED_OUTPUT_TOKENS = 256
#: No model writes more: whoever asks for it gets no more, and no float is lost in it.
OUTPUT_TOKENS_MAX = 1_000_000
#: What another process gives back just now (a slot, what a request was estimated to cost) is there within this time (s): who finds
#: nothing asks once more.
GRACE_S = 0.03

_NOTHING = Allowance()


class Share:
    """One request's part of its accounts: the `Reservation` of its exchange."""

    __slots__ = ("_clock", "_running", "_settled", "_standing", "leased", "needs")

    def __init__(self, standing: Standing, call: Call, clock: Clock) -> None:
        self._standing = standing
        self._clock = clock
        input_tokens, output_tokens = call.estimated_input_tokens, min(call.max_output_tokens or EXPECTED_OUTPUT_TOKENS, OUTPUT_TOKENS_MAX)
        cost_usd = 0.0
        if standing.purses:
            price = standing.price
            cost_usd = (input_tokens * price.input + output_tokens * price.output) / 1_000_000 + price.request
        #: Of one request or slot, of tokens, of USD: estimated.
        self.needs = (1, input_tokens + output_tokens, cost_usd)
        #: Drawn from leases; else by this process's own count.
        self.leased = False
        #: As one of so many at once.
        self._running = True
        self._settled = False

    def release(self) -> None:
        if self._running:
            self._running = False
            for slots in self._standing.slots:
                slots.used -= 1
                if slots.lease is not None:
                    self._return(slots.lease, 1)

    def settle(self, tokens: int, cost_usd: float) -> None:
        if self._settled:
            return
        self._settled = True
        standing, (_, estimated, estimated_usd) = self._standing, self.needs
        if standing.tokens:
            now = self._clock.monotonic()
            for bucket in standing.tokens:
                if self.leased and bucket.lease is not None:
                    bucket.lease.give_back(estimated - tokens)
                else:
                    bucket.take(tokens - estimated, now)
        for purse in standing.purses:
            purse.settle(estimated_usd, cost_usd)
            if purse.lease is not None:  # of what was set aside, what was spent is not there for others
                self._return(purse.lease, estimated_usd - cost_usd)

    def _return(self, lease: HoldLease, amount: float) -> None:
        if self.leased:
            lease.give_back(amount)
        else:
            lease.change()

    def lines(self, dialect: Dialect) -> str:
        return self._standing.lines(dialect, self._clock)


class Charge:
    """The `Reservation` of an exchange that was not let in, but bought elsewhere: nothing was set aside for it, and it is paid for."""

    __slots__ = ("_purses", "_settled")

    def __init__(self, purses: Sequence[Purse]) -> None:
        self._purses = purses
        self._settled = False

    def release(self) -> None:
        """It was none of so many at once."""

    def settle(self, tokens: int, cost_usd: float) -> None:
        if not self._settled:
            self._settled = True
            for purse in self._purses:
                purse.settle(0.0, cost_usd)

    def lines(self, dialect: Dialect) -> str:
        return ""


class Limiter:
    """One a process; outlives every reload. `teams` tells a team by its id; `place`: where processes that share limits meet; `on_soft`
    hears of budgets whose soft share is spent.
    """

    def __init__(
        self,
        clock: Clock,
        store: SpendStore,
        teams: Callable[[str], Team | None],
        *,
        place: Place | None = None,
        lease_s: float = LEASE_S,
        on_soft: OnSoft | None = None,
    ) -> None:
        self._clock = clock
        self._teams = teams
        self._ledger = Ledger(store, clock.wall, on_soft)
        self._cluster: Cluster | None = None
        if place is not None:
            from agent_gateway.admission.cluster import Cluster

            self._cluster = Cluster(place, clock, lease_s)
        self._accounts = Accounts(clock, self._ledger, self._cluster)
        # Of the limits that came last: whether users have any.
        self._limits: Limits | None = None
        self._by_user = False
        #: Requests that this process let in by its own count, because the others could not be asked.
        self.unshared = 0

    @property
    def unread(self) -> int:
        """Requests that were let in though it could not be read what had been spent before."""
        return self._ledger.unread

    def nearly_spent(self) -> dict[str, float]:
        """Accounts (`key:ID`, `team:ID`) whose budget's soft share is spent in the period that it is now, and the share that is."""
        wall = self._clock.wall()
        purses = [account.purse for account in self._accounts if account.purse is not None]
        nearly = [purse for purse in purses if wall < purse.ends and purse.spent >= purse.budget.soft * purse.budget.usd]
        return {purse.account: purse.spent / purse.budget.usd for purse in nearly}

    def configure(self, find: Callable[[str], Route | None]) -> None:
        """At every reload: `find` gives the route of a model's name."""
        self._accounts.find = find

    async def start(self) -> None:
        if self._cluster is not None:
            await self._cluster.start()

    async def close(self, timeout_s: float) -> None:
        """Before the store is closed, and after all requests have been recorded."""
        if self._cluster is not None:
            await self._cluster.close(timeout_s)
        await self._ledger.close(timeout_s)

    def reserve(self, exchange: Exchange, route: Route, key: Key | None, limits: Limits) -> Awaitable[None] | None:
        """Sets `exchange.reservation`, unless nothing is limited; an awaitable where others have to be asked first.
        Raises `RateLimited` or `BudgetSpent`, whose `param` names the limit: parallel, requests, tokens or budget.
        """
        standing = self._standing(exchange, route, key, limits)
        if not standing.is_limited:
            return None
        share = Share(standing, exchange.call, self._clock)
        if standing.purses and not self._met(standing):
            return self._reserve_after_meeting(exchange, standing, share)
        return self._reserve(exchange, standing, share)

    async def left_usd(self, exchange: Exchange, route: Route, key: Key | None, limits: Limits) -> dict[Purse, float]:
        """Of each budget that it would draw on, what it still has."""
        standing = self._standing(exchange, route, key, limits)
        if standing.purses and not self._met(standing):
            await self._ledger.meet(standing.purses)
        return {purse: purse.budget.usd - purse.spent - purse.used for purse in standing.purses}

    def charge(self, exchange: Exchange, route: Route, key: Key | None, limits: Limits) -> None:
        """What it costs is spent of its budgets, whether or not they have it."""
        exchange.reservation = Charge(self._standing(exchange, route, key, limits).purses)

    def _standing(self, exchange: Exchange, route: Route, key: Key | None, limits: Limits) -> Standing:
        team = None if key is None or key.team is None else self._teams(key.team)
        if limits is not self._limits:
            self._limits, self._by_user = limits, limits.per_user != _NOTHING
        user = exchange.call.user if self._by_user else None
        return self._accounts.standing(key, team, user, route, limits)

    def _met(self, standing: Standing) -> bool:
        """Whether it is known what was spent in the period that it is now."""
        wall, met = self._clock.wall(), True
        for purse in standing.purses:
            if wall >= purse.ends:
                purse.turn(wall)
            met = met and purse.met
        return met

    async def _reserve_after_meeting(self, exchange: Exchange, standing: Standing, share: Share) -> None:
        await self._ledger.meet(standing.purses)
        waiting = self._reserve(exchange, standing, share)
        if waiting is not None:
            await waiting

    def _reserve(self, exchange: Exchange, standing: Standing, share: Share) -> Awaitable[None] | None:
        if self._cluster is None:
            self._reserve_here(exchange, standing, share)
            return None
        if self._cluster.up:
            return self._reserve_shared(self._cluster, exchange, standing, share)
        self._reserve_here(exchange, standing, share)
        self.unshared += 1
        return None

    # --- by this process's own count

    def _reserve_here(self, exchange: Exchange, standing: Standing, share: Share) -> None:
        now, needs = self._clock.monotonic(), share.needs
        for meter, need in standing.bounds:
            if meter.wait_s(needs[need], now) > 0:
                waits = [(meter, meter.wait_s(needs[need], now)) for meter, need in standing.bounds]
                raise self._refusal(waits, standing, exchange)
        for meter, need in standing.meters:
            meter.take(needs[need], now)
        exchange.reservation = share

    def _refusal(self, waits: Sequence[tuple[Meter, float]], standing: Standing, exchange: Exchange) -> RateLimited:
        """Of those that refuse, the one that does so longest: when the client comes back, all let it in."""
        refusals = [meter.refusal(wait_s) for meter, wait_s in waits if wait_s > 0]
        refusal = max(refusals, key=lambda refusal: inf if refusal.retry_after_s is None else refusal.retry_after_s)
        refusal.limit_lines += standing.lines(exchange.call.dialect, self._clock)
        return refusal

    # --- by leases of the cluster's

    def _reserve_shared(self, cluster: Cluster, exchange: Exchange, standing: Standing, share: Share) -> Awaitable[None] | None:
        now, needs = self._clock.monotonic(), share.needs
        for meter, need in standing.meters:
            lease = meter.lease
            # Of what is held, what this process uses alone may be enough to know.
            if lease is not None and (lease.spare < needs[need] or (lease.kind == HOLD and meter.wait_s(needs[need], now) > 0)):
                return self._reserve_lacking(cluster, exchange, standing, share)
        for meter, need in standing.meters:
            _draw(meter, needs[need], now)
        share.leased = True
        exchange.reservation = share
        return None

    def _reserve_lacking(self, cluster: Cluster, exchange: Exchange, standing: Standing, share: Share) -> Awaitable[None]:
        now, needs = self._clock.monotonic(), share.needs
        lacking: list[tuple[Meter, Lease, float]] = []
        drawn: list[tuple[Meter, float]] = []
        waits: list[tuple[Meter, float]] = []
        for meter, need in standing.meters:
            amount, lease = needs[need], meter.lease
            if lease is None or lease.kind == HOLD:
                waits.append((meter, meter.wait_s(amount, now)))
            if lease is not None and lease.spare < amount:
                waits.append((meter, lease.wait_s(amount, now)))
                lacking.append((meter, lease, amount))
            else:
                drawn.append((meter, amount))
        if any(wait_s > 0 for _, wait_s in waits):
            raise self._refusal(waits, standing, exchange)
        for meter, amount in drawn:
            _draw(meter, amount, now)
        return self._ask(cluster, exchange, standing, share, lacking, drawn)

    async def _ask(
        self,
        cluster: Cluster,
        exchange: Exchange,
        standing: Standing,
        share: Share,
        lacking: Sequence[tuple[Meter, Lease, float]],
        drawn: Sequence[tuple[Meter, float]],
    ) -> None:
        """For what the leases at hand do not have; `drawn` was taken from those already."""

        def granted() -> None:
            for meter, _, amount in lacking:
                meter.hold(amount)
            share.leased = True
            exchange.reservation = share

        wishes = [(lease, amount) for _, lease, amount in lacking]
        try:
            refused = await cluster.ask(wishes, granted)
            if refused is not None and refused.lease.kind == HOLD:
                await asyncio.sleep(GRACE_S)
                refused = await cluster.ask(wishes, granted)
        finally:
            if exchange.reservation is None:
                for meter, amount in drawn:
                    meter.hold(-amount)
                    if meter.lease is not None:
                        meter.lease.give_back(amount)
        if refused is not None:
            meter = next(meter for meter, lease, _ in lacking if lease is refused.lease)
            raise self._refusal([(meter, refused.wait_s)], standing, exchange)
        if exchange.reservation is None:
            self._reserve_here(exchange, standing, share)
            self.unshared += 1


def _draw(meter: Meter, amount: float, now: float) -> None:
    meter.hold(amount)
    if meter.lease is not None:
        meter.lease.draw(amount, now)
