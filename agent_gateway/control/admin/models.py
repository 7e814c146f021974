"""`/admin/v1/routes`: what is known of each model's route now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from agent_gateway.control.admin_route import Asked, Listed, Route
from agent_gateway.control.routes_view import routes_view
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.clock import Clock
from agent_gateway.health.registry import Health


def model_routes(configuration: Callable[[], Configuration], health: Health, clock: Clock) -> Sequence[Route]:
    async def listed(_: Asked[Struct, None]) -> dict[str, Any]:
        return routes_view(configuration(), health, clock.monotonic())

    return (
        Route(
            method="GET",
            path="routes",
            summary="Every model's route: its controller, and each deployment's load, breaker and latency",
            answer=Listed[dict[str, Any]],
            handler=listed,
        ),
    )
