"""A virtual clock, counters that a test moves by hand, and the engine over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent_gateway.core.clock import Clock
from agent_gateway.record.alerting.engine import EVERY_S, AlertEngine, Change
from agent_gateway.record.alerting.rules import RULES, Rule
from agent_gateway.record.family import Family, Histogram
from agent_gateway.record.metrics import DURATION_S

#: Unix time at the start (s).
WALL = 1_760_000_000.0
LABELS: Mapping[str, tuple[str, ...]] = {
    "requests": ("model", "dialect", "pattern", "status"),
    "errors": ("model", "code", "fault"),
    "attempts": ("deployment", "outcome"),
    "timeouts": ("kind",),
    "request_duration_seconds": ("model", "pattern"),
    "time_to_first_token_seconds": ("model",),
    "cost_usd": ("model",),
    "records": ("sink", "outcome"),
    "breaker_state": ("deployment",),
    "limits_failed_open": ("reason",),
    "sessions_forgotten": (),
    "budget_spent": ("account",),
}
_GAUGES = ("breaker_state", "budget_spent")


class Stage:
    def __init__(self, rules: Sequence[Rule] = RULES) -> None:
        self.now = 0.0
        self._values: dict[str, dict[tuple[str, ...], Any]] = {name: {} for name in LABELS}
        self.clock = Clock(lambda: self.now, lambda: WALL + self.now)
        self.engine = AlertEngine(rules, self.families, self.clock)
        self.engine.evaluate()

    def families(self) -> list[Family]:
        return [Family(self._kind(name), name, "", LABELS[name], values) for name, values in self._values.items()]

    def count(self, name: str, *labels: str, by: float = 1.0) -> None:
        values = self._values[name]
        values[labels] = values.get(labels, 0.0) + by

    def observe(self, name: str, *labels: str, seconds: float) -> None:
        self._values[name].setdefault(labels, Histogram(DURATION_S)).observe(seconds)

    def set(self, name: str, *labels: str, to: float | None) -> None:
        """None: it is not there any more."""
        self._values[name].pop(labels, None)
        if to is not None:
            self._values[name][labels] = to

    def requests(self, answered: int, failed: int = 0, model: str = "chat", status: str = "success") -> None:
        self.count("requests", model, "openai_chat", "unary", status, by=answered)
        if failed:
            self.count("requests", model, "openai_chat", "unary", "error", by=failed)
            self.count("errors", model, "provider_error", "provider", by=failed)

    def look(self) -> list[Change]:
        """After another `EVERY_S`."""
        self.now += EVERY_S
        return self.engine.evaluate()

    def run(self, seconds: float, answered: int = 10, failed: int = 0) -> list[tuple[float, str, str]]:
        """Traffic of so many requests a look; (when, what, rule) of what changed."""
        changes: list[tuple[float, str, str]] = []
        for _ in range(int(seconds / EVERY_S)):
            self.requests(answered, failed)
            changes += [(self.now, change.what, change.alert.rule) for change in self.look()]
        return changes

    def _kind(self, name: str) -> Any:
        return "histogram" if name.endswith("_seconds") else "gauge" if name in _GAUGES else "counter"
