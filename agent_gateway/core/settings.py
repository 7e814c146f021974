"""`gateway.yaml` as types: every section, default and bound of the configuration, and nothing that reads or checks a file.

A `Settings` that `control.load` hands out is whole: environment applied, model policies merged over the global ones.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from agent_gateway.core.call import Need
from agent_gateway.core.pricing import Price

Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(min_length=1)]

Preset = Literal["support", "codegen", "saver"]
JwtAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
Period = Literal["day", "week", "month", "total"]
MonitoringMode = Literal["full", "minimal", "off"]

FIXED_REPLY = "Sorry, I cannot handle this request right now. Please try again later. 抱歉,我无法处理此请求。请稍后再试。"


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PEM files; read again at every reload."""

    cert_file: Name
    key_file: Name
    #: Clients must show a certificate of one of these authorities. None: they need none.
    client_ca_file: Name | None = None


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: Name = "127.0.0.1"
    #: 0 takes any free port.
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    body_max_mb: Annotated[float, Meta(gt=0)] = 20
    #: Bodies of all requests under way, together; who comes when they are that large is told to come back (503).
    bodies_max_mb: Annotated[float, Meta(gt=0)] = 512
    files_max_mb: Annotated[float, Meta(gt=0)] = 200
    drain_timeout_s: Annotated[float, Meta(ge=0)] = 30
    compression: bool = True
    cors_origins: tuple[str, ...] = ()
    #: None: loopback names when bound to loopback, else any.
    allowed_hosts: tuple[str, ...] | None = None
    tls: Tls | None = None
    #: Addresses and networks of proxies whose `x-forwarded-for` tells the client's address.
    trusted_proxies: tuple[str, ...] = ()

    @property
    def loopback(self) -> bool:
        return self.host == "localhost" or self.host == "::1" or self.host.startswith("127.")


