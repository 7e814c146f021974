"""`/admin/v1/routes`: what is known of each model's route now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from agent_gateway.control.admin_route import Asked, Listed, Route
from agent_gateway.control.interventions import Interventions
from agent_gateway.control.routes_view import routes_view, together
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.clock import Clock
from agent_gateway.core.siblings import Siblings
from agent_gateway.health.registry import Health

_ROUTES = "routes"


def routes_of_all(
    configuration: Callable[[], Configuration], health: Health, interventions: Interventions, clock: Clock, siblings: Siblings
) -> Callable[[], Awaitable[dict[str, Any]]]:
    """What is shown of the routes, as this worker and its siblings see them."""

    def here() -> dict[str, Any]:
        return routes_view(configuration(), health, interventions, clock.monotonic())

    async def told(_: bytes) -> bytes:
        return msgspec.json.encode(here())

    async def all_together() -> dict[str, Any]:
        others = [msgspec.json.decode(each.body) for each in await siblings.gather(_ROUTES) if each.body is not None]
        return together([here(), *others])

    siblings.answer(_ROUTES, told)
    return all_together


def model_routes(routes: Callable[[], Awaitable[dict[str, Any]]]) -> Sequence[Route]:
    async def listed(_: Asked[Struct, None]) -> dict[str, Any]:
        return await routes()

    return (
        Route(
            method="GET",
            path="routes",
            summary="Every model's route: its controller, and each deployment's load, breaker and latency",
            answer=Listed[dict[str, Any]],
            handler=listed,
        ),
    )
