"""The learnt bound: what makes it, lowers it, raises it, and has it forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agent_gateway.core.settings import Concurrency as Policy
from agent_gateway.health.concurrency import BACKOFF, CROWD_MIN, FORGET_S, SIGNS_WINDOW_S, Concurrency
from agent_gateway.health.first_tokens import WINDOW
from agent_gateway.health.load import Load

DEFAULT = Policy()


class Deployment:
    """A bound with calls that begin and end."""

    def __init__(self, policy: Policy = DEFAULT, in_flight: int = 0) -> None:
        self.load = Load()
        self.load.in_flight = in_flight
        self.bound = Concurrency(policy, self.load)

    def fails(self, began: float, now: float, *, refused: bool = True, calls: int = 0) -> int | None:
        self.load.in_flight -= 1
        self.bound.overloaded(began, now, calls, refused=refused)
        return self.bound.limit

    @property
    def limit(self) -> int | None:
        return self.bound.limit

    def refill(self, in_flight: int) -> None:
        self.load.in_flight = in_flight

    def answers(self, times: int, now: float) -> None:
        """With the bound used up each time."""
        for _ in range(times):
            self.load.in_flight = (self.bound.limit or 1) - 1
            self.bound.ended(1.0, now, answered=True)


def overloaded(in_flight: int = 20, policy: Policy = DEFAULT) -> Deployment:
    """At 1 s it turned two calls away, the second with one less under way."""
    deployment = Deployment(policy, in_flight)
    deployment.fails(0, 1)
    deployment.fails(0, 1)
    return deployment


def test_without_overload_there_is_no_bound() -> None:
    deployment = Deployment(in_flight=500)
    for _ in range(400):
        deployment.load.in_flight -= 1
        deployment.bound.ended(3.0, 1, answered=True)
    assert deployment.limit is None


def test_one_failure_is_noise() -> None:
    deployment = Deployment(in_flight=20)
    assert deployment.fails(0, 1) is None
    assert deployment.fails(0, 2 + SIGNS_WINDOW_S) is None


def test_a_small_share_of_failures_is_noise() -> None:
    deployment = Deployment(in_flight=500)
    assert [deployment.fails(0, 1, calls=1000) for _ in range(49)] == [None] * 49
    assert deployment.fails(0, 1, calls=1000) is not None


def test_with_few_calls_under_way_it_is_not_they_who_are_too_many() -> None:
    deployment = Deployment(in_flight=CROWD_MIN - 1)
    for now in range(1, 5):
        assert deployment.fails(0, now) is None
        deployment.refill(CROWD_MIN - 1)


def test_it_appears_at_what_was_under_way_and_follows_a_crowd_down_to_what_is_carried() -> None:
    deployment = Deployment(in_flight=50)
    assert [deployment.fails(0, 1) for _ in range(40)] == [None, 49, *range(47, 9, -1)]


def test_a_crowd_that_times_out_lowers_it_once() -> None:
    deployment = Deployment(in_flight=50)
    limits = [deployment.fails(0, 30, refused=False) for _ in range(40)]
    assert limits[1:] == [49] * 39


def test_each_further_crowd_lowers_it_by_a_fifth() -> None:
    deployment = overloaded(21)
    deployment.refill(20)
    assert deployment.fails(2, 3, refused=False) == int(20 * BACKOFF)
    deployment.refill(16)
    assert deployment.fails(4, 5, refused=False) == int(16 * BACKOFF)


def test_a_failure_while_little_of_it_is_used_says_nothing_about_it() -> None:
    deployment = overloaded(21)
    deployment.refill(9)
    assert deployment.fails(2, 3) == 20


def test_it_never_closes() -> None:
    deployment = overloaded()
    for now in range(2, 100):
        deployment.refill(deployment.limit or 1)
        deployment.fails(now - 0.5, now)
    assert deployment.limit == 1


def test_used_up_it_grows_by_its_square_root_in_a_round() -> None:
    deployment = overloaded(26)
    assert deployment.limit == 25
    deployment.answers(25, 2)
    assert deployment.bound.learnt == pytest.approx(25 + 5, abs=0.3)


def test_not_used_up_it_does_not_grow_and_far_from_it_it_is_forgotten() -> None:
    deployment = overloaded(25)
    for now in range(2, 30):
        deployment.refill(15)
        deployment.bound.ended(1.0, now, answered=True)
    assert deployment.limit == 24
    deployment.refill(5)
    deployment.bound.ended(1.0, 28 + FORGET_S, answered=True)
    assert deployment.limit == 24
    deployment.bound.ended(1.0, 29 + FORGET_S, answered=True)
    assert not deployment.limit
    assert deployment.fails(90, 91) is None, "and is not made by the next stray failure"


def test_late_first_tokens_make_it_and_lower_it_and_keep_it_from_growing() -> None:
    deployment = Deployment(in_flight=10)
    tell = deployment.bound.first_token
    for seconds, in_flight, limit in ((0.5, 10, None), (2.0, 40, None), (2.0, 40, 40), (2.0, 40, 32)):
        deployment.refill(in_flight)
        for _ in range(WINDOW):
            tell(seconds, 1000, 1)
        assert deployment.limit == limit
    deployment.answers(100, 2)
    assert deployment.limit == 32
    for _ in range(WINDOW):
        tell(0.6, 1000, 3)
    deployment.answers(100, 3)
    assert (deployment.limit or 0) > 32


def test_max_holds_where_more_was_learnt_and_where_nothing_is() -> None:
    assert overloaded(30, Policy(max=10)).bound.limit == 10
    assert overloaded(30, Policy(max=10, adaptive=False)).bound.learnt is None
    assert overloaded(30, Policy(adaptive=False)).bound.limit is None


def test_a_reload_keeps_what_is_learnt_unless_nothing_is_to_be_learnt() -> None:
    bound = overloaded(30).bound
    bound.follow(Policy(max=5))
    assert bound.limit == 5
    bound.follow(Policy())
    assert bound.limit == 29
    bound.follow(Policy(adaptive=False))
    assert bound.limit is None


@given(some.lists(some.tuples(some.sampled_from(["begin", "answer", "refuse", "time out"]), some.integers(0, 3)), max_size=300))
def test_whatever_happens_it_is_at_least_one_and_never_above_max(story: list[tuple[str, int]]) -> None:
    deployment = Deployment(Policy(max=30))
    now = 0.0
    begun: list[float] = []
    for what, seconds in story:
        now += seconds
        if what == "begin":
            deployment.load.in_flight += 1
            begun.append(now)
        elif begun:
            began = begun.pop(0)
            if what == "answer":
                deployment.load.in_flight -= 1
                deployment.bound.ended(now - began, now, answered=True)
            else:
                deployment.fails(began, now, refused=what == "refuse", calls=len(begun))
        assert deployment.limit is not None
        assert 1 <= deployment.limit <= 30
