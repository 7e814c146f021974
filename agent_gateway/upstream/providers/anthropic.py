"""Anthropic, or whatever else speaks its Messages API at `base_url`."""

from __future__ import annotations

import re
from typing import ClassVar

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import NotExpressible
from agent_gateway.core.route import Deployment
from agent_gateway.upstream.http_provider import Endpoint, HttpProvider, HttpSettings
from agent_gateway.upstream.transport import Transport

#: Required of every request; a client that names another version is given that.
VERSION = {"anthropic-version": "2023-06-01"}

_PATHS: dict[Dialect, str] = {"anthropic": "/messages", "anthropic_count": "/messages/count_tokens"}


class AnthropicSettings(HttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`base_url` with or without the API's version at its end."""

    kind: str = "anthropic"
    base_url: str = "https://api.anthropic.com"


class AnthropicProvider(HttpProvider):
    Settings: ClassVar[type[AnthropicSettings]] = AnthropicSettings

    def __init__(self, settings: AnthropicSettings, transport: Transport, clock: Clock) -> None:
        super().__init__(settings, transport, clock)
        root = self.path if re.search(r"/v\d+$", self.path) else f"{self.path}/v1"
        self._endpoints = {dialect: Endpoint(root + path, "x-api-key: ", VERSION) for dialect, path in _PATHS.items()}
        self.root = Endpoint(root, "x-api-key: ", VERSION)

    def speaks(self, call: Call, deployment: Deployment) -> Dialect:
        match call.dialect:
            case "openai_embeddings":
                raise NotExpressible("model: the provider of this model has no embeddings.", param="model")
            case "anthropic_count":
                return "anthropic_count"
            case _:
                return "anthropic"

    def endpoint(self, call: Call, deployment: Deployment, dialect: Dialect) -> Endpoint:
        return self._endpoints[dialect]
