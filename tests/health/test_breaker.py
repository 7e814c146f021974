"""The breaker: when it opens, for how long, and that only one probe at a time finds out whether it may close."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent_gateway.core.settings import Breaker as Policy
from agent_gateway.health.breaker import LONGEST_OPEN, Breaker

POLICY = Policy(consecutive_failures=5, failure_rate=0.5, min_requests=20, window_s=30, open_s=30)


def opened(policy: Policy = POLICY, now: float = 0.0) -> Breaker:
    breaker = Breaker(policy)
    for _ in range(policy.consecutive_failures):
        breaker.failed(now, breaker.begin(now))
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(POLICY)
    for _ in range(4):
        breaker.failed(0)
    assert breaker.allows(0)
    breaker.failed(0)
    assert (breaker.state, breaker.allows(0)) == ("open", False)


def test_a_success_between_begins_the_row_anew() -> None:
    breaker = Breaker(POLICY)
    for _ in range(2):
        for _ in range(4):
            breaker.failed(0)
        breaker.succeeded(0)
    assert breaker.state == "closed"


def test_it_opens_at_the_failure_rate_once_there_are_enough_calls() -> None:
    breaker = Breaker(POLICY)
    for _ in range(9):
        breaker.failed(0)
        breaker.succeeded(0)
    breaker.succeeded(1)
    assert breaker.allows(1)
    breaker.failed(1)
    assert not breaker.allows(1)


def test_failures_out_of_the_window_are_forgotten() -> None:
    breaker = Breaker(POLICY)
    for _ in range(9):
        breaker.failed(0)
        breaker.succeeded(0)
    breaker.succeeded(31)
    breaker.failed(31)
    assert breaker.state == "closed"


def test_an_end_that_says_nothing_counts_for_nothing() -> None:
    breaker = Breaker(POLICY)
    for _ in range(100):
        breaker.abandoned(breaker.begin(0))
    assert breaker.state == "closed"


def test_each_ejection_in_a_row_is_longer_up_to_a_cap() -> None:
    breaker, now, lengths = opened(), 0.0, []
    for _ in range(100):
        lengths.append(breaker.reopens_at - now)
        assert not breaker.allows(breaker.reopens_at - 0.001)
        now = breaker.reopens_at
        assert breaker.allows(now)
        breaker.failed(now, breaker.begin(now))
    assert lengths[:6] == pytest.approx([30, 60, 120, 240, 300, 300])
    assert lengths[-1] == pytest.approx(LONGEST_OPEN * 30)


def test_a_probe_that_succeeds_closes_it_and_ends_the_growth() -> None:
    breaker = opened()
    breaker.failed(30, breaker.begin(30))
    breaker.succeeded(90, breaker.begin(90))
    assert breaker.state == "closed"
    for _ in range(5):
        breaker.failed(100)
    assert breaker.reopens_at == 130


def test_a_probe_that_says_nothing_leaves_it_to_the_next() -> None:
    breaker = opened()
    assert breaker.begin(30)
    assert not breaker.allows(30)
    breaker.abandoned(probe=True)
    assert (breaker.state, breaker.allows(30), breaker.begin(30)) == ("half_open", True, True)


def test_a_call_that_goes_there_though_it_is_open_becomes_the_probe_when_its_time_has_come() -> None:
    """A deployment that is all there is gets its calls whatever the breaker says, and nobody asks `allows` before."""
    breaker = opened()
    assert not breaker.begin(29)
    assert breaker.begin(30)


def test_late_news_of_calls_that_began_before_change_nothing() -> None:
    breaker = opened()
    breaker.succeeded(1)
    breaker.failed(1)
    assert (breaker.state, breaker.reopens_at) == ("open", 30)
    assert breaker.begin(30)
    breaker.failed(31)
    breaker.succeeded(31)
    assert breaker.state == "half_open"


def test_a_reloaded_policy_holds_at_once_and_what_is_known_stays() -> None:
    breaker = opened()
    breaker.follow(Policy(open_s=5))
    assert (breaker.state, breaker.reopens_at) == ("open", 5)
    breaker.succeeded(5, breaker.begin(5))
    breaker.follow(Policy(consecutive_failures=1, window_s=10))
    breaker.failed(6)
    assert breaker.state == "open"


class Calls(RuleBasedStateMachine):
    """Calls that begin and end in any order, against what the documentation says."""

    @initialize(failures=st.integers(1, 4), minimum=st.integers(1, 8), rate=st.sampled_from([0.3, 0.5, 1.0]))
    def start(self, failures: int, minimum: int, rate: float) -> None:
        self.policy = Policy(consecutive_failures=failures, failure_rate=rate, min_requests=minimum, window_s=10, open_s=10)
        self.breaker = Breaker(self.policy)
        self.now = 0.0
        self.flying: list[bool] = []
        self.in_a_row = 0
        self.ejections = 0
        self.opened_at = 0.0

    @rule(gap=st.sampled_from([0.0, 0.1, 1.0, 9.0, 40.0, 100.0]))
    def wait(self, gap: float) -> None:
        self.now += gap

    @rule(forced=st.booleans())
    def begin(self, forced: bool) -> None:
        allowed = self.breaker.allows(self.now)
        if allowed or forced:
            before = self.breaker.state
            probe = self.breaker.begin(self.now)
            assert probe is (allowed and before == "half_open")
            self.flying.append(probe)

    def _land(self, number: int) -> bool:
        return self.flying.pop(number % len(self.flying))

    @precondition(lambda self: self.flying)
    @rule(number=st.integers(0, 99))
    def succeed(self, number: int) -> None:
        probe = self._land(number)
        self.breaker.succeeded(self.now, probe)
        self.in_a_row = 0
        if probe:
            assert self.breaker.state == "closed"
            self.ejections = 0

    @precondition(lambda self: self.flying)
    @rule(number=st.integers(0, 99))
    def fail(self, number: int) -> None:
        probe, before = self._land(number), self.breaker.state
        self.breaker.failed(self.now, probe)
        self.in_a_row += before == "closed"
        if probe or (before == "closed" and self.in_a_row >= self.policy.consecutive_failures):
            assert self.breaker.state == "open"
        if before != "open" and self.breaker.state == "open":
            self.opened_at, self.in_a_row = self.now, 0
            self.ejections += 1

    @precondition(lambda self: self.flying)
    @rule(number=st.integers(0, 99))
    def abandon(self, number: int) -> None:
        probe, before = self._land(number), self.breaker.state
        self.breaker.abandoned(probe)
        assert self.breaker.state == before

    @invariant()
    def one_probe_at_a_time(self) -> None:
        assert self.flying.count(True) <= 1
        if True in self.flying:
            assert self.breaker.state == "half_open"
            assert not self.breaker.allows(self.now)

    @invariant()
    def open_for_as_long_as_documented(self) -> None:
        if self.breaker.state == "open":
            length = min(2 ** (self.ejections - 1), LONGEST_OPEN) * self.policy.open_s
            assert self.breaker.reopens_at == pytest.approx(self.opened_at + length)

    @invariant()
    def always_a_way_back(self) -> None:
        if True not in self.flying and self.breaker.state != "closed":
            assert self.breaker.state == "half_open" or self.breaker.reopens_at <= self.now + 10 * LONGEST_OPEN


TestCalls = pytest.mark.timeout(60)(Calls.TestCase)
TestCalls.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
