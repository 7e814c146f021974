"""What no single field can say: whether the parts of a configuration fit together. Reports everything, changes nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from agent_gateway.control.errors import Findings
from agent_gateway.core.settings import Alerts, Auth, Model, Sessions, Settings, Timeouts, Tls
from agent_gateway.core.webhook import check_webhook
from agent_gateway.record.alerting.rules import RULES
from agent_gateway.record.alerting.signals import Share
from agent_gateway.record.metrics import DURATION_S
from agent_gateway.stores.base import IN_MEMORY
from agent_gateway.upstream.known_providers import known_provider
from agent_gateway.upstream.origin import Origin
from agent_gateway.upstream.proxy import ProxyRules

#: Parameters that are the gateway's to set.
OWN_PARAMETERS = frozenset({"model", "stream", "stream_options"})

#: Characters; a shorter key could be guessed.
KEY_MIN = 16

_NO_AUDIT_KEY = (
    "is not set, while the database is on a server: the audit log is signed with a key in this working folder, which neither another "
    "machine nor a command has; set it: openssl rand -hex 32"
)

_PROVIDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: As it stands in the header `origin`; extensions and desktop programs have schemes of their own.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[0-9]+)?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_REDIS_NUMBER = re.compile(r"/?[0-9]*")
#: What people copy along with a provider's address.
_ENDPOINT = re.compile(r"(/chat/completions|/responses|/messages)/?$")


def check_parts(settings: Settings, provider_names: Collection[str], environ: Mapping[str, str], findings: Findings) -> None:
    """`provider_names`: every name under `providers`, those whose own settings are wrong included (one mistake, one error)."""
    _check_server(settings, findings)
    _check_tokens(settings.auth, findings)
    _check_state(settings, findings)
    _check_proxies(environ, findings)
    _check_alerts(settings.alerts, findings)
    for name, provider in settings.providers.items():
        _check_provider(f"providers.{name}", name, provider, findings)
    _check_timeouts("timeouts", settings.timeouts, Timeouts(), findings)
    _check_sessions("sessions", settings.sessions, findings)
    for name, model in settings.models.items():
        _check_model(f"models.{name}", name, model, provider_names, findings)
        _check_timeouts(f"models.{name}.timeouts", model.timeouts, settings.timeouts, findings)
        if model.cache.exact.max_mb != settings.cache.exact.max_mb:
            findings.error(f"models.{name}.cache.exact.max_mb", "is of the whole process, for all models; set it under cache.exact")
        if model.sessions != settings.sessions:
            _check_sessions(f"models.{name}.sessions", model.sessions, findings)
    _check_cache(settings, findings)
    if settings.fallback.trigger_rate < settings.fallback.alert_rate:
        findings.warn("fallback.trigger_rate", "is below alert_rate: the gateway goes to the fallback before anybody is told")


def unknown(name: str, known: Collection[str]) -> str:
    """`'opnai' is not …` is the caller's; this is what comes after it."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"there {'is' if len(known) == 1 else 'are'} {', '.join(known)}" if known else "there are none"


def is_plain(text: str) -> bool:
    """Visible ASCII: fit for a header, a log line and a metric's label."""
    return text.isascii() and text.isprintable() and bool(text) and text == text.strip()


def _check_server(settings: Settings, findings: Findings) -> None:
    server, auth = settings.server, settings.auth
    if server.bodies_max_mb < server.body_max_mb:
        too_small = f"is smaller than server.body_max_mb ({server.body_max_mb:g}): no such body would ever be taken"
        findings.error("server.bodies_max_mb", too_small)
    _check_origins(server.cors_origins, findings)
    for index, proxy in enumerate(server.trusted_proxies):
        try:
            ip_network(proxy)
        except ValueError as error:
            findings.error(f"server.trusted_proxies[{index}]", f"is no address or network: {error}; use 10.0.0.7 or 10.0.0.0/8")
    if server.tls is not None:
        _check_tls(server.tls, findings)
    if auth.admin_key is not None and not is_plain(auth.admin_key):
        findings.error("auth.admin_key", "holds characters that cannot go into a header; use visible ASCII")
    elif auth.admin_key is not None and len(auth.admin_key) < KEY_MIN:
        tell = findings.warn if server.loopback else findings.error
        tell("auth.admin_key", f"is shorter than {KEY_MIN} characters; make one that nobody guesses: openssl rand -hex 24")
    if auth.audit_key is not None and len(auth.audit_key) < KEY_MIN:
        findings.error("auth.audit_key", f"is shorter than {KEY_MIN} characters; make one: openssl rand -hex 32")
    if server.loopback:
        return
    if auth.admin_key is None:
        findings.error(
            "auth.admin_key",
            f"is not set, which is allowed on loopback only, not on {server.host}; set it, or server.host: 127.0.0.1",
        )
    elif not auth.key_required:
        findings.warn("auth.require_key", f"is off while the gateway listens on {server.host}: whoever reaches it spends your money")


