"""Has the engine look every few seconds, and whoever is to know told: the log at once, webhooks in their own time.

Promise: it never fails a request and never ends before the gateway does; a silenced alert is told to nobody.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from agent_gateway.core.clock import Clock
from agent_gateway.core.settings import Alerts, AlertWebhook, Fallback
from agent_gateway.record.alerting.engine import EVERY_S, AlertEngine, Change
from agent_gateway.record.alerting.rules import RULES, rules_for
from agent_gateway.record.alerting.webhook import TIMEOUT_S, Post, Webhook
from agent_gateway.record.family import Family
from agent_gateway.record.slo_window import SloWindow
from agent_gateway.record.traffic import Traffic

#: The gauge that the rule for budgets reads.
BUDGET_SPENT = "budget_spent"
_LEVELS = {"critical": logging.ERROR, "warning": logging.WARNING}
_log = logging.getLogger("agent_gateway.alerts")


class Figures(Protocol):
    """What is watched: `record.metrics.Metrics`, or those of several processes."""

    def families(self) -> Iterable[Family]: ...


class Watch:
    """One a gateway, over all reloads; belongs to the event loop. `budgets`: accounts that have nearly spent theirs, and how much of it.
    `refresh` is waited for before each look.
    """

    def __init__(
        self,
        metrics: Figures,
        budgets: Callable[[], Mapping[str, float]],
        post: Post,
        clock: Clock,
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._metrics = metrics
        self._refresh = refresh
        self._budgets = budgets
        self._post = post
        self._clock = clock
        self._gateway = socket.gethostname()
        self.engine = AlertEngine((), self._families, clock)
        self.slo = SloWindow()
        self.traffic = Traffic(metrics.families, clock)
        self._webhooks: list[Webhook] = []
        #: Of webhooks that are gone.
        self._before: Counter[str] = Counter()
        #: Alerts that were told, until it was told that they are over.
        self._told: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def configure(self, alerts: Alerts, fallbacks: Mapping[str, Fallback]) -> None:
        """At every reload. `fallbacks`: of each model."""
        self.engine.configure(rules_for(alerts, fallbacks))
        wanted = [AlertWebhook(url=each) if isinstance(each, str) else each for each in alerts.webhooks]
        known = {webhook.target: webhook for webhook in self._webhooks}
        self._webhooks = [
            known[target] if target in known else Webhook(target, self._post, self._clock, self._gateway)
            for target in dict.fromkeys(wanted)
        ]
        for webhook in known.values():
            if webhook in self._webhooks:
                continue
            self._before.update(_outcomes(webhook))
            if self._task is not None:
                closing = asyncio.get_running_loop().create_task(self._let_go(webhook))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    def start(self) -> None:
        self.slo.look(self._metrics.families(), self._clock.monotonic())
        self.look()  # what is counted from here on is of a known time
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, timeout_s: float) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        leaving = list(self._closing)
        await asyncio.gather(*(webhook.close(timeout_s) for webhook in self._webhooks))
        if leaving:
            _, late = await asyncio.wait(leaving, timeout=timeout_s)
            for each in late:
                each.cancel()

    @property
    def firing(self) -> Mapping[tuple[str, str], int]:
        """How many alerts, by rule and severity."""
        counts: dict[tuple[str, str], int] = {(rule.name, rule.severity): 0 for rule in RULES}
        for alert in self.engine.firing():
            counts[alert.rule, alert.severity] += 1
        return counts

    @property
    def notices(self) -> Mapping[str, int]:
        """How many webhooks were sent, or not, by outcome."""
        outcomes = [self._before, *map(_outcomes, self._webhooks)]
        return {name: sum(each[name] for each in outcomes) for name in ("sent", "failed", "dropped")}

    @property
    def slo_ratios(self) -> Mapping[str, float]:
        return self.slo.ratios

    def take_stock(self) -> None:
        """All that `start` has done over and over, once."""
        self.slo.look(self._metrics.families(), self._clock.monotonic())
        self.traffic.look()
        self.look()

    def look(self) -> None:
        """Once; `start` has it done over and over."""
        changes = self.engine.evaluate()
        news = self._news(changes)
        for change in news:
            alert = change.alert
            if change.what == "firing":
                _log.log(_LEVELS[alert.severity], "alert firing: %s: %s", alert.rule, alert.text)
            else:  # an end is no trouble, though it has to be seen where its beginning was
                _log.warning("alert resolved: %s: it was: %s", alert.rule, alert.text)
        for webhook in self._webhooks:
            webhook.tell(news)

    async def _run(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                if self._refresh is not None:
                    await self._refresh()
                self.slo.look(self._metrics.families(), self._clock.monotonic())
                await asyncio.sleep(0)  # with hundreds of models each takes some milliseconds
                self.traffic.look()
                await asyncio.sleep(0)
                self.look()
            except Exception:  # a bug: the next look may do better
                if not failed:
                    failed = True
                    _log.exception("The alerts could not be worked out. It is tried again, and not told again.")

    def _news(self, changes: Sequence[Change]) -> list[Change]:
        """What is to be told: not what is silenced, but for the end of what was told; and what goes on when its silence is over."""
        over = [change for change in changes if change.what == "resolved" and change.alert.id in self._told]
        self._told.difference_update(change.alert.id for change in over)
        begun = [
            Change("firing", alert)
            for alert in reversed(self.engine.firing())
            if alert.id not in self._told and not self.engine.is_silenced(alert)
        ]
        self._told.update(change.alert.id for change in begun)
        return over + begun

    async def _let_go(self, webhook: Webhook) -> None:
        """It tells what it still has to, and what becomes of that is counted on."""
        before = Counter(_outcomes(webhook))
        try:
            await webhook.close(TIMEOUT_S)
        finally:
            self._before.update(Counter(_outcomes(webhook)) - before)

    def _families(self) -> list[Family]:
        return [*self._metrics.families(), spent(self._budgets())]


def spent(budgets: Mapping[str, float]) -> Family:
    """For alerts alone: an account is no label for Prometheus."""
    return Family("gauge", BUDGET_SPENT, "Share of its budget that an account has spent.", ("account",), _keyed(budgets))


def _keyed(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(name,): value for name, value in values.items()}


def _outcomes(webhook: Webhook) -> dict[str, int]:
    return {"sent": webhook.sent, "failed": webhook.failed, "dropped": webhook.dropped}
