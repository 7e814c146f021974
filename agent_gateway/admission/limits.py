"""How much a key may ask for: requests and tokens a minute, requests at once. Exact in this process.

Promise: a refused request costs nothing, and what was reserved for one that was let in is settled or given back exactly once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf

from msgspec import Struct

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import RateLimited
from agent_gateway.stores.base import Key

#: The burst is the minute's allowance.
MINUTE_S = 60.0
#: Output tokens reserved for a request that does not say how many it wants at most.
EXPECTED_OUTPUT_TOKENS = 256
#: Keys remembered; beyond it those whose allowance is whole again are forgotten, which changes nothing for them.
ACCOUNTS_MAX = 10_000


class Allowance(Struct, frozen=True):
    """None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_parallel: int | None = None

    def of(self, key: Key | None) -> Allowance:
        """A key's own limits, and where it has none these."""
        if key is None:
            return self
        return Allowance(
            self.requests_per_minute if key.requests_per_minute is None else key.requests_per_minute,
            self.tokens_per_minute if key.tokens_per_minute is None else key.tokens_per_minute,
            self.max_parallel if key.max_parallel is None else key.max_parallel,
        )


class Bucket:
    """A generic cell rate algorithm (ITU-T I.371): `_full_at` is when all of the allowance is there again."""

    __slots__ = ("_full_at", "_lines", "name", "per_minute")

    def __init__(self, name: str, per_minute: int) -> None:
        """`name`: of what it limits, as headers call it."""
        self.name = name
        self.per_minute = per_minute
        self._full_at = -inf
        self._lines = (
            f"x-ratelimit-limit-{name}: {per_minute}\r\nx-ratelimit-remaining-{name}: %d\r\nx-ratelimit-reset-{name}: %dms\r\n"
        )

    def wait_s(self, amount: float, now: float) -> float:
        """How long until so much may be taken; at most 0: now. More than the whole allowance waits until that is there."""
        return self.reset_s(now) + min(amount / self.per_minute, 1.0) * MINUTE_S - MINUTE_S

    def take(self, amount: float, now: float) -> None:
        """Also a negative amount: what was taken and is not needed. What is used beyond the allowance is waited for later."""
        self._full_at = max(self._full_at, now) + amount * MINUTE_S / self.per_minute

    def lines(self, now: float) -> str:
        return self._lines % (self.remaining(now), self.reset_s(now) * 1000)

    def remaining(self, now: float) -> int:
        left = (1 - self.reset_s(now) / MINUTE_S) * self.per_minute + 1e-6
        return int(left) if left > 0 else 0

    def reset_s(self, now: float) -> float:
        """Until the allowance is whole."""
        spent_s = self._full_at - now
        return spent_s if spent_s > 0 else 0.0


class Account:
    """What one key has used of its allowance."""

    __slots__ = ("_default", "_key", "max_parallel", "requests", "running", "tokens")

    def __init__(self, default: Allowance, key: Key | None) -> None:
        self.running = 0
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.max_parallel: int | None = None
        self._default: Allowance | None = None
        self._key: Key | None = None
        self.allow(default, key)

    def allow(self, default: Allowance, key: Key | None) -> None:
        """From now on so much; what was used of another allowance is forgotten with it."""
        if default is self._default and key is self._key:
            return
        self._default, self._key = default, key
        allowance = default.of(key)
        self.max_parallel = allowance.max_parallel
        self.requests = _bucket("requests", self.requests, allowance.requests_per_minute)
        self.tokens = _bucket("tokens", self.tokens, allowance.tokens_per_minute)

    def is_whole(self, now: float) -> bool:
        buckets = (self.requests, self.tokens)
        return not self.running and all(bucket is None or bucket.reset_s(now) == 0 for bucket in buckets)