def _check_tokens(auth: Auth, findings: Findings) -> None:
    if auth.jwt is None:
        return
    if find_spec("joserfc") is None:
        findings.error("auth.jwt", "needs a library that is not installed; in a clone: pip install '.[jwt]'")
    for name, url in (("issuer", auth.jwt.issuer), ("jwks_url", auth.jwt.jwks_url)):
        if url is not None and not _is_safe(url):
            findings.error(f"auth.jwt.{name}", "is not an https address, which nobody in between can change; http is for loopback only")
    if not auth.key_required:
        findings.warn("auth.require_key", "is off: who shows no token is let in as well")


def _check_tls(tls: Tls, findings: Findings) -> None:
    from agent_gateway.control.tls import TlsError, tls_context

    try:
        tls_context(tls)
    except TlsError as error:
        findings.error(f"server.tls.{error.setting}", str(error))


def _check_alerts(alerts: Alerts, findings: Findings) -> None:
    for index, webhook in enumerate(alerts.webhooks):
        at = f"alerts.webhooks[{index}]"
        try:
            if isinstance(webhook, str):
                check_webhook(webhook, None)
            else:
                check_webhook(webhook.url, webhook.secret)
        except ValueError as error:
            field, _, what = str(error).partition(": ")
            findings.error(at if isinstance(webhook, str) else f"{at}.{field}", what)
    rules = {rule.name: rule for rule in RULES}
    for name, wanted in alerts.rules.items():
        at = f"alerts.rules.{name}"
        if name not in rules:
            findings.error(at, f"there is no such rule; {unknown(name, rules)}")
            continue
        rule = rules[name]
        if (wanted.threshold or 0) >= 1 and rule.unit == "share" and isinstance(rule.signal, Share):
            never = f"{wanted.threshold:g} is never exceeded, for it is a share; give a number below 1 (0.05 is 5 %)"
            findings.error(f"{at}.threshold", never)
        if wanted.bound_s is None:
            continue
        if rule.bound is None:
            findings.error(f"{at}.bound_s", "is of rules about times; this one has a threshold only")
        elif wanted.bound_s not in DURATION_S:
            bounds = ", ".join(f"{bound:g}" for bound in DURATION_S if bound >= 0.1)
            findings.error(f"{at}.bound_s", f"{wanted.bound_s:g} is no bound of the histogram's buckets; use one of {bounds}")


def _check_origins(origins: tuple[str, ...], findings: Findings) -> None:
    if "*" in origins and len(origins) > 1:
        findings.error("server.cors_origins", "holds * beside others; keep * alone, or name every origin")
    for index, origin in enumerate(origins):
        scheme, _, place = origin.partition("://")
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            right = "use https://app.example, in lower case, without a path"
            findings.error(f"server.cors_origins[{index}]", f"'{origin}' is no origin as browsers send it; {right}")
        elif place.endswith({"http": ":80", "https": ":443"}.get(scheme, ":")):
            findings.error(f"server.cors_origins[{index}]", "names the usual port, which browsers leave out; leave it out")


def _check_state(settings: Settings, findings: Findings) -> None:
    url = settings.state.database
    scheme = url.partition("://")[0] if "://" in url else ""
    match scheme:
        case "sqlite" if len(url) > len("sqlite:///") and url.startswith("sqlite:///"):
            pass
        case "postgresql" if _is_server(url):
            if settings.auth.audit_key is None:
                findings.warn("auth.audit_key", _NO_AUDIT_KEY)
        case _:
            findings.error(
                "state.database",
                "is not a database; use sqlite:///FILE, sqlite:///:memory: or postgresql://user:password@host/database",
            )
    if settings.server.workers > 1 and url == IN_MEMORY:
        findings.error(
            "state.database",
            f"is in memory, where each of the {settings.server.workers} workers would have one of its own; "
            "name a file, such as sqlite:///agent-gateway.db, or set server.workers: 1",
        )
    if settings.state.redis is not None:
        _check_redis(settings.state.redis, findings)


def _check_redis(url: str, findings: Findings) -> None:
    if not (url.startswith(("redis://", "rediss://")) and _is_server(url)):
        findings.error("state.redis", "is not a Redis; use redis://host:6379/0")
        return
    from agent_gateway.stores.redis_client import is_taken  # 0.1 s, for those who have a Redis

    if not _REDIS_NUMBER.fullmatch(urlsplit(url).path):
        findings.error("state.redis", "names a database that is not a number; use redis://host:6379/0")
    elif not is_taken(url):
        findings.error("state.redis", "holds what the client of Redis does not take; write no more than redis://user:password@host:6379/0")


