"""Waits after failures that may pass."""

from __future__ import annotations

from random import Random

import pytest

from agent_gateway.batch.pacing import BATCH_WAIT_MAX_S, FAILURES_MIN, ITEM_WAIT_MAX_S, Pacing, may_pass
from agent_gateway.core.errors import (
    BadRequest,
    BudgetSpent,
    GatewayError,
    InternalError,
    NotExpressible,
    Overloaded,
    ProviderFault,
    ProviderTimeout,
    RateLimited,
    StoreDown,
    Unauthenticated,
    UnknownModel,
)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (RateLimited("x"), True),
        (BudgetSpent("x"), True),
        (Overloaded("x"), True),
        (StoreDown("x"), True),
        (InternalError("x"), True),
        (ProviderFault("x"), True),
        (ProviderTimeout("x", kind="attempt"), True),
        (BadRequest("x"), False),
        (Unauthenticated("x"), False),
        (UnknownModel("x"), False),
        (NotExpressible("x"), False),
    ],
)
def test_limits_and_faults_pass_what_the_client_did_wrong_does_not(error: GatewayError, passes: bool) -> None:
    assert may_pass(error) is passes


def test_an_item_waits_longer_each_time_and_as_long_as_it_is_told_to() -> None:
    pacing = Pacing(Random(1))
    waits = [pacing.failed("b", ProviderFault("x"), attempts, 0.0) for attempts in (1, 2, 3, 4, 50)]
    for attempts, wait_s in enumerate(waits[:4], 1):
        assert 2 ** (attempts - 1) / 2 <= wait_s <= 2 ** (attempts - 1)
    assert ITEM_WAIT_MAX_S / 2 <= waits[4] <= ITEM_WAIT_MAX_S
    assert pacing.failed("b", RateLimited("x", retry_after_s=40), 1, 0.0) >= 20


def test_a_limit_makes_the_batch_wait_at_once_and_longer_each_time() -> None:
    pacing = Pacing()
    now, began, lengths = 0.0, 0.0, []
    for _ in range(12):
        pacing.failed("b", RateLimited("x"), 1, now)
        pacing.failed("b", RateLimited("x"), 1, now)  # of those begun with it
        began = now
        while "b" in pacing.paused(now):
            now += 0.5
        lengths.append(now - began)
    assert lengths[:4] == [1, 2, 4, 8]
    assert lengths[-1] == BATCH_WAIT_MAX_S
    assert pacing.paused(began) == {"b"}


def test_single_faults_of_providers_stop_nothing_and_a_success_forgives_all() -> None:
    pacing = Pacing()
    for _ in range(3):
        for _ in range(FAILURES_MIN - 1):
            pacing.failed("b", ProviderFault("x"), 1, 0.0)
        assert not pacing.paused(0.0)
        pacing.succeeded("b")
    for _ in range(FAILURES_MIN):
        pacing.failed("b", ProviderFault("x"), 1, 0.0)
    assert pacing.paused(0.0) == {"b"}
    pacing.keep_only(frozenset({"other"}))
    assert not pacing.paused(0.0)
