"""What a drill came to: how often alerts are right, what they miss, how soon they come, and what the gateway did by itself.

Promise: every false alarm and every incident that was missed is named, so that it can be played again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median, quantiles

import msgspec

from agent_gateway.rehearsal.drill import Guarded, Played, Told
from agent_gateway.rehearsal.kinds import KINDS

#: Alerts are to be right, and incidents to be told, more often than this; half of them sooner than that (s).
RIGHT = 0.95
DETECTED_S = 120.0


class Reaction(msgspec.Struct, frozen=True):
    """Of breakers, or of controllers: in how many scenarios any left its usual state, and of those, medians (s)."""

    scenarios: int
    after_s: float | None
    #: After the incident was over; negative: before.
    back_after_s: float | None


class OfKind(msgspec.Struct, frozen=True):
    kind: str
    text: str
    quiet: bool
    scenarios: int
    requests: int
    incidents: int
    detected: int
    #: Median, and what nine of ten were below (s).
    detection_s: float | None
    detection_p90_s: float | None
    alerts: int
    false_alarms: int
    breakers: Reaction
    controllers: Reaction


class FalseAlarm(msgspec.Struct, frozen=True):
    scenario: str
    alert: Told


class Verdict(msgspec.Struct, frozen=True):
    """Shares are 0–1; None where there was nothing to be right about."""

    seed: int
    scenarios: int
    quiet: int
    requests: int
    incidents: int
    #: Of the alerts, those that are right; of the incidents, those that were told.
    precision: float | None
    recall: float | None
    detection_s: float | None
    detection_p90_s: float | None
    alerts: int
    #: In all, and in quiet scenarios.
    false_alarms: int
    quiet_false_alarms: int
    passed: bool
    kinds: list[OfKind]
    missed: list[str]
    false: list[FalseAlarm]


def judge(played: Sequence[Played], seed: int) -> Verdict:
    alerts = [alert for each in played for alert in each.alerts]
    incidents = [each for each in played if each.began_s is not None]
    missed = [each.name for each in incidents if each.detected_after_s is None]
    false = [FalseAlarm(each.name, alert) for each in played for alert in each.alerts if not alert.right]
    precision = 1 - len(false) / len(alerts) if alerts else None
    recall = 1 - len(missed) / len(incidents) if incidents else None
    times = [each.detected_after_s for each in played if each.detected_after_s is not None]
    quiet = [each for each in played if KINDS[each.kind].quiet]
    return Verdict(
        seed=seed,
        scenarios=len(played),
        quiet=len(quiet),
        requests=sum(each.requests for each in played),
        incidents=len(incidents),
        precision=precision,
        recall=recall,
        detection_s=_median(times),
        detection_p90_s=_p90(times),
        alerts=len(alerts),
        false_alarms=len(false),
        quiet_false_alarms=sum(len(each.alerts) for each in quiet),
        passed=_is_enough(precision) and _is_enough(recall) and (not times or median(times) < DETECTED_S),
        kinds=[_of_kind(name, of_kind) for name in KINDS if (of_kind := [each for each in played if each.kind == name])],
        missed=missed,
        false=false,
    )


def _of_kind(name: str, played: Sequence[Played]) -> OfKind:
    kind = KINDS[name]
    alerts = [alert for each in played for alert in each.alerts]
    times = [each.detected_after_s for each in played if each.detected_after_s is not None]
    return OfKind(
        kind=name,
        text=kind.text,
        quiet=kind.quiet,
        scenarios=len(played),
        requests=sum(each.requests for each in played),
        incidents=sum(each.began_s is not None for each in played),
        detected=len(times),
        detection_s=_median(times),
        detection_p90_s=_p90(times),
        alerts=len(alerts),
        false_alarms=sum(not alert.right for alert in alerts),
        breakers=_reaction(each.breakers for each in played),
        controllers=_reaction(each.controllers for each in played),
    )


def _reaction(all_of: Iterable[Guarded]) -> Reaction:
    left = [each for each in all_of if each.times]
    after = [each.after_s for each in left if each.after_s is not None]
    back = [each.back_after_s for each in left if each.back_after_s is not None]
    return Reaction(len(left), _median(after), _median(back))


def _is_enough(share: float | None) -> bool:
    return share is None or share >= RIGHT


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _p90(values: Sequence[float]) -> float | None:
    return None if not values else values[0] if len(values) == 1 else quantiles(values, n=10, method="inclusive")[-1]
