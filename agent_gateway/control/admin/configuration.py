"""`/admin/v1/config`: the configuration that holds now, with every secret masked; as YAML it is a start for another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Literal

from msgspec import Struct

from agent_gateway.control.admin_route import Asked, Route
from agent_gateway.control.masking import masked
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.streamed import Streamed

_YAML = "application/yaml"


class ConfigurationQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: `yaml`: only what was set, to be edited.
    format: Literal["json", "yaml"] = "json"


class ConfigurationShown(Struct, frozen=True):
    #: The file it came from; null: the environment alone.
    source: str | None
    #: As `gateway.yaml` has it, everything that was left out included.
    settings: dict[str, Any]
    warnings: Sequence[str]


def configuration_routes(configuration: Callable[[], Configuration], draft: Callable[[], str]) -> Sequence[Route]:
    """`draft`: the same as text, without a secret; it takes a while."""

    async def shown(asked: Asked[ConfigurationQuery, None]) -> ConfigurationShown | Streamed:
        if asked.query.format == "yaml":
            return Streamed(_whole(await asyncio.to_thread(draft)), _YAML)
        now = configuration()
        return ConfigurationShown(now.source, masked(now.settings), now.warnings)

    return (
        Route(
            method="GET",
            path="config",
            summary="The configuration that holds now, secrets masked; with `format=yaml`, what was set in it, as a file to go on with",
            query=ConfigurationQuery,
            answer=ConfigurationShown,
            or_media=_YAML,
            handler=shown,
        ),
    )


async def _whole(text: str) -> AsyncGenerator[bytes, None]:
    yield text.encode()