class Share:
    """One request's part of its key's account: the `Reservation` of its exchange."""

    __slots__ = ("_account", "_clock", "_running", "_settled", "_tokens")

    def __init__(self, account: Account, tokens: int, clock: Clock) -> None:
        self._account = account
        self._tokens = tokens
        self._clock = clock
        #: As one of so many at once.
        self._running = True
        self._settled = False

    def release(self) -> None:
        if self._running:
            self._running = False
            self._account.running -= 1

    def settle(self, tokens: int) -> None:
        if not self._settled:
            self._settled = True
            if self._account.tokens is not None:
                self._account.tokens.take(tokens - self._tokens, self._clock.monotonic())

    def lines(self, dialect: Dialect) -> str:
        return _lines(self._account, dialect, self._clock)


class Limiter:
    """One a process; outlives every reload."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    def reserve(self, key: Key | None, default: Allowance, call: Call) -> Share | None:
        """None: nothing is limited. Raises `RateLimited`, whose `param` names the limit: requests, tokens or parallel."""
        now = self._clock.monotonic()
        account = self._account(key, default, now)
        requests, tokens, most = account.requests, account.tokens, account.max_parallel
        if requests is None and tokens is None and most is None:
            return None
        try:
            estimate = self._take(account, call, now)
        except RateLimited as error:
            error.limit_lines = _lines(account, call.dialect, self._clock)
            raise
        account.running += 1
        return Share(account, estimate, self._clock)

    @staticmethod
    def _take(account: Account, call: Call, now: float) -> int:
        """The tokens that are set aside."""
        requests, tokens, most = account.requests, account.tokens, account.max_parallel
        if most is not None and account.running >= most:
            raise _too_much("parallel", most, "requests of this key at once", 1.0)
        estimate = 0
        if requests is not None and (wait_s := requests.wait_s(1, now)) > 0:
            raise _too_much("requests", requests.per_minute, "requests a minute", wait_s)
        if tokens is not None:
            estimate = call.estimated_input_tokens + (call.max_output_tokens or EXPECTED_OUTPUT_TOKENS)
            if (wait_s := tokens.wait_s(estimate, now)) > 0:
                raise _too_much("tokens", tokens.per_minute, "tokens a minute", wait_s)
            tokens.take(estimate, now)
        if requests is not None:
            requests.take(1, now)
        return estimate

    def _account(self, key: Key | None, default: Allowance, now: float) -> Account:
        name = "" if key is None else key.id
        account = self._accounts.get(name)
        if account is None:
            if len(self._accounts) >= ACCOUNTS_MAX:
                self._accounts = {other: kept for other, kept in self._accounts.items() if not kept.is_whole(now)}
            account = self._accounts[name] = Account(default, key)
        else:
            account.allow(default, key)
        return account


def _lines(account: Account, dialect: Dialect, clock: Clock) -> str:
    now = clock.monotonic()
    requests, tokens = account.requests, account.tokens
    lines = (requests.lines(now) if requests is not None else "") + (tokens.lines(now) if tokens is not None else "")
    if dialect != "anthropic":
        return lines
    wall = clock.wall()  # its clients look for other names, and for a time instead of a wait
    told = [
        f"anthropic-ratelimit-{bucket.name}-limit: {bucket.per_minute}\r\n"
        f"anthropic-ratelimit-{bucket.name}-remaining: {bucket.remaining(now)}\r\n"
        f"anthropic-ratelimit-{bucket.name}-reset: {_rfc3339(wall + bucket.reset_s(now))}\r\n"
        for bucket in (requests, tokens)
        if bucket is not None
    ]
    return "".join([lines, *told])


def _rfc3339(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _bucket(name: str, known: Bucket | None, per_minute: int | None) -> Bucket | None:
    if per_minute is None:
        return None
    return known if known is not None and known.per_minute == per_minute else Bucket(name, per_minute)


def _too_much(limit: str, allowed: int, what: str, wait_s: float) -> RateLimited:
    message = f"The limit of this key is reached: {allowed} {what}. Try again in {max(wait_s, 0.001):.3g} s."
    return RateLimited(message, param=limit, retry_after_s=wait_s)
