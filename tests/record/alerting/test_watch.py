"""The watch: who is told of what, what a silence and a reload change, and what metrics tell of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import pytest

from agent_gateway.core.clock import Clock
from agent_gateway.core.settings import AlertRule, Alerts
from agent_gateway.record.alerting.watch import Watch
from agent_gateway.record.metrics import Metrics
from tests.record.alerting.stage import WALL


@dataclass
class Desk:
    """A watch over one account's budget; what webhooks are sent is noted."""

    now: float = 0.0
    budgets: dict[str, float] = field(default_factory=dict)
    posted: list[str] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.metrics, lambda: self.budgets, self._post, Clock(lambda: self.now, lambda: WALL + self.now))
        self.metrics.watch_alerts(self.watch)
        self.watch.look()

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> tuple[int, bytes]:
        await asyncio.sleep(0)
        if not timeout_s:
            raise TimeoutError
        self.posted.append(url)
        return 200, b""

    def look(self, seconds: float = 10.0) -> None:
        for _ in range(int(seconds / 10)):
            self.now += 10
            self.watch.look()


@pytest.fixture
async def desk(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Desk]:
    caplog.set_level(logging.INFO, "agent_gateway.alerts")
    desk = Desk()
    desk.watch.configure(Alerts(), {})
    yield desk
    await desk.watch.close(1)


async def test_the_log_tells_of_the_beginning_and_the_end(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.budgets["team:blue"] = 0.85
    desk.look(60)
    assert [record.getMessage() for record in caplog.records] == ["alert firing: budget: team:blue has spent 85 % of its budget."]
    assert caplog.records[0].levelno == logging.WARNING
    assert desk.watch.firing["budget", "warning"] == 1
    del desk.budgets["team:blue"]
    desk.look(200)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["alert firing", "alert resolved"]
    assert sum(desk.watch.firing.values()) == 0


async def test_nobody_is_told_while_it_is_silenced_but_after(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.budgets["key:1"] = 0.9
    desk.look()
    (alert,) = desk.watch.engine.firing()
    desk.watch.engine.silence(alert, WALL + desk.now + 500)
    desk.budgets.clear()
    desk.look(200)
    assert "resolved" in caplog.text, "whoever was told that it began is told that it is over"
    caplog.clear()
    desk.budgets["key:1"] = 0.95
    desk.look(200)
    assert caplog.records == []
    desk.look(150)
    assert "alert firing: budget: key:1 has spent 95 %" in caplog.text


async def test_a_reload_changes_rules_and_webhooks(desk: Desk) -> None:
    desk.watch.configure(Alerts(webhooks=("https://one.example/a", "https://two.example/b", "https://one.example/a")), {})
    desk.budgets["key:1"] = 0.9
    desk.look()
    await desk.watch.close(1)
    assert sorted(desk.posted) == ["https://one.example/a", "https://two.example/b"]
    assert desk.watch.notices == {"sent": 2, "failed": 0, "dropped": 0}
    desk.watch.configure(Alerts(webhooks=("https://two.example/b",), rules={"budget": AlertRule(enabled=False)}), {})
    desk.look()
    assert desk.watch.notices["sent"] == 2, "what a webhook did is counted on when it is gone"
    assert desk.watch.engine.firing() == []


async def test_a_webhook_that_a_reload_takes_away_tells_what_it_still_has_to(desk: Desk) -> None:
    desk.watch.configure(Alerts(webhooks=("https://one.example/a",)), {})
    desk.watch.start()
    desk.budgets["key:1"] = 0.9
    desk.look()
    desk.watch.configure(Alerts(), {})
    assert desk.watch.notices["sent"] == 0
    await desk.watch.close(1)
    assert desk.posted == ["https://one.example/a"]
    assert desk.watch.notices == {"sent": 1, "failed": 0, "dropped": 0}


async def test_metrics_tell_of_it(desk: Desk) -> None:
    told = desk.metrics.render()[0].decode()
    assert 'agent_gateway_alerts_firing{rule="errors_fast",severity="critical"} 0.0' in told
    assert 'agent_gateway_alert_notices_total{outcome="failed"} 0.0' in told
