"""Time goes faster for these: a second between two looks would be most of each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent_gateway.batch import engine, pacing
from agent_gateway.batch.native import driver
from agent_gateway.simulator.batches.settings import BatchSettings
from tests.simulator.serving import Provider, served


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOOK_S", 0.02)
    monkeypatch.setattr(pacing, "ITEM_WAIT_S", 0.01)
    monkeypatch.setattr(driver, "POLL_MIN_S", 0.02)
    monkeypatch.setattr(driver, "RETRY_S", 0.02)
    monkeypatch.setattr(driver, "QUEUE_MIN_S", 0.02)
    monkeypatch.setattr(driver, "SEND_SHARE", 1 / 86_400)


@pytest.fixture
def simulated() -> Iterator[Provider]:
    with served() as provider:
        yield provider


@pytest.fixture
def slow() -> Iterator[Provider]:
    """Whose batches take long enough to be met half done."""
    with served(batch_settings=BatchSettings(batch_ms=10_000)) as provider:
        yield provider