def _check_provider(path: str, name: str, provider: Any, findings: Findings) -> None:
    if not _PROVIDER_NAME.fullmatch(name):
        findings.error(path, "a provider's name is made of letters, digits, '.', '_' and '-'")
    base_url = getattr(provider, "base_url", None)
    if base_url is not None:
        _check_url(f"{path}.base_url", base_url, findings)
        if whole := _ENDPOINT.search(base_url):
            findings.error(f"{path}.base_url", f"ends with {whole[1]}, which the gateway puts there itself; leave it out")
    key, keys = getattr(provider, "api_key", None), getattr(provider, "api_keys", ())
    if key and keys:
        findings.error(f"{path}.api_keys", "is given beside api_key; keep one of them")
    if not key and not keys:
        _check_keyless(path, provider.kind, base_url, findings)
    key_header = getattr(provider, "key_header", None)
    if key_header is not None and not _HEADER_NAME.fullmatch(key_header):
        findings.error(f"{path}.key_header", "is not a header's name")
    for at, value in ((f"{path}.api_key", key), *((f"{path}.api_keys[{index}]", item) for index, item in enumerate(keys))):
        if value is not None and not is_plain(value):
            findings.error(at, "is empty" if not value else "holds characters that cannot go into a header; a key is visible ASCII")


def _check_keyless(path: str, kind: str, base_url: str | None, findings: Findings) -> None:
    """At its own address a provider that asks for keys answers nobody without one; elsewhere there may be anything."""
    known = known_provider(kind, base_url)
    at = f"{path}.api_key"
    if known is not None and known.key and known.kind == kind and known.is_at(base_url or "") and not findings.tells_of(at):
        findings.error(at, f"is not set; this provider answers nobody without one; write ${{{known.key}}}")


def _check_url(path: str, url: str, findings: Findings) -> None:
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, right = urlsplit(""), False
    if not right or not is_plain(url) or " " in url:
        findings.error(path, "is not an address; use http://… or https://…")
    elif parts.username is not None or parts.query or parts.fragment:
        findings.error(path, "holds more than scheme, host, port and path; a key goes into api_key")
    else:
        try:
            Origin.from_url(url)
        except ValueError as error:
            findings.error(path, f"is not an address: {error}; use http://host/… or https://host/…")


def _check_proxies(environ: Mapping[str, str], findings: Findings) -> None:
    try:
        ProxyRules(environ)
    except ValueError as error:
        variable, _, text = str(error).partition(": ")
        findings.error(variable, text)


def _check_model(path: str, name: str, model: Model, provider_names: Collection[str], findings: Findings) -> None:
    if not is_plain(name) or len(name) > 200:
        findings.error(path, "a model's name is visible ASCII, at most 200 characters")
    seen: dict[str, int] = {}
    for index, deployment in enumerate(model.deployments):
        at = f"{path}.deployments[{index}]"
        if deployment.provider not in provider_names:
            hint = unknown(deployment.provider, provider_names)
            findings.error(f"{at}.provider", f"'{deployment.provider}' is not under providers; {hint}")
        if not is_plain(deployment.model):
            findings.error(f"{at}.model", "a model's name is visible ASCII")
        identity = f"{deployment.provider}/{deployment.model}"
        if identity in seen:
            findings.error(at, f"is {identity} again, like deployments[{seen[identity]}]; give that one more weight instead")
        seen.setdefault(identity, index)
        for section in ("default", "override"):
            for parameter in sorted(OWN_PARAMETERS & getattr(deployment, section).keys()):
                findings.error(f"{at}.{section}.{parameter}", "is the gateway's to set; leave it out")
    for index, fallback in enumerate(model.fallbacks):
        at = f"{path}.fallbacks[{index}]"
        if fallback == name:
            findings.error(at, "is the model itself; name another")
        elif fallback in model.fallbacks[:index]:
            findings.error(at, f"'{fallback}' is there twice; keep one")


def _check_timeouts(path: str, timeouts: Timeouts, inherited: Timeouts, findings: Findings) -> None:
    """What was not written here is no mistake made here: a smaller total_s simply rules."""
    if inherited.first_token_s != timeouts.first_token_s > timeouts.total_s:
        findings.warn(f"{path}.first_token_s", "is more than total_s, which ends the request first")


def _check_cache(settings: Settings, findings: Findings) -> None:
    sections = {"cache": settings.cache} | {f"models.{name}.cache": model.cache for name, model in settings.models.items()}
    path = next((f"{at}.exact.enabled" for at, cache in sections.items() if cache.exact.enabled), None)
    if path is not None and settings.monitoring.mode == "minimal":
        findings.warn(path, "does nothing: with monitoring.mode: minimal nothing of what is said is kept")


def _check_sessions(path: str, sessions: Sessions, findings: Findings) -> None:
    if sessions.compaction == "summary" and sessions.summary_model is None:
        findings.error(f"{path}.summary_model", "is not set; with compaction: summary, name the model that writes the summaries")


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    on_loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return is_plain(url) and bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and on_loopback))


def _is_server(url: str) -> bool:
    """A host, or several with commas between, each with a port where it has one."""
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        return bool(parts.hostname) and all(urlsplit(f"//{host}").port != 0 for host in hosts)
    except ValueError:
        return False
