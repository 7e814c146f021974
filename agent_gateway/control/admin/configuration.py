"""`/admin/v1/config`: the configuration that holds now, with every secret masked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from agent_gateway.control.admin_route import Asked, NoQuery, Route
from agent_gateway.control.masking import masked
from agent_gateway.control.snapshot import Configuration


class ConfigurationShown(Struct, frozen=True):
    #: The file it came from; null: the environment alone.
    source: str | None
    #: As `gateway.yaml` has it, everything that was left out included.
    settings: dict[str, Any]
    warnings: Sequence[str]


def configuration_routes(configuration: Callable[[], Configuration]) -> Sequence[Route]:
    async def shown(_: Asked[NoQuery, None]) -> ConfigurationShown:
        now = configuration()
        return ConfigurationShown(now.source, masked(now.settings), now.warnings)

    return (
        Route(
            method="GET",
            path="config",
            summary="The configuration that holds now, secrets masked",
            answer=ConfigurationShown,
            handler=shown,
        ),
    )