class State(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    database: Name = "sqlite:///agent-gateway.db"
    redis: str | None = None


class Jwt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens of an OpenID Connect provider as a second way in. Claims are named by dotted paths (`realm_access.roles`)."""

    issuer: Name
    audience: Name
    #: None: as `issuer`/.well-known/openid-configuration says.
    jwks_url: Name | None = None
    algorithms: Annotated[tuple[JwtAlgorithm, ...], Meta(min_length=1)] = ("RS256", "ES256")
    #: Whose value names the owner of what the request makes.
    subject_claim: Name = "sub"
    #: Whose value is the team, a role of ours (or a list with one in it), a list of models, a list of endpoints. None: not looked at.
    team_claim: Name | None = None
    role_claim: Name | None = None
    models_claim: Name | None = None
    endpoints_claim: Name | None = None


class Auth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    admin_key: str | None = None
    #: None: true when `admin_key` is set. Read `key_required`.
    require_key: bool | None = None
    #: While the store is down, keys that were known go on working for so long.
    grace_s: Annotated[float, Meta(ge=0)] = 3600
    jwt: Jwt | None = None
    #: Signs the head of the audit log. None: a key of its own, in a file beside the database.
    audit_key: str | None = None

    @property
    def key_required(self) -> bool:
        return self.admin_key is not None if self.require_key is None else self.require_key

    def __repr__(self) -> str:
        shown = {name: "set" if getattr(self, name) else None for name in ("admin_key", "audit_key")}
        return f"Auth({shown}, require_key={self.require_key}, grace_s={self.grace_s}, jwt={self.jwt})"


class Timeouts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`first_token_s` and `idle_s` bound streams, `attempt_s` unary calls, `total_s` the whole request."""

    connect_s: Seconds = 5
    first_token_s: Seconds = 30
    idle_s: Seconds = 30
    attempt_s: Seconds = 120
    total_s: Seconds = 600


class Retries(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`max_attempts` over the whole chain; `budget`: repeats on the same deployment as a share of its traffic (floor 3)."""

    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 3
    budget: Share = 0.2


class Hedging(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A second call is started when the first is slower than the `after` quantile, for at most `max_share` of the traffic."""

    enabled: bool = False
    after: Literal["p50", "p90", "p95", "p99"] = "p95"
    max_share: Share = 0.05


class Breaker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    consecutive_failures: Count = 5
    failure_rate: Annotated[float, Meta(gt=0, le=1)] = 0.5
    min_requests: Count = 20
    window_s: Seconds = 30
    open_s: Seconds = 30


class Streaming(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: False: the whole answer is fetched, then sent as one event.
    enabled: bool = True
    heartbeat_s: Seconds = 15
    recovery: Literal["continue", "restart", "error"] = "continue"
    #: With `recovery: restart`: a stream is held this long after its first content, while a failure can still be mended unseen.
    hold_back_s: Annotated[float, Meta(ge=0)] = 0
    resume_ttl_s: Annotated[float, Meta(ge=0)] = 600


class Batching(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: Items claimed or merged at once.
    max_size: Count = 50
    max_wait_ms: Annotated[float, Meta(ge=0)] = 20
    #: Calls in parallel per deployment.
    concurrency: Count = 32
    timeout_s: Seconds = 60
    native: Literal["auto", "on", "off"] = "auto"


class Quality(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: Completion tokens / total tokens below which an answer counts as bad. None: not checked.
    min_token_efficiency: Share | None = None
    reject_empty: bool = True


class Fallback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: Appended to every chain.
    model: Name | None = None
    #: An answer that a content filter stopped or refused: try the next candidate, or tell the client at once.
    on_content_filter: Literal["return", "next"] = "return"
    #: The fixed reply. None: the client gets the error instead.
    reply: Name | None = FIXED_REPLY
    alert_rate: Share = 0.05
    trigger_rate: Share = 0.10
    quality: Quality = Quality()


class Monitoring(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mode: MonitoringMode = "full"
    retention_days: Annotated[float, Meta(gt=0, le=36500)] = 30
    #: Short for a sink `{kind: otlp, endpoint: …}`.
    otlp_endpoint: str | None = None
    #: Where records go besides the database: each a mapping with the `kind` of a plug-in and its own settings; once loaded, that
    #: plug-in's struct.
    sinks: tuple[Any, ...] = ()


class Sessions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ttl_s: Seconds = 86400
    max_messages: Count = 200
    compaction: Literal["window", "summary", "off"] = "window"
    #: The model, a name that clients could ask for, that writes the summaries.
    summary_model: Name | None = None
    #: An answer that broke off stays in its session as far as it came, marked; False: the session stays as it was.
    keep_partial: bool = False
    #: Where the store cannot be reached: the request fails (503), or goes on without memory.
    on_store_down: Literal["fail", "forget"] = "fail"


class Concurrency(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests under way at one deployment."""

    #: None: no bound but the one that is learnt.
    max: Count | None = None
    #: A bound is learnt from 429s, timeouts and the time to first token. False: only `max` counts.
    adaptive: bool = True
    #: Requests that wait for a deployment with room; any more are refused at once.
    queue_max: Annotated[int, Meta(ge=0)] = 256


class Guards(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Checks, in order: each a mapping with the `kind` of a plug-in and its own settings; once loaded, that plug-in's struct."""

    input: tuple[Any, ...] = ()
    output: tuple[Any, ...] = ()


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calendar periods in UTC; a week begins on Monday."""

    usd: Annotated[float, Meta(gt=0)]
    per: Period = "month"
    #: From this share on it is told (once a period); nothing is refused before the whole is spent.
    soft: Share = 0.8


class Allowance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """None: no limit."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    max_parallel: Count | None = None


class Limits(Allowance, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The default for every key, and for every user of it."""

    budget: Budget | None = None
    per_user: Allowance = Allowance()


class ExactCache(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    enabled: bool = False
    ttl_s: Seconds = 3600
    #: Of each process, where there is no Redis. Not for a model to say: all share it.
    max_mb: Annotated[float, Meta(gt=0)] = 64


class Cache(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    exact: ExactCache = ExactCache()


class AlertRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one of the rules that there are (docs/alerts.md). None: as it is by default."""

    enabled: bool = True
    threshold: Annotated[float, Meta(gt=0)] | None = None
    #: Of the rules about times: what takes longer counts. One of the bounds of the metric's buckets.
    bound_s: Seconds | None = None


class AlertWebhook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str
    #: None: `slack` at hooks.slack.com, else `generic`.
    format: Literal["generic", "slack"] | None = None
    #: Signs what is sent. None: it is not signed.
    secret: str | None = None


class Alerts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    enabled: bool = True
    webhooks: tuple[str | AlertWebhook, ...] = ()
    rules: dict[str, AlertRule] = {}


class DeploymentSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    provider: Name
    model: Name
    weight: Annotated[float, Meta(gt=0)] = 1
    #: None: from the price table.
    price: Price | None = None
    #: How it carries on from a text that another began (streaming.recovery); None: as `upstream/known_providers.toml` says.
    prefill: Literal["plain", "prefix", "continue_final_message", "off"] | None = None
    #: What it cannot take; None: as `upstream/known_providers.toml` says.
    lacks: tuple[Need, ...] | None = None
    #: Parameters the client left out.
    default: dict[str, Any] = {}
    #: Parameters the client cannot change.
    override: dict[str, Any] = {}


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One name that clients ask for. Its policy sections are whole: what the file leaves out is the global section's."""

    #: A strategy's name, or a mapping with that `kind` and the strategy's own settings; once loaded, that strategy's struct or its name.
    strategy: Any = "balanced"
    deployments: Annotated[tuple[DeploymentSettings, ...], Meta(min_length=1)]
    #: Other names under `models`, in order.
    fallbacks: tuple[Name, ...] = ()
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    hedging: Hedging = Hedging()
    breaker: Breaker = Breaker()
    streaming: Streaming = Streaming()
    batching: Batching = Batching()
    fallback: Fallback = Fallback()
    sessions: Sessions = Sessions()
    concurrency: Concurrency = Concurrency()
    guards: Guards = Guards()
    cache: Cache = Cache()
    #: Of the model, whoever asks for it.
    limits: Allowance = Allowance()


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    preset: Preset | None = None
    server: Server = Server()
    state: State = State()
    auth: Auth = Auth()
    #: Name → the `Settings` struct of that provider's plug-in (its `kind` names the plug-in).
    providers: dict[str, Any] = {}
    models: dict[str, Model] = {}
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    hedging: Hedging = Hedging()
    breaker: Breaker = Breaker()
    streaming: Streaming = Streaming()
    batching: Batching = Batching()
    fallback: Fallback = Fallback()
    monitoring: Monitoring = Monitoring()
    sessions: Sessions = Sessions()
    concurrency: Concurrency = Concurrency()
    guards: Guards = Guards()
    limits: Limits = Limits()
    cache: Cache = Cache()
    alerts: Alerts = Alerts()


#: The sections that a model may override.
POLICIES = ("timeouts", "retries", "hedging", "breaker", "streaming", "batching", "fallback", "sessions", "concurrency", "guards", "cache")
