"""Whether a store is worth waiting for: by how quickly it answers lately, and how often it has failed."""

from __future__ import annotations

import pytest

from agent_gateway.stores.promptness import CALM_MAX_S, CALM_S, FORGIVEN_S, WAIT_MAX_S, WAIT_MIN_S, Promptness


class Store:
    def __init__(self) -> None:
        self.now = 1000.0
        self.promptness = Promptness(lambda: self.now)

    def fails_until(self, seconds: float) -> None:
        """It is asked twice a second meanwhile."""
        until = self.now + seconds
        while self.now < until:
            self.promptness.failed()
            self.now += 0.5

    def quick_after(self) -> float:
        """How long it is left alone (s)."""
        began = self.now
        while not self.promptness.is_quick:
            self.now += 0.01
        return self.now - began


def test_a_store_that_answers_is_waited_for_as_long_as_it_takes() -> None:
    promptness = Store().promptness
    assert promptness.is_quick
    for _ in range(100):
        promptness.took(0.001)
    assert (promptness.is_quick, promptness.wait_s) == (True, WAIT_MIN_S)
    for _ in range(100):
        promptness.took(0.08)
    assert promptness.is_quick
    assert promptness.wait_s == pytest.approx(0.16, rel=0.01)
    promptness.took(0.2)  # one is none
    assert (promptness.is_quick, promptness.wait_s) == (True, WAIT_MAX_S)


def test_a_slow_one_is_not_waited_for_until_it_is_quick_again() -> None:
    promptness = Store().promptness
    for _ in range(3):
        promptness.took(0.5)
    assert not promptness.is_quick
    for _ in range(20):
        promptness.took(0.001)
    assert promptness.is_quick


def test_one_that_fails_is_left_alone_longer_each_time_however_long_it_is_gone() -> None:
    store = Store()
    waits = []
    for gone_s in (0.5, 20, 0.5, 5, 0.5, 0.5, 0.5):
        store.fails_until(gone_s)
        waits.append(store.quick_after() + 0.5)
    assert waits == [pytest.approx(wait_s, abs=0.02) for wait_s in (CALM_S, 2, 4, 8, CALM_MAX_S, CALM_MAX_S, CALM_MAX_S)]
    store.now += FORGIVEN_S + 1
    store.fails_until(0.5)
    assert store.quick_after() + 0.5 == pytest.approx(CALM_S, abs=0.02)
