"""The configuration that journeys run under: one scripted provider behind several names, each with a policy to be seen."""

from __future__ import annotations

from typing import Any

from tests.kit.samples import PROVIDER_MODEL

#: What the gateway shows the provider; no client may ever see it.
PROVIDER_KEY = "sk-provider-secret"
#: Each has a deployment of its own: its cooldown must not touch the others.
LIMITED_MODELS = ("limited", "limited-too", "limited-as-well")
BODY_MAX_MB = 1
#: The bound of every wait under `impatient`, of those between frames under `restless`, and the pause between heartbeats under `heartbeat`.
IMPATIENCE_S = 0.4
HEARTBEAT_S = 0.15


def configuration(provider_port: int, closed_port: int, **sections: Any) -> dict[str, Any]:
    """`gateway.yaml` as a value. A section given here replaces the usual one; `models` are added to the usual ones."""
    scripted = {"provider": "scripted", "model": PROVIDER_MODEL, "price": {"input": 0.15, "output": 0.60}}
    models = {
        "chat": {"deployments": [scripted]},
        "impatient": {
            "deployments": [scripted],
            "timeouts": {"first_token_s": IMPATIENCE_S, "idle_s": IMPATIENCE_S, "attempt_s": IMPATIENCE_S},
        },
        "restless": {"deployments": [scripted], "timeouts": {"idle_s": IMPATIENCE_S}},
        "heartbeat": {"deployments": [scripted], "streaming": {"heartbeat_s": HEARTBEAT_S}},
        "tuned": {"deployments": [{**scripted, "default": {"temperature": 0.3, "seed": 7}, "override": {"max_tokens": 64}}]},
        "patient": {"deployments": [scripted], "retries": {"max_attempts": 3, "budget": 1}},
        **{name: {"deployments": [{**scripted, "model": f"{PROVIDER_MODEL}-{name}"}]} for name in LIMITED_MODELS},
        # What comes while a call is under way is one call, however busy the machine is.
        "gathering": {"deployments": [scripted], "batching": {"max_wait_ms": 10_000}},
        "down": {"deployments": [{"provider": "closed", "model": PROVIDER_MODEL}]},
        **sections.pop("models", {}),
    }
    usual = {
        "server": {"body_max_mb": BODY_MAX_MB, "drain_timeout_s": 10},
        "state": {"database": "sqlite:///agent-gateway.db"},
        # One attempt, no fixed reply and a breaker that stays shut: each journey then sees exactly the failure that it scripts.
        "retries": {"max_attempts": 1},
        "fallback": {"reply": None},
        "breaker": {"consecutive_failures": 1_000_000, "min_requests": 1_000_000},
        "providers": {
            "scripted": {"kind": "openai", "base_url": f"http://127.0.0.1:{provider_port}/v1", "api_key": PROVIDER_KEY},
            "closed": {"kind": "openai", "base_url": f"http://127.0.0.1:{closed_port}/v1", "api_key": PROVIDER_KEY},
        },
    }
    return {**usual, "models": models, **sections}
