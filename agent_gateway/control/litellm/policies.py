"""How calls are made: strategy, timeouts, repeats, breakers and how many at once, from `router_settings` and `litellm_settings`.

Where both say something, the router's word counts, as with LiteLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_gateway.control.litellm import models
from agent_gateway.control.litellm.models import ModelList
from agent_gateway.control.litellm.section import Note, Section
from agent_gateway.core.settings import Retries

_STRATEGIES = {
    "simple-shuffle": "weighted",
    "least-busy": "least_busy",
    "latency-based-routing": "lowest_latency",
    "cost-based-routing": "lowest_cost",
    "usage-based-routing": "balanced",
    "usage-based-routing-v2": "balanced",
}
#: These pass over a deployment that has had its requests or tokens of the minute; with the others, the figures are weights.
_LIMITING = ("usage-based-routing", "usage-based-routing-v2", "latency-based-routing", "cost-based-routing")
_ENFORCED = "enforce_model_rate_limits"
#: Of the router, where nothing is said.
_RETRIES = 2
_ATTEMPTS_MOST = 100


def strategy(router: Section, listed: ModelList) -> tuple[str, bool]:
    """Ours, and whether the deployments' requests and tokens a minute are bounds."""
    named = router.take("routing_strategy") or "simple-shuffle"
    checks = router.names("optional_pre_call_checks")
    limited = named in _LIMITING or _ENFORCED in checks
    if others := [check for check in checks if check != _ENFORCED]:
        router.note("optional_pre_call_checks", others, "have no counterpart here; they are left out")
    if named not in _STRATEGIES:
        router.note("routing_strategy", named, "is not known here; it became balanced, which weighs load, latency and cost")
    elif _STRATEGIES[named] == "balanced":
        router.note("routing_strategy", named, "became balanced, which weighs load, latency and cost; the figures a minute became limits")
    for name, group in listed.groups.items():
        for theirs, figure in (("rpm", "requests_per_minute"), ("tpm", "tokens_per_minute")):
            if group.said(figure) and not limited:
                what = f"is no bound with {named}, so it is a weight at most; for a bound, set models.{name}.limits"
                router.notes.append(Note(f"model_list: {theirs} of {name}", None, what))
            elif group.said(figure) and not group.said_by_all(figure):
                what = "is not given for all its deployments, and a model has one limit; it is left out"
                router.notes.append(Note(f"model_list: {theirs} of {name}", None, what))
    return _STRATEGIES.get(named, "balanced"), limited


def timeouts(router: Section, library: Section) -> dict[str, float]:
    whole = library.positive("request_timeout")
    found = {} if whole is None else {"attempt_s": whole}
    return models.total(found | models.timeouts(library) | models.timeouts(router))


def max_attempts(router: Section, library: Section, own: Mapping[str, int | None], fallbacks: Mapping[str, int]) -> dict[str, int]:
    """By model, where it is not our default: ours counts the calls of a request over its whole chain, theirs are repeats at each model."""
    given = [count for section in (library, router) if (count := section.number("num_retries")) is not None]
    overall = int(given[-1]) if given else _RETRIES
    found = {}
    for name, count in fallbacks.items():
        said = own.get(name)
        attempts = min(1 + max(0, overall if said is None else said) + count, _ATTEMPTS_MOST)
        if attempts != Retries().max_attempts:
            found[name] = attempts
    return found


def breaker(router: Section, library: Section) -> dict[str, Any]:
    """Theirs lets so many failures a minute pass, ours so many in a row."""
    fails = [count for section in (library, router) if (count := section.number("allowed_fails")) is not None]
    rest = [time for section in (library, router) if (time := section.positive("cooldown_time")) is not None]
    found: dict[str, Any] = {}
    if fails:
        found["consecutive_failures"] = max(1, int(fails[-1]) + 1)
        router.note("allowed_fails", fails[-1], "failures in a row open a deployment's breaker here, or half of its last 20 calls")
    if rest:
        found["open_s"] = rest[-1]
    return found


def concurrency(router: Section, general: Section) -> dict[str, int]:
    counts = [
        count
        for section, name in ((general, "max_parallel_requests"), (router, "default_max_parallel_requests"))
        if (count := section.count(name))
    ]
    return {"max": counts[-1]} if counts else {}
