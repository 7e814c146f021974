"""What every strategy promises (`routing/base.py`)."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.routing.base import STRATEGIES, Strategy, View

views = st.builds(
    View,
    weight=st.floats(0.001, 1000),
    in_flight=st.integers(0, 10_000),
    latency_s=st.just(0.0) | st.floats(1e-6, 600),
    cost_usd=st.none() | st.just(0.0) | st.floats(1e-9, 100),
)
all_strategies = pytest.mark.parametrize("name", STRATEGIES.names)


def make(name: str) -> Strategy:
    plugin: type[Strategy] = STRATEGIES.load(name)
    return plugin(plugin.Settings())


@all_strategies
def test_its_settings_are_its_own_and_closed(name: str) -> None:
    plugin: type[Strategy] = STRATEGIES.load(name)
    assert msgspec.convert({"kind": name}, plugin.Settings) == plugin.Settings()
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"unheard_of": 1}, plugin.Settings)


@all_strategies
@given(items=st.lists(views, min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_it_orders_all_views_and_changes_none(name: str, items: list[View], seed: int) -> None:
    given_views = tuple(items)
    order = make(name).order(given_views, Random(seed))
    assert sorted(order) == list(range(len(items)))
    assert given_views == tuple(items)


@all_strategies
@given(items=st.lists(views, min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_it_is_a_function_of_what_it_is_given(name: str, items: list[View], seed: int) -> None:
    strategy = make(name)
    first = strategy.order(items, Random(seed))
    strategy.order(items[::-1], Random(seed + 1))
    assert strategy.order(items, Random(seed)) == first
    assert make(name).order(items, Random(seed)) == first


@all_strategies
def test_one_view_is_the_order(name: str) -> None:
    assert make(name).order([View(1, 0, 0, None)], Random(1)) == [0]


@all_strategies
def test_equals_share_the_work_unless_their_order_is_the_point(name: str) -> None:
    random, strategy = Random(1), make(name)
    firsts = [strategy.order([View(1, 3, 0.5, 0.001)] * 3, random)[0] for _ in range(3000)]
    shares = [firsts.count(index) / 3000 for index in range(3)]
    assert shares == [1, 0, 0] if name == "priority" else all(0.3 < share < 0.37 for share in shares)


@all_strategies
@pytest.mark.parametrize("latency_s", [0.0, 0.2])
def test_where_nothing_is_known_it_still_decides(name: str, latency_s: float) -> None:
    items = [View(1, 0, latency_s, None), View(2, 0, 0.0, None), View(1, 0, 0.0, 0.0)]
    assert sorted(make(name).order(items, Random(1))) == [0, 1, 2]
