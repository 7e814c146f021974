"""What a provider says of an answer's tokens, in OpenAI's words, read with any of them missing or null."""

from __future__ import annotations

from msgspec import Struct

from agent_gateway.core.usage import Usage


class _TokenDetails(Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class ToldUsage(Struct, gc=False):
    """As on the wire; what is not said counts as 0."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _TokenDetails | None = None
    completion_tokens_details: _TokenDetails | None = None

    def counted(self) -> Usage:
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        return Usage(
            input=self.prompt_tokens or 0,
            output=self.completion_tokens or 0,
            cache_read=(prompt.cached_tokens or 0) if prompt else 0,
            cache_write=(prompt.cache_write_tokens or 0) if prompt else 0,
            reasoning=(completion.reasoning_tokens or 0) if completion else 0,
        )
