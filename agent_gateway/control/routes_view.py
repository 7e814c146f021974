"""`/admin/v1/routes`: every route with what is known of it now: load, latency, breakers, the degradation controller."""

from __future__ import annotations

from typing import Any

from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.route import Deployment, Route
from agent_gateway.health.registry import Health


def routes_view(configuration: Configuration, health: Health, now: float) -> dict[str, Any]:
    """Those of the configuration, then names that clients found beside it. Rates are shares 0–1, times seconds, `now` monotonic."""
    routes = dict(configuration.routes)
    for route in health.passing():
        routes.setdefault(route.name, route)
    return {"data": [_route(route, health, now) for route in routes.values()], "next": None}


def _route(route: Route, health: Health, now: float) -> dict[str, Any]:
    reading = health.controller(route.name).reading(now)
    return {
        "name": route.name,
        "strategy": route.strategy,
        "fallbacks": route.fallbacks,
        "controller": {
            "state": reading.state,
            "primary_share": reading.primary_share,
            "fallback_rate_1m": reading.rate_short,
            "fallback_rate_5m": reading.rate_long,
            "alert_rate": route.fallback.alert_rate,
            "trigger_rate": route.fallback.trigger_rate,
        },
        "deployments": [_deployment(deployment, health, now) for deployment in route.deployments],
    }


def _deployment(deployment: Deployment, health: Health, now: float) -> dict[str, Any]:
    known = health.of(deployment.id)
    cooldown_s = known.cooldown_until - now
    return {
        "id": deployment.id,
        "weight": deployment.weight,
        "price": deployment.price,
        "in_flight": known.load.in_flight,
        "concurrency_limit": known.concurrency.limit,
        "waiting": len(known.line),
        "breaker": known.breaker.state,
        "available": known.available(now),
        "cooldown_s": cooldown_s if cooldown_s > 0 else None,
        "first_token_p95_s": known.load.streams.quantile_s(0.95),
        "answer_p95_s": known.load.wholes.quantile_s(0.95),
    }
