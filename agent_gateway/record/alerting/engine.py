"""The engine: looks at the figures, and says what has begun and what is over.

Promise: it does nothing but compute, by the clock it is given; one thing that is wrong is one alert until it is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from math import inf, sqrt
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.record.alerting.history import History
from agent_gateway.record.alerting.rules import RELEASE, Rule, Severity
from agent_gateway.record.alerting.signals import Level, Reading, Share
from agent_gateway.record.family import Family

#: How often it is meant to be asked (s).
EVERY_S = 10.0
#: Alerts at once; of more nothing is said. And those that are over, and still shown.
FIRING_MAX = 1_000
HISTORY_MAX = 1_000
#: What is over is no evidence for the next alert; longer than any window (s).
LONGEST_S = 3600.0


class Alert(Struct, frozen=True, kw_only=True):
    """One thing that is wrong, as everybody is told of it. Times are Unix seconds."""

    #: Of the rule and what it is about: the same each time that it happens.
    id: str
    rule: str
    severity: Severity
    #: What it is about: a model, a deployment, a sink, an account; "" for the whole gateway.
    label: str
    text: str
    advice: str
    #: As it is now, or was when it was over; in a rule's `unit`.
    value: float
    threshold: float
    began: float
    #: None: it goes on.
    ended: float | None = None
    silenced_until: float | None = None


class Change(Struct, frozen=True):
    what: Literal["firing", "resolved"]
    alert: Alert


class _State:
    """Of a rule and a label that fires, did, or is about to."""

    __slots__ = ("alert", "clear_since", "counts_from", "met_since")

    def __init__(self) -> None:
        self.alert: Alert | None = None
        #: Since when it is met without a break, before it fires.
        self.met_since: float | None = None
        #: Since when it is not met any more.
        self.clear_since: float | None = None
        #: What was before belongs to an alert that is over.
        self.counts_from = -inf


class AlertEngine:
    """`read` gives the metrics as they stand. Belongs to one thread."""

    def __init__(self, rules: Sequence[Rule], read: Callable[[], Iterable[Family]], clock: Clock = SYSTEM_CLOCK) -> None:
        self._read = read
        self._clock = clock
        self._rules: tuple[Rule, ...] = ()
        self._histories: dict[Share, History] = {}
        self._states: dict[tuple[str, str], _State] = {}
        #: How many of them have an alert: an outage of hundreds of models makes hundreds at once.
        self._firing = 0
        self._past: deque[Alert] = deque(maxlen=HISTORY_MAX)
        #: By the alert's id: until when (Unix s).
        self._silenced: dict[str, float] = {}
        self.configure(rules)

    def configure(self, rules: Sequence[Rule]) -> None:
        """At every reload. What is known of rules that stay, stays; an alert of one that goes is over at the next look."""
        self._rules = tuple(rules)
        spans: dict[Share, float] = {}
        for rule in rules:
            if isinstance(rule.signal, Share):
                spans[rule.signal] = max(spans.get(rule.signal, 0.0), *rule.windows_s)
        self._histories = {share: self._histories.get(share) or History(share, span_s) for share, span_s in spans.items()}

    def evaluate(self) -> list[Change]:
        """What has changed since the last time; to be asked every `EVERY_S`."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        reading = Reading({family.name: family for family in self._read()})
        for history in self._histories.values():
            history.look(reading, now)
        self._forget(now)
        changes: list[Change] = []
        for rule in self._rules:
            changes += self._judge(rule, reading, now, wall)
        names = {rule.name for rule in self._rules}
        for (name, label), state in list(self._states.items()):
            if name not in names and state.alert is not None:
                changes.append(self._end(name, label, state, now, wall))
        return changes

    def firing(self) -> list[Alert]:
        """The newest first."""
        alerts = [self._shown(state.alert) for state in self._states.values() if state.alert is not None]
        return sorted(alerts, key=lambda alert: alert.began, reverse=True)

    def past(self) -> list[Alert]:
        """Those that are over, of this process; the newest first."""
        return [self._shown(alert) for alert in reversed(self._past)]

    def find(self, alert_id: str) -> Alert | None:
        """As it was last."""
        return next((alert for alert in (*self.firing(), *self.past()) if alert.id == alert_id), None)

    def silence(self, alert: Alert, until: float) -> Alert:
        """Nobody is to be told of it until then (Unix s), also if it is over and begins again."""
        wall = self._clock.wall()
        self._silenced = {each: end for each, end in self._silenced.items() if end > wall}
        self._silenced[alert.id] = until
        return self._shown(alert)

    def is_silenced(self, alert: Alert) -> bool:
        return self._silenced.get(alert.id, 0.0) > self._clock.wall()

    # --- one rule

    def _judge(self, rule: Rule, reading: Reading, now: float, wall: float) -> Iterator[Change]:
        if isinstance(rule.signal, Level):
            levels = rule.signal.read(reading)
            candidates = set(levels)
        else:
            levels = {}
            candidates = set(self._histories[rule.signal].labels())
        candidates |= {label for name, label in self._states if name == rule.name}
        for label in sorted(candidates):
            state = self._states.get((rule.name, label)) or _State()
            if state.alert is None:
                value = None if self._fires(rule.under, label) else self._met(rule, label, levels, state, now)
                if value is None:
                    state.met_since = None
                    continue
                self._states[rule.name, label] = state
                state.met_since = now if state.met_since is None else state.met_since
                if now - state.met_since >= rule.for_s and self._firing < FIRING_MAX:
                    yield self._begin(rule, label, value, state, wall)
                continue
            value = self._lasting(rule, label, levels, now)
            if value is not None:
                state.clear_since = None
                state.alert = replace(state.alert, value=value, text=rule.told(label, value))
                continue
            state.clear_since = now if state.clear_since is None else state.clear_since
            if now - state.clear_since >= rule.clear_s:
                yield self._end(rule.name, label, state, now, wall)

    def _met(self, rule: Rule, label: str, levels: Mapping[str, float], state: _State, now: float) -> float | None:
        """The value by which it begins, of the shortest window; None: it does not."""
        threshold = rule.threshold_of(label)
        if isinstance(rule.signal, Level):
            level = levels.get(label, 0.0)
            return level if level > threshold else None
        history = self._histories[rule.signal]
        counts = [history.within(label, max(now - window_s, state.counts_from)) for window_s in rule.windows_s]
        if any(part <= threshold * whole or not whole for part, whole in counts):
            return None
        part, whole = counts[-1]
        by_chance = rule.sure * sqrt(threshold * (1 - threshold) * whole) if rule.sure else 0.0
        if part < rule.least_part or whole < rule.least_whole or part <= threshold * whole + by_chance:
            return None
        return counts[0][0] / counts[0][1]

    def _lasting(self, rule: Rule, label: str, levels: Mapping[str, float], now: float) -> float | None:
        """By its shortest window alone, and down to a lower threshold: what hovers about the threshold is one alert. None: it is over."""
        threshold = rule.threshold_of(label)
        if isinstance(rule.signal, Level):
            level = levels.get(label, 0.0)
            return level if level > threshold else None
        part, whole = self._histories[rule.signal].within(label, now - rule.windows_s[0])
        return part / whole if whole and part > threshold * RELEASE * whole else None

    def _begin(self, rule: Rule, label: str, value: float, state: _State, wall: float) -> Change:
        state.met_since = state.clear_since = None
        self._firing += 1
        state.alert = Alert(
            id="alert_" + sha256(f"{rule.name}|{label}".encode()).hexdigest()[:12],
            rule=rule.name,
            severity=rule.severity,
            label=label,
            text=rule.told(label, value),
            advice=rule.advice,
            value=value,
            threshold=rule.threshold_of(label),
            began=wall,
        )
        return Change("firing", self._shown(state.alert))

    def _end(self, name: str, label: str, state: _State, now: float, wall: float) -> Change:
        assert state.alert is not None
        ended = replace(state.alert, ended=wall)
        self._past.append(ended)
        state.alert = None
        self._firing -= 1
        # Nor may what it was about make another of it: not this rule again, and none that says the same less urgently.
        for key in ((name, label), *((rule.name, label) for rule in self._rules if rule.under == name)):
            after = self._states.setdefault(key, _State())
            after.counts_from = now
        return Change("resolved", self._shown(ended))

    def _forget(self, now: float) -> None:
        """What says nothing any more."""
        for key, state in list(self._states.items()):
            if state.alert is None and state.met_since is None and now >= state.counts_from + LONGEST_S:
                del self._states[key]

    def _fires(self, name: str | None, label: str) -> bool:
        state = None if name is None else self._states.get((name, label))
        return state is not None and state.alert is not None

    def _shown(self, alert: Alert) -> Alert:
        until = self._silenced.get(alert.id, 0.0)
        return replace(alert, silenced_until=until if until > self._clock.wall() else None)
