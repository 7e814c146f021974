"""A gateway between every client and every kind of provider: the simulator, once as each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.kit.configuration import PROVIDER_KEY
from tests.kit.simulator import SimulatorProcess

KINDS = ("openai", "anthropic", "gemini")
#: Where each SDK's provider has its API under the simulator's address.
BASE = {"openai": "/v1", "anthropic": "", "gemini": ""}
#: What a provider does wrong → what the client is told.
FAILURES = {
    "fail-400": 400,
    "fail-401": 502,
    "fail-403": 502,
    "fail-404": 502,
    "fail-429": 429,
    "fail-500": 502,
    "fail-503": 502,
    "fail-529": 502,
    "hang": 504,
    "garbage": 502,
    "empty": 502,
    "error-in-stream-6": 502,
}
IN_MID_STREAM = (":cut-6", ":error-in-stream-6")


def crossing_configuration(simulators: Mapping[str, SimulatorProcess]) -> dict[str, Any]:
    """`simulators` by pace. Model `<kind>` answers, `<kind>:<fault>` fails as the fault says."""
    providers = {
        f"{kind}-{pace}": {"kind": kind, "base_url": simulator.url + BASE[kind], "api_key": PROVIDER_KEY}
        for kind in KINDS
        for pace, simulator in simulators.items()
    }
    models: dict[str, Any] = {
        f"{kind}{suffix}": {"deployments": [{"provider": f"{kind}-{_pace(suffix)}", "model": f"small{suffix}"}]}
        for kind in KINDS
        for suffix in ["", ":cut-6", *[f":{fault}" for fault in FAILURES]]
    }
    for kind in KINDS:  # only who never answers is not waited for
        models[f"{kind}:hang"]["timeouts"] = {"first_token_s": 0.3, "attempt_s": 0.3}
    return {
        "providers": providers,
        "models": models,
        "retries": {"max_attempts": 1},
        "fallback": {"reply": None},
        "breaker": {"consecutive_failures": 1_000_000, "min_requests": 1_000_000},
        "timeouts": {"first_token_s": 10, "attempt_s": 10},
    }


def _pace(suffix: str) -> str:
    return "slow" if suffix in IN_MID_STREAM else "fast"
