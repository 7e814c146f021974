"""Any provider that speaks the OpenAI API: OpenAI itself, or whatever answers at `base_url`."""

from __future__ import annotations

from typing import ClassVar, Literal

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import NotExpressible
from agent_gateway.core.route import Deployment, OutputLimitField
from agent_gateway.upstream.http_provider import Endpoint, HttpProvider, HttpSettings
from agent_gateway.upstream.known_providers import Lack, known_provider
from agent_gateway.upstream.transport import Transport

_PATHS: dict[Dialect, str] = {
    "openai_chat": "/chat/completions",
    "openai_completions": "/completions",
    "openai_embeddings": "/embeddings",
    "openai_responses": "/responses",
}


class OpenAISettings(HttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`base_url` ends where `/chat/completions` begins."""

    kind: str = "openai"
    base_url: str = "https://api.openai.com/v1"
    #: `authorization` shows the key as `Bearer …`, any other header as it is.
    key_header: str = "authorization"
    #: `chat`, `responses`: every conversation goes out so. `auto`: what came as Responses stays so where the provider is known to have
    #: them, and models that have nothing else get them; the rest goes out as chat.
    api: Literal["auto", "chat", "responses"] = "auto"
    output_limit_field: OutputLimitField = "max_tokens"
    #: What none of its models has.
    lacks: tuple[Lack, ...] = ()


class OpenAIProvider(HttpProvider):
    Settings: ClassVar[type[OpenAISettings]] = OpenAISettings

    def __init__(self, settings: OpenAISettings, transport: Transport, clock: Clock) -> None:
        super().__init__(settings, transport, clock)
        key_header = "authorization: Bearer " if settings.key_header.lower() == "authorization" else f"{settings.key_header}: "
        self._endpoints = {dialect: Endpoint(self.path + path, key_header) for dialect, path in _PATHS.items()}
        self.root = Endpoint(self.path, key_header)
        self._all_as_responses = settings.api == "responses"
        self._some_as_responses = settings.api == "auto"
        self._lacks = settings.lacks
        known = known_provider(settings.kind, settings.base_url)
        self._passes_responses = settings.api == "auto" and known is not None and known.responses

    def speaks(self, call: Call, deployment: Deployment) -> Dialect:
        as_responses = self._all_as_responses or (deployment.only_responses and self._some_as_responses)
        conversations: Dialect = "openai_responses" if as_responses else "openai_chat"
        match call.dialect:
            case "openai_chat":
                return conversations
            case "openai_embeddings":
                if "embeddings" in self._lacks:
                    raise NotExpressible("model: the provider of this model has no embeddings.", param="model")
                return "openai_embeddings"
            case "anthropic_count":
                raise NotExpressible("The provider of this model does not count tokens.")
            case "openai_completions" if not as_responses and "completions" not in self._lacks:
                return "openai_completions"
            case "openai_responses" if self._passes_responses:
                return "openai_responses"
            case _:
                return conversations

    def takes_several(self, dialect: Dialect) -> bool:
        return ("several_inputs" if dialect == "openai_embeddings" else "several_prompts") not in self._lacks

    def endpoint(self, call: Call, deployment: Deployment, dialect: Dialect) -> Endpoint:
        return self._endpoints[dialect]
