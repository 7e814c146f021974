"""What the server is told: where it listens, who may come in, where its state lies, what it keeps and whom it tells."""

from __future__ import annotations

import re
from typing import Any

from agent_gateway.control.litellm.section import Section, written

#: Where clients of LiteLLM look for it.
PORT = 4000

_DURATION = re.compile(r"(\d+)\s*([smhdw])")
_DAYS = {"s": 1 / 86400, "m": 1 / 1440, "h": 1 / 24, "d": 1, "w": 7}
_SEMANTIC = "similar requests get answers of their own here; only the same request gets the same answer (cache.exact)"
_EXPORTS = {
    "prometheus": None,
    "otel": "is the sink of kind otlp: monitoring: {otlp_endpoint: http://HOST:4318}",
    "opentelemetry": "is the sink of kind otlp: monitoring: {otlp_endpoint: http://HOST:4318}",
}
_OTHER_EXPORT = "records go to places of other kinds: OpenTelemetry, JSON lines, ClickHouse (monitoring.sinks); many services take OTLP"


def server(general: Section) -> dict[str, Any]:
    found: dict[str, Any] = {"port": PORT}
    if (size := general.positive("max_request_size_mb")) is not None:
        found["body_max_mb"] = size
    sizes = [size for name in ("max_file_size_mb", "max_batch_file_size_mb") if (size := general.positive(name)) is not None]
    if sizes:
        found["files_max_mb"] = max(sizes)
    return found


def auth(general: Section) -> dict[str, str]:
    key = general.text("master_key")
    if key is None:
        return {}
    if not key.startswith("${"):
        what = "stands in the file as it is; a variable would keep it out of it: ${GATEWAY_ADMIN_KEY}"
        if len(key) < 16:
            what += ". It is shorter than 16 characters, which does on loopback only: openssl rand -hex 24 makes a longer one"
        general.note("master_key", None, what)
    return {"admin_key": key}


def state(router: Section, library: Section, general: Section) -> dict[str, str]:
    found = {}
    if (url := general.text("database_url")) is not None:
        name, _, options = url.partition("?")
        found["database"] = re.sub(r"^postgres://", "postgresql://", name)
        if options:
            general.note("database_url", None, "loses what stands behind the ?, which was Prisma's")
        general.note(
            "database_url",
            None,
            "is used for our own tables; LiteLLM's keys, teams and spend are not carried over: agent-gateway keys create",
        )
    cached = library.peek("cache_params")
    redis = Section(cached if isinstance(cached, dict) else None, "litellm_settings.cache_params", library.notes)
    places = (_redis(router, "redis_"), _redis(redis, "") if redis.peek("type") in (None, "redis") else None)
    address = next((place for place in places if place is not None), None)
    if address is not None:
        found["redis"] = address
    return found


def _redis(section: Section, prefix: str) -> str | None:
    host, port, password, user, number, url = (
        section.text(f"{prefix}{name}") for name in ("host", "port", "password", "username", "db", "url")
    )
    secure = section.flag(f"{prefix}ssl")
    if url is not None or host is None:
        return url
    who = "" if password is None else f"{user or ''}:{password}@"
    if password is not None and "${" in password:
        section.note(f"{prefix}password", None, "stands in an address now: characters such as @ : / # in it have to be percent-encoded")
    return f"{'rediss' if secure else 'redis'}://{who}{host}:{port or 6379}/{number or 0}"


def cache(library: Section) -> dict[str, Any]:
    """Of `cache_params`, what says where its Redis is belongs to `state`."""
    enabled, params = library.flag("cache"), library.section("cache_params")
    for name in ("host", "port", "password", "username", "db", "url", "ssl", "namespace", "max_connections"):
        params.take(name)
    kind, ttl = params.take("type") or "redis", params.positive("ttl")
    if not enabled:
        params.discard()
        return {}
    if kind not in ("redis", "local"):
        params.note("type", kind, f"{_SEMANTIC}; answers lie in memory, or in Redis (state.redis)")
    if params.take("mode") == "default_off":
        params.note(
            "mode", "default_off", "clients leave the cache out (x-gateway-cache: no-store), they do not ask for it; it is on for all"
        )
    params.end({"similarity_threshold": _SEMANTIC, "qdrant_*": _SEMANTIC, "redis_semantic_*": _SEMANTIC})
    return {"exact": {"enabled": True, **({} if ttl is None else {"ttl_s": ttl})}}


def monitoring(library: Section, general: Section, *, cached: bool) -> dict[str, Any]:
    """LiteLLM keeps no prompts unless it is told to; neither does what comes of it, but where answers are `cached`."""
    found: dict[str, Any] = {}
    prompts = general.flag("store_prompts_in_spend_logs")
    hidden = library.flag("turn_off_message_logging")
    if general.flag("disable_spend_logs"):
        found["mode"] = "off"
    elif cached:
        library.note("cache", True, "keeps what is said, and so do records: monitoring.mode is full, for with minimal nothing is cached")
    elif hidden or not prompts:
        found["mode"] = "minimal"
    age = general.take("maximum_spend_logs_retention_period")
    if age is not None:
        period = _DURATION.fullmatch(str(age))
        if period is None:
            general.note("maximum_spend_logs_retention_period", age, "is no time such as 30d; records are kept for 30 days")
        else:
            found["retention_days"] = int(period[1]) * _DAYS[period[2]]
    for setting in ("callbacks", "success_callback", "failure_callback", "service_callback"):
        for name in library.names(setting):
            what = _EXPORTS.get(name, _OTHER_EXPORT)
            if what is not None:
                library.note(setting, name, what)
    return found


def alerts(general: Section) -> dict[str, Any]:
    found = []
    for name in general.names("alerting"):
        if name == "slack":
            found.append(written("os.environ/SLACK_WEBHOOK_URL"))
        else:
            general.note("alerting", name, "is no place that alerts go to; they go to webhooks and Slack (alerts.webhooks)")
    return {"webhooks": found} if found else {}
