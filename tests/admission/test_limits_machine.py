"""Any order of requests, ends, settlements, changes of limits and hours that pass: the limiter lets in what a plain sum lets in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent_gateway.core.errors import RateLimited
from agent_gateway.core.exchange import Reservation
from agent_gateway.core.settings import Allowance, Budget, Limits
from agent_gateway.stores.base import Key, Team
from tests.admission.desk import QUARTER, Desk, exchange_of, route_of

COUNTS = st.none() | st.integers(1, 7)
TOKENS = st.none() | st.integers(50, 900)
ALLOWANCES = st.builds(Allowance, requests_per_minute=COUNTS, tokens_per_minute=TOKENS, max_parallel=COUNTS)
BUDGETS = st.none() | st.builds(Budget, usd=st.sampled_from([0.5, 1.0, 2.0, 5.0]), per=st.sampled_from(["day", "total"]))
USERS = st.sampled_from([None, "ann", "bob"])
KEYS = st.sampled_from(["a", "b"])
ESTIMATE = Fraction(1, 4)
DAY_S = 86_400


@dataclass
class Tally:
    """One account, as a sum: what was taken and has not come back with time yet."""

    allowance: Allowance
    budget: Budget | None = None
    running: int = 0
    requests: Fraction = Fraction(0)
    tokens: Fraction = Fraction(0)
    spent: dict[int, Fraction] = field(default_factory=dict)
    set_aside: Fraction = Fraction(0)

    def pass_time(self, seconds: Fraction) -> None:
        for name, limit in (("requests", self.allowance.requests_per_minute), ("tokens", self.allowance.tokens_per_minute)):
            if limit is not None:
                setattr(self, name, max(getattr(self, name) - seconds * limit / 60, Fraction(0)))

    def refuses(self, tokens: int, day: int) -> set[str]:
        limits, refused = self.allowance, set()
        if limits.requests_per_minute is not None and self.requests + 1 > limits.requests_per_minute:
            refused.add("requests")
        most = limits.tokens_per_minute
        if most is not None and self.tokens + min(tokens, most) > most:
            refused.add("tokens")
        if limits.max_parallel is not None and self.running >= limits.max_parallel:
            refused.add("parallel")
        if self.budget is not None:
            spent = self.spent.get(day, Fraction(0)) if self.budget.per == "day" else sum(self.spent.values(), Fraction(0))
            if spent + self.set_aside >= Fraction(self.budget.usd):
                refused.add("budget")
        return refused


@dataclass
class UnderWay:
    reservation: Reservation
    tallies: list[Tally]
    tokens: int
    running: bool = True


class LimitsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.desk = Desk()
        self.milliseconds = 0
        self.tallies: dict[str, Tally] = {}
        self.under_way: list[UnderWay] = []

    @initialize(key=ALLOWANCES, user=ALLOWANCES, model=ALLOWANCES, own=BUDGETS, team=BUDGETS)
    def configure(self, key: Allowance, user: Allowance, model: Allowance, own: Budget | None, team: Budget | None) -> None:
        self.limits = Limits(
            requests_per_minute=key.requests_per_minute,
            tokens_per_minute=key.tokens_per_minute,
            max_parallel=key.max_parallel,
            budget=own,
            per_user=user,
        )
        self.route = route_of(price=QUARTER, limits=model)
        self.desk.teams["t"] = Team("t", "t", budget=team)
        self.keys = {name: Key(name, name, team="t") for name in ("a", "b")}
        nothing = Allowance()
        self.tallies = {"team": Tally(nothing, team), "model": Tally(model)}
        for name in self.keys:
            self.tallies[f"key {name}"] = Tally(key, own)
            for who in ("ann", "bob"):
                self.tallies[f"user {name} {who}"] = Tally(user)

    @property
    def day(self) -> int:
        return int(self.desk.time.clock.wall() // DAY_S)

    @rule(key=KEYS, user=USERS, tokens=st.integers(2, 300))
    def ask(self, key: str, user: str | None, tokens: int) -> None:
        tallies = [self.tallies["team"], self.tallies["model"], self.tallies[f"key {key}"]]
        if user is not None:
            tallies.append(self.tallies[f"user {key} {user}"])
        tokens += tokens % 2  # its body is as long as its tokens say
        expected = set().union(*(tally.refuses(tokens, self.day) for tally in tallies))
        outcome = self.loop.run_until_complete(self._ask(key, user, tokens))
        if not isinstance(outcome, UnderWay):
            assert outcome in expected if expected else outcome is None
            return
        assert not expected
        outcome.tallies = tallies
        self.under_way.append(outcome)
        for tally in tallies:
            tally.running += 1
            tally.requests += 1
            tally.tokens += tokens
            tally.set_aside += ESTIMATE

    async def _ask(self, key: str, user: str | None, tokens: int) -> UnderWay | str | None:
        """What was reserved, or the limit that refused it; None: nothing is limited."""
        exchange = exchange_of(user, tokens)
        try:
            waiting = self.desk.limiter.reserve(exchange, self.route, self.keys[key], self.limits)
            if waiting is not None:
                await waiting
        except RateLimited as refusal:
            return refusal.param
        return None if exchange.reservation is None else UnderWay(exchange.reservation, [], tokens)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.under_way))
        request.reservation.release()
        if request.running:
            request.running = False
            for tally in request.tallies:
                tally.running -= 1

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), used=st.integers(0, 600), eighths=st.integers(0, 6))
    def settle(self, data: st.DataObject, used: int, eighths: int) -> None:
        request = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        request.reservation.release()
        for _ in range(2):
            self.loop.run_until_complete(self._settle(request, used, eighths / 8))
        cost = Fraction(eighths, 8)
        for tally in request.tallies:
            tally.running -= request.running
            tally.tokens = max(tally.tokens + used - request.tokens, Fraction(0))
            tally.set_aside -= ESTIMATE
            tally.spent[self.day] = tally.spent.get(self.day, Fraction(0)) + cost

    @staticmethod
    async def _settle(request: UnderWay, used: int, cost_usd: float) -> None:
        request.reservation.settle(used, cost_usd)

    @rule(milliseconds=st.integers(0, 100_000) | st.just(DAY_S * 1000))
    def pass_time(self, milliseconds: int) -> None:
        self.milliseconds += milliseconds
        self.desk.time.now = self.milliseconds / 1000
        for tally in self.tallies.values():
            tally.pass_time(Fraction(milliseconds, 1000))

    @invariant()
    def nothing_is_used_that_nobody_uses(self) -> None:
        if not any(request.running for request in self.under_way):
            assert all(account.slots.used == 0 for account in self.desk.limiter._accounts)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.desk.limiter.close(1))
        self.loop.close()


TestLimits = LimitsMachine.TestCase
TestLimits.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
pytestmark = pytest.mark.timeout(120)
