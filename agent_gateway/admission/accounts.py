"""Whose limits a request draws on: its key's, its user's, its team's and its model's, found in one look-up once they are known.

Promise: an account is forgotten only when that changes nothing for it, but for users' beyond `ACCOUNTS_MAX` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from math import inf
from typing import TYPE_CHECKING, Literal

from agent_gateway.admission.buckets import Bucket, Meter, Slots
from agent_gateway.admission.budgets import Ledger, Purse, rfc3339
from agent_gateway.admission.lease import SPARE_SHARE, HoldLease, RateLease
from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.pricing import Price
from agent_gateway.core.route import Route
from agent_gateway.core.settings import Allowance, Budget, Limits
from agent_gateway.stores.base import Key, Team

if TYPE_CHECKING:
    from agent_gateway.admission.cluster import Cluster

#: Accounts remembered.
ACCOUNTS_MAX = 10_000
#: Keys, users and models whose accounts were looked up together; beyond it all are looked up anew.
STANDINGS_MAX = 10_000
#: A user's longer name is told from others by its hash.
USER_MAX_CHARS = 64

_NOTHING = Allowance()


class Account:
    """One key, user, team or model, and what it has used."""

    __slots__ = ("_cluster", "_name", "purse", "requests", "slots", "tokens", "whose")

    def __init__(self, name: str, whose: str, cluster: Cluster | None) -> None:
        self._name = name
        self._cluster = cluster
        self.whose = whose
        self.slots = Slots(whose)
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.purse: Purse | None = None

    def allow(self, allowance: Allowance) -> None:
        """From now on so much; what was used of another allowance a minute is forgotten with it."""
        self.requests = self._bucket("requests", self.requests, allowance.requests_per_minute)
        self.tokens = self._bucket("tokens", self.tokens, allowance.tokens_per_minute)
        slots, most = self.slots, allowance.max_parallel
        slots.most = inf if most is None else most
        if most is None or self._cluster is None:
            slots.lease = None
        elif slots.lease is None:
            slots.lease = HoldLease(self._cluster, self._key("parallel"), most, int(most * SPARE_SHARE), slots)
        else:
            slots.lease.allow(most, int(most * SPARE_SHARE))

    def allow_budget(self, budget: Budget, ledger: Ledger) -> Purse:
        purse = self.purse
        if purse is None or purse.budget.per != budget.per:
            purse = self.purse = Purse(self._name, self.whose, budget, ledger)
            if self._cluster is not None:
                purse.share(HoldLease(self._cluster, self._key(f"budget:{budget.per}"), budget.usd, 0, purse))
        purse.budget = budget
        if purse.lease is not None:
            purse.lease.allow(budget.usd, budget.usd * SPARE_SHARE)
        return purse

    def is_whole(self, now: float) -> bool:
        buckets = (self.requests, self.tokens)
        return self.is_idle and all(bucket is None or bucket.reset_s(now) == 0 for bucket in buckets)

    @property
    def is_idle(self) -> bool:
        purse = self.purse
        return not self.slots.used and (purse is None or not (purse.used or purse.ledger.owes(purse)))

    def _bucket(self, limit: Literal["requests", "tokens"], known: Bucket | None, per_minute: int | None) -> Bucket | None:
        if per_minute is None:
            return None
        if known is not None and known.per_minute == per_minute:
            return known
        bucket = Bucket(limit, per_minute, self.whose)
        if self._cluster is not None:
            bucket.lease = RateLease(self._cluster, self._key(limit), per_minute, bucket)
        return bucket

    def _key(self, limit: str) -> bytes:
        assert self._cluster is not None
        return self._cluster.key(self._name.encode("utf-8", "backslashreplace"), limit)


class Standing:
    """The meters that requests of one key, user and model draw on, and what a token of theirs may cost at most."""

    __slots__ = ("_of", "_rates", "bounds", "is_limited", "meters", "price", "purses", "slots", "tokens")

    def __init__(self, accounts: Sequence[Account], purses: Sequence[Purse], price: Price, of: tuple[object, ...]) -> None:
        """`of`: the key, its team, the route and the limits that it was made of."""
        self._of = of
        self.price = price
        self.slots = tuple(account.slots for account in accounts)
        requests = tuple(account.requests for account in accounts if account.requests is not None)
        self.tokens = tuple(account.tokens for account in accounts if account.tokens is not None)
        self._rates = tuple(filter(None, (requests, self.tokens)))
        self.purses = tuple(purses)
        #: With the place of what is needed of each in `Share.needs`.
        self.meters: tuple[tuple[Meter, int], ...] = (
            *((slots, 0) for slots in self.slots),
            *((bucket, 0) for bucket in requests),
            *((bucket, 1) for bucket in self.tokens),
            *((purse, 2) for purse in self.purses),
        )
        #: Those that may refuse: of slots without a bound it is only counted how many are used.
        self.bounds = tuple((meter, need) for meter, need in self.meters if not (isinstance(meter, Slots) and meter.most == inf))
        self.is_limited = bool(self.bounds)

    def is_of(self, key: Key | None, team: Team | None, route: Route, limits: Limits) -> bool:
        """Of the very same: a key that was changed is another one."""
        of = self._of
        return of[0] is key and of[1] is team and of[2] is route and of[3] is limits

    def lines(self, dialect: Dialect, clock: Clock) -> str:
        """How much is left of the tightest of each kind."""
        now = clock.monotonic()
        tightest = [rates[0] if len(rates) == 1 else min(rates, key=lambda bucket: bucket.remaining(now)) for rates in self._rates]
        lines = "".join([bucket.lines(now) for bucket in tightest])
        if dialect != "anthropic":
            return lines
        wall = clock.wall()  # its clients look for other names, and for a time instead of a wait
        told = [
            f"anthropic-ratelimit-{bucket.limit}-limit: {bucket.per_minute}\r\n"
            f"anthropic-ratelimit-{bucket.limit}-remaining: {bucket.remaining(now)}\r\n"
            f"anthropic-ratelimit-{bucket.limit}-reset: {rfc3339(wall + bucket.reset_s(now))}\r\n"
            for bucket in tightest
        ]
        return "".join([lines, *told])


class Accounts:
    """All that are known."""

    def __init__(self, clock: Clock, ledger: Ledger, cluster: Cluster | None) -> None:
        self._clock = clock
        self._ledger = ledger
        self._cluster = cluster
        #: Routes by name: a request may cost what its route's fallbacks cost.
        self.find: Callable[[str], Route | None] = lambda name: None
        self._accounts: dict[str, Account] = {}
        self._standings: dict[tuple[str, str | None, str], Standing] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def standing(self, key: Key | None, team: Team | None, user: str | None, route: Route, limits: Limits) -> Standing:
        if user is not None and len(user) > USER_MAX_CHARS:
            user = blake2b(user.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        place = ("" if key is None else key.id, user, route.name)
        standing = self._standings.get(place)
        if standing is None or not standing.is_of(key, team, route, limits):
            if len(self._standings) >= STANDINGS_MAX:
                self._standings.clear()
            standing = self._standings[place] = self._make(key, team, user, route, limits)
        return standing

    def _make(self, key: Key | None, team: Team | None, user: str | None, route: Route, limits: Limits) -> Standing:
        key_id = "" if key is None else key.id
        mine = self._account(f"key:{key_id}", "this key" if key is not None else "all without a key", _allowance(key, limits))
        accounts = [mine]
        purses = []
        budget = limits.budget if key is None or key.budget is None else key.budget
        if budget is not None:
            purses.append(mine.allow_budget(budget, self._ledger))
        if user and limits.per_user != _NOTHING:
            accounts.append(self._account(f"user:{key_id}:{user}", f"the user {user!r} of {mine.whose}", limits.per_user))
        if team is not None and team.budget is not None:
            account = self._account(f"team:{team.id}", f"the team {team.name!r}", _NOTHING)
            purses.append(account.allow_budget(team.budget, self._ledger))
        if route.limits != _NOTHING:
            accounts.append(self._account(f"model:{route.name}", f"the model {route.name!r}", route.limits))
        return Standing(accounts, purses, _dearest(route, self.find), (key, team, route, limits))

    def _account(self, name: str, whose: str, allowance: Allowance) -> Account:
        account = self._accounts.get(name)
        if account is None:
            if len(self._accounts) >= ACCOUNTS_MAX:
                self._forget_some()
            account = self._accounts[name] = Account(name, whose, self._cluster)
        account.allow(allowance)
        return account

    def _forget_some(self) -> None:
        """Those of which everything is there again, and where they are not enough, of the others those that nothing uses now, oldest
        first: their allowance begins anew. A tenth is made free, so that this is seldom.
        """
        now = self._clock.monotonic()
        self._standings.clear()
        self._accounts = {name: account for name, account in self._accounts.items() if not account.is_whole(now)}
        surplus = len(self._accounts) - ACCOUNTS_MAX * 9 // 10
        idle = [name for name, account in self._accounts.items() if account.is_idle]
        for name in idle[: max(surplus, 0)]:
            del self._accounts[name]


def _allowance(key: Key | None, limits: Limits) -> Allowance:
    """A key's own limits, and where it has none those of every key."""
    if key is None:
        return limits
    return Allowance(
        requests_per_minute=limits.requests_per_minute if key.requests_per_minute is None else key.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute if key.tokens_per_minute is None else key.tokens_per_minute,
        max_parallel=limits.max_parallel if key.max_parallel is None else key.max_parallel,
    )


def _dearest(route: Route, find: Callable[[str], Route | None]) -> Price:
    """No deployment that may answer costs more."""
    routes = [route, *filter(None, map(find, route.fallbacks))]
    prices = [deployment.price for each in routes for deployment in each.deployments if deployment.price is not None]
    return Price(
        input=max((max(price.input, price.cache_write or 0.0) for price in prices), default=0.0),
        output=max((price.output for price in prices), default=0.0),
        request=max((price.request for price in prices), default=0.0),
    )
