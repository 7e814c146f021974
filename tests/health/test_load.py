"""How fast a deployment is taken to be: slow at once, fast again slowly, and unknown when long unheard of."""

from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.health.load import DECAY_S, FADE_S, PEAK_S, SAMPLES, SAMPLES_MIN, Latency, Load, Peak

seconds = st.floats(0.001, 100)


def test_nothing_is_known_at_first() -> None:
    assert Latency().expected_s(1000, 50) == 0
    assert Latency().quantile_s(0.95) is None


def test_a_slow_answer_counts_whole_at_once() -> None:
    latency = Latency()
    latency.observe(0.1, 0, 0)
    latency.observe(3.0, 0, 1)
    assert latency.expected_s(0, 1) == 3.0


def test_fast_answers_pull_it_down_over_the_decay() -> None:
    latency = Latency()
    latency.observe(3.0, 0, 0)
    latency.observe(1.0, 0, DECAY_S)
    assert latency.expected_s(0, DECAY_S) == pytest.approx(3 * exp(-1) + 1 - exp(-1))


@given(st.lists(st.tuples(st.floats(0, 20), seconds), min_size=1, max_size=30))
def test_it_lies_between_the_fastest_and_the_slowest(told: list[tuple[float, float]]) -> None:
    latency, now = Latency(), 0.0
    for gap, took in told:
        now += gap
        latency.observe(took, 0, now)
        assert latency.expected_s(0, now) >= took * (1 - 1e-9)
    took_all = [took for _, took in told]
    assert min(took_all) * (1 - 1e-9) <= latency.expected_s(0, now) <= max(took_all)


@given(seconds, st.integers(0, 100_000), st.integers(0, 100_000))
def test_prompts_of_any_length_compare(took: float, told: int, asked: int) -> None:
    latency = Latency()
    latency.observe(took, told, 0)
    assert latency.expected_s(asked, 0) == pytest.approx(took * (1 + asked / 1000) / (1 + told / 1000))


def test_unheard_of_it_is_believed_for_the_decay_and_then_fades() -> None:
    latency = Latency()
    latency.observe(8.0, 0, 0)
    assert latency.expected_s(0, DECAY_S) == 8.0
    assert latency.expected_s(0, DECAY_S + FADE_S) == pytest.approx(8 / 2.718281828)
    assert latency.expected_s(0, DECAY_S + 10 * FADE_S) < 0.001


@given(st.lists(seconds, min_size=SAMPLES_MIN, max_size=300), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_a_quantile_is_one_of_the_last_answers(told: list[float], share: float) -> None:
    latency = Latency()
    for took in told:
        latency.observe(took, 0, 0)
    last = sorted(told[-SAMPLES:])
    assert latency.quantile_s(share) == last[min(int(len(last) * share), len(last) - 1)]


def test_under_sixteen_answers_there_is_no_quantile_and_a_few_new_ones_do_not_move_it() -> None:
    latency = Latency()
    for _ in range(SAMPLES_MIN - 1):
        latency.observe(1.0, 0, 0)
    assert latency.quantile_s(0.5) is None
    latency.observe(1.0, 0, 0)
    assert latency.quantile_s(0.99) == 1.0
    for _ in range(7):
        latency.observe(9.0, 0, 0)
    assert latency.quantile_s(0.99) == 1.0
    latency.observe(9.0, 0, 0)
    assert latency.quantile_s(0.99) == 9.0


def test_streams_and_unary_answers_are_measured_apart() -> None:
    load = Load()
    load.latency(stream=True).observe(1.0, 0, 0)
    assert load.latency(stream=False).expected_s(0, 0) == 0
    assert load.latency(stream=True).expected_s(0, 0) == 1.0


def test_the_tokens_of_a_call_are_a_moving_average() -> None:
    load = Load()
    load.observe_output(100)
    assert load.tokens_per_call == 100
    load.observe_output(200)
    assert load.tokens_per_call == pytest.approx(110)
    for _ in range(200):
        load.observe_output(50)
    assert load.tokens_per_call == pytest.approx(50, abs=0.1)


@given(st.lists(st.tuples(st.floats(0, PEAK_S * 1.5), st.integers(0, 100)), min_size=1, max_size=30))
def test_a_peak_is_remembered_for_a_while(noted: list[tuple[float, int]]) -> None:
    peak, now, told = Peak(), 0.0, []
    for gap, count in noted:
        now += gap
        peak.note(count, now)
        told.append((now, count))
        value = peak.value(now)
        assert value >= max([count for at, count in told if at > now - PEAK_S + 0.001])
        assert value <= max([count for at, count in told if at >= now - 3 * PEAK_S - 0.001])
    assert peak.value(now + 2 * PEAK_S + 0.001) == 0
