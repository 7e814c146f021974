"""The environment's part: `GATEWAY_*` over the file, and providers found by their keys when there is no file."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from agent_gateway.control.errors import ConfigurationError, Findings
from agent_gateway.control.expand import Expanded, expand

#: Variable → the setting it stands for.
VARIABLES = {
    "GATEWAY_STREAMING": "streaming.enabled",
    "GATEWAY_TTL": "sessions.ttl_s",
    "GATEWAY_MONITORING": "monitoring.mode",
    "GATEWAY_FALLBACK_MODEL": "fallback.model",
    "GATEWAY_BATCH_SIZE": "batching.max_size",
    "GATEWAY_DATABASE_URL": "state.database",
    "GATEWAY_REDIS_URL": "state.redis",
    "GATEWAY_ADMIN_KEY": "auth.admin_key",
}

#: So like one of `VARIABLES` (0–1) that it is meant; what Kubernetes makes of a service named `gateway` is less so.
_MEANT = 0.88

#: Variable → name and kind of the provider it stands for.
PROVIDER_KEYS = {"OPENAI_API_KEY": "openai", "ANTHROPIC_API_KEY": "anthropic", "GEMINI_API_KEY": "gemini"}

TRUE = frozenset({"true", "yes", "on", "1"})
FALSE = frozenset({"false", "no", "off", "0"})


def providers_in(environ: Mapping[str, str]) -> dict[str, Any]:
    """`providers` for a start without a file: one for each key in the environment; none is an error that says what to do."""
    found = {kind: variable for variable, kind in PROVIDER_KEYS.items() if environ.get(variable)}
    if not found:
        *others, last = PROVIDER_KEYS
        raise ConfigurationError(
            [
                (
                    "configuration: there is none; write gateway.yaml, name a file with --config or GATEWAY_CONFIG, "
                    f"or set {', '.join(others)} or {last}. `agent-gateway demo` needs nothing at all"
                )
            ]
        )
    return {kind: {"kind": kind, "api_key": Expanded(environ[variable], variable)} for kind, variable in found.items()}


def given(written: Mapping[str, Any], environ: Mapping[str, str], options: Mapping[str, Any], findings: Findings) -> dict[str, Any]:
    """What is `written` in a file with its variables read, and over it what `GATEWAY_*` and the command's options say."""
    for variable in environ:
        if variable.startswith("GATEWAY_") and variable not in VARIABLES:
            for meant in get_close_matches(variable, VARIABLES, n=1, cutoff=_MEANT):
                findings.warn(variable, f"is no variable of the gateway's; did you mean {meant}?")
    raw: dict[str, Any] = expand(written, environ, findings)
    override(raw, environ, options, findings)
    return raw


def override(raw: dict[str, Any], environ: Mapping[str, str], options: Mapping[str, Any], findings: Findings) -> None:
    """Puts what `GATEWAY_*` and the command's options say into `raw`, over the file. An empty variable counts as not set."""
    for variable, path in VARIABLES.items():
        if text := environ.get(variable, "").strip():
            value: Any = Expanded(text, variable)
            if path == "monitoring.mode":
                value = _monitoring_mode(value, raw)
            _put(raw, path, value, variable, findings)
    for path, value in options.items():
        if value is not None:
            _put(raw, path, value, f"--{path.rpartition('.')[2].replace('_', '-')}", findings)


def _monitoring_mode(text: Expanded, raw: dict[str, Any]) -> str:
    """Yes turns monitoring on; it does not make `minimal`, a promise not to keep user data, into `full`."""
    word = text.lower()
    if word in FALSE:
        return "off"
    if word in TRUE:
        section = raw.get("monitoring")
        chosen = section.get("mode") if isinstance(section, dict) else None
        return "minimal" if chosen == "minimal" else "full"
    return str(text)


def _put(raw: dict[str, Any], path: str, value: Any, origin: str, findings: Findings) -> None:
    section, _, name = path.partition(".")
    if raw.get(section) is None:
        raw[section] = {}
    if isinstance(raw[section], dict):  # anything else is reported as what it is
        raw[section][name] = value
        findings.origins[path] = origin
