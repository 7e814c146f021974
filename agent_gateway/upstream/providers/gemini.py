"""Google's Gemini API, or whatever else speaks it at `base_url`. Embeddings go to its OpenAI-compatible side."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import ClassVar
from urllib.parse import quote

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import NotExpressible
from agent_gateway.core.route import Deployment
from agent_gateway.upstream.http_provider import Endpoint, HttpProvider, HttpSettings
from agent_gateway.upstream.transport import Transport

#: Endpoints remembered, two a model: names of models may be the clients' own.
ENDPOINTS_MAX = 1024


class GeminiSettings(HttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`base_url` with or without the API's version at its end."""

    kind: str = "gemini"
    base_url: str = "https://generativelanguage.googleapis.com"


class GeminiProvider(HttpProvider):
    Settings: ClassVar[type[GeminiSettings]] = GeminiSettings

    def __init__(self, settings: GeminiSettings, transport: Transport, clock: Clock) -> None:
        super().__init__(settings, transport, clock)
        root = self.path if re.search(r"/v\d+\w*$", self.path) else f"{self.path}/v1beta"
        self._embeddings = Endpoint(f"{root}/openai/embeddings")
        self.root = Endpoint(root, "x-goog-api-key: ")
        self._generation = lru_cache(ENDPOINTS_MAX)(lambda model, stream: _generation(root, model, stream))

    def speaks(self, call: Call, deployment: Deployment) -> Dialect:
        match call.dialect:
            case "openai_embeddings":
                return "openai_embeddings"
            case "anthropic_count":
                raise NotExpressible("The provider of this model does not count tokens.")
            case _:
                return "gemini"

    def endpoint(self, call: Call, deployment: Deployment, dialect: Dialect) -> Endpoint:
        return self._embeddings if dialect == "openai_embeddings" else self._generation(deployment.model, call.stream)


def _generation(root: str, model: str, stream: bool) -> Endpoint:
    """This protocol says the model, and whether it is to stream, in the path."""
    name = quote(model.removeprefix("models/"), safe="")
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return Endpoint(f"{root}/models/{name}:{method}", "x-goog-api-key: ")
