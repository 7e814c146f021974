"""Times that are counted are those that were added, to a thousandth."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.bench.times import SHARES, Times, name_of

seconds = st.floats(min_value=0, max_value=10_000, allow_nan=False)


def counted(values: list[float]) -> Times:
    times = Times()
    for value in values:
        times.add(value)
    return times


@given(st.lists(seconds, min_size=1, max_size=300), st.sampled_from(SHARES))
def test_a_quantile_is_the_one_of_the_values(values: list[float], share: float) -> None:
    exact = sorted(values)[max(ceil(share * len(values)), 1) - 1]
    found = counted(values).quantile_s(share)
    assert found is not None
    assert exact - 1e-6 <= found <= exact * 1.001 + 1e-6


@given(st.lists(seconds, min_size=1, max_size=300))
def test_what_is_told_adds_up(values: list[float]) -> None:
    told = counted(values).told()
    assert told is not None
    assert told.count == len(values) == sum(count for _, count in told.buckets)
    assert told.mean_s == pytest.approx(sum(values) / len(values))
    assert (told.min_s, told.max_s) == (min(values), max(values))
    assert list(told.percentiles) == [name_of(share) for share in SHARES]
    assert sorted(told.percentiles.values()) == list(told.percentiles.values())
    assert [upper_s for upper_s, _ in told.buckets] == sorted({upper_s for upper_s, _ in told.buckets})


def test_of_none_nothing_is_told() -> None:
    assert Times().told() is None
    assert Times().quantile_s(0.5) is None


def test_percentiles_are_called_as_they_are_usually() -> None:
    assert [name_of(share) for share in SHARES] == ["p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99"]
