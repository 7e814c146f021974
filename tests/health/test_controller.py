"""The degradation controller in virtual time: when it alerts, when it trips, and how it comes back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_gateway.health.controller import (
    LONG_S,
    MIN_REQUESTS,
    PROBE_EVERY_S,
    PROBE_SHARE,
    SHORT_S,
    STEP_MIN_REQUESTS,
    STEP_S,
    STEPS,
    TRIP_CAP_S,
    TRIP_S,
    Controller,
)


class Traffic:
    """Requests at a steady rate; each that is let through to the primary is answered by it, or not."""

    def __init__(self, per_second: float, seed: int = 1) -> None:
        self.controller = Controller(0.05, 0.10, Random(seed))
        self.per_second = per_second
        self.now = 0.0
        self.random = Random(seed)
        self.sent = 0
        self.states: list[str] = ["normal"]

    def run(self, seconds: float, failure_rate: float, *, can_trip: bool = True) -> Traffic:
        return self.until(lambda: False, seconds, failure_rate, can_trip=can_trip)

    def until(self, reached: Callable[[], bool], seconds: float, failure_rate: float, *, can_trip: bool = True) -> Traffic:
        end = self.now + seconds
        while self.now < end and not reached():
            self.now += 1 / self.per_second
            if self.controller.admits_primary(self.now):
                self.sent += 1
                self.controller.observe(self.now, fell_back=self.random.random() < failure_rate, can_trip=can_trip)
            state = self.controller.reading(self.now).state
            if state != self.states[-1]:
                self.states.append(state)
        return self


def fed(total: int, failures: int, *, can_trip: bool = True) -> Controller:
    controller = Controller(0.05, 0.10, Random(1))
    for number in range(total):
        controller.observe(1.0, fell_back=number >= total - failures, can_trip=can_trip)
    return controller


# --- thresholds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "failures", "state"),
    [(100, 0, "normal"), (100, 5, "normal"), (100, 6, "alert"), (100, 10, "alert"), (100, 11, "tripped")],
)
def test_above_five_percent_it_alerts_and_above_ten_it_trips(total: int, failures: int, state: str) -> None:
    assert fed(total, failures).state == state


def test_under_fifty_requests_a_rate_says_nothing() -> None:
    controller = fed(MIN_REQUESTS - 1, MIN_REQUESTS - 1)
    assert controller.reading(1).state == "normal"
    assert controller.reading(1).rate_short is None
    controller.observe(1, fell_back=True, can_trip=True)
    assert controller.reading(1).state == "tripped"


def test_with_nowhere_to_go_it_alerts_and_never_trips() -> None:
    controller = fed(100, 100, can_trip=False)
    assert controller.state == "alert"
    assert controller.reading(1).rate_short == 1.0
    assert controller.admits_primary(2)


def test_the_alert_ends_by_itself_and_not_on_its_own_threshold() -> None:
    controller = fed(100, 6)
    for _ in range(40):
        controller.observe(2, fell_back=False, can_trip=True)
    assert controller.reading(2).state == "alert", "4.3 % is above four fifths of five"
    for _ in range(20):
        controller.observe(2, fell_back=False, can_trip=True)
    assert controller.reading(2).state == "normal"
    assert fed(100, 6).reading(1 + LONG_S + 1).state == "normal"


def test_the_long_window_sees_what_the_short_one_cannot() -> None:
    traffic = Traffic(per_second=0.5).run(200, 0.0)
    assert traffic.controller.reading(traffic.now).rate_short is None
    traffic.run(LONG_S, 0.2)
    assert "tripped" in traffic.states


def test_a_reading_tells_the_rates_of_both_windows() -> None:
    controller = Controller(0.5, 0.9, Random(1))
    for second in range(250):
        controller.observe(second, fell_back=second < 25, can_trip=True)
    reading = controller.reading(250)
    assert reading.rate_long == pytest.approx(0.1, abs=0.02)
    assert reading.rate_short == 0.0
    assert (reading.state, reading.primary_share) == ("normal", 1.0)


def test_requests_that_an_ejected_primary_was_spared_count_as_fallbacks_but_are_no_trial() -> None:
    controller = Controller(0.05, 0.10, Random(1))
    for _ in range(MIN_REQUESTS):
        controller.observe(1, fell_back=True, can_trip=True, tried=False)
    assert controller.reading(1).state == "tripped"
    for _ in range(STEP_MIN_REQUESTS):
        controller.observe(10, fell_back=True, can_trip=True, tried=False)
        controller.observe(10, fell_back=False, can_trip=True)
    assert controller.reading(10).state == "recovering"


# --- tripped ----------------------------------------------------------------------------------------------------------


def test_tripped_only_a_trickle_tests_the_primary() -> None:
    traffic = Traffic(100).run(5, 1.0)
    assert traffic.controller.state == "tripped"
    before = traffic.sent
    traffic.run(60, 1.0)
    assert traffic.sent - before == pytest.approx(PROBE_SHARE * 6000, rel=0.2)


def test_with_little_traffic_one_request_in_two_seconds_is_a_probe() -> None:
    controller = fed(100, 50)
    now, admitted = 1.0, 0
    for _ in range(600):
        now += 0.1
        admitted += controller.admits_primary(now)
    assert admitted >= 60 / PROBE_EVERY_S - 1


def test_it_comes_back_in_steps_and_each_lasts() -> None:
    traffic = Traffic(100).run(3, 0.3)
    assert traffic.states == ["normal", "tripped"]
    shares, entered = [traffic.controller.reading(traffic.now).primary_share], [traffic.now]

    def note() -> bool:
        share = traffic.controller.reading(traffic.now).primary_share
        if share != shares[-1]:
            shares.append(share)
            entered.append(traffic.now)
        return False

    traffic.until(note, 120, 0.0)
    assert shares == [PROBE_SHARE, *STEPS, 1.0]
    assert traffic.states == ["normal", "tripped", "recovering", "normal"]
    assert all(later - earlier >= STEP_S for earlier, later in pairwise(entered))
    assert entered[-1] - entered[0] < 3 * SHORT_S


@pytest.mark.parametrize("failure_rate", [0.1, 0.3, 1.0])
def test_while_the_primary_fails_it_stays_tripped(failure_rate: float) -> None:
    for seed in range(5):
        traffic = Traffic(100, seed).run(300, max(failure_rate, 0.3)).run(600, failure_rate)
        assert traffic.states == ["normal", "tripped"] or traffic.states.count("recovering") <= 1


def test_a_relapse_goes_back_at_once_and_waits_twice_as_long_each_time() -> None:
    traffic = Traffic(100).run(3, 1.0)
    stays = []
    for _ in range(5):
        tripped_at = traffic.now
        traffic.until(lambda: traffic.controller.state == "recovering", 1000, 0.0)
        stays.append(traffic.now - tripped_at)
        recovering_at = traffic.now
        traffic.until(lambda: traffic.controller.state == "tripped", 100, 1.0)
        assert traffic.now - recovering_at < 2
    for number, stay_s in enumerate(stays):
        assert stay_s >= TRIP_S * 2**number
    assert stays[-1] < 2 * TRIP_S * 2**4


def test_relapses_without_end_do_not_lock_it_out() -> None:
    controller = fed(100, 100)
    now = 1.0
    for _ in range(1100):
        while controller.state == "tripped":
            now += 10
            controller.observe(now, fell_back=False, can_trip=True)
        while controller.state == "recovering":
            controller.observe(now, fell_back=True, can_trip=True)
    tripped_at = now
    while controller.state == "tripped":
        now += 1
        controller.observe(now, fell_back=False, can_trip=True)
    assert now - tripped_at <= TRIP_CAP_S + 1


def test_back_to_normal_the_old_rates_are_forgotten() -> None:
    traffic = Traffic(100).run(3, 0.3).run(120, 0.0)
    assert traffic.states[-1] == "normal"
    assert traffic.controller.reading(traffic.now).rate_long == 0.0
    traffic.run(60, 0.04)
    assert "tripped" not in traffic.states[-1]


@pytest.mark.parametrize("per_second", [10, 1, 0.2, 1 / 60, 1 / 600], ids=lambda rate: f"{rate:.3g}-per-second")
def test_any_traffic_finds_its_way_back(per_second: float) -> None:
    traffic = Traffic(per_second)
    for _ in range(100):
        traffic.controller.observe(0.0, fell_back=True, can_trip=True)
    assert traffic.controller.state == "tripped"
    requests = 4 * STEP_MIN_REQUESTS / min(PROBE_SHARE, 1)
    traffic.until(lambda: traffic.controller.state == "normal", requests / per_second, 0.0)
    assert traffic.states == ["normal", "tripped", "recovering", "normal"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 30), st.booleans(), st.booleans()), max_size=200), st.sampled_from([0.1, 1.0, 30.0]))
def test_whatever_happened_success_leads_back_to_normal(happened: list[tuple[float, bool, bool]], gap_s: float) -> None:
    controller, now = Controller(0.05, 0.10, Random(1)), 0.0
    for gap, fell_back, can_trip in happened:
        now += gap
        controller.observe(now, fell_back=fell_back, can_trip=can_trip)
    for _ in range(20_000):
        now += gap_s
        if controller.admits_primary(now):
            controller.observe(now, fell_back=False, can_trip=True)
        if controller.state == "normal":
            break
    assert controller.reading(now).state == "normal"


@pytest.mark.parametrize("failure_rate", [0.0, 0.02, 0.04])
def test_a_primary_within_its_target_is_left_alone(failure_rate: float) -> None:
    for seed in range(5):
        assert "tripped" not in Traffic(100, seed).run(60, 0.0).run(600, failure_rate).states


@pytest.mark.parametrize("failure_rate", [0.01, 0.02, 0.04])
def test_a_primary_that_heals_to_its_usual_few_failures_comes_back(failure_rate: float) -> None:
    back_s = []
    for seed in range(10):
        traffic = Traffic(100, seed).run(30, 1.0)
        healed_at = traffic.now
        back_s.append(traffic.until(lambda traffic=traffic: traffic.controller.state == "normal", 600, failure_rate).now - healed_at)  # type: ignore[misc]  # a lambda's default
    assert sorted(back_s)[5] < 2 * SHORT_S
    assert max(back_s) < 600
