"""What is worth an alert, as data: the engine judges by it, Prometheus gets the same (deploy/prometheus/rules.yaml).

Shares are judged on two windows: the long one says that it matters, the short one that it still goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from agent_gateway.core.settings import AlertRule, Alerts, Fallback
from agent_gateway.record.alerting.signals import Count, Level, Share
from agent_gateway.record.completeness import RECORDS_LOST

Severity = Literal["critical", "warning"]
Unit = Literal["share", "usd", "state"]

#: Windows of rules that see an outage within seconds, and of those that see a slow leak (s).
FAST_S = (60.0, 300.0)
SLOW_S = (300.0, 1800.0)
#: Standard deviations by which a share must be above its threshold, so that chance alone exceeds it once in 160 windows.
SURE = 2.5
#: A share of the threshold below which it is over.
RELEASE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """It fires where `signal` is above `threshold` in each of `windows_s`, surely and by enough of it in the longest."""

    name: str
    severity: Severity
    #: `{label}`, `{value}` and `{threshold}` are put in, and `{bound}`, where the signal has one.
    text: str
    #: What to look at, or to do.
    advice: str
    signal: Share | Level
    threshold: float
    unit: Unit = "share"
    windows_s: tuple[float, ...] = FAST_S
    least_part: float = 5.0
    least_whole: float = 0.0
    sure: float = SURE
    #: It must have been so for so long before it fires (s): time for a rule that says it more urgently.
    for_s: float = 0.0
    #: What is not so any more for so long is over (s).
    clear_s: float = 120.0
    #: A rule that says the same more urgently: while that one fires, this one does not begin.
    under: str | None = None
    #: Where it is another than `threshold`, by label.
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def threshold_of(self, label: str) -> float:
        return self.thresholds.get(label, self.threshold)

    def told(self, label: str, value: float) -> str:
        """Its text, of one that fires."""
        return self.text.format(
            label=label, value=told(value, self.unit), threshold=told(self.threshold_of(label), self.unit), bound=self.bound_told
        )

    @property
    def threshold_told(self) -> str:
        return told(self.threshold, self.unit)

    @property
    def bound_told(self) -> str:
        return "" if self.bound is None else f"{self.bound:g}"

    @property
    def bound(self) -> float | None:
        """Of a rule about times: what takes longer counts (s)."""
        return self.signal.part[0].above if isinstance(self.signal, Share) else None


def told(value: float, unit: Unit) -> str:
    match unit:
        case "share":
            return f"{value * 100:.3g} %"
        case "usd":
            return f"${value:.3g}"
        case "state":
            return f"{value:g}"


def rules_for(alerts: Alerts, fallbacks: Mapping[str, Fallback]) -> tuple[Rule, ...]:
    """As they are configured; none, where alerts are off. `fallbacks`: of each model, for its own rates."""
    if not alerts.enabled:
        return ()
    rates = {
        "fallback": {model: policy.alert_rate for model, policy in fallbacks.items()},
        "fallback_high": {model: policy.trigger_rate for model, policy in fallbacks.items()},
    }
    rules = [_set(rule, alerts.rules.get(rule.name, AlertRule()), rates.get(rule.name, {})) for rule in RULES]
    return tuple(rule for rule in rules if alerts.rules.get(rule.name, AlertRule()).enabled)


def _set(rule: Rule, wanted: AlertRule, thresholds: Mapping[str, float]) -> Rule:
    if wanted.bound_s is not None and isinstance(rule.signal, Share):
        rule = replace(rule, signal=_above(wanted.bound_s, replace(rule.signal.part[0], above=None)))
    if wanted.threshold is not None:
        return replace(rule, threshold=wanted.threshold)
    return replace(rule, thresholds=thresholds)


_REQUESTS = (Count("requests", but=(("status", ("cancelled",)),)),)
_ERRORS = (Count("errors", but=(("fault", ("client",)),)),)
_ATTEMPTS = (Count("attempts", but=(("outcome", ("cancelled", "lost_race")),)),)
#: Outcomes that say nothing against a deployment, or that have a rule of their own.
_NO_FAILURES = (
    *("success", "cancelled", "lost_race", "quality", "provider_refused_request", "context_length_exceeded", "content_filter"),
    *("not_supported_by_provider", "provider_rate_limited", "provider_key_refused", "provider_model_missing"),
)


def _above(bound: float, count: Count) -> Share:
    return Share((replace(count, above=bound),), (count,), by="model")


def _attempts(*outcomes: str) -> Share:
    return Share((Count("attempts", where=(("outcome", outcomes),)),), _ATTEMPTS, by="deployment")


_FAILED = Share(_ERRORS, _REQUESTS, by="model")
_DEGRADED = Share((Count("requests", where=(("status", ("degraded",)),)),), _REQUESTS, by="model")
_TIMED_OUT = Share((Count("timeouts"),), _REQUESTS)
_FELL_BACK = Share((Count("requests", where=(("status", ("fallback", "degraded")),)),), _REQUESTS, by="model")
_WHOLE_ANSWERS = Count("request_duration_seconds", where=(("pattern", ("unary",)),))
_FIRST_TOKENS = Count("time_to_first_token_seconds")
_COST = Share((Count("cost_usd"),), _REQUESTS, by="model")
#: As `records_complete_ratio` counts, but of a time: that one is since the start, and so never over.
_LOST = Share((Count("records", where=(("outcome", RECORDS_LOST),)),), (Count("records", but=(("outcome", ("adopted",)),)),), by="sink")
_WITHOUT_STORE = Share(
    (
        Count("errors", where=(("code", ("store_down",)),)),
        Count("limits_failed_open"),
        Count("sessions_forgotten"),
        Count("responses_unsaved"),
    ),
    _REQUESTS,
)
_FAILING = Share((Count("attempts", but=(("outcome", _NO_FAILURES),)),), _ATTEMPTS, by="deployment")

#: A rule stands behind the one that it is `under`.
RULES: tuple[Rule, ...] = (
    Rule(
        name="errors_fast",
        severity="critical",
        text="{value} of the requests for {label} fail (more than {threshold}, five times the budget).",
        advice="See errors_total by code and attempts_total by deployment: which provider fails, and how.",
        signal=_FAILED,
        threshold=0.05,
    ),
    Rule(
        name="errors_slow",
        severity="warning",
        text="{value} of the requests for {label} fail (more than {threshold}, twice the budget).",
        advice="See errors_total by code and attempts_total by deployment: which provider fails, and how.",
        signal=_FAILED,
        threshold=0.02,
        windows_s=SLOW_S,
        for_s=120.0,
        under="errors_fast",
    ),
    Rule(
        name="degraded",
        severity="critical",
        text="{value} of the requests for {label} get the fixed reply (more than {threshold}): neither the model nor a fallback answers.",
        advice="See attempts_total by deployment, or add a fallback of another provider.",
        signal=_DEGRADED,
        threshold=0.02,
    ),
    Rule(
        name="timeouts_fast",
        severity="critical",
        text="{value} of the requests run out of time, or have a model call that does (more than {threshold}, five times the budget).",
        advice="See timeouts_total by kind and upstream_duration_seconds by deployment; `timeouts` bounds what a slow provider costs.",
        signal=_TIMED_OUT,
        threshold=0.025,
    ),
    Rule(
        name="timeouts_slow",
        severity="warning",
        text="{value} of the requests run out of time, or have a model call that does (more than {threshold}, twice the budget).",
        advice="See timeouts_total by kind and upstream_duration_seconds by deployment.",
        signal=_TIMED_OUT,
        threshold=0.01,
        windows_s=SLOW_S,
        for_s=120.0,
        under="timeouts_fast",
    ),
    Rule(
        name="latency",
        severity="warning",
        text="{value} of the whole answers of {label} take longer than {bound} s (more than {threshold}: the p95 is above its target).",
        advice="See upstream_duration_seconds by deployment; a strategy by latency, hedging or streaming may help.",
        signal=_above(5.0, _WHOLE_ANSWERS),
        threshold=0.05,
    ),
    Rule(
        name="first_token",
        severity="warning",
        text="{value} of the streams of {label} begin later than after {bound} s (more than {threshold}: the p95 is above its target).",
        advice="See time_to_first_token_seconds and waiting by deployment; a strategy by latency or hedging may help.",
        signal=_above(2.0, _FIRST_TOKENS),
        threshold=0.05,
    ),
    Rule(
        name="cost",
        severity="warning",
        text="A request for {label} costs {value} in the mean (more than {threshold}).",
        advice="See tokens_total and attempts_total: longer prompts, dearer deployments or repeats.",
        signal=_COST,
        threshold=0.01,
        unit="usd",
        windows_s=SLOW_S,
        least_part=0.0,
        least_whole=20.0,
        sure=0.0,
    ),
    Rule(
        name="fallback_high",
        severity="critical",
        text="{value} of the requests for {label} are not answered by the model itself (more than {threshold}).",
        advice="The degradation controller sends the traffic to the fallback by itself; see fallbacks_total by reason.",
        signal=_FELL_BACK,
        threshold=0.10,
    ),
    Rule(
        name="fallback",
        severity="warning",
        text="{value} of the requests for {label} are not answered by the model itself (more than {threshold}).",
        advice="See fallbacks_total by reason and attempts_total by deployment.",
        signal=_FELL_BACK,
        threshold=0.05,
        for_s=60.0,
        under="fallback_high",
    ),
    Rule(
        name="records_lost",
        severity="critical",
        text="{value} of the records for the sink {label} are lost (more than {threshold}).",
        advice="See the log: the sink is down or too slow, or the disk is full.",
        signal=_LOST,
        threshold=0.01,
    ),
    Rule(
        name="breaker_open",
        severity="warning",
        text="The circuit breaker of {label} is open: it fails, and gets no more than probes.",
        advice="See attempts_total by outcome. It closes by itself when a probe succeeds.",
        signal=Level("breaker_state", by="deployment"),
        threshold=0.0,
        unit="state",
    ),
    Rule(
        name="provider_failing",
        severity="warning",
        text="{value} of the calls of {label} fail (more than {threshold}), whether clients see it or not.",
        advice="See attempts_total by outcome, and the provider's status page.",
        signal=_FAILING,
        threshold=0.20,
        for_s=30.0,
        under="breaker_open",
    ),
    Rule(
        name="provider_rate_limited",
        severity="warning",
        text="{value} of the calls of {label} are refused by the provider's rate limit (more than {threshold}).",
        advice="Ask the provider for more, add a deployment or a key, or set concurrency.max and limits.",
        signal=_attempts("provider_rate_limited"),
        threshold=0.20,
    ),
    Rule(
        name="provider_key_refused",
        severity="critical",
        text="{label} refuses the gateway's key, in {value} of the calls.",
        advice="The key was revoked, or its account has no credit: put in another one, and reload (SIGHUP).",
        signal=_attempts("provider_key_refused"),
        threshold=0.01,
        windows_s=(300.0,),
        least_part=2.0,
        sure=0.0,
    ),
    Rule(
        name="provider_model_missing",
        severity="critical",
        text="The provider does not know the model of {label} (any more), in {value} of the calls.",
        advice="It was retired or its name is wrong: name another one under `models`, and reload (SIGHUP).",
        signal=_attempts("provider_model_missing"),
        threshold=0.01,
        windows_s=(300.0,),
        least_part=2.0,
        sure=0.0,
    ),
    Rule(
        name="store_down",
        severity="critical",
        text="The database or Redis is not reached: {value} of the requests are refused, or go without limits or memory.",
        advice="See the log for what it says, and state.database and state.redis.",
        signal=_WITHOUT_STORE,
        threshold=0.01,
        least_part=3.0,
        sure=0.0,
    ),
    Rule(
        name="budget",
        severity="warning",
        text="{label} has spent {value} of its budget.",
        advice="When all of it is spent, requests are refused until its next period; the key or team can be given more.",
        signal=Level("budget_spent", by="account"),
        threshold=0.0,
    ),
)
