"""Two counts over the last seconds, held against a list of everything that happened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.health.window import SLICES, Window

Happening = tuple[float, int, int]
happenings = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 5), st.integers(0, 5)), max_size=60)


def naive(happened: list[Happening], now: float, span_s: float) -> tuple[int, int]:
    """All that lies in the slice of `now` or in one of the nine before it."""
    rate = SLICES / span_s
    kept = [item for item in happened if int(item[0] * rate) > int(now * rate) - SLICES]
    return sum(total for _, total, _ in kept), sum(hits for _, _, hits in kept)


@given(happenings, st.sampled_from([1.0, 10.0, 60.0]))
def test_it_counts_as_a_list_would(gaps: list[Happening], span_s: float) -> None:
    window, now, happened = Window(span_s), 0.0, []
    for gap, total, hits in gaps:
        now += gap
        happened.append((now, total, hits))
        window.add(now, total, hits)
        assert window.counts(now) == naive(happened, now, span_s)
    assert window.counts(now + 0.37 * span_s) == naive(happened, now + 0.37 * span_s, span_s)
    assert window.counts(now + span_s + 0.001) == (0, 0)


@pytest.mark.parametrize("span_s", [1.0, 30.0])
def test_what_is_younger_than_nine_slices_counts_and_what_is_older_than_the_span_does_not(span_s: float) -> None:
    window = Window(span_s)
    window.add(100.0, 3, 2)
    assert window.counts(100.0 + 0.89 * span_s) == (3, 2)
    assert window.counts(100.0 + 1.01 * span_s) == (0, 0)


def test_cleared_it_knows_nothing_and_counts_on() -> None:
    window = Window(10)
    for second in range(5):
        window.add(second, 1, 1)
    window.clear()
    assert window.counts(4) == (0, 0)
    window.add(4)
    assert window.counts(5) == (1, 0)


def test_its_size_is_bounded() -> None:
    window = Window(1)
    for step in range(10_000):
        window.add(step / 100)
    assert len(window._began) <= SLICES


def test_it_says_how_long_it_is() -> None:
    assert Window(30).span_s == pytest.approx(30)


def test_the_latest_part_of_a_window() -> None:
    window = Window(300, slices=50)
    for second in range(0, 300, 10):
        window.add(second, hits=int(second < 240))
    assert window.counts(299) == (30, 24)
    assert window.latest_counts(299, 60) == (6, 0)
    assert window.latest_counts(359, 60) == (0, 0)
