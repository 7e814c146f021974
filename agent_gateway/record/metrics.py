"""What Prometheus sees (CONTRACT §5): counted in plain numbers while requests end, told in its text format when it asks.

Promise: the number of series is bounded — a label is a configured name, a code of the program's own, or `other`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol, TypeVar

from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import Overloaded, RateLimited
from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.health.registry import Health
from agent_gateway.record.completeness import Books, Completeness, Counted, Tally
from agent_gateway.record.family import Family, Histogram, rendered
from agent_gateway.record.row import overhead_s, pattern_of
from agent_gateway.record.timeouts import timeouts_of

OTHER = "other"
_BREAKERS = ("closed", "half_open", "open")
_DEGRADATIONS = ("normal", "alert", "tripped", "recovering")
#: Different reasons and outcomes told apart. They are codes of the program's own, so only a mistake gets there.
CODES_MAX = 100
#: Deployments told apart beyond those of the configuration: models that clients name as `provider/model`.
UNCONFIGURED_DEPLOYMENTS_MAX = 100

# Upper bounds of buckets, in seconds. The targets of all patterns (0.5, 2, 5, 8, 10, 15 s) are among them, so that the share of
# requests within a target is read exactly. A label has 22 buckets of durations at most.
DURATION_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0),
    *(3.0, 5.0, 8.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
#: Of feedback.
SCORES = (1.0, 2.0, 3.0, 4.0, 5.0)
BATCH_S = (1.0, 5.0, 15.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 57600.0, 86400.0)
TOKEN_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
OVERHEAD_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
#: A share, 0–1; the target is 0.3.
EFFICIENCY = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class LiveStreams(Protocol):
    """What the streams that can be taken up again tell of themselves."""

    @property
    def running(self) -> int: ...

    @property
    def finished(self) -> int: ...

    @property
    def kept_bytes(self) -> int: ...

    @property
    def failures(self) -> int: ...


class Sessions(Protocol):
    """What the memory of conversations tells of itself."""

    @property
    def active(self) -> int: ...

    @property
    def expired(self) -> int: ...

    @property
    def forgotten(self) -> int: ...


class Responses(Protocol):
    """What the state of the Responses API tells of itself."""

    @property
    def unsaved(self) -> int: ...


class Limits(Protocol):
    """What limits tell of requests that they let in without knowing all."""

    @property
    def unshared(self) -> int: ...

    @property
    def unread(self) -> int: ...


class Shared(Protocol):
    """What processes tell each other of deployments."""

    @property
    def up(self) -> bool: ...


class Batches(Protocol):
    """What the engine of batches tells of itself."""

    @property
    def items(self) -> Mapping[str, int]: ...

    @property
    def durations(self) -> Histogram: ...


class Cache(Protocol):
    """What the cache tells of itself."""

    @property
    def results(self) -> Mapping[str, int]: ...

    @property
    def failures(self) -> int: ...

    @property
    def kept_bytes(self) -> int: ...


class Alerts(Protocol):
    """What the watch over these figures tells of itself."""

    @property
    def firing(self) -> Mapping[tuple[str, str], int]: ...

    @property
    def notices(self) -> Mapping[str, int]: ...

    @property
    def slo_ratios(self) -> Mapping[str, float]: ...


class _ModelFigures:
    """Everything that is counted by model."""

    __slots__ = ("cost_usd", "degraded", "efficiency", "first_token", "input_tokens", "output_tokens", "per_token")

    def __init__(self) -> None:
        self.first_token = Histogram(DURATION_S)
        self.per_token = Histogram(TOKEN_S)
        self.efficiency = Histogram(EFFICIENCY)
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_usd = 0.0
        self.degraded = 0


class _Count:
    """Of requests that share all their labels; `durations` and `figures` are shared with others."""

    __slots__ = ("durations", "figures", "requests")

    def __init__(self, durations: Histogram, figures: _ModelFigures) -> None:
        self.requests = 0
        self.durations = durations
        self.figures = figures


class _AttemptCount:
    __slots__ = ("attempts", "durations")

    def __init__(self, durations: Histogram) -> None:
        self.attempts = 0
        self.durations = durations


class Metrics:
    """One a process, over all reloads; belongs to the event loop. Everything but `render` costs a few microseconds at most."""

    def __init__(self) -> None:
        self._models: frozenset[str] = frozenset()
        self._deployments: set[str] = set()
        self._deployments_max = UNCONFIGURED_DEPLOYMENTS_MAX
        self._codes: set[str] = set()
        self._books = Books()
        self._health: Health | None = None
        self._live_streams: LiveStreams | None = None
        self._sessions: Sessions | None = None
        self._responses: Responses | None = None
        self._limits: Limits | None = None
        self._board: Shared | None = None
        self._batches: Batches | None = None
        self._cache: Cache | None = None
        self._alerts: Alerts | None = None
        self._clock: Clock = SYSTEM_CLOCK
        #: `ended` is not kept up to date: it follows from the two below.
        self._tally = Tally()
        self._recorder_holds: Callable[[], int] = lambda: 0
        self._edge_requests = 0
        self._in_flight: dict[str, int] = {}

        self._by_model: dict[str, _ModelFigures] = {}
        #: By model, dialect, pattern and status.
        self._requests: dict[tuple[str, str, str, str], _Count] = {}
        self._durations: dict[tuple[str, str], Histogram] = {}
        #: Of fixed replies.
        self._degraded_durations = Histogram(DURATION_S)
        #: Of answers, by the request's status.
        self._quality: dict[str, Histogram] = {}
        self._overhead = Histogram(OVERHEAD_S)
        self._upstream: dict[str, Histogram] = {}
        #: By deployment and outcome as they came: a look-up that succeeds has nothing left to check.
        self._attempts: dict[tuple[str, str | None], _AttemptCount] = {}
        self._attempt_labels: dict[tuple[str, str], _AttemptCount] = {}
        self._streams: dict[tuple[str, str], int] = {}
        self._fallbacks: dict[tuple[str, str], int] = {}
        #: By model, code and whose fault it was.
        self._errors: dict[tuple[str, str, str], int] = {}
        self._timeouts: dict[str, int] = {}
        self._rate_limited: dict[str, int] = {}
        self._guards: dict[tuple[str, str], int] = {}
        self._shed: dict[str, int] = {}
        self._scores = Histogram(SCORES)

    def configure(self, models: Collection[str], deployments: Collection[str]) -> None:
        """The names that become labels. Series of names that are gone stay, as Prometheus expects."""
        self._models = frozenset(models)
        self._deployments.update(deployments)
        self._deployments_max = len(self._deployments) + UNCONFIGURED_DEPLOYMENTS_MAX

    def watch_health(self, health: Health, clock: Clock) -> None:
        self._health, self._clock = health, clock

    def watch_streams(self, streams: LiveStreams) -> None:
        self._live_streams = streams

    def watch_sessions(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def watch_responses(self, responses: Responses) -> None:
        self._responses = responses

    def watch_limits(self, limits: Limits) -> None:
        self._limits = limits

    def watch_board(self, board: Shared) -> None:
        self._board = board

    def watch_batches(self, batches: Batches) -> None:
        self._batches = batches

    def watch_cache(self, cache: Cache) -> None:
        self._cache = cache

    def watch_alerts(self, alerts: Alerts) -> None:
        self._alerts = alerts

    def watch(self, sink: Counted) -> None:
        self._books.open(sink, self._reckoned())

    def unwatch(self, sink: Counted) -> None:
        self._books.close(sink)

    def watch_recorder(self, holds: Callable[[], int]) -> None:
        """`holds`: requests that have ended and are not worked in."""
        self._recorder_holds = holds

    # --- on the path

    def enter(self, model: str) -> None:
        """A request came in; each is matched by one `leave`."""
        self._edge_requests += 1
        self._in_flight[model] = self._in_flight.get(model, 0) + 1

    def leave(self, model: str) -> None:
        # By the name that was asked for and forgotten at zero: a reload in between cannot leave a series off by one.
        left = self._in_flight.get(model, 0) - 1
        if left > 0:
            self._in_flight[model] = left
        else:
            self._in_flight.pop(model, None)

    # --- when a request has ended

    def count_dropped(self, records: int) -> None:
        """Records lost before they reached a sink."""
        self._tally.dropped += records

    def count_handed(self, records: int) -> None:
        """Records handed to all sinks."""
        self._tally.handed += records

    def count_exempt(self) -> None:
        """A request that leaves no record because there is to be none."""
        self._tally.exempt += 1

    def completeness(self) -> dict[str, Completeness]:
        """Of the records, by sink."""
        return self._books.balance(self._reckoned())

    def _reckoned(self) -> Tally:
        tally = self._tally
        tally.ended = self._edge_requests - sum(self._in_flight.values())
        tally.waiting = self._recorder_holds()
        return tally

    def observe_score(self, score: int) -> None:
        self._scores.observe(score)

    def observe(self, exchange: Exchange) -> None:
        """A settled exchange, once."""
        call = exchange.call
        model = call.model if call.model in self._models else OTHER
        pattern, status = pattern_of(exchange), exchange.status or "error"
        ended = exchange.started if exchange.ended is None else exchange.ended
        labels = (model, call.dialect, pattern, status)
        count = self._requests.get(labels) or self._new_count(*labels)
        count.requests += 1
        count.durations.observe(ended - exchange.started)
        if pattern != "native":  # there the gateway was in nobody's way
            self._overhead.observe(overhead_s(exchange, ended))
        figures = count.figures
        self._observe_tokens(exchange, figures, ended)
        for attempt in exchange.attempts:
            attempts = self._attempts.get((attempt.deployment, attempt.outcome)) or self._new_attempt_count(attempt)
            attempts.attempts += 1
            if attempt.ended is not None:
                attempts.durations.observe(attempt.ended - attempt.started)
        if call.stream and (exchange.attempts or exchange.error is None):
            # A request refused before any attempt is no stream, whatever it asked for.
            outcome = status if status in ("error", "cancelled") else "completed"
            self._streams[model, outcome] = self._streams.get((model, outcome), 0) + 1
        if status == "fallback":
            fallback = (model, self._code(exchange.reason or "unknown"))
            self._fallbacks[fallback] = self._fallbacks.get(fallback, 0) + 1
        elif status == "degraded":
            figures.degraded += 1
            self._degraded_durations.observe(ended - exchange.started)
        if exchange.quality is not None:
            (self._quality.get(status) or self._quality.setdefault(status, Histogram(EFFICIENCY))).observe(exchange.quality)
        for done in exchange.guards:
            self._guards[done] = self._guards.get(done, 0) + 1
        if exchange.error is not None or len(exchange.attempts) > 1:
            if exchange.error is not None and status == "error":
                failed = (model, exchange.error.code, exchange.error.fault)
                self._errors[failed] = self._errors.get(failed, 0) + 1
            if isinstance(exchange.error, RateLimited):
                reason = exchange.error.param or OTHER
                self._rate_limited[reason] = self._rate_limited.get(reason, 0) + 1
            elif isinstance(exchange.error, Overloaded) and exchange.error.param is not None:
                reason = exchange.error.param
                self._shed[reason] = self._shed.get(reason, 0) + 1
            for kind in timeouts_of(exchange):
                self._timeouts[kind] = self._timeouts.get(kind, 0) + 1

    def _observe_tokens(self, exchange: Exchange, figures: _ModelFigures, ended: float) -> None:
        usage, first_token = exchange.usage, exchange.first_token
        output = 0
        if usage is not None:
            output = usage.output
            figures.input_tokens += usage.input
            figures.output_tokens += output
            efficiency = usage.efficiency
            if efficiency is not None:
                figures.efficiency.observe(efficiency)
        if exchange.cost_usd is not None:
            figures.cost_usd += exchange.cost_usd
        if first_token is not None and exchange.call.stream:
            figures.first_token.observe(first_token - exchange.started)
            if output > 1 and exchange.attempts:  # what the cache has, no model writes
                figures.per_token.observe((ended - first_token) / (output - 1))

    def _new_count(self, model: str, dialect: str, pattern: str, status: str) -> _Count:
        durations = self._durations.setdefault((model, pattern), Histogram(DURATION_S))
        figures = self._by_model.setdefault(model, _ModelFigures())
        count = self._requests[model, dialect, pattern, status] = _Count(durations, figures)
        return count

    def _new_attempt_count(self, attempt: Attempt) -> _AttemptCount:
        deployment = attempt.deployment
        if deployment not in self._deployments:
            if len(self._deployments) < self._deployments_max:
                self._deployments.add(deployment)
            else:
                deployment = OTHER
        labels = (deployment, self._code(attempt.outcome or "unknown"))
        count = self._attempt_labels.get(labels)
        if count is None:
            durations = self._upstream.setdefault(deployment, Histogram(DURATION_S))
            count = self._attempt_labels[labels] = _AttemptCount(durations)
        if OTHER not in labels:
            self._attempts[attempt.deployment, attempt.outcome] = count
        return count

    def _code(self, code: str) -> str:
        if code in self._codes:
            return code
        if len(self._codes) >= CODES_MAX or not code.isidentifier():
            return OTHER
        self._codes.add(code)
        return code

    # --- when Prometheus asks

    def render(self) -> tuple[bytes, str]:
        """The text and its content type."""
        return rendered(self.families())

    def families(self) -> Iterable[Family]:
        """Everything that is told, in the order in which it is."""
        yield _counter("edge_requests", "Requests that came in, ended or in flight.", (), {(): self._edge_requests})
        requests = {labels: count.requests for labels, count in self._requests.items()}
        yield _counter("requests", "Requests that have ended.", _REQUEST_LABELS, requests)
        yield _histogram("request_duration_seconds", "Whole time of a request.", ("model", "pattern"), self._durations)
        yield _histogram("overhead_seconds", "Of a request's time, what no model call took.", (), {(): self._overhead})
        yield _histogram("degraded_duration_seconds", "Time of a fixed reply.", (), {(): self._degraded_durations})
        yield _histogram("quality", "Of answers, 0–1, by the request's status.", ("status",), _keyed(self._quality))
        yield _histogram("upstream_duration_seconds", "Time of a model call.", ("deployment",), _keyed(self._upstream))
        attempts = {labels: count.attempts for labels, count in self._attempt_labels.items()}
        yield _counter("attempts", "Model calls.", ("deployment", "outcome"), attempts)
        yield _counter("streams", "Streams that have ended.", ("model", "outcome"), self._streams)
        yield _counter("fallbacks", "Answers of a fallback model.", ("model", "reason"), self._fallbacks)
        yield _counter("errors", "Requests that ended in an error, by whose fault it was.", ("model", "code", "fault"), self._errors)
        yield _counter("guard", "What guards did, by check.", ("check", "action"), self._guards)
        yield _counter("rate_limited", "Requests refused because a limit was reached.", ("reason",), _keyed(self._rate_limited))
        yield _counter("shed", "Requests refused because there was no room for them.", ("reason",), _keyed(self._shed))
        if self._limits is not None:
            let_in = {"redis_down": self._limits.unshared, "store_down": self._limits.unread}
            yield _counter("limits_failed_open", "Requests let in by what this process knew alone.", ("reason",), _keyed(let_in))
        yield _counter("timeouts", "Model calls and requests that ran out of time.", ("kind",), _keyed(self._timeouts))
        yield from self._collect_by_model()
        yield _gauge("in_flight", "Requests under way.", ("model",), self._in_flight_by_label())
        if self._health is not None:
            yield from self._collect_health(self._health)
        shared = {} if self._board is None else {(): float(self._board.up)}
        yield _gauge("breakers_shared", "1: processes know of each other's breakers and cooldowns; 0: each goes by its own.", (), shared)
        if self._live_streams is not None:
            yield from _collect_streams(self._live_streams)
        if self._sessions is not None:
            yield from _collect_sessions(self._sessions)
        if self._responses is not None:
            unsaved = {(): self._responses.unsaved}
            yield _counter("responses_unsaved", "Responses that were answered, but not kept: the store was down.", (), unsaved)
        if self._batches is not None:
            yield from _collect_batches(self._batches)
        if self._cache is not None:
            yield from _collect_cache(self._cache)
        yield _histogram("feedback_score", "What was thought of answers, 1–5.", (), {(): self._scores})
        if self._alerts is not None:
            yield from collect_alerts(self._alerts)
        yield from self._collect_records()

    def _collect_health(self, health: Health) -> Iterable[Family]:
        """States as numbers: 0 is well; a breaker is 1 half open, 2 open; a model 1 in alert, 2 tripped, 3 recovering."""
        deployments, models = self._deployments, self._models
        known = [(name, one) for name, one in health.deployments() if name in deployments]
        breakers = {(name,): float(_BREAKERS.index(one.breaker.state)) for name, one in known}
        yield _gauge("breaker_state", "Circuit breaker: 0 closed, 1 half open, 2 open.", ("deployment",), breakers)
        limits = {(name,): float(one.concurrency.limit) for name, one in known if one.concurrency.limit is not None}
        yield _gauge("concurrency_limit", "Calls that may be under way, where that is bounded.", ("deployment",), limits)
        waiting = {(name,): float(len(one.line)) for name, one in known}
        yield _gauge("waiting", "Requests that wait for room.", ("deployment",), waiting)
        now = self._clock.monotonic()  # a reading, for an alert ends by itself when the traffic does
        states = {name: one.reading(now).state for name, one in health.controllers() if name in models}
        controllers = {(name,): float(_DEGRADATIONS.index(state)) for name, state in states.items()}
        text = "Degradation controller: 0 normal, 1 alert, 2 tripped, 3 recovering."
        yield _gauge("degradation_state", text, ("model",), controllers)

    def _collect_by_model(self) -> Iterable[Family]:
        models = self._by_model.items()
        label = ("model",)
        first_tokens = {(name,): figures.first_token for name, figures in models}
        yield _histogram("time_to_first_token_seconds", "Streams: from the request to the first content.", label, first_tokens)
        per_token = {(name,): figures.per_token for name, figures in models}
        yield _histogram("time_per_output_token_seconds", "Streams: mean time of a token after the first.", label, per_token)
        efficiency = {(name,): figures.efficiency for name, figures in models}
        yield _histogram("token_efficiency", "Completion tokens / total tokens of a request.", label, efficiency)
        tokens = {(name, "input"): figures.input_tokens for name, figures in models}
        tokens |= {(name, "output"): figures.output_tokens for name, figures in models}
        yield _counter("tokens", "Tokens of answered requests.", ("model", "direction"), tokens)
        cost_usd = {(name,): figures.cost_usd for name, figures in models}
        yield _counter("cost_usd", "Cost of all model calls, in USD.", label, cost_usd)
        degraded = {(name,): figures.degraded for name, figures in models if figures.degraded}
        yield _counter("degraded", "Fixed replies.", label, degraded)

    def _in_flight_by_label(self) -> dict[tuple[str, ...], float]:
        under_way: dict[tuple[str, ...], float] = {(name,): 0.0 for name in self._models}
        for model, count in self._in_flight.items():
            label = (model if model in self._models else OTHER,)
            under_way[label] = under_way.get(label, 0.0) + count
        return under_way

    def _collect_records(self) -> Iterable[Family]:
        told = self.completeness().items()
        records = {(name, "written"): float(one.written) for name, one in told}
        records |= {(name, "adopted"): float(one.adopted) for name, one in told}
        records |= {(name, "dropped"): float(one.dropped) for name, one in told}
        records |= {(name, "missing"): float(max(one.missing, 0)) for name, one in told}
        yield _counter("records", "Records of requests.", ("sink", "outcome"), records)
        ratios = {(name,): one.ratio for name, one in told}
        yield _gauge("records_complete_ratio", "Records that are safe, of those that are safe or lost.", ("sink",), ratios)
        waiting = {(name,): float(one.waiting) for name, one in told}
        yield _gauge("records_waiting", "Records that are on their way.", ("sink",), waiting)


def collect_alerts(alerts: Alerts) -> Iterable[Family]:
    yield _gauge("alerts_firing", "Alerts that fire, by rule.", ("rule", "severity"), alerts.firing)
    yield _gauge("slo_ratio", "Of the last hour: what is used of a target; up to 1 is well.", ("slo",), _keyed(alerts.slo_ratios))
    yield _counter("alert_notices", "What webhooks were sent of them.", ("outcome",), _keyed(alerts.notices))


def _collect_streams(streams: LiveStreams) -> Iterable[Family]:
    kept = {("running",): float(streams.running), ("finished",): float(streams.finished)}
    yield _gauge("resumable_streams", "Streams kept so that they can be taken up again.", ("state",), kept)
    yield _gauge("resumable_bytes", "What is kept of them.", (), {(): float(streams.kept_bytes)})
    yield _counter("resumable_failures", "Failures to copy streams to Redis.", (), {(): streams.failures})


def _collect_sessions(sessions: Sessions) -> Iterable[Family]:
    yield _gauge("sessions_active", "Sessions that have not expired, as last counted.", (), {(): float(sessions.active)})
    yield _counter("sessions_expired", "Sessions that were forgotten in time.", (), {(): sessions.expired})
    yield _counter("sessions_forgotten", "Turns without memory, because the store was down.", (), {(): sessions.forgotten})


def _collect_batches(batches: Batches) -> Iterable[Family]:
    yield _counter("batch_items", "Items of batches that have ended.", ("status",), _keyed(batches.items))
    yield _histogram("batch_duration_seconds", "Batches: from their creation to their end.", (), {(): batches.durations})


def _collect_cache(cache: Cache) -> Iterable[Family]:
    yield _counter("cache", "Requests of models that have a cache.", ("result",), _keyed(cache.results))
    yield _counter("cache_failures", "Answers that could not be looked up or kept: Redis was down.", (), {(): cache.failures})
    yield _gauge("cache_bytes", "Answers kept in this process's memory.", (), {(): float(cache.kept_bytes)})


# --- families ---------------------------------------------------------------------------------------------------------

_REQUEST_LABELS = ("model", "dialect", "pattern", "status")


_Value = TypeVar("_Value")
_Key = TypeVar("_Key", bound=tuple[str, ...])


def _keyed(values: Mapping[str, _Value]) -> dict[tuple[str, ...], _Value]:
    return {(name,): value for name, value in values.items()}


def _counter(name: str, text: str, labels: tuple[str, ...], values: Mapping[_Key, float]) -> Family:
    return Family("counter", name, text, labels, values)


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[_Key, float]) -> Family:
    return Family("gauge", name, text, labels, values)


def _histogram(name: str, text: str, labels: tuple[str, ...], values: Mapping[_Key, Histogram]) -> Family:
    return Family("histogram", name, text, labels, values)
