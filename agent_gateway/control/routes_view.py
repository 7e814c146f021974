"""`/admin/v1/routes`: every route with what is known of it now: load, latency, breakers, the degradation controller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent_gateway.control.interventions import Interventions
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.route import Deployment, Route
from agent_gateway.health.registry import Health


def routes_view(configuration: Configuration, health: Health, interventions: Interventions, now: float) -> dict[str, Any]:
    """Those of the configuration, then names that clients found beside it. Rates are shares 0–1, times seconds, `now` monotonic."""
    routes = dict(configuration.routes)
    for route in health.passing():
        routes.setdefault(route.name, route)
    return {"data": [_route(route, health, interventions, now) for route in routes.values()], "next": None}


def _route(route: Route, health: Health, interventions: Interventions, now: float) -> dict[str, Any]:
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
        "deployments": [_deployment(deployment, health, interventions, now) for deployment in route.deployments],
    }


def _deployment(deployment: Deployment, health: Health, interventions: Interventions, now: float) -> dict[str, Any]:
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
        "intervention": interventions.shown(deployment.id),
        "cooldown_s": cooldown_s if cooldown_s > 0 else None,
        "first_token_p95_s": known.load.streams.quantile_s(0.95),
        "answer_p95_s": known.load.wholes.quantile_s(0.95),
    }


#: How several workers' views of a deployment become one: what they have added up, else the worst that one of them sees.
_ADDED = ("in_flight", "waiting")
_HIGHEST = ("cooldown_s", "first_token_p95_s", "answer_p95_s")
_BREAKERS = ("closed", "half_open", "open")
_STATES = ("normal", "alert", "recovering", "tripped")


def together(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The views of several workers of one gateway as one. One that another has not met yet counts as it is."""
    first, *others = views
    if not others:
        return first
    return {**first, "data": [_routes_together(routes) for routes in _alike("name", [view["data"] for view in views])]}


def _alike(name: str, parts: Sequence[Sequence[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """What the parts have by the same name; while a reload goes round they do not all have the same."""
    found: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        for key, each in {each[name]: each for each in part}.items():
            found.setdefault(key, []).append(each)
    return list(found.values())


def _routes_together(routes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = routes[0]
    controllers = [route["controller"] for route in routes]
    worst = max(controllers, key=lambda controller: _STATES.index(controller["state"]))
    shares = [controller["primary_share"] for controller in controllers]
    rates = {name: _highest([controller[name] for controller in controllers]) for name in ("fallback_rate_1m", "fallback_rate_5m")}
    return {
        **first,
        "controller": {**worst, **rates, "primary_share": min(shares)},
        "deployments": [_deployments_together(views) for views in _alike("id", [route["deployments"] for route in routes])],
    }


def _deployments_together(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    limits = [view["concurrency_limit"] for view in views]
    return {
        **views[0],
        **{name: sum(view[name] for view in views) for name in _ADDED},
        **{name: _highest([view[name] for view in views]) for name in _HIGHEST},
        "concurrency_limit": None if None in limits else sum(limits),
        "breaker": max((view["breaker"] for view in views), key=_BREAKERS.index),
        "available": any(view["available"] for view in views),
    }


def _highest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
