"""Agent frameworks that nobody here wrote: pydantic-ai's models of each protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anthropic import AsyncAnthropic
from google import genai
from google.genai.types import HttpOptions
from openai import AsyncOpenAI
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.openai import OpenAIResponsesModel as PydanticResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

#: The protocols it speaks.
SPOKEN = ("chat", "responses", "anthropic", "gemini")


@asynccontextmanager
async def model_of(kind: str, url: str, name: str = "gpt") -> AsyncIterator[Model]:
    """The framework's own model of that protocol, on a client that is closed."""
    match kind:
        case "chat" | "responses":
            async with AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as openai_client:
                model = OpenAIChatModel if kind == "chat" else PydanticResponsesModel
                yield model(name, provider=OpenAIProvider(openai_client=openai_client))
        case "anthropic":
            async with AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as anthropic_client:
                yield AnthropicModel(name, provider=AnthropicProvider(anthropic_client=anthropic_client))
        case _:
            client = genai.Client(api_key="any", http_options=HttpOptions(base_url=url))
            async with client.aio:
                yield GoogleModel(name, provider=GoogleProvider(client=client))
